/** The metadata of a VHDX image ([MS-VHDX] 2.6): the disk's size and how it is cut into blocks. */

import { divideUp, setU64le, u64le, utf8, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { KiB, MiB, SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { hasText } from '../recognised.ts';
import { FORMAT, GUIDS, guidAt, MAX_SIZE, type Region, setGuid } from './layout.ts';

/** Bytes of the table at the region's start. */
export const TABLE_SIZE = 64 * KiB;
const MAX_ITEMS = 2047;
/** Guest sectors that one block of sector bitmaps describes. */
const BITMAP_SECTORS = 2 ** 23;
/** Flags of an item. */
const IS_VIRTUAL_DISK = 2;
const IS_REQUIRED = 4;
/** Flags of the file parameters. */
const LEAVE_ALLOCATED = 1;
const HAS_PARENT = 2;

/** What a disk is. Sizes are bytes. */
export interface Metadata {
  readonly blockSize: number;
  /** Blocks are never given back: a fixed image. */
  readonly fixed: boolean;
  readonly hasParent: boolean;
  readonly size: number;
  readonly page83: string;
  readonly logicalSector: number;
  readonly physicalSector: number;
}

/** How many payload blocks a disk has; and how many of these lie between two sector bitmap blocks of the BAT. */
export function blocksOf({ size, blockSize, logicalSector }: Pick<Metadata, 'size' | 'blockSize' | 'logicalSector'>) {
  const blocks = divideUp(size, blockSize);
  const chunkRatio = (BITMAP_SECTORS * logicalSector) / blockSize;
  return { blocks, chunkRatio, entries: blocks === 0 ? 0 : blocks + Math.floor((blocks - 1) / chunkRatio) };
}

/** An item of the table: bytes of the region. */
interface Item {
  readonly at: number;
  readonly length: number;
}

/** The known items, with the bytes each must have. */
const ITEMS = { fileParameters: 8, size: 8, page83: 16, logicalSector: 4, physicalSector: 4 } as const;
type ItemName = keyof typeof ITEMS;

/** Reads the region. Throws `corrupt` or `unsupported`, naming the item. */
export function* readMetadata(storage: Storage, region: Region): Io<Metadata> {
  const bytes = yield* readBytes(storage, region.start, TABLE_SIZE);
  const items = parseTable(bytes, region);
  const found = {} as Record<ItemName, DataView>;
  for (const [name, length] of Object.entries(ITEMS) as [ItemName, number][]) {
    const item = items.get(GUIDS[name]);
    if (!item) throw corrupt(FORMAT, `the metadata has no item ${name}`, { field: name, offset: region.start });
    if (item.length !== length)
      throw corrupt(FORMAT, `the metadata item ${name} has ${item.length} bytes, not ${length}`, { field: name, offset: region.start + item.at });
    found[name] = view(yield* readBytes(storage, region.start + item.at, length));
  }
  const flags = found.fileParameters.getUint32(4, true);
  const metadata: Metadata = {
    blockSize: found.fileParameters.getUint32(0, true),
    fixed: (flags & LEAVE_ALLOCATED) !== 0,
    hasParent: (flags & HAS_PARENT) !== 0,
    size: u64le(found.size, 0, 'size'),
    page83: guidAt(new Uint8Array(found.page83.buffer), 0),
    logicalSector: found.logicalSector.getUint32(0, true),
    physicalSector: found.physicalSector.getUint32(0, true),
  };
  requireSane(metadata);
  return metadata;
}

function requireSane({ blockSize, size, logicalSector, physicalSector }: Metadata): void {
  const bad = (field: string, message: string) => corrupt(FORMAT, message, { field });
  if (blockSize < MiB || blockSize > 256 * MiB || !Number.isInteger(Math.log2(blockSize)))
    throw bad('fileParameters', `blocks of ${blockSize} bytes`);
  if (logicalSector !== SECTOR && logicalSector !== 4 * KiB) throw bad('logicalSector', `sectors of ${logicalSector} bytes`);
  if (physicalSector !== SECTOR && physicalSector !== 4 * KiB) throw bad('physicalSector', `physical sectors of ${physicalSector} bytes`);
  if (size > MAX_SIZE || size % logicalSector !== 0) throw bad('size', `a disk of ${size} bytes with sectors of ${logicalSector}`);
}

function parseTable(bytes: Uint8Array, region: Region): Map<string, Item> {
  const data = view(bytes);
  const place = (field: string, at: number) => ({ field, offset: region.start + at });
  if (!hasText(bytes, 0, 'metadata')) throw corrupt(FORMAT, 'the metadata table has no signature', place('metadata table', 0));
  const count = data.getUint16(10, true);
  if (count > MAX_ITEMS) throw corrupt(FORMAT, `a metadata table of ${count} items`, place('metadata table', 10));
  const items = new Map<string, Item>();
  const known: readonly string[] = Object.values(GUIDS);
  for (let index = 0; index < count; index++) {
    const entry = 32 + index * 32;
    const guid = guidAt(bytes, entry);
    const [at, length, flags] = [16, 20, 24].map((field) => data.getUint32(entry + field, true)) as [number, number, number];
    if (items.has(guid)) throw corrupt(FORMAT, `metadata item ${guid} is there twice`, place('metadata item', entry));
    if ((length > 0 && at < TABLE_SIZE) || at + length > region.end - region.start)
      throw corrupt(FORMAT, `metadata item ${guid} is not inside its region`, place('metadata item', entry + 16));
    if ((flags & IS_REQUIRED) !== 0 && !known.includes(guid))
      throw unsupported(FORMAT, `the image requires metadata item ${guid}, which is unknown`, place('metadata item', entry));
    items.set(guid, { at, length });
  }
  return items;
}

/** The table and the items of a new image, from the region's start on. */
export function encodeMetadata(metadata: Metadata): Uint8Array {
  const bytes = new Uint8Array(TABLE_SIZE + 64);
  const data = view(bytes);
  bytes.set(utf8('metadata'));
  data.setUint16(10, Object.keys(ITEMS).length, true);
  let at = TABLE_SIZE;
  for (const [index, [name, length]] of (Object.entries(ITEMS) as [ItemName, number][]).entries()) {
    const entry = 32 + index * 32;
    setGuid(bytes, entry, GUIDS[name]);
    data.setUint32(entry + 16, at, true);
    data.setUint32(entry + 20, length, true);
    data.setUint32(entry + 24, IS_REQUIRED | (name === 'fileParameters' ? 0 : IS_VIRTUAL_DISK), true);
    at += length;
  }
  data.setUint32(TABLE_SIZE, metadata.blockSize, true);
  data.setUint32(TABLE_SIZE + 4, (metadata.fixed ? LEAVE_ALLOCATED : 0) | (metadata.hasParent ? HAS_PARENT : 0), true);
  setU64le(data, TABLE_SIZE + 8, metadata.size);
  setGuid(bytes, TABLE_SIZE + 16, metadata.page83);
  data.setUint32(TABLE_SIZE + 32, metadata.logicalSector, true);
  data.setUint32(TABLE_SIZE + 36, metadata.physicalSector, true);
  return bytes;
}
