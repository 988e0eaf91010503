/**
 * VHD's structures, after Microsoft's "Virtual Hard Disk Image Format Specification": the footer, which ends every file and has a copy at the beginning of one
 * that grows, and the header of those. Bytes to values and back; numbers are big-endian.
 */
import { setU64be, text, u64be, utf8, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import { GiB, MiB, SECTOR } from '../../base/units.ts';

export const FORMAT = 'vpc';
export const MARK = 'conectix';
const HEADER_MARK = 'cxsparse';
/** Bytes of the header of an image that grows. */
export const HEADER_SIZE = 1024;
/** A table entry of a block that has no place. */
export const FREE = 0xffffffff;
/** Of new images. */
export const BLOCK_SIZE = 2 * MiB;
/** The most of any image: its bitmap is still read and written as one. */
const MAX_BLOCK_SIZE = GiB;
/** 64 MiB of table: a disk of the largest size has 4 Mi blocks of half a MiB. */
export const MAX_ENTRIES = 2 ** 24;
/** Sectors of the largest disk: 2040 GiB. */
export const MAX_SECTORS = 0xff000000;
/** Sectors of the largest geometry. A disk that states it may have more. */
export const MAX_GEOMETRY = 65535 * 16 * 255;
export const TYPE = { fixed: 2, dynamic: 3, differencing: 4 } as const;

/** Where the fields of the footer are. */
const AT = {
  mark: 0,
  features: 8,
  version: 12,
  headerOffset: 16,
  time: 24,
  creator: 28,
  creatorVersion: 32,
  creatorSystem: 36,
  originalSize: 40,
  currentSize: 48,
  cylinders: 56,
  heads: 58,
  sectors: 59,
  type: 60,
  checksum: 64,
  id: 68,
} as const;
const ID_BYTES = 16;

/** Where the fields of the header are. */
const HEADER_AT = {
  mark: 0,
  next: 8,
  tableOffset: 16,
  version: 24,
  entries: 28,
  blockSize: 32,
  checksum: 36,
  parentId: 40,
  parentTime: 56,
  parentName: 64,
} as const;
const PARENT_NAME_BYTES = 512;
const LOCATORS = { at: 576, count: 8, bytes: 24 } as const;

/** Offsets and sizes are bytes. */
export interface Footer {
  /** The sector as it is in the file. */
  readonly bytes: Uint8Array;
  readonly creator: string;
  /** Major and minor number in 16 bits each. */
  readonly creatorVersion: number;
  readonly currentSize: number;
  readonly cylinders: number;
  readonly heads: number;
  readonly sectors: number;
  readonly type: number;
  /** 32 hexadecimal digits. */
  readonly id: string;
}

/** A place outside of the header where a name of the parent stands, for one platform. */
export interface Locator {
  /** Four letters: `W2ru`. */
  readonly platform: string;
  /** Bytes of the file that are set aside, if the field makes sense. */
  readonly space: number;
  readonly length: number;
  readonly offset: number;
}

/** The header of an image that grows. */
export interface Header {
  readonly offset: number;
  /** The header as it is in the file. */
  readonly bytes: Uint8Array;
  readonly tableOffset: number;
  readonly entries: number;
  readonly blockSize: number;
  /** Bytes of a block's bitmap, with what fills its last sector up. */
  readonly bitmapSize: number;
  readonly parentId: string;
  /** Seconds of this century: when the parent's file was changed last, as the child was made. 0: unknown. */
  readonly parentTime: number;
  readonly parentName: string;
  readonly locators: readonly Locator[];
}

/** The complement of the sum of all bytes but those of the field at `at`. */
function checksum(bytes: Uint8Array, at: number): number {
  let sum = 0;
  for (const [index, byte] of bytes.entries()) if (index < at || index >= at + 4) sum += byte;
  return ~sum >>> 0;
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Reads a footer of 512 bytes. Throws `corrupt` or `unsupported`, naming the field. `offset`: where it is in the file. */
export function parseFooter(bytes: Uint8Array, offset: number): Footer {
  const place = (field: keyof typeof AT) => ({ field, offset: offset + AT[field] });
  if (text(bytes.subarray(0, MARK.length)) !== MARK) throw corrupt(FORMAT, 'this is no VHD image: the footer is missing', place('mark'));
  const data = view(bytes);
  if (data.getUint32(AT.checksum) !== checksum(bytes, AT.checksum)) throw corrupt(FORMAT, 'the checksum of the footer is wrong', place('checksum'));
  const type = data.getUint32(AT.type);
  if (!Object.values(TYPE).some((known) => known === type)) throw unsupported(FORMAT, `disk type ${type}`, place('type'));
  return {
    bytes,
    creator: text(bytes.subarray(AT.creator, AT.creator + 4)),
    creatorVersion: data.getUint32(AT.creatorVersion),
    currentSize: u64be(data, AT.currentSize, 'currentSize'),
    cylinders: data.getUint16(AT.cylinders),
    heads: data.getUint8(AT.heads),
    sectors: data.getUint8(AT.sectors),
    type,
    id: hex(bytes.subarray(AT.id, AT.id + ID_BYTES)),
  };
}

/** Creators whose images have the size that they state; the others' have that of their geometry. */
const BY_SIZE = ['win ', 'qem2', 'd2v ', 'CTXS', 'tap\0'];

/** Bytes of the disk. `rule` overrides the creator's. Throws `unsupported` for more than the format allows. */
export function diskSize({ creator, currentSize, cylinders, heads, sectors }: Footer, rule?: 'chs' | 'current_size'): number {
  const geometry = cylinders * heads * sectors;
  const bySize = rule === undefined ? BY_SIZE.includes(creator) || geometry === MAX_GEOMETRY : rule === 'current_size';
  const count = bySize ? Math.floor(currentSize / SECTOR) : geometry;
  if (count > MAX_SECTORS)
    throw unsupported(FORMAT, `a disk of ${count} sectors: the most is ${MAX_SECTORS}`, { field: 'currentSize', offset: AT.currentSize });
  return count * SECTOR;
}

/** Where a footer says that the header is. */
export const headerOffset = ({ bytes }: Footer): number => u64be(view(bytes), AT.headerOffset, 'headerOffset');

/** Reads the header of an image that grows. Throws `corrupt` or `unsupported`, naming the field. `size`: bytes of the disk. */
export function parseHeader(bytes: Uint8Array, offset: number, size: number): Header {
  const place = (field: keyof typeof HEADER_AT) => ({ field, offset: offset + HEADER_AT[field] });
  const data = view(bytes);
  if (text(bytes.subarray(0, HEADER_MARK.length)) !== HEADER_MARK) throw corrupt(FORMAT, 'the header is not where it should be', place('mark'));
  if (data.getUint32(HEADER_AT.checksum) !== checksum(bytes, HEADER_AT.checksum))
    throw corrupt(FORMAT, 'the checksum of the header is wrong', place('checksum'));
  const [entries, blockSize] = [data.getUint32(HEADER_AT.entries), data.getUint32(HEADER_AT.blockSize)];
  if (blockSize < SECTOR || blockSize > MAX_BLOCK_SIZE || (blockSize & (blockSize - 1)) !== 0)
    throw unsupported(FORMAT, `Invalid block size ${blockSize}`, place('blockSize'));
  if (entries > MAX_ENTRIES) throw unsupported(FORMAT, `a table of ${entries} blocks: the most is ${MAX_ENTRIES}`, place('entries'));
  if (entries * blockSize < size)
    throw corrupt(FORMAT, `Page table too small: ${entries} blocks of ${blockSize} bytes for a disk of ${size}`, place('entries'));
  const tableOffset = u64be(data, HEADER_AT.tableOffset, 'tableOffset');
  const [headerEnd, tableEnd] = [offset + HEADER_SIZE, tableOffset + entries * 4];
  if (tableOffset % SECTOR !== 0 || tableOffset < SECTOR || (tableOffset < headerEnd && tableEnd > offset))
    throw corrupt(FORMAT, `the table is at 0x${tableOffset.toString(16)}, where none can be`, place('tableOffset'));
  return {
    offset,
    bytes,
    tableOffset,
    entries,
    blockSize,
    bitmapSize: Math.ceil(blockSize / SECTOR / 8 / SECTOR) * SECTOR,
    parentId: hex(bytes.subarray(HEADER_AT.parentId, HEADER_AT.parentId + ID_BYTES)),
    parentTime: data.getUint32(HEADER_AT.parentTime),
    parentName: utf16(bytes.subarray(HEADER_AT.parentName, HEADER_AT.parentName + PARENT_NAME_BYTES), false),
    locators: parseLocators(bytes),
  };
}

/** The locators that are used and make sense. Space is in sectors by the specification, and in bytes by most programs. */
function parseLocators(bytes: Uint8Array): Locator[] {
  const found: Locator[] = [];
  for (let index = 0; index < LOCATORS.count; index++) {
    const at = LOCATORS.at + index * LOCATORS.bytes;
    const data = view(bytes.subarray(at, at + LOCATORS.bytes));
    const [stated, length, high] = [data.getUint32(4), data.getUint32(8), data.getUint32(16)];
    if (data.getUint32(0) === 0 || high > 0x1fffff) continue;
    const space = stated < SECTOR ? stated * SECTOR : stated;
    const platform = text(bytes.subarray(at, at + 4));
    if (space % SECTOR === 0 && length <= space) found.push({ platform, space, length, offset: u64be(data, 16, 'locator') });
  }
  return found;
}

/** UTF-16 up to the first zero. */
export function utf16(bytes: Uint8Array, littleEndian: boolean): string {
  const data = view(bytes);
  let value = '';
  for (let at = 0; at + 2 <= bytes.length; at += 2) {
    const unit = data.getUint16(at, littleEndian);
    if (unit === 0) break;
    value += String.fromCharCode(unit);
  }
  return value;
}

/** The geometry of so many sectors, as Virtual PC counts it: it may hold fewer. */
export function geometryOf(count: number): Pick<Footer, 'cylinders' | 'heads' | 'sectors'> {
  const total = Math.min(count, MAX_GEOMETRY);
  let [heads, sectors] = [16, 255];
  if (total < 65535 * 16 * 63) {
    sectors = 17;
    heads = Math.max(4, Math.ceil(Math.floor(total / sectors) / 1024));
    if (Math.floor(total / sectors) >= heads * 1024 || heads > 16) [heads, sectors] = [16, 31];
    if (Math.floor(total / sectors) >= heads * 1024) [heads, sectors] = [16, 63];
  }
  return { cylinders: Math.floor(Math.floor(total / sectors) / heads), heads, sectors };
}

/** The fields of a footer that tell the size, for a disk that has grown. Where a geometry was the size and cannot be, the size is stated as QEMU states it. */
export function grownFields({ creator, cylinders, heads, sectors }: Footer, currentSize: number): FooterChange {
  const count = currentSize / SECTOR;
  const shape = geometryOf(count);
  const holds = shape.cylinders * shape.heads * shape.sectors;
  if (cylinders * heads * sectors === MAX_GEOMETRY) return { currentSize };
  if (BY_SIZE.includes(creator) || holds === count || holds === MAX_GEOMETRY) return { currentSize, ...shape };
  return { currentSize, creator: 'qem2', cylinders: 65535, heads: 16, sectors: 255 };
}

/** The contents of a new footer. */
export type NewFooter = Pick<Footer, 'creator' | 'currentSize' | 'cylinders' | 'heads' | 'sectors' | 'type'> & { readonly date: Date };

/** Seconds of this century, as VHD counts time. */
export const secondsOf = (milliseconds: number): number => Math.max(0, Math.floor((milliseconds - Date.UTC(2000, 0, 1)) / 1000));

/** A footer for a new image. */
export function encodeFooter({ creator, currentSize, cylinders, heads, sectors, type, date }: NewFooter): Uint8Array {
  const bytes = new Uint8Array(SECTOR);
  const data = view(bytes);
  bytes.set(utf8(MARK));
  data.setUint32(AT.features, 2);
  data.setUint32(AT.version, 0x10000);
  if (type === TYPE.fixed) bytes.fill(0xff, AT.headerOffset, AT.headerOffset + 8);
  else setU64be(data, AT.headerOffset, SECTOR);
  data.setUint32(AT.time, secondsOf(date.getTime()));
  data.setUint32(AT.creatorVersion, 0x50003);
  bytes.set(utf8('Wi2k'), AT.creatorSystem);
  setU64be(data, AT.originalSize, currentSize);
  const id = crypto.getRandomValues(bytes.subarray(AT.id, AT.id + ID_BYTES));
  id[6] = ((id[6] as number) & 0x0f) | 0x40;
  id[8] = ((id[8] as number) & 0x3f) | 0x80;
  return changedFooter(bytes, { creator, currentSize, cylinders, heads, sectors, type });
}

/** The fields of a footer that change while the image is the same. */
export type FooterChange = Partial<Pick<Footer, 'creator' | 'creatorVersion' | 'currentSize' | 'cylinders' | 'heads' | 'sectors' | 'type'>> & {
  readonly headerOffset?: number;
};

/** A footer with other values in some fields. */
export function changedFooter(old: Uint8Array, change: FooterChange): Uint8Array {
  const bytes = old.slice();
  const data = view(bytes);
  const { creator, creatorVersion, currentSize, cylinders, heads, sectors, type, headerOffset: at } = change;
  if (creator !== undefined) bytes.set(utf8(creator), AT.creator);
  if (creatorVersion !== undefined) data.setUint32(AT.creatorVersion, creatorVersion);
  if (currentSize !== undefined) setU64be(data, AT.currentSize, currentSize);
  if (cylinders !== undefined) data.setUint16(AT.cylinders, cylinders);
  if (heads !== undefined) data.setUint8(AT.heads, heads);
  if (sectors !== undefined) data.setUint8(AT.sectors, sectors);
  if (type !== undefined) data.setUint32(AT.type, type);
  if (at !== undefined) setU64be(data, AT.headerOffset, at);
  data.setUint32(AT.checksum, checksum(bytes, AT.checksum));
  return bytes;
}

/** The parent in a header. */
export interface ParentFields {
  /** 32 hexadecimal digits. */
  readonly id: string;
  /** See `Header.parentTime`. */
  readonly time: number;
  readonly name: string;
  readonly locators: readonly Locator[];
}

/** The fields of a header that change while the image is the same; `parent: null`: it has none any more. */
export interface HeaderChange {
  readonly tableOffset?: number;
  readonly entries?: number;
  readonly parent?: ParentFields | null;
}

/** The header of a new image that grows. */
export function encodeHeader({ blockSize, ...fields }: Pick<Header, 'tableOffset' | 'entries' | 'blockSize'> & HeaderChange): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE);
  const data = view(bytes);
  bytes.set(utf8(HEADER_MARK));
  bytes.fill(0xff, HEADER_AT.next, HEADER_AT.next + 8);
  data.setUint32(HEADER_AT.version, 0x10000);
  data.setUint32(HEADER_AT.blockSize, blockSize);
  return changedHeader(bytes, fields);
}

