/**
 * qcow2's header and header extensions on disk (docs/interop/qcow2 in QEMU's tree). Pure: bytes in, values out. All integers are
 * big-endian. Encryption is recognised here and refused in image.ts; the entries of L1 and refcount
 * tables and the snapshot table are in layout-tables.ts, those of L2 tables in layout-l2.ts.
 */
import { divideUp, roundUp, setU64be, TWO_32, text, u64be, untilZero, utf8, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';

export const FORMAT = 'qcow2';
/** "QFI\xfb" */
export const MAGIC = 0x514649fb;

export const HEADER_LENGTH_V2 = 72;
/** The length that QEMU writes since 5.1: up to and including the compression type, padded to 8. */
export const HEADER_LENGTH_V3 = 112;
const HEADER_LENGTH_V3_MIN = 104;

/** Limits on what a header may claim; QEMU's. */
export const MAX_L1_BYTES = 32 * 1024 * 1024;
export const MAX_REFTABLE_BYTES = 8 * 1024 * 1024;
export const MAX_SNAPSHOTS = 65536;
export const MAX_BACKING_NAME = 1023;
const MIN_CLUSTER_BITS = 9;
const MAX_CLUSTER_BITS = 21;
/** The least with extended L2 entries, so that a subcluster has at least 512 bytes. */
export const MIN_EXTENDED_CLUSTER_BITS = 14;
/** Host offsets have 56 bits in tables; a file can have no more than a double counts exactly. */
const MAX_VIRTUAL_SIZE = Number.MAX_SAFE_INTEGER;

/** Incompatible features: an implementation must refuse an image with a bit it does not know. */
export const INCOMPATIBLE = { dirty: 1 << 0, corrupt: 1 << 1, dataFile: 1 << 2, compressionType: 1 << 3, extendedL2: 1 << 4 } as const;
/** Compatible features: safe to ignore. */
export const COMPATIBLE = { lazyRefcounts: 1 << 0 } as const;
/** Auto-clear features: a writer that does not maintain the data they vouch for clears them. */
export const AUTOCLEAR = { bitmaps: 1 << 0, rawDataFile: 1 << 1 } as const;

export const EXTENSION = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  encryption: 0x0537be77,
  dataFile: 0x44415441,
} as const;

/** Byte offsets of header fields that are rewritten on their own. */
export const FIELD = {
  size: 24,
  l1Size: 36,
  l1Offset: 40,
  reftableOffset: 48,
  reftableClusters: 56,
  snapshotCount: 60,
  snapshotsOffset: 64,
  incompatible: 72,
  compatible: 80,
  autoclear: 88,
} as const;

export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** The header's fields under the specification's names; offsets and sizes in bytes. */
export interface Header {
  readonly version: 2 | 3;
  readonly backingName: string | undefined;
  readonly clusterBits: number;
  readonly size: number;
  readonly cryptMethod: number;
  readonly l1Size: number;
  readonly l1Offset: number;
  readonly reftableOffset: number;
  readonly reftableClusters: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  /** Low words of the feature fields; a bit in a high word is refused by `parseHeader` (incompatible) or kept out of here. */
  readonly incompatible: number;
  readonly compatible: number;
  readonly autoclear: number;
  /** True if any auto-clear bit of the high word is set. */
  readonly autoclearHigh: boolean;
  readonly refcountOrder: number;
  readonly headerLength: number;
  /** 0 deflate, 1 zstd. */
  readonly compressionType: number;
  /** Unknown incompatible features, by the image's own names for them. An image that has some may not be opened. */
  readonly unknownFeatures: readonly string[];
  readonly extensions: readonly HeaderExtension[];
}

/** Reads a header out of the file's first cluster (or its first bytes, at least 112 if the file has them). */
export function parseHeader(bytes: Uint8Array, fileSize: number): Header {
  if (bytes.length < HEADER_LENGTH_V2) throw corrupt(FORMAT, `the file has ${fileSize} bytes, less than a header`, { field: 'file size', offset: 0 });
  const data = view(bytes);
  if (data.getUint32(0) !== MAGIC) throw corrupt(FORMAT, 'the magic number is not QFI\\xfb', { field: 'magic', offset: 0 });
  const version = data.getUint32(4);
  if (version !== 2 && version !== 3) throw unsupported(FORMAT, `version ${version} (2 and 3 are known)`, { field: 'version', offset: 4 });
  const clusterBits = data.getUint32(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS)
    throw corrupt(FORMAT, `cluster_bits is ${clusterBits}, outside 9 to 21`, { field: 'cluster_bits', offset: 20 });
  const v3 = version === 3 ? parseVersion3(bytes, clusterBits) : VERSION_2;
  if (hasSubclusters(v3) && clusterBits < MIN_EXTENDED_CLUSTER_BITS)
    throw unsupported(FORMAT, `extended L2 entries with clusters of ${2 ** clusterBits} bytes: 16384 is the least`, {
      field: 'cluster_bits',
      offset: 20,
    });
  const extensions = parseExtensions(bytes, v3.headerLength, 2 ** clusterBits, data);
  return {
    version,
    backingName: backingName(bytes, data, 2 ** clusterBits),
    clusterBits,
    ...parseTables(data, { clusterBits, incompatible: v3.incompatible }),
    ...v3,
    extensions,
    unknownFeatures: version === 3 ? unknownFeatures(data, extensions) : [],
  };
}

