/** QCOW version 1, QEMU's copy-on-write format before qcow2. */
import { text } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import { readBytes } from '../../storage/storage.ts';
import type { FormatDescriptor } from '../descriptor.ts';
import { hasU32be, NO_CAPABILITIES } from '../recognised.ts';
import { createImage, createOptions, KEY_OPTION } from './create.ts';
import { openImage } from './image.ts';
import { CRYPT, FORMAT, HEADER_SIZE, MAGIC, parseHeader, requireInFile } from './layout.ts';

/** The qcow (version 1) format. */
export const qcow = {
  name: FORMAT,
  aliases: [],
  title: 'QEMU copy-on-write image, version 1',
  extensions: ['qcow'],
  probe: (head) => (hasU32be(head, 0, MAGIC) && hasU32be(head, 4, 1) ? 100 : 0),
  capabilities: {
    ...NO_CAPABILITIES,
    read: true,
    write: true,
    create: true,
    backing: true,
    compressedRead: true,
    compressedWrite: true,
    compact: true,
  },
  gist: 'grows as it is used',
  product: 'the oldest versions of QEMU',
  compressed: { options: {}, remark: 'in small clusters' },
  encryption: {
    always: false,
    key: KEY_OPTION,
    method: 'encrypt.format',
    turnedOnBy: ['encrypt.format', 'encryption'],
    options: { 'encrypt.format': 'aes' },
  },
  strongOptions: /^encrypt\./,
  createOptions,
  limits: ['checks', 'resizing', 'another backing file', 'giving clusters back', 'compressed writes to encrypted images'],
  *inspect(storage) {
    try {
      const header = parseHeader(yield* readBytes(storage, 0, Math.min(HEADER_SIZE, storage.size)));
      requireInFile(header, storage.size);
      const { offset, length } = header.backingName;
      const name = offset === 0 ? '' : text(yield* readBytes(storage, offset, length));
      return {
        size: header.size - (header.size % 512),
        references: name === '' ? [] : [{ kind: 'backing', name }],
        features: header.cryptMethod === CRYPT.none ? [] : ['encrypted (AES)'],
        warnings: [],
      };
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind === 'io') throw error;
      return { references: [], features: [], warnings: [error.message] };
    }
  },
  open: openImage,
  create: createImage,
} as const satisfies FormatDescriptor;
