/** The header of QED images, with the name of the backing file, and the entries of its tables: bytes to values and back. Numbers are little-endian. */
import { setU64le, TWO_32, text, u64le, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import { KiB, MiB, SECTOR } from '../../base/units.ts';

export const FORMAT = 'qed';
export const MAGIC = 'QED\0';
export const HEADER_SIZE = 64;
export const ENTRY = 8;
/** Entries of L2 tables that are no place: nothing here, and reads as zero. */
export const UNALLOCATED = 0;
export const ZERO = 1;
/** Bits of `features`. */
export const FEATURE = { backing: 1, needCheck: 2, backingRaw: 4 } as const;
export const CLUSTER = { least: 4 * KiB, most: 64 * MiB, default: 64 * KiB } as const;
/** Clusters of a table. */
export const TABLE = { least: 1, most: 16, default: 4 } as const;
export const MAX_BACKING_NAME = 1023;

/** Where the fields are. */
const AT = {
  cluster_size: 4,
  table_size: 8,
  header_size: 12,
  features: 16,
  autoclear_features: 32,
  l1_table_offset: 40,
  image_size: 48,
  backing_filename_offset: 56,
  backing_filename_size: 60,
} as const;

/** Offsets and sizes are bytes, except as noted. */
export interface Header {
  readonly clusterSize: number;
  /** Clusters. */
  readonly tableSize: number;
  /** Clusters. */
  readonly headerSize: number;
  readonly features: number;
  /** Some bits are set that a program clears if it does not know them. */
  readonly autoclear: boolean;
  readonly l1Offset: number;
  readonly size: number;
  readonly backingName: { readonly offset: number; readonly length: number };
}

/** The bytes of a disk whose tables are full. */
export const largestDisk = (clusterSize: number, tableSize: number): number => ((clusterSize * tableSize) / ENTRY) ** 2 * clusterSize;

const powerBetween = (value: number, { least, most }: { least: number; most: number }) =>
  value >= least && value <= most && (value & (value - 1)) === 0;

/** Reads the header's fixed part. Throws `corrupt` or `unsupported`, naming the field. */
export function parseHeader(bytes: Uint8Array): Header {
  const bad = (field: keyof typeof AT, message: string) => corrupt(FORMAT, message, { field, offset: AT[field] });
  if (bytes.length < HEADER_SIZE || text(bytes.subarray(0, 4)) !== MAGIC)
    throw corrupt(FORMAT, 'Image not in QED format', { field: 'magic', offset: 0 });
  const data = view(bytes);
  const field = (name: keyof typeof AT) => data.getUint32(AT[name], true);
  const [clusterSize, tableSize, headerSize] = [field('cluster_size'), field('table_size'), field('header_size')];
  const features = field('features');
  const unknown = [features & ~7, data.getUint32(AT.features + 4, true)] as const;
  if (unknown[0] !== 0 || unknown[1] !== 0)
    throw unsupported(FORMAT, `Unsupported QED features: ${(unknown[1] * TWO_32 + (unknown[0] >>> 0)).toString(16)}`, {
      field: 'features',
      offset: AT.features,
    });
  if (!powerBetween(clusterSize, CLUSTER)) throw bad('cluster_size', `QED cluster size is invalid: ${clusterSize}`);
  if (!powerBetween(tableSize, TABLE)) throw bad('table_size', `QED table size is invalid: ${tableSize}`);
  if (headerSize === 0 || headerSize * clusterSize >= TWO_32) throw bad('header_size', `QED header size is invalid: ${headerSize} clusters`);
  const size = u64le(data, AT.image_size, 'image_size');
  if (size % SECTOR !== 0 || size > largestDisk(clusterSize, tableSize)) throw bad('image_size', `QED image size is invalid: ${size}`);
  const l1Offset = u64le(data, AT.l1_table_offset, 'l1_table_offset');
  if (l1Offset % clusterSize !== 0 || l1Offset < headerSize * clusterSize) throw bad('l1_table_offset', 'QED table offset is invalid');
  const backingName = { offset: field('backing_filename_offset'), length: field('backing_filename_size') };
  if ((features & FEATURE.backing) !== 0) {
    if (backingName.offset < HEADER_SIZE || backingName.offset + backingName.length > headerSize * clusterSize)
      throw bad('backing_filename_offset', 'QED header: the name of the backing file lies outside the header');
    if (backingName.length > MAX_BACKING_NAME) throw bad('backing_filename_size', `the name of the backing file has ${backingName.length} bytes`);
  }
  const autoclear = field('autoclear_features') !== 0 || data.getUint32(AT.autoclear_features + 4, true) !== 0;
  return { clusterSize, tableSize, headerSize, features, autoclear, l1Offset, size, backingName };
}

/** The fixed part of the header; unknown parts of `bytes`, an older one, stay. */
export function encodeHeader(header: Header, bytes: Uint8Array = new Uint8Array(HEADER_SIZE)): Uint8Array {
  const encoded = bytes.slice();
  const data = view(encoded);
  for (let at = 0; at < 4; at++) encoded[at] = MAGIC.charCodeAt(at);
  const fields = {
    cluster_size: header.clusterSize,
    table_size: header.tableSize,
    header_size: header.headerSize,
    features: header.features,
    backing_filename_offset: header.backingName.offset,
    backing_filename_size: header.backingName.length,
  };
  for (const [name, value] of Object.entries(fields)) data.setUint32(AT[name as keyof typeof fields], value, true);
  if (!header.autoclear) setU64le(data, AT.autoclear_features, 0);
  setU64le(data, AT.l1_table_offset, header.l1Offset);
  setU64le(data, AT.image_size, header.size);
  return encoded;
}

/** Entry `index` of a table, or of a part of one. Inexact above 2^53, where no place is. */
export const entryAt = (data: DataView, index: number): number =>
  data.getUint32(index * ENTRY + 4, true) * TWO_32 + data.getUint32(index * ENTRY, true);

/** What is wrong with the place of `clusters` clusters, if anything; `fileSize` in bytes. */
export function badPlace(header: Header, hostOffset: number, fileSize: number, clusters = 1): string | undefined {
  const { clusterSize, headerSize } = header;
  if (hostOffset % clusterSize !== 0) return `0x${hostOffset.toString(16)}, which is not on a cluster`;
  if (hostOffset < headerSize * clusterSize) return `0x${hostOffset.toString(16)}, inside the header`;
  return hostOffset + (clusters - 1) * clusterSize >= fileSize ? `0x${hostOffset.toString(16)}, past the end of the file` : undefined;
}