const VERSION_2 = {
  incompatible: 0,
  compatible: 0,
  autoclear: 0,
  autoclearHigh: false,
  refcountOrder: 4,
  headerLength: HEADER_LENGTH_V2,
  compressionType: 0,
};

function parseVersion3(bytes: Uint8Array, clusterBits: number): typeof VERSION_2 {
  const data = view(bytes);
  const headerLength = bytes.length < HEADER_LENGTH_V3_MIN ? 0 : data.getUint32(100);
  if (headerLength < HEADER_LENGTH_V3_MIN || headerLength > 2 ** clusterBits || headerLength > bytes.length)
    throw corrupt(FORMAT, `header_length is ${headerLength}`, { field: 'header_length', offset: 100 });
  const refcountOrder = data.getUint32(96);
  if (refcountOrder > 6) throw corrupt(FORMAT, `refcount_order is ${refcountOrder}, above 6`, { field: 'refcount_order', offset: 96 });
  const incompatible = data.getUint32(FIELD.incompatible + 4);
  const compressionType = headerLength > 104 ? (bytes[104] as number) : 0;
  if ((incompatible & INCOMPATIBLE.compressionType) !== 0 ? compressionType === 0 : compressionType !== 0)
    throw corrupt(FORMAT, `compression_type ${compressionType} contradicts the compression type bit`, { field: 'compression_type', offset: 104 });
  if (compressionType > 1)
    throw unsupported(FORMAT, `compression type ${compressionType} (0 deflate and 1 zstd are known)`, { field: 'compression_type', offset: 104 });
  return {
    incompatible,
    compatible: data.getUint32(FIELD.compatible + 4),
    autoclear: data.getUint32(FIELD.autoclear + 4),
    autoclearHigh: data.getUint32(FIELD.autoclear) !== 0,
    refcountOrder,
    headerLength,
    compressionType,
  };
}

/** The result of `saturatedU64` for larger numbers: past the end of any file, and on a cluster. */
export const SATURATED = 2 ** 53 - 2 ** 21;

/** A big-endian u64 that may be damaged. */
export const saturatedU64 = (data: DataView, at: number): number => Math.min(data.getUint32(at) * TWO_32 + data.getUint32(at + 4), SATURATED);

function parseTables(data: DataView, shape: Pick<Header, 'clusterBits' | 'incompatible'>) {
  const { clusterBits } = shape;
  const clusterSize = 2 ** clusterBits;
  const size = u64be(data, FIELD.size, 'size');
  if (size > MAX_VIRTUAL_SIZE - clusterSize) throw corrupt(FORMAT, `size is ${size} bytes`, { field: 'size', offset: FIELD.size });
  const l1Size = data.getUint32(FIELD.l1Size);
  if (l1Size * 8 > MAX_L1_BYTES)
    throw corrupt(FORMAT, `l1_size is ${l1Size}: the table would exceed 32 MiB`, { field: 'l1_size', offset: FIELD.l1Size });
  const needed = l1EntriesFor(size, shape);
  if (l1Size < needed)
    throw corrupt(FORMAT, `l1_size is ${l1Size}, too small for a disk of ${size} bytes (${needed})`, { field: 'l1_size', offset: FIELD.l1Size });
  const l1Offset = u64be(data, FIELD.l1Offset, 'l1_table_offset');
  if (l1Offset % clusterSize !== 0)
    throw corrupt(FORMAT, `l1_table_offset is 0x${l1Offset.toString(16)}, not on a cluster`, { field: 'l1_table_offset', offset: FIELD.l1Offset });
  // The code that uses these two checks their places (file-tables.ts, file-snapshots.ts): the guest's bytes can be read without them,
  // as far as the L1 table reaches.
  const reftableClusters = data.getUint32(FIELD.reftableClusters);
  const reftableOffset = saturatedU64(data, FIELD.reftableOffset);
  const snapshotCount = data.getUint32(FIELD.snapshotCount);
  const snapshotsOffset = saturatedU64(data, FIELD.snapshotsOffset);
  return { size, cryptMethod: data.getUint32(32), l1Size, l1Offset, reftableClusters, reftableOffset, snapshotCount, snapshotsOffset };
}

