/**
 * The headers of VMDK's extents with tables: bytes to values and back. VMware's own (`KDMV`), the redo logs of ESX (`COWD`), and seSparse, which is
 * read only. All numbers are little-endian; places and sizes in the files are sectors, in the values here bytes.
 */
import { divideUp, roundUp, setU64le, u64le, view } from '../../base/bytes.ts';
import { corrupt, type DiskError, unsupported } from '../../base/errors.ts';
import { MiB, SECTOR } from '../../base/units.ts';

export const FORMAT = 'vmdk';
const MAGIC = 0x564d444b;
const COWD = 0x44574f43;
const SESPARSE = 0xcafebabe;
/** Of new images. */
export const GRAIN = 128 * SECTOR;
export const TABLE_ENTRIES = 512;
const MAX_GRAIN = 64 * MiB;
/** A whole grain is decoded at once. */
const MAX_COMPRESSED_GRAIN = MiB;
/** Entries of a directory: 128 TiB in grains of 64 KiB. */
export const MAX_DIRECTORY = 4 * 1024 * 1024;
export const FLAG = { newLine: 1, redundant: 2, zeroGrain: 4, compressed: 0x10000, markers: 0x20000 } as const;
/** The place of the directory that a footer at the file's end tells. */
const AT_END = 0xffffffff;
const LINE_ENDS = [0x0a, 0x20, 0x0d, 0x0a];

/** An entry of a grain table: nothing, zeros, or the host offset of a grain. */
export type Grain = 'none' | 'zero' | number;

/** How an extent's tables lead to its grains. */
export interface Shape {
  readonly kind: 'KDMV' | 'COWD' | 'SESPARSE';
  /** Bytes of the disk. */
  readonly capacity: number;
  readonly grainSize: number;
  readonly tableEntries: number;
  readonly entryBytes: 4 | 8;
  /** Entries of the directory, `entryBytes` each. */
  readonly directoryEntries: number;
  readonly directory: number;
  /** The second directory, whose tables say the same. */
  readonly redundant?: number;
  /** Why the extent can only be read. */
  readonly fixed?: string;
  readonly zeroGrains: boolean;
  readonly compressed: boolean;
  /** The text inside. */
  readonly descriptor?: { readonly offset: number; readonly length: number };
  /** No grain or table begins below. */
  readonly least: number;
  /** Where the header says that grains begin. */
  readonly grains?: number;
  /** The directory is described at the file's end. */
  readonly footer: boolean;
  /** And this is what is said there. */
  readonly atEnd?: boolean;
  /** The host offset of a table; 0: none. Throws `corrupt`. */
  tableAt(high: number, low: number): number;
  grainAt(high: number, low: number): Grain;
}

const bad = (field: string, message: string, offset = 0): DiskError => corrupt(FORMAT, message, { field, offset });

/** Reads the first 2 KiB of an extent. Throws `corrupt` or `unsupported`, naming the field. */
export function parseShape(head: Uint8Array): Shape {
  if (head.length < SECTOR) throw bad('magic', 'the file ends inside the header');
  const magic = view(head).getUint32(0, true);
  if (magic === MAGIC) return parseSparse(view(head), head);
  if (magic === COWD) return parseCowd(view(head));
  if (magic === SESPARSE) return parseSeSparse(view(head));
  throw bad('magic', 'this is no sparse extent');
}

/** Sectors at `at` as bytes. */
function bytesAt(data: DataView, at: number, field: string): number {
  const value = u64le(data, at, field) * SECTOR;
  if (!Number.isSafeInteger(value)) throw bad(field, `${field} is beyond 2^53 bytes`, at);
  return value;
}

/** The shape of an extent of at least `size` bytes, its directories where they are; an extent may be larger than its part of the disk. */
export const largerShape = (shape: Shape, size: number): Shape => {
  const { capacity, grainSize, tableEntries, directoryEntries: old } = shape;
  if (size <= capacity) return shape;
  return { ...shape, capacity: size, directoryEntries: Math.max(old, directoryEntries(size, grainSize * tableEntries)) };
};

