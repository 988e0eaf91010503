/** qcow2, versions 2 and 3: QEMU's copy-on-write format. */
import { view } from '../../base/bytes.ts';
import type { FormatDescriptor } from '../descriptor.ts';
import { theRest } from './image.ts';
import { MAGIC } from './layout.ts';
import { openImage } from './open.ts';
import { amendOptions, createOptions, KEY_OPTION } from './options.ts';

/** The qcow2 format. */
export const qcow2 = {
  name: 'qcow2',
  aliases: [],
  title: 'QEMU copy-on-write image, version 2 or 3',
  extensions: ['qcow2', 'qcow', 'img'],
  probe: (head) => (head.length >= 8 && view(head).getUint32(0) === MAGIC && view(head).getUint32(4) >= 2 ? 100 : 0),
  capabilities: {
    read: true,
    write: true,
    create: true,
    resize: true,
    snapshots: true,
    bitmaps: true,
    check: true,
    repair: true,
    backing: true,
    discard: true,
    zeroes: true,
    compressedRead: true,
    compressedWrite: true,
    dataFile: true,
    compact: true,
  },
  gist: 'grows as it is used, has snapshots',
  compressed: { options: {}, remark: 'without snapshots' },
  product: 'QEMU',
  encryption: {
    always: false,
    key: KEY_OPTION,
    method: 'encrypt.format',
    turnedOnBy: ['encrypt.format', 'encryption'],
    options: { 'encrypt.format': 'luks' },
    iterTime: 'encrypt.iter-time',
  },
  slack: true,
  strongOptions: /^encrypt\./,
  createOptions,
  amendOptions,
  limits: ['encryption with ciphers other than AES', 'compressed writes to encrypted images'],
  *inspect(storage) {
    return yield* (yield* theRest()).inspectImage(storage);
  },
  open: openImage,
  *measure(parameters) {
    return (yield* theRest()).measureImage(parameters);
  },
  *create(storage, parameters) {
    yield* (yield* theRest()).createImage(storage, parameters);
  },
} as const satisfies FormatDescriptor;
