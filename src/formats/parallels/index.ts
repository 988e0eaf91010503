/** Parallels' expanding disk. */
import { DiskError } from '../../base/errors.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes } from '../../storage/storage.ts';
import type { FormatDescriptor } from '../descriptor.ts';
import { hasText, hasU32le, NO_CAPABILITIES } from '../recognised.ts';
import { createImage, createOptions } from './create.ts';
import { openImage } from './image.ts';
import { FORMAT, MAGIC, parseHeader, VERSION } from './layout.ts';

/** The Parallels format. */
export const parallels = {
  name: FORMAT,
  aliases: [],
  title: 'Parallels disk',
  extensions: ['hdd', 'hds'],
  probe: (head) => (Object.values(MAGIC).some((magic) => hasText(head, 0, magic)) && hasU32le(head, 16, VERSION) ? 100 : 0),
  capabilities: {
    ...NO_CAPABILITIES,
    read: true,
    write: true,
    create: true,
    resize: true,
    zeroes: true,
    discard: true,
    check: true,
    repair: true,
    compact: true,
  },
  gist: 'grows as it is used, opens in Parallels Desktop',
  createOptions,
  limits: ['bitmaps of format extensions', 'shrinking', 'disks in several files', 'snapshots of disks in folders'],
  *inspect(storage) {
    try {
      const header = parseHeader(yield* readBytes(storage, 0, Math.min(SECTOR, storage.size)));
      const warnings = header.inUse ? ['the image was not closed correctly: it must be repaired before it is written'] : [];
      return { size: header.size, references: [], features: header.extended ? ['format extension'] : [], warnings };
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind === 'io') throw error;
      return { references: [], features: [], warnings: [error.message] };
    }
  },
  open: openImage,
  create: createImage,
} as const satisfies FormatDescriptor;
