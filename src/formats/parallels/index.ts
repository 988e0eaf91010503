/** Parallels' expanding disk. */
import { DiskError } from '../../base/errors.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes } from '../../storage/storage.ts';
import type { FormatDescriptor, Inspection } from '../descriptor.ts';
import { hasText, hasU32le, NO_CAPABILITIES, sizeAndGeometry } from '../recognised.ts';
import { openBundle, readText } from './bundle.ts';
import { isBundleText, parseBundle } from './bundle-text.ts';
import { createImage, createOptions } from './create.ts';
import { openImage } from './image.ts';
import { FORMAT, MAGIC, parseHeader, statedGeometry, VERSION } from './layout.ts';

/** The Parallels format. */
export const parallels = {
  name: FORMAT,
  aliases: [],
  title: 'Parallels disk',
  extensions: ['hdd', 'hds'],
  probe: (head) => (isBundleText(head) || Object.values(MAGIC).some((magic) => hasText(head, 0, magic) && hasU32le(head, 16, VERSION)) ? 100 : 0),
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
  gist: 'grows as it is used',
  product: 'Parallels Desktop',
  createOptions,
  limits: [
    'bitmaps of format extensions',
    'shrinking, and growing disks in folders that have snapshots',
    'deleting a snapshot of a disk in a folder that lies right below another one',
    'encrypted disks in folders',
  ],
  *inspect(storage) {
    try {
      if (isBundleText(yield* readBytes(storage, 0, Math.min(1024, storage.size)))) return inspectBundle(yield* readText(storage));
      const sector = yield* readBytes(storage, 0, Math.min(SECTOR, storage.size));
      const header = parseHeader(sector);
      const warnings = header.inUse ? ['the image was not closed correctly: it must be repaired before it is written'] : [];
      const facts = sizeAndGeometry(header.size, statedGeometry(sector, header.size));
      return { ...facts, features: header.extended ? ['format extension'] : [], warnings };
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind === 'io') throw error;
      return { references: [], features: [], warnings: [error.message] };
    }
  },
  *open(storage, parameters) {
    const bundle = isBundleText(yield* readBytes(storage, 0, Math.min(1024, storage.size)));
    return bundle ? yield* openBundle(storage, parameters) : yield* openImage(storage, parameters);
  },
  create: createImage,
} as const satisfies FormatDescriptor;

function inspectBundle(bytes: Uint8Array): Inspection {
  const { size, parts, snapshots, geometry } = parseBundle(bytes);
  const names = new Set(parts.flatMap(({ files }) => files.map(({ name }) => name)));
  const features = [
    'in a folder',
    ...(parts.length > 1 ? [`${parts.length} parts`] : []),
    ...(snapshots.length > 0 ? [`${snapshots.length} snapshots`] : []),
  ];
  return { ...sizeAndGeometry(size, geometry), references: [...names].map((name) => ({ kind: 'extent', name })), features };
}
