/** VMDK, VMware's disk: sparse extents and their text descriptor. */
import { text, view } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { FormatDescriptor, HeaderGeometry, Inspection } from '../descriptor.ts';
import type { FileRequest } from '../driver.ts';
import { hasText, hasU32le, NO_CAPABILITIES, sizeAndGeometry } from '../recognised.ts';
import { createImage, createOptions } from './create.ts';
import { cidText, parseDescriptor, parseExtents } from './descriptor-text.ts';
import { FORMAT } from './layout.ts';
import { openImage } from './open.ts';

/** Bytes of a descriptor that are read. */
const DESCRIPTOR_LIMIT = 20 * SECTOR;

/** The VMDK format. */
export const vmdk = {
  name: FORMAT,
  aliases: [],
  title: 'VMware disk',
  extensions: ['vmdk'],
  probe: (head) => {
    const sparse = hasText(head, 0, 'KDMV') || hasText(head, 0, 'COWD') || hasU32le(head, 0, 0xcafebabe);
    return sparse || /^(#[^\n]*\n|\s)*# Disk DescriptorFile/.test(String.fromCharCode(...head.subarray(0, 200))) ? 100 : 0;
  },
  capabilities: {
    ...NO_CAPABILITIES,
    read: true,
    write: true,
    create: true,
    resize: true,
    check: true,
    backing: true,
    discard: true,
    zeroes: true,
    compact: true,
    compressedRead: true,
    compressedWrite: true,
  },
  gist: 'grows as it is used',
  compressed: { options: { subformat: 'streamOptimized' }, remark: 'to be sent, read only' },
  product: 'VMware',
  notesParents: true,
  createOptions,
  limits: [
    'writing extents of ESX, seSparse, version 3 without compression, and images with their directory at the end',
    'extents for reading only and device extents',
    'repair',
    'shrinking, and compacting images of several files',
    'flat images over another one',
  ],
  *inspect(storage) {
    const head = yield* readBytes(storage, 0, SECTOR);
    const header = view(head);
    if (hasText(head, 0, 'COWD')) {
      const [cylinders = 0, heads = 0, sectors = 0] = [32, 36, 40].map((at) => header.getUint32(at, true));
      return sizeAndGeometry(header.getUint32(12, true) * SECTOR, { cylinders, heads, sectors });
    }
    if (hasU32le(head, 0, 0xcafebabe)) return sizeAndGeometry(0, NONE);
    if (!hasText(head, 0, 'KDMV')) return yield* described(storage, 0, 0);
    // Sizes and places are in sectors.
    const [capacity = 0, descriptor = 0] = [12, 28].map((at) => Number(header.getBigUint64(at, true)) * SECTOR);
    return descriptor === 0 || descriptor >= storage.size ? sizeAndGeometry(capacity, NONE) : yield* described(storage, descriptor, capacity);
  },
  open: openImage,
  create: createImage,
} as const satisfies FormatDescriptor;

const NONE: HeaderGeometry = { cylinders: 0, heads: 0, sectors: 0 };

/** The facts from the text descriptor at `offset`; without a size, the sum of its extents' sizes. */
function* described(storage: Storage, offset: number, size: number): Io<Inspection> {
  const bytes = yield* readBytes(storage, offset, Math.min(DESCRIPTOR_LIMIT, storage.size - offset));
  const lines = text(bytes);
  const stated = (name: string): number => Number(new RegExp(`^ddb\\.geometry\\.${name}\\s*=\\s*"(\\d{1,9})"`, 'm').exec(lines)?.[1] ?? 0);
  const extents = [...lines.matchAll(/^RW (\d{1,12}) /gm)].reduce((sum, [, sectors]) => sum + Number(sectors) * SECTOR, 0);
  const facts = sizeAndGeometry(size || extents, { cylinders: stated('cylinders'), heads: stated('heads'), sectors: stated('sectors') });
  try {
    const descriptor = parseDescriptor(bytes);
    const { parentName, parentCid } = descriptor;
    const below: FileRequest[] =
      parentName === undefined ? [] : [{ kind: 'backing', name: parentName, format: FORMAT, identity: cidText(parentCid) }];
    const files = offset > 0 ? [] : parseExtents(bytes, descriptor).filter(({ name }) => name !== '');
    const references = [...new Set(files.map(({ name }) => name))].map((name): FileRequest => ({ kind: 'extent', name }));
    return { ...facts, identity: cidText(descriptor.cid), references: [...below, ...references], features: [descriptor.createType] };
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    return { ...facts, warnings: [error.message] };
  }
}