function backingName(bytes: Uint8Array, data: DataView, clusterSize: number): string | undefined {
  const offset = u64be(data, 8, 'backing_file_offset');
  const length = data.getUint32(16);
  if (offset === 0) return undefined;
  if (length > MAX_BACKING_NAME) throw corrupt(FORMAT, `backing_file_size is ${length}, above 1023`, { field: 'backing_file_size', offset: 16 });
  if (offset + length > Math.min(clusterSize, bytes.length))
    throw corrupt(FORMAT, 'the backing file name lies outside the first cluster', { field: 'backing_file_offset', offset: 8 });
  return text(untilZero(bytes.subarray(offset, offset + length)));
}

function parseExtensions(bytes: Uint8Array, start: number, clusterSize: number, data: DataView): HeaderExtension[] {
  const nameOffset = u64be(data, 8, 'backing_file_offset');
  const end = Math.min(clusterSize, bytes.length, nameOffset || clusterSize);
  const extensions: HeaderExtension[] = [];
  for (let at = start; at + 8 <= end; ) {
    const type = data.getUint32(at);
    if (type === EXTENSION.end) break;
    const length = data.getUint32(at + 4);
    if (length > end - at - 8)
      throw corrupt(FORMAT, `header extension 0x${type.toString(16)} claims ${length} bytes, past the end of the header`, {
        field: 'header_extension_length',
        offset: at + 4,
      });
    extensions.push({ type, data: bytes.slice(at + 8, at + 8 + length) });
    at += 8 + roundUp(length, 8);
  }
  return extensions;
}

const KNOWN_INCOMPATIBLE = INCOMPATIBLE.dirty | INCOMPATIBLE.corrupt | INCOMPATIBLE.dataFile | INCOMPATIBLE.compressionType | INCOMPATIBLE.extendedL2;

function unknownFeatures(data: DataView, extensions: readonly HeaderExtension[]): string[] {
  const names = featureNames(extensions);
  const words = [data.getUint32(FIELD.incompatible + 4) & ~KNOWN_INCOMPATIBLE, data.getUint32(FIELD.incompatible)] as const;
  const unknown: string[] = [];
  for (let bit = 0; bit < 64; bit++) if (((words[bit >> 5] as number) & (1 << (bit % 32))) !== 0) unknown.push(names.get(bit) ?? `bit ${bit}`);
  return unknown;
}

/** Names of incompatible bits out of the feature name table, with control characters shown as spaces. */
function featureNames(extensions: readonly HeaderExtension[]): Map<number, string> {
  const names = new Map<number, string>();
  const table = extensions.find(({ type }) => type === EXTENSION.featureNames)?.data ?? new Uint8Array();
  for (let at = 0; at + 48 <= table.length; at += 48) {
    if (table[at] !== 0) continue;
    const name = untilZero(table.subarray(at + 2, at + 48));
    names.set(table[at + 1] as number, text(name).replace(/[\u0000-\u001f\u007f-\u009f]/g, ' '));
  }
  return names;
}

/** Text of a known extension. */
export function extensionText(header: Header, type: number): string | undefined {
  const found = header.extensions.find((extension) => extension.type === type);
  return found ? text(untilZero(found.data)) : undefined;
}

/** The feature name table as QEMU 7.2 writes it: type, bit, name. */
const FEATURES: readonly (readonly [number, number, string])[] = [
  [0, 0, 'dirty bit'],
  [0, 1, 'corrupt bit'],
  [0, 2, 'external data file'],
  [0, 3, 'compression type'],
  [0, 4, 'extended L2 entries'],
  [1, 0, 'lazy refcounts'],
  [2, 0, 'bitmaps'],
  [2, 1, 'raw external data'],
];

/** True if a header cluster has room for the names of features: QEMU leaves them out where it has not. */
export const hasFeatureNames = (clusterSize: number): boolean => clusterSize > 4096;

/** The contents of the header extension that names the feature bits, as QEMU 7.2 writes it. */
export function encodeFeatureNames(): Uint8Array {
  const table = new Uint8Array(FEATURES.length * 48);
  for (const [index, [type, bit, name]] of FEATURES.entries()) {
    table[index * 48] = type;
    table[index * 48 + 1] = bit;
    table.set(utf8(name), index * 48 + 2);
  }
  return table;
}

