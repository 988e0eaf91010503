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
  capabilities: {
    ...NO_CAPABILITIES,
    read: true,
    write: true,
    create: true,
    resize: true,
    backing: true,
    zeroes: true,
    discard: true,
    check: true,
    compact: true,
  },
  gist: 'grows as it is used',
  product: 'VirtualBox',
  notesParents: true,
  createOptions,
  limits: ['undo images', 'writing version 0.1', 'blocks with further bytes', 'repair', 'shrinking, and growing static images'],
  *inspect(storage) {
    try {
      const header = parseHeader(yield* readBytes(storage, 0, Math.min(SECTOR, storage.size)));
      return {
        ...sizeAndGeometry(header.size, header),
        identity: header.uuids.image,
        references: header.type === TYPE.differencing ? [{ kind: 'parent', name: '', format: FORMAT, identity: header.uuids.link }] : [],
        features: [...Object.entries(TYPE).flatMap(([kind, type]) => (type === header.type ? [kind] : [])), ...(header.old ? ['version 0.1'] : [])],
      };
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind === 'io') throw error;
      return { references: [], features: [], warnings: [error.message] };
    }
  },
  open: openImage,
  create: createImage,
} as const satisfies FormatDescriptor;
