/** The metadata of a VHDX image ([MS-VHDX] 2.6): the disk's size and how it is cut into blocks. */

import { divideUp, equalBytes, roundUp, setU64le, u64le, utf8, view } from '../../base/bytes.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { KiB, MiB, SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { hasText } from '../recognised.ts';
import { FORMAT, GUIDS, guidAt, MAX_SIZE, PAGE, type Region, setGuid } from './layout.ts';
import type { PageWrite } from './log.ts';
import { encodeLocator, type Locator, MAX_LOCATOR, parseLocator } from './parent.ts';

/** Bytes of the table at the region's start. */
export const TABLE_SIZE = 64 * KiB;
const MAX_ITEMS = 2047;
/** The most of a region that is changed. */
const MAX_REGION = 16 * MiB;
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
  /** Of a child. */
  readonly locator?: Locator;
}

/** How many payload blocks a disk has; how many of these lie between two sector bitmap blocks of the BAT; and the entries that the BAT needs. */
export function blocksOf({ size, blockSize, logicalSector, hasParent }: Pick<Metadata, 'size' | 'blockSize' | 'logicalSector' | 'hasParent'>) {
  const blocks = divideUp(size, blockSize);
  const chunkRatio = (BITMAP_SECTORS * logicalSector) / blockSize;
  if (hasParent) return { blocks, chunkRatio, entries: divideUp(blocks, chunkRatio) * (chunkRatio + 1) };
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
/** Bytes that they take in a new image. */
const ITEMS_SIZE = 64;

/** Reads the region. Throws `corrupt` or `unsupported`, naming the item. */
export function* readMetadata(storage: Storage, region: Region): Io<Metadata> {
  const items = parseTable(yield* readBytes(storage, region.start, TABLE_SIZE), region);
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
  return metadata.hasParent ? { ...metadata, locator: yield* readLocator(storage, region, items) } : metadata;
}

function* readLocator(storage: Storage, region: Region, items: ReadonlyMap<string, Item>): Io<Locator> {
  const item = items.get(GUIDS.parentLocator);
  if (!item) throw corrupt(FORMAT, 'the image is a child, and does not say of which image', { field: 'parentLocator', offset: region.start });
  return parseLocator(yield* readBytes(storage, region.start + item.at, Math.min(item.length, MAX_LOCATOR + 1)));
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
  const locator = metadata.locator ? encodeLocator(metadata.locator) : new Uint8Array();
  const bytes = new Uint8Array(TABLE_SIZE + ITEMS_SIZE + locator.length);
  const data = view(bytes);
  bytes.set(utf8('metadata'));
  data.setUint16(10, Object.keys(ITEMS).length, true);
  let at = TABLE_SIZE;
  for (const [index, [name, length]] of (Object.entries(ITEMS) as [ItemName, number][]).entries()) {
    setItem(bytes, index, { guid: GUIDS[name], at, length, flags: IS_REQUIRED | (name === 'fileParameters' ? 0 : IS_VIRTUAL_DISK) });
    at += length;
  }
  data.setUint32(TABLE_SIZE, metadata.blockSize, true);
  data.setUint32(TABLE_SIZE + 4, (metadata.fixed ? LEAVE_ALLOCATED : 0) | (metadata.hasParent ? HAS_PARENT : 0), true);
  setU64le(data, TABLE_SIZE + 8, metadata.size);
  setGuid(bytes, TABLE_SIZE + 16, metadata.page83);
  data.setUint32(TABLE_SIZE + 32, metadata.logicalSector, true);
  data.setUint32(TABLE_SIZE + 36, metadata.physicalSector, true);
  if (metadata.locator) {
    data.setUint16(10, Object.keys(ITEMS).length + 1, true);
    setItem(bytes, Object.keys(ITEMS).length, locatorItem(TABLE_SIZE + ITEMS_SIZE, locator.length));
    bytes.set(locator, TABLE_SIZE + ITEMS_SIZE);
  }
  return bytes;
}

interface NewItem extends Item {
  readonly guid: string;
  readonly flags: number;
}

const locatorItem = (at: number, length: number): NewItem => ({ guid: GUIDS.parentLocator, at, length, flags: IS_REQUIRED });

function setItem(bytes: Uint8Array, index: number, { guid, at, length, flags }: NewItem): void {
  const entry = 32 + index * 32;
  const data = view(bytes);
  bytes.fill(0, entry, entry + 32);
  setGuid(bytes, entry, guid);
  for (const [field, value] of [at, length, flags].entries()) data.setUint32(entry + 16 + field * 4, value, true);
}

/** A change of the metadata: the disk's size, or the parent; `locator: null`: it has none any more. */
export interface MetadataChange {
  readonly size?: number;
  readonly locator?: Locator | null;
}

/** The pages of the region that are to be different, in the order of the file. Throws `no-space` if the region has no room for a locator. */
export function* changedPages(storage: Storage, region: Region, change: MetadataChange): Io<PageWrite[]> {
  const length = region.end - region.start;
  if (length > MAX_REGION) throw unsupported(FORMAT, `changing metadata of ${length} bytes`, { field: 'metadata' });
  const old = yield* readBytes(storage, region.start, length);
  const items = parseTable(old, region);
  const bytes = old.slice();
  if (change.size !== undefined) setU64le(view(bytes), (items.get(GUIDS.size) as Item).at, change.size);
  if (change.locator !== undefined) changeLocator(bytes, items, change.locator);
  const pages: PageWrite[] = [];
  for (let at = 0; at < bytes.length; at += PAGE) {
    const page = bytes.subarray(at, at + PAGE);
    if (!equalBytes(page, old.subarray(at, at + PAGE))) pages.push({ offset: region.start + at, bytes: page });
  }
  return pages;
}

function changeLocator(bytes: Uint8Array, items: ReadonlyMap<string, Item>, locator: Locator | null): void {
  const data = view(bytes);
  const parameters = (items.get(GUIDS.fileParameters) as Item).at + 4;
  const flags = data.getUint32(parameters, true) & ~HAS_PARENT;
  data.setUint32(parameters, locator ? flags | HAS_PARENT : flags, true);
  const index = [...items.keys()].indexOf(GUIDS.parentLocator);
  if (!locator) {
    if (index < 0) return;
    // The last entry takes its place.
    const last = items.size - 1;
    bytes.copyWithin(32 + index * 32, 32 + last * 32, 64 + last * 32);
    bytes.fill(0, 32 + last * 32, 64 + last * 32);
    data.setUint16(10, last, true);
    return;
  }
  const encoded = encodeLocator(locator);
  const at = roomFor(
    encoded.length,
    bytes.length,
    [...items].filter(([guid]) => guid !== GUIDS.parentLocator).map(([, item]) => item),
  );
  if (at === undefined || (index < 0 && items.size >= MAX_ITEMS))
    throw new DiskError('no-space', `${FORMAT}: the metadata has no room for a parent locator of ${encoded.length} bytes`, {
      format: FORMAT,
      field: 'parentLocator',
    });
  bytes.set(encoded, at);
  setItem(bytes, index < 0 ? items.size : index, locatorItem(at, encoded.length));
  if (index < 0) data.setUint16(10, items.size + 1, true);
}

/** Bytes of the region that no item has. */
function roomFor(length: number, end: number, items: readonly Item[]): number | undefined {
  let at = TABLE_SIZE;
  for (const item of [...items].filter((one) => one.length > 0).sort((a, b) => a.at - b.at)) {
    if (at + length <= item.at) return at;
    at = Math.max(at, roundUp(item.at + item.length, 8));
  }
  return at + length <= end ? at : undefined;
}
