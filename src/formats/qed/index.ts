/** QED, QEMU's enhanced disk. */
import { text } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import { readBytes } from '../../storage/storage.ts';
import type { FormatDescriptor } from '../descriptor.ts';
import { hasText, NO_CAPABILITIES } from '../recognised.ts';
import { createImage, createOptions } from './create.ts';
import { openImage } from './image.ts';
import { FEATURE, FORMAT, HEADER_SIZE, MAGIC, parseHeader } from './layout.ts';

/** The QED format. */
export const qed = {
  name: FORMAT,
  aliases: [],
  title: 'QEMU enhanced disk',
  extensions: ['qed'],
  probe: (head) => (hasText(head, 0, MAGIC) ? 100 : 0),
  capabilities: {
    ...NO_CAPABILITIES,
    read: true,
    write: true,
    create: true,
    resize: true,
    check: true,
    repair: true,
    backing: true,
    zeroes: true,
    compact: true,
  },
  gist: 'grows as it is used',
  product: 'old versions of QEMU',
  createOptions,
  limits: ['shrinking', 'giving leaked clusters back', 'new images with tables of one cluster'],
  *inspect(storage) {
    try {
      const { size, features, backingName } = parseHeader(yield* readBytes(storage, 0, Math.min(HEADER_SIZE, storage.size)));
      const named = (features & FEATURE.backing) !== 0;
      const name = named ? text(yield* readBytes(storage, backingName.offset, backingName.length)) : '';
      const format = (features & FEATURE.backingRaw) !== 0 ? { format: 'raw' } : {};
      const warnings = (features & FEATURE.needCheck) !== 0 ? ['the image was not closed properly: opening it for writing repairs it'] : [];
      return { size, references: named ? [{ kind: 'backing', name, ...format }] : [], features: [], warnings };
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind === 'io') throw error;
      return { references: [], features: [], warnings: [error.message] };
    }
  },
  open: openImage,
  create: createImage,
} as const satisfies FormatDescriptor;
