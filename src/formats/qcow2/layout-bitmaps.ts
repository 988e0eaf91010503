/**
 * Persistent bitmaps on disk (docs/interop/qcow2 in QEMU's tree, "Bitmaps"): the header extension, the bitmap directory and bitmap
 * tables. Pure: bytes in, values out. The limits are QEMU's; names are kept as bytes too, so that a name that is not UTF-8 survives a rewrite.
 */
import { divideUp, roundUp, setU64be, TWO_32, text, u64be, utf8, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import { EXTENSION, FORMAT, type Header, type HeaderExtension } from './layout.ts';
import { entryOffset } from './layout-tables.ts';

export const MAX_BITMAPS = 65535;
export const MAX_BITMAP_NAME = 1023;
export const MIN_GRANULARITY_BITS = 9;
export const MAX_GRANULARITY_BITS = 31;
/** Bytes of a directory. */
const MAX_DIRECTORY_BYTES = 1024 * MAX_BITMAPS;
/** Entries of a bitmap table. */
const MAX_TABLE_ENTRIES = 0x800_0000;
/** Bytes of a bitmap. */
export const MAX_BITMAP_BYTES = 512 * 1024 * 1024;

/** Bytes of a directory entry before its extra data and name. */
const FIXED = 24;
const TYPE_DIRTY_TRACKING = 1;
/** Bytes of the header extension. */
const EXTENSION_BYTES = 24;

export const BITMAP_FLAG = { inUse: 1 << 0, auto: 1 << 1, extraDataCompatible: 1 << 2 } as const;
const KNOWN_FLAGS = BITMAP_FLAG.inUse | BITMAP_FLAG.auto | BITMAP_FLAG.extraDataCompatible;

/** The place of the directory, and its number of bitmaps. */
export interface BitmapDirectory {
  readonly offset: number;
  readonly length: number;
  readonly count: number;
}

/** A directory entry. */
export interface BitmapEntry {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly tableOffset: number;
  /** Entries. */
  readonly tableSize: number;
  readonly flags: number;
  readonly granularityBits: number;
  readonly extra: Uint8Array;
}

/** A bitmap table entry: no bit is set, all are, or they are in this cluster. */
export const ALL_ZEROES = 0;
export const ALL_ONES = 1;

/** The directory that a header names. Undefined if there is none, or if a writer without support for bitmaps changed the image since (`vouched` is false). */
export function parseBitmapExtension(header: Header, vouched: boolean): BitmapDirectory | undefined {
  const data = header.extensions.find(({ type }) => type === EXTENSION.bitmaps)?.data;
  if (!data) return undefined;
  const bad = (message: string) => corrupt(FORMAT, `bitmaps_ext: ${message}`, { field: 'bitmaps extension' });
  if (data.length !== EXTENSION_BYTES) throw bad('Invalid extension length');
  if (!vouched) return undefined;
  const fields = view(data);
  const count = fields.getUint32(0);
  if (fields.getUint32(4) !== 0) throw bad('Reserved field is not zero');
  if (count > MAX_BITMAPS) throw bad(`image has ${count} bitmaps, exceeding the QEMU supported maximum of ${MAX_BITMAPS}`);
  if (count === 0) throw bad('found bitmaps extension with zero bitmaps');
  const length = u64be(fields, 8, 'bitmap_directory_size');
  const offset = u64be(fields, 16, 'bitmap_directory_offset');
  if (offset === 0 || offset % 2 ** header.clusterBits !== 0) throw bad('invalid bitmap directory offset');
  if (length > MAX_DIRECTORY_BYTES) throw bad(`bitmap directory size (${length}) exceeds the maximum supported size (${MAX_DIRECTORY_BYTES})`);
  return { offset, length, count };
}

/** The extension's bytes. */
export function encodeBitmapExtension({ offset, length, count }: BitmapDirectory): HeaderExtension {
  const data = new Uint8Array(EXTENSION_BYTES);
  view(data).setUint32(0, count);
  setU64be(view(data), 8, length);
  setU64be(view(data), 16, offset);
  return { type: EXTENSION.bitmaps, data };
}

/** The bitmaps in a directory, each within QEMU's bounds and, unless it is marked in use, large enough for the disk. */
export function parseBitmapDirectory(bytes: Uint8Array, count: number, disk: { size: number; clusterSize: number }): BitmapEntry[] {
  const entries: BitmapEntry[] = [];
  const names = new Set<string>();
  const broken = (message: string, offset: number) => corrupt(FORMAT, message, { field: 'bitmap directory', offset });
  if (bytes.length === 0) throw broken('Requested bitmap directory size is zero', 0);
  for (let at = 0; at < bytes.length; ) {
    if (at + FIXED > bytes.length) throw broken('Broken bitmap directory', at);
    if (entries.length === count) throw broken('More bitmaps found than specified in header extension', at);
    const data = view(bytes.subarray(at));
    const nameLength = data.getUint16(18);
    const extraLength = data.getUint32(20);
    const end = at + entryBytes(nameLength, extraLength);
    if (end > bytes.length) throw broken('Broken bitmap directory', at);
    const entry = parseEntry(bytes.slice(at, end), disk);
    const key = String.fromCharCode(...entry.nameBytes);
    if (names.has(key)) throw broken(`Bitmap already exists: ${entry.name}`, at);
    names.add(key);
    entries.push(entry);
    at = end;
  }
  if (entries.length < count) throw broken('Less bitmaps found than specified in header extension', 0);
  return entries;
}

function parseEntry(bytes: Uint8Array, { size, clusterSize }: { size: number; clusterSize: number }): BitmapEntry {
  const data = view(bytes);
  const extraLength = data.getUint32(20);
  const nameAt = FIXED + extraLength;
  const nameBytes = bytes.slice(nameAt, nameAt + data.getUint16(18));
  const name = text(nameBytes);
  const flags = data.getUint32(12);
  const field = 'bitmap directory';
  if (extraLength > 0 && (flags & BITMAP_FLAG.extraDataCompatible) === 0) throw unsupported(FORMAT, 'Bitmap extra data is not supported', { field });
  const tableOffset = u64be(data, 0, 'bitmap_table_offset');
  const tableSize = data.getUint32(8);
  const granularityBits = bytes[17] as number;
  const bytesInTable = tableSize * clusterSize;
  const fits = (flags & BITMAP_FLAG.inUse) !== 0 || size <= bytesInTable * 8 * 2 ** granularityBits;
  const sound =
    tableSize > 0 &&
    tableSize <= MAX_TABLE_ENTRIES &&
    tableOffset !== 0 &&
    tableOffset % clusterSize === 0 &&
    granularityBits >= MIN_GRANULARITY_BITS &&
    granularityBits <= MAX_GRANULARITY_BITS &&
    (flags & ~KNOWN_FLAGS) === 0 &&
    nameBytes.length <= MAX_BITMAP_NAME &&
    bytes[16] === TYPE_DIRTY_TRACKING &&
    bytesInTable <= MAX_BITMAP_BYTES;
  if (!sound || !fits) throw corrupt(FORMAT, `Bitmap '${name}' doesn't satisfy the constraints`, { field });
  return { name, nameBytes, tableOffset, tableSize, flags, granularityBits, extra: bytes.slice(FIXED, nameAt) };
}

/** A whole directory. */
export function encodeBitmapDirectory(entries: readonly BitmapEntry[]): Uint8Array {
  const bytes = new Uint8Array(entries.reduce((sum, { nameBytes, extra }) => sum + entryBytes(nameBytes.length, extra.length), 0));
  let at = 0;
  for (const entry of entries) {
    const data = view(bytes.subarray(at));
    setU64be(data, 0, entry.tableOffset);
    data.setUint32(8, entry.tableSize);
    data.setUint32(12, entry.flags);
    data.setUint8(16, TYPE_DIRTY_TRACKING);
    data.setUint8(17, entry.granularityBits);
    data.setUint16(18, entry.nameBytes.length);
    data.setUint32(20, entry.extra.length);
    bytes.set(entry.extra, at + FIXED);
    bytes.set(entry.nameBytes, at + FIXED + entry.extra.length);
    at += entryBytes(entry.nameBytes.length, entry.extra.length);
  }
  return bytes;
}

/** Bytes of a directory entry; entries are multiples of 8. */
const entryBytes = (nameLength: number, extraLength: number): number => roundUp(FIXED + nameLength + extraLength, 8);

/** Bytes that an entry for a bitmap of this name takes. */
export const directoryBytesFor = (name: string): number => entryBytes(utf8(name).length, 0);

/** False if an entry for this name would not fit into the directory with others of `taken` bytes. */
export const directoryHasRoom = (taken: number, name: string): boolean => taken + directoryBytesFor(name) <= MAX_DIRECTORY_BYTES;

/** Bytes of a bitmap over `size` guest bytes: a bit for each 2^granularityBits of them. */
export const bitmapBytes = (size: number, granularityBits: number): number => divideUp(divideUp(size, 2 ** granularityBits), 8);

/** The entries of a bitmap table: `ALL_ZEROES`, `ALL_ONES`, or the host offset of a cluster. */
export function parseBitmapTable(bytes: Uint8Array, clusterSize: number): Float64Array {
  const data = view(bytes);
  const entries = new Float64Array(bytes.length / 8);
  for (let i = 0; i < entries.length; i++) {
    const high = data.getUint32(i * 8);
    const low = data.getUint32(i * 8 + 4);
    const offset = entryOffset(high, low);
    // Bits 1-8 and 56-63 are reserved; bit 0 is too where there is an offset.
    if (high > 0x00ff_ffff || (low & 0x1fe) !== 0 || (offset !== 0 && ((low & 1) !== 0 || offset % clusterSize !== 0)))
      throw corrupt(FORMAT, `bitmap table entry ${i} is 0x${(high * TWO_32 + low).toString(16)}`, { field: 'bitmap table', offset: i * 8 });
    entries[i] = offset === 0 ? low & 1 : offset;
  }
  return entries;
}

/** A bitmap table's bytes. */
export function encodeBitmapTable(entries: Float64Array): Uint8Array {
  const bytes = new Uint8Array(entries.length * 8);
  for (const [i, entry] of entries.entries()) setU64be(view(bytes), i * 8, entry);
  return bytes;
}