function requireGrain(grainSize: number, at: number, most = MAX_GRAIN): void {
  const sectors = grainSize / SECTOR;
  if (sectors < 1 || grainSize > most || 2 ** Math.round(Math.log2(sectors)) !== sectors)
    throw bad('grainSize', `grains of ${sectors} sectors, image may be corrupt`, at);
}

function directoryEntries(capacity: number, covered: number): number {
  const entries = divideUp(capacity, covered);
  if (entries > MAX_DIRECTORY)
    throw unsupported(FORMAT, `a disk of ${capacity} bytes needs a directory of ${entries} entries`, { field: 'capacity' });
  return entries;
}

const simple = {
  tableAt: (_: number, low: number) => low * SECTOR,
  grainAt: (_: number, low: number): Grain => (low === 0 ? 'none' : low * SECTOR),
};

function parseSparse(data: DataView, head: Uint8Array): Shape {
  const version = data.getUint32(4, true);
  const flags = data.getUint32(8, true);
  if (version < 1 || version > 3) throw unsupported(FORMAT, `Unsupported VMDK version ${version}`, { field: 'version', offset: 4 });
  const compressed = (flags & FLAG.compressed) !== 0;
  const algorithm = data.getUint16(77, true);
  if ((flags & FLAG.newLine) !== 0 && LINE_ENDS.some((byte, i) => head[73 + i] !== byte))
    throw bad('newLine', 'the file was damaged by a transfer as text', 73);
  if (compressed && algorithm !== 1) throw unsupported(FORMAT, `compression algorithm ${algorithm}`, { field: 'compressAlgorithm', offset: 77 });
  const capacity = bytesAt(data, 12, 'capacity');
  const grainSize = bytesAt(data, 20, 'grainSize');
  requireGrain(grainSize, 20, compressed ? MAX_COMPRESSED_GRAIN : MAX_GRAIN);
  const tableEntries = data.getUint32(44, true);
  // Tables are whole sectors.
  if (tableEntries < 1 || tableEntries > TABLE_ENTRIES || tableEntries % 128 !== 0)
    throw unsupported(FORMAT, `grain tables of ${tableEntries} entries`, { field: 'numGTEsPerGT', offset: 44 });
  const footer = data.getUint32(56, true) === AT_END && data.getUint32(60, true) === AT_END;
  const descriptor = { offset: bytesAt(data, 28, 'descriptorOffset'), length: bytesAt(data, 36, 'descriptorSize') };
  const directory = footer ? 0 : bytesAt(data, 56, 'gdOffset');
  const redundant = (flags & FLAG.redundant) === 0 ? 0 : bytesAt(data, 48, 'rgdOffset');
  if (!footer && directory < SECTOR) throw bad('gdOffset', 'the grain directory lies in the header', 56);
  const zeroGrains = (flags & FLAG.zeroGrain) !== 0;
  return {
    kind: 'KDMV',
    capacity,
    grainSize,
    tableEntries,
    entryBytes: 4,
    directoryEntries: directoryEntries(capacity, grainSize * tableEntries),
    directory,
    ...(redundant > 0 && redundant !== directory ? { redundant } : {}),
    ...(version === 3 && !compressed ? { fixed: 'VMDK version 3 must be read only' } : {}),
    zeroGrains,
    compressed,
    ...(descriptor.offset > 0 && descriptor.length > 0 ? { descriptor } : {}),
    least: Math.max(SECTOR, descriptor.offset + descriptor.length),
    grains: bytesAt(data, 64, 'overHead'),
    footer,
    ...simple,
    grainAt: (_, low) => (low === 0 ? 'none' : low === 1 && zeroGrains ? 'zero' : low * SECTOR),
  };
}