/** A header with other values in some fields. */
export function changedHeader(old: Uint8Array, { tableOffset, entries, parent }: HeaderChange): Uint8Array {
  const bytes = old.slice();
  const data = view(bytes);
  if (tableOffset !== undefined) setU64be(data, HEADER_AT.tableOffset, tableOffset);
  if (entries !== undefined) data.setUint32(HEADER_AT.entries, entries);
  if (parent !== undefined) setParent(bytes, parent);
  data.setUint32(HEADER_AT.checksum, checksum(bytes, HEADER_AT.checksum));
  return bytes;
}

function setParent(bytes: Uint8Array, parent: ParentFields | null): void {
  const data = view(bytes);
  bytes.fill(0, HEADER_AT.parentId, LOCATORS.at + LOCATORS.count * LOCATORS.bytes);
  if (!parent) return;
  for (let index = 0; index < ID_BYTES; index++) bytes[HEADER_AT.parentId + index] = Number.parseInt(parent.id.slice(index * 2, index * 2 + 2), 16);
  data.setUint32(HEADER_AT.parentTime, parent.time);
  bytes.set(asUtf16(parent.name, false).subarray(0, PARENT_NAME_BYTES), HEADER_AT.parentName);
  for (const [index, { platform, space, length, offset }] of parent.locators.entries()) {
    const at = LOCATORS.at + index * LOCATORS.bytes;
    bytes.set(utf8(platform), at);
    data.setUint32(at + 4, space);
    data.setUint32(at + 8, length);
    setU64be(data, at + 16, offset);
  }
}

/** Text as UTF-16. */
export function asUtf16(value: string, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(value.length * 2);
  for (let at = 0; at < value.length; at++) view(bytes).setUint16(at * 2, value.charCodeAt(at), littleEndian);
  return bytes;
}
