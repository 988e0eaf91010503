/** The options with which an image is made and amended. The lists are apart from create.ts and amend.ts, which are loaded when they are needed. */
import { type DeclaredOption, type OptionValues, prefixed } from '../../base/declared-options.ts';
import { KiB, MiB } from '../../base/units.ts';
import { LUKS_AMEND_OPTIONS, LUKS_OPTIONS } from '../../crypto/option-lists.ts';
import { BACKING_OPTIONS, SIZE_OPTION } from '../shared-options.ts';

/** The option that names the secret with the passphrase. */
export const KEY_OPTION = 'encrypt.key-secret';

const COMPAT = {
  name: 'compat',
  kind: 'choice',
  values: ['1.1', 'v3', '0.10', 'v2'],
  help: 'version of the format: 3 is called 1.1 or v3, 2 is called 0.10 or v2',
} as const;

const REFCOUNT_BITS = {
  name: 'refcount_bits',
  kind: 'count',
  least: 1,
  most: 64,
  powerOfTwo: true,
  help: 'width of a reference count',
  refusal: 'Refcount width must be a power of two and may not exceed 64 bits',
} as const;

/** The space that is set aside when an image is made or grows. */
export const PREALLOCATION = {
  name: 'preallocation',
  kind: 'choice',
  values: ['off', 'metadata', 'falloc', 'full'],
  default: 'off',
  rehearsal: { falloc: 'metadata', full: 'metadata' },
  help: 'what is set aside from the start; with a backing file only if extended_l2 is on',
} as const;

const DATA_FILE_RAW = { name: 'data_file_raw', kind: 'flag' } as const;
const LAZY_REFCOUNTS = { name: 'lazy_refcounts', kind: 'flag' } as const;

/** Options of `create`, in the order in which QEMU has them. */
export const createOptions = [
  { name: 'encryption', kind: 'flag', help: 'on is encrypt.format=aes, which is deprecated' },
  { name: 'encrypt.format', kind: 'choice', values: ['luks', 'aes'], help: 'how the image is encrypted; aes is that of old images' },
  ...prefixed('encrypt.', LUKS_OPTIONS),
  {
    name: 'cluster_size',
    kind: 'size',
    least: 512,
    most: 2 * MiB,
    powerOfTwo: true,
    default: 64 * KiB,
    printed: true,
    label: 'Cluster size',
    help: 'bytes that are allocated as one',
    refusal: 'Cluster size must be a power of two between 512 and 2048k',
  },
  { name: 'extended_l2', kind: 'flag', default: false, printed: true, help: 'L2 entries with 32 subclusters each; clusters of 16k or more' },
  PREALLOCATION,
  { name: 'compression_type', kind: 'choice', values: ['zlib', 'zstd'], default: 'zlib', printed: true, help: 'how clusters are compressed' },
  SIZE_OPTION,
  { ...COMPAT, default: '1.1', refusal: "Parameter 'version' does not accept value '{value}'" },
  ...BACKING_OPTIONS,
  { name: 'data_file', kind: 'text', help: 'name of a second file that guest data goes to' },
  { ...DATA_FILE_RAW, default: false, help: 'the data file reads as a raw image of the disk' },
  {
    ...LAZY_REFCOUNTS,
    default: false,
    printed: true,
    help: 'reference counts are written when the image is closed, and counted anew after a crash',
  },
  { ...REFCOUNT_BITS, default: 16, printed: true },
] as const satisfies readonly DeclaredOption[];

/** Options of `amend`. */
export const amendOptions = [
  { name: 'size', kind: 'size', help: 'virtual disk size' },
  { ...COMPAT, refusal: 'Unknown compatibility level {value}' },
  { name: 'backing_file', kind: 'text', help: 'only the name it has: rebase changes it' },
  { name: 'backing_fmt', kind: 'text', help: 'only the format it has' },
  { name: 'data_file', kind: 'text', help: 'name of the external data file' },
  { ...DATA_FILE_RAW, help: 'off: the data file need no longer be a raw image' },
  { ...LAZY_REFCOUNTS, help: 'allow lazy reference counts' },
  REFCOUNT_BITS,
  ...prefixed('encrypt.', LUKS_AMEND_OPTIONS),
] as const satisfies readonly DeclaredOption[];

/** Options of `create`, read. */
export type CreateValues = OptionValues<typeof createOptions>;

/** The format's version that a value of `compat` means. */
export const versionOf = (compat: CreateValues['compat']): 2 | 3 => (compat === '0.10' || compat === 'v2' ? 2 : 3);
