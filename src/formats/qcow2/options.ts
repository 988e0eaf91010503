/** What an image is made with and amended by, as lists to show: apart from create.ts and amend.ts, which are loaded when they are needed. */
import { LUKS_AMEND_OPTIONS, LUKS_OPTIONS } from '../../crypto/option-lists.ts';
import type { CreateOption } from '../descriptor.ts';

/** Options of `create`. */
export const createOptions: readonly CreateOption[] = [
  { name: 'compat', help: 'version 2 (0.10, v2) or 3 (1.1, v3)', default: '1.1' },
  { name: 'cluster_size', help: '512 bytes to 2 MiB, a power of two', default: '64k' },
  { name: 'refcount_bits', help: 'width of a reference count: 1, 2, 4, 8, 16, 32 or 64', default: '16' },
  { name: 'lazy_refcounts', help: 'reference counts are written when the image is closed, and counted anew after a crash', default: 'off' },
  { name: 'backing_file', help: 'name of the backing file, as stored in the image' },
  { name: 'backing_fmt', help: "the backing file's format" },
  { name: 'preallocation', help: 'off, metadata, falloc or full; with a backing file only if extended_l2 is on', default: 'off' },
  { name: 'compression_type', help: 'zlib or zstd', default: 'zlib' },
  { name: 'data_file', help: 'name of a second file that guest data goes to' },
  { name: 'data_file_raw', help: 'the data file reads as a raw image of the disk', default: 'off' },
  { name: 'extended_l2', help: 'L2 entries with 32 subclusters each; clusters of 16k or more', default: 'off' },
  { name: 'encrypt.format', help: 'luks, or aes as old images have it' },
  ...LUKS_OPTIONS.map((option) => ({ ...option, name: `encrypt.${option.name}` })),
  { name: 'encryption', help: 'on is encrypt.format=aes', default: 'off' },
];

/** Options of `amend`. */
export const amendOptions: readonly CreateOption[] = [
  { name: 'size', help: 'virtual disk size' },
  { name: 'compat', help: 'version 2 (0.10, v2) or 3 (1.1, v3)' },
  { name: 'backing_file', help: 'only the name it has: rebase changes it' },
  { name: 'backing_fmt', help: 'only the format it has' },
  { name: 'data_file', help: 'name of the external data file' },
  { name: 'data_file_raw', help: 'off: the data file need no longer be a raw image' },
  { name: 'lazy_refcounts', help: 'allow lazy reference counts' },
  { name: 'refcount_bits', help: 'width of a reference count: 1, 2, 4, 8, 16, 32 or 64' },
  ...LUKS_AMEND_OPTIONS.map((option) => ({ ...option, name: `encrypt.${option.name}` })),
];
