/**
 * The header of qcow images (version 1) and the entries of their tables: bytes to values and back. Numbers are big-endian. The L1 table follows the header
 * and the name of the backing file, and need not begin or end on a sector.
 */
import { setU64be, TWO_32, u64be, utf8, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';

export const FORMAT = 'qcow';
export const MAGIC = 0x514649fb;
export const HEADER_SIZE = 48;
export const ENTRY = 8;
export const MAX_BACKING_NAME = 1023;
/** `crypt_method`. */
export const CRYPT = { none: 0, aes: 1 } as const;
/** The most entries of an L1 table that QEMU opens. */
const MAX_L1_ENTRIES = 2 ** 28 - 1;
/** Of the high word of an L2 entry. */
const COMPRESSED = 0x8000_0000;

/** Where the fields are. */
const AT = {
  version: 4,
  backing_file_offset: 8,
  backing_file_size: 16,
  size: 24,
  cluster_bits: 32,
  l2_bits: 33,
  crypt_method: 36,
  l1_table_offset: 40,
} as const;

/** The fields that count. Offsets and sizes are bytes, except as noted. */
export interface Fields {
  /** As in the header: the disk has the whole sectors of it. */
  readonly size: number;
  /** Of the name of the backing file; its offset is 0 if there is none. */
  readonly backingName: { readonly offset: number; readonly length: number };
  readonly clusterBits: number;
  /** Of the number of entries of an L2 table. */
  readonly l2Bits: number;
  readonly cryptMethod: number;
  readonly l1Offset: number;
}

/** The fields of a header, and what follows from them. */
export interface Header extends Fields {
  readonly clusterSize: number;
  /** Entries, and bytes, of an L2 table. */
  readonly l2Entries: number;
  readonly l2Bytes: number;
  /** Guest bytes that one L2 table maps. */
  readonly coverage: number;
  readonly l1Entries: number;
  /** The end of the L1 table in the file. */
  readonly l1End: number;
}

/** The header with these fields. */
export function headerOf(fields: Fields): Header {
  const { clusterBits, l2Bits, size, l1Offset } = fields;
  const clusterSize = 2 ** clusterBits;
  const l2Entries = 2 ** l2Bits;
  const coverage = clusterSize * l2Entries;
  const l1Entries = Math.ceil(size / coverage);
  return { ...fields, clusterSize, l2Entries, l2Bytes: l2Entries * ENTRY, coverage, l1Entries, l1End: l1Offset + l1Entries * ENTRY };
}

/** True for a disk that QEMU does not open: it has the whole L1 table in memory. */
export const tooLarge = ({ l1Entries }: Header): boolean => l1Entries > MAX_L1_ENTRIES;

/** Reads the header's fixed part. Throws `corrupt` or `unsupported`, naming the field. */
export function parseHeader(bytes: Uint8Array): Header {
  const bad = (field: keyof typeof AT, message: string) => corrupt(FORMAT, message, { field, offset: AT[field] });
  const data = view(bytes);
  if (bytes.length < HEADER_SIZE || data.getUint32(0) !== MAGIC) throw corrupt(FORMAT, 'Image not in qcow format', { field: 'magic', offset: 0 });
  const version = data.getUint32(AT.version);
  if (version !== 1) throw unsupported(FORMAT, `qcow (v1) does not support qcow version ${version}`, { field: 'version', offset: AT.version });
  const [clusterBits, l2Bits, cryptMethod] = [data.getUint8(AT.cluster_bits), data.getUint8(AT.l2_bits), data.getUint32(AT.crypt_method)];
  if (clusterBits < 9 || clusterBits > 16) throw bad('cluster_bits', 'Cluster size must be between 512 and 64k');
  if (l2Bits < 6 || l2Bits > 13) throw bad('l2_bits', 'L2 table size must be between 512 and 64k');
  if (cryptMethod > CRYPT.aes)
    throw unsupported(FORMAT, 'invalid encryption method in qcow header', { field: 'crypt_method', offset: AT.crypt_method });
  const size = u64be(data, AT.size, 'size');
  if (size <= 1) throw bad('size', 'Image size is too small (must be at least 2 bytes)');
  const l1Offset = u64be(data, AT.l1_table_offset, 'l1_table_offset');
  if (l1Offset < HEADER_SIZE || l1Offset % ENTRY !== 0)
    throw bad('l1_table_offset', `the L1 table is at 0x${l1Offset.toString(16)}, where none can be`);
  const backingName = { offset: u64be(data, AT.backing_file_offset, 'backing_file_offset'), length: data.getUint32(AT.backing_file_size) };
  if (backingName.offset !== 0) {
    if (backingName.length > MAX_BACKING_NAME) throw bad('backing_file_size', 'Backing file name too long');
    if (backingName.offset < HEADER_SIZE) throw bad('backing_file_offset', 'the name of the backing file lies inside the header');
  }
  const header = headerOf({ size, backingName, clusterBits, l2Bits, cryptMethod, l1Offset });
  if (tooLarge(header)) throw bad('size', 'Image too large');
  return header;
}

/** Refuses a header whose parts are not in a file of this size. */
export function requireInFile(header: Header, fileSize: number): void {
  const past = (field: keyof typeof AT, what: string) => corrupt(FORMAT, `the ${what} lies past the end of the file`, { field, offset: AT[field] });
  const { offset, length } = header.backingName;
  if (offset + length > fileSize) throw past('backing_file_offset', 'name of the backing file');
  if (header.l1End > fileSize) throw past('l1_table_offset', 'L1 table');
}

/** The beginning of a new image: its header, and the name of its backing file, up to where its L1 table begins. */
export function encodeHeader({ size, backing, encrypted }: { size: number; backing: string | undefined; encrypted: boolean }): {
  readonly bytes: Uint8Array;
  readonly header: Header;
} {
  const name = utf8(backing ?? '');
  const l1Offset = Math.ceil((HEADER_SIZE + name.length) / ENTRY) * ENTRY;
  // Over a backing file QEMU makes clusters of a sector, so that no write has to copy.
  const bits = backing === undefined ? { clusterBits: 12, l2Bits: 9 } : { clusterBits: 9, l2Bits: 12 };
  const backingName = { offset: backing === undefined ? 0 : HEADER_SIZE, length: name.length };
  const header = headerOf({ size, backingName, ...bits, cryptMethod: encrypted ? CRYPT.aes : CRYPT.none, l1Offset });
  const bytes = new Uint8Array(l1Offset);
  const data = view(bytes);
  data.setUint32(0, MAGIC);
  data.setUint32(AT.version, 1);
  setU64be(data, AT.backing_file_offset, backingName.offset);
  data.setUint32(AT.backing_file_size, backingName.length);
  setU64be(data, AT.size, size);
  data.setUint8(AT.cluster_bits, header.clusterBits);
  data.setUint8(AT.l2_bits, header.l2Bits);
  data.setUint32(AT.crypt_method, header.cryptMethod);
  setU64be(data, AT.l1_table_offset, l1Offset);
  bytes.set(name, HEADER_SIZE);
  return { bytes, header };
}

/** Entry `index` of a table, or of a part of one. Inexact above 2^53, where no place is. */
export const entryAt = (data: DataView, index: number): number => data.getUint32(index * ENTRY) * TWO_32 + data.getUint32(index * ENTRY + 4);

/** Whether an L2 entry says that its cluster is compressed. */
export const isCompressed = (data: DataView, index: number): boolean => data.getUint32(index * ENTRY) >= COMPRESSED;

/** Where a compressed cluster is, and how many bytes it has: the bits below the flag have their count, and those below these the offset. */
export function compressedPlace(data: DataView, index: number, clusterBits: number): { hostOffset: number; length: number } {
  const [high, low] = [data.getUint32(index * ENTRY), data.getUint32(index * ENTRY + 4)];
  const lengthAt = 31 - clusterBits;
  return { length: (high & 0x7fff_ffff) >>> lengthAt, hostOffset: (high & (2 ** lengthAt - 1)) * TWO_32 + low };
}

/** Sets an L2 entry to a compressed cluster; false if its place cannot be stored. */
export function setCompressed(data: DataView, index: number, place: { hostOffset: number; length: number }, clusterBits: number): boolean {
  const lengthAt = 31 - clusterBits;
  const high = Math.floor(place.hostOffset / TWO_32);
  if (high >= 2 ** lengthAt || place.length >= 2 ** clusterBits) return false;
  data.setUint32(index * ENTRY, (COMPRESSED | (place.length << lengthAt) | high) >>> 0);
  data.setUint32(index * ENTRY + 4, place.hostOffset % TWO_32);
  return true;
}

/** What is wrong with the place of a table or cluster, if anything. The file has at least `needed` bytes of it: it may end inside a cluster. */
export function badPlace(
  header: Header,
  hostOffset: number,
  { length, needed, fileSize }: Record<'length' | 'needed' | 'fileSize', number>,
): string | undefined {
  const { clusterSize, backingName, l1Offset, l1End } = header;
  const overlaps = (start: number, end: number) => hostOffset < end && hostOffset + length > start;
  const at = `0x${hostOffset.toString(16)}`;
  if (hostOffset % clusterSize !== 0) return `${at}, which is not on a cluster`;
  if (hostOffset < HEADER_SIZE) return `${at}, inside the header`;
  if (overlaps(backingName.offset, backingName.offset + backingName.length)) return `${at}, over the name of the backing file`;
  if (overlaps(l1Offset, l1End)) return `${at}, inside the L1 table`;
  return hostOffset + needed > fileSize ? `${at}, past the end of the file` : undefined;
}