/** A whole header with extensions and backing file name, to be written at offset 0. Throws `refused` if it exceeds a cluster. */
export function encodeHeader(header: Header): Uint8Array {
  const fixed = header.version === 2 ? HEADER_LENGTH_V2 : header.headerLength;
  const name = utf8(header.backingName ?? '');
  const extensionBytes = header.extensions.reduce((sum, { data }) => sum + 8 + roundUp(data.length, 8), 8);
  const bytes = new Uint8Array(fixed + extensionBytes + name.length);
  if (bytes.length > 2 ** header.clusterBits)
    throw unsupported(FORMAT, 'the backing file name does not fit into the header cluster', { field: 'backing_file' });
  const data = view(bytes);
  let at = fixed;
  for (const extension of header.extensions) {
    data.setUint32(at, extension.type);
    data.setUint32(at + 4, extension.data.length);
    bytes.set(extension.data, at + 8);
    at += 8 + roundUp(extension.data.length, 8);
  }
  bytes.set(name, at + 8);
  bytes.set(encodeFixedHeader(header, name.length > 0 ? at + 8 : 0, name.length));
  return bytes;
}

function encodeFixedHeader(header: Header, nameOffset: number, nameLength: number): Uint8Array {
  const bytes = new Uint8Array(header.version === 2 ? HEADER_LENGTH_V2 : header.headerLength);
  const data = view(bytes);
  data.setUint32(0, MAGIC);
  setU64be(data, 8, nameOffset);
  data.setUint32(16, nameLength);
  data.setUint32(20, header.clusterBits);
  patchFixedHeader(bytes, header);
  return bytes;
}

/** Sets every field of a fixed header that may change while the image exists, except the place of the backing file's name. */
export function patchFixedHeader(bytes: Uint8Array, header: Header): void {
  const data = view(bytes);
  data.setUint32(4, header.version);
  bytes.set(encodeSwitch(header), FIELD.size);
  if (header.version === 2) return;
  data.setUint32(FIELD.incompatible + 4, header.incompatible);
  data.setUint32(FIELD.compatible + 4, header.compatible);
  data.setUint32(FIELD.autoclear, 0);
  data.setUint32(FIELD.autoclear + 4, header.autoclear);
  data.setUint32(96, header.refcountOrder);
  data.setUint32(100, header.headerLength);
  if (header.headerLength > 104) bytes[104] = header.compressionType;
}

/** The fields that a metadata switch changes. */
export type SwitchFields = Pick<
  Header,
  'size' | 'cryptMethod' | 'l1Size' | 'l1Offset' | 'reftableOffset' | 'reftableClusters' | 'snapshotCount' | 'snapshotsOffset'
>;

/**
 * Header bytes from `FIELD.size` to the feature bits: the disk's size and the places of its tables. They lie in one sector, so writing
 * them in one call switches from one set of tables to another at once.
 */
export function encodeSwitch(header: SwitchFields): Uint8Array {
  const bytes = new Uint8Array(FIELD.incompatible - FIELD.size);
  const data = view(bytes);
  const put64 = (field: number, value: number) => setU64be(data, field - FIELD.size, value);
  put64(FIELD.size, header.size);
  data.setUint32(32 - FIELD.size, header.cryptMethod);
  data.setUint32(FIELD.l1Size - FIELD.size, header.l1Size);
  put64(FIELD.l1Offset, header.l1Offset);
  put64(FIELD.reftableOffset, header.reftableOffset);
  data.setUint32(FIELD.reftableClusters - FIELD.size, header.reftableClusters);
  data.setUint32(FIELD.snapshotCount - FIELD.size, header.snapshotCount);
  put64(FIELD.snapshotsOffset, header.snapshotsOffset);
  return bytes;
}

/** True if L2 entries have a bitmap of subclusters. */
export const hasSubclusters = ({ incompatible }: Pick<Header, 'incompatible'>): boolean => (incompatible & INCOMPATIBLE.extendedL2) !== 0;

/** True if the header names bitmaps, or did so when its writer last vouched for them. */
export const mayHaveBitmaps = ({ extensions }: Pick<Header, 'extensions'>): boolean => extensions.some(({ type }) => type === EXTENSION.bitmaps);

/** True if guest data lies in an external data file. */
export const hasDataFile = ({ incompatible }: Pick<Header, 'incompatible'>): boolean => (incompatible & INCOMPATIBLE.dataFile) !== 0;

/** L1 entries for a disk of `size` bytes. */
export const l1EntriesFor = (size: number, header: Pick<Header, 'clusterBits' | 'incompatible'>): number =>
  divideUp(size, 2 ** (header.clusterBits * 2 - (hasSubclusters(header) ? 4 : 3)));