function parseCowd(data: DataView): Shape {
  const [version = 0, flags, capacity = 0, grain = 0, directory = 0, entries = 0] = [4, 8, 12, 16, 20, 24].map((at) => data.getUint32(at, true));
  if (version !== 1) throw unsupported(FORMAT, `Unsupported version ${version} of COWD`, { field: 'version', offset: 4 });
  if (flags === undefined) throw bad('flags', 'no flags');
  requireGrain(grain * SECTOR, 16);
  const needed = directoryEntries(capacity * SECTOR, grain * SECTOR * 4096);
  if (entries < needed) throw bad('numGDEntries', `a directory of ${entries} entries for a disk that needs ${needed}`, 24);
  if (directory < 1) throw bad('gdOffset', 'the grain directory lies in the header', 20);
  return {
    kind: 'COWD',
    capacity: capacity * SECTOR,
    grainSize: grain * SECTOR,
    tableEntries: 4096,
    entryBytes: 4,
    directoryEntries: needed,
    directory: directory * SECTOR,
    fixed: 'extents of ESX can only be read',
    zeroGrains: false,
    compressed: false,
    least: SECTOR,
    footer: false,
    ...simple,
  };
}

function parseSeSparse(data: DataView): Shape {
  const require = (field: string, at: number, high: number, low: number): void => {
    if (data.getUint32(at, true) !== low || data.getUint32(at + 4, true) !== high)
      throw unsupported(FORMAT, `seSparse with another ${field}`, { field, offset: at });
  };
  require('magic', 0, 0, SESPARSE);
  require('version', 8, 2, 1);
  require('grainSize', 24, 0, 8);
  require('grainTableSize', 32, 0, 64);
  require('flags', 40, 0, 0);
  const capacity = bytesAt(data, 16, 'capacity');
  const [directory, tables, grains] = [bytesAt(data, 128, 'gdOffset'), bytesAt(data, 144, 'gtOffset'), bytesAt(data, 192, 'grainsOffset')];
  const [grainSize, tableEntries] = [8 * SECTOR, 4096];
  const entries = directoryEntries(capacity, grainSize * tableEntries);
  if (entries * 8 > bytesAt(data, 136, 'gdSize')) throw bad('gdSize', 'the grain directory is too small for the disk', 136);
  return {
    kind: 'SESPARSE',
    capacity,
    grainSize,
    tableEntries,
    entryBytes: 8,
    directoryEntries: entries,
    directory,
    fixed: 'seSparse images can only be read',
    zeroGrains: true,
    compressed: false,
    least: SECTOR,
    footer: false,
    tableAt(high, low) {
      if (high === 0 && low === 0) return 0;
      if (high !== 0x10000000) throw bad('grain directory', `an entry 0x${high.toString(16)}${low.toString(16).padStart(8, '0')}`);
      return tables + low * tableEntries * 8;
    },
    grainAt(high, low) {
      const state = high >>> 28;
      if (state === 0 && (high !== 0 || low !== 0)) throw bad('grain table', 'an entry that is neither allocated nor empty');
      if (state === 0) return 'none';
      if (state === 1 || state === 2) return 'zero';
      if (state !== 3) throw bad('grain table', `an entry of type ${state}`);
      return grains + (((high & 0xffff) * 0x1_0000_0000 + low) * 4096 + ((high >>> 16) & 0xfff)) * grainSize;
    },
  };
}

/** The volatile header of seSparse: whether its journal is to be replayed. */
export const seSparseVolatile = (head: Uint8Array): number => bytesAt(view(head), 80, 'volatileHeaderOffset');

/** True if an seSparse image was not closed properly. Throws for what is no such header. */
export function seSparseDirty(sector: Uint8Array): boolean {
  const data = view(sector);
  if (data.getUint32(0, true) !== 0xcafecafe || data.getUint32(4, true) !== 0) throw bad('volatileHeader', 'there is none');
  return data.getUint8(24) !== 0;
}

/** What may differ between new extents. Bytes, but for the entries. */
export interface Form {
  readonly grainSize: number;
  readonly tableEntries: number;
  /** For the text inside; 0: there is none. */
  readonly room: number;
}

const DESCRIPTOR_AT = SECTOR;
/** No longer text is read. */
const MAX_ROOM = MiB;
/** The form that QEMU gives a new extent. */
export const NEW_FORM: Form = { grainSize: GRAIN, tableEntries: TABLE_ENTRIES, room: 20 * SECTOR };

/** The form of an extent like this one. */
export const formOf = ({ grainSize, tableEntries, descriptor }: Shape): Form => ({
  grainSize,
  tableEntries,
  room: descriptor ? Math.max(NEW_FORM.room, Math.min(roundUp(descriptor.length, SECTOR), MAX_ROOM)) : 0,
});

