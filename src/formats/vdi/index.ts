/** VDI, VirtualBox's disk image. */
import { DiskError } from '../../base/errors.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes } from '../../storage/storage.ts';
import type { FormatDescriptor } from '../descriptor.ts';
import { hasU32le, NO_CAPABILITIES, sizeAndGeometry } from '../recognised.ts';
import { createImage, createOptions } from './create.ts';
import { openImage } from './image.ts';
import { FORMAT, parseHeader, SIGNATURE, TYPE } from './layout.ts';

/** The VDI format. */
export const vdi = {
  name: FORMAT,
  aliases: [],
  title: 'VirtualBox disk image',
  extensions: ['vdi'],
  probe: (head) => (hasU32le(head, 64, SIGNATURE) ? 100 : 0),
  capabilities: { ...NO_CAPABILITIES, read: true, write: true, create: true, check: true },
  gist: 'grows as it is used',
  product: 'VirtualBox',
  createOptions,
  limits: ['differencing images', 'version 0', 'blocks with further bytes', 'repair', 'resizing'],
  *inspect(storage) {
    try {
      const header = parseHeader(yield* readBytes(storage, 0, Math.min(SECTOR, storage.size)));
      return { ...sizeAndGeometry(header.size, header), features: [header.type === TYPE.static ? 'static' : 'dynamic'] };
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind === 'io') throw error;
      return { references: [], features: [], warnings: [error.message] };
    }
  },
  open: openImage,
  create: createImage,
} as const satisfies FormatDescriptor;