/** Where everything goes in a new extent. Bytes. */
export interface NewLayout {
  readonly tables: number;
  readonly tableSize: number;
  readonly redundant: number;
  readonly directory: number;
  readonly directorySize: number;
  readonly grains: number;
}

/** The layout that QEMU gives a new extent. */
export function newLayout(capacity: number, { grainSize, tableEntries, room }: Form): NewLayout {
  const tables = divideUp(capacity, grainSize * tableEntries);
  const tableSize = tableEntries * 4;
  const directorySize = divideUp(tables * 4, SECTOR) * SECTOR;
  const redundant = DESCRIPTOR_AT + room;
  const directory = redundant + directorySize + tables * tableSize;
  const grains = divideUp(directory + directorySize + tables * tableSize, grainSize) * grainSize;
  return { tables, tableSize, redundant, directory, directorySize, grains };
}

/** The facts of a header that differ. */
interface HeaderFacts {
  readonly version: number;
  readonly flags: number;
  readonly redundant: number;
  readonly grains: number;
  readonly form: Form;
}

function encodeHeader(capacity: number, { version, flags, redundant, grains, form }: HeaderFacts): Uint8Array {
  const sector = new Uint8Array(SECTOR);
  const data = view(sector);
  data.setUint32(0, MAGIC, true);
  data.setUint32(4, version, true);
  data.setUint32(8, FLAG.newLine | flags, true);
  data.setUint32(44, form.tableEntries, true);
  const fields = [
    [12, capacity],
    [20, form.grainSize],
    [28, form.room > 0 ? DESCRIPTOR_AT : 0],
    [36, form.room],
    [48, redundant],
    [64, grains],
  ] as const;
  for (const [at, value] of fields) setU64le(data, at, value / SECTOR);
  sector.set(LINE_ENDS, 73);
  data.setUint16(77, (flags & FLAG.compressed) === 0 ? 0 : 1, true);
  return sector;
}

/** The header of a new extent. */
export function encodeSparse(capacity: number, { zeroGrains, compressed }: { zeroGrains: boolean; compressed: boolean }, form: Form): Uint8Array {
  const { redundant, directory, grains } = newLayout(capacity, form);
  const version = compressed ? 3 : zeroGrains ? 2 : 1;
  const flags = FLAG.redundant | (compressed ? FLAG.compressed | FLAG.markers : 0) | (zeroGrains ? FLAG.zeroGrain : 0);
  const sector = encodeHeader(capacity, { version, flags, redundant, grains, form });
  setU64le(view(sector), 56, directory / SECTOR);
  return sector;
}

/** Bytes before the first grain of a stream. */
const streamHead = ({ room }: Form): number => divideUp(DESCRIPTOR_AT + room, GRAIN) * GRAIN;

/** The header of a stream, without `directory`, and its footer with it. */
export function encodeStreamHeader(capacity: number, form: Form, directory?: number): Uint8Array {
  const sector = encodeHeader(capacity, { version: 3, flags: FLAG.compressed | FLAG.markers, redundant: 0, grains: streamHead(form), form });
  if (directory === undefined) sector.fill(0xff, 56, 64);
  else setU64le(view(sector), 56, directory / SECTOR);
  return sector;
}

/** What a stream begins with, up to its first grain. */
export function encodeStreamHead(capacity: number, text: Uint8Array, form: Form): Uint8Array {
  const head = new Uint8Array(streamHead(form));
  head.set(encodeStreamHeader(capacity, form));
  head.set(text, DESCRIPTOR_AT);
  return head;
}

/** Entries `from` to `end` of a new directory at `start`, whose tables follow it. */
export function encodeDirectory({ directorySize, tableSize }: NewLayout, start: number, from: number, end: number): Uint8Array {
  const bytes = new Uint8Array((end - from) * 4);
  for (let index = from; index < end; index++) view(bytes).setUint32((index - from) * 4, (start + directorySize + index * tableSize) / SECTOR, true);
  return bytes;
}
