/** The structures of a disk image of macOS (UDIF): the trailer at the file's end, and the tables of chunks that it leads to. Numbers are big-endian. */
import { text, u64be, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import { MiB, SECTOR } from '../../base/units.ts';
import { hasText } from '../recognised.ts';

export const FORMAT = 'dmg';
export const TRAILER_SIZE = 512;
/** Bytes at the file's end in which the trailer lies. */
export const TAIL = 2 * TRAILER_SIZE - 1;
/** The most bytes of a property list or resource fork, and of a chunk that is compressed, on either side. */
const MAX_TABLES = 16 * MiB;
const MAX_CHUNK = 64 * MiB;
/** A table's header, and each of its chunks. */
const TABLE_HEADER = 204;
const CHUNK = 40;

/** Fields of the trailer. */
const AT = { dataFork: 24, resourceFork: 40, segments: 60, plist: 216, sectors: 492 } as const;

/** How chunks are stored. Others have no guest bytes. */
const TYPE = {
  0: 'zero',
  1: 'raw',
  2: 'zero',
  2147483652: 'adc',
  2147483653: 'zlib',
  2147483654: 'bzip2',
  2147483655: 'lzfse',
  2147483656: 'lzma',
} as const;
const COMMENT = 0x7fff_fffe;
const END = 0xffff_ffff;

export type ChunkKind = (typeof TYPE)[keyof typeof TYPE];
/** Kinds that have to be decoded. */
export type CodedKind = Exclude<ChunkKind, 'zero' | 'raw'>;

/** A run of guest bytes, and where it is in the file. */
export interface Chunk {
  readonly kind: ChunkKind;
  /** Guest bytes. */
  readonly start: number;
  readonly end: number;
  readonly hostOffset: number;
  /** Bytes in the file; 0 for zeros. */
  readonly length: number;
}

export interface Trailer {
  /** Bytes of the disk. */
  readonly size: number;
  /** Chunks count from here. */
  readonly dataFork: number;
  /** Where the tables of chunks are: in a resource fork, or in a property list. */
  readonly tables: { readonly form: 'resource fork' | 'plist'; readonly offset: number; readonly length: number };
}

/** Throws `unsupported` for a file that is encrypted as a whole. `head` and `tail` are its ends. */
export function refuseEncrypted(head: Uint8Array, tail: Uint8Array): void {
  const mark = hasText(head, 0, 'encrcdsa') ? 'encrcdsa' : tail.length >= 8 && hasText(tail, tail.length - 8, 'cdsaencr') ? 'cdsaencr' : undefined;
  if (mark)
    throw unsupported(FORMAT, `the image is encrypted (${mark}): on a Mac, hdiutil convert -format UDTO makes one that is not`, {
      field: 'encryption',
    });
}

/** Reads the trailer in the last bytes of a file, which begin at `offset`. Throws `corrupt` or `unsupported`, naming the field. */
export function parseTrailer(tail: Uint8Array, offset: number): Trailer {
  let at = tail.length - TRAILER_SIZE;
  while (at >= 0 && !hasText(tail, at, 'koly')) at--;
  if (at < 0) throw corrupt(FORMAT, 'the trailer koly is missing at the end of the file', { field: 'koly' });
  const data = view(tail.subarray(at, at + TRAILER_SIZE));
  const place = (field: keyof typeof AT) => ({ field, offset: offset + at + AT[field] });
  const fork = (field: keyof typeof AT) => [u64be(data, AT[field], field), u64be(data, AT[field] + 8, field)] as const;
  // A count of no segments means one.
  if (data.getUint32(AT.segments + 4) > 1) throw unsupported(FORMAT, 'the image is one of several segments', place('segments'));
  const sectors = u64be(data, AT.sectors, 'sectors');
  if (sectors * SECTOR > Number.MAX_SAFE_INTEGER) throw corrupt(FORMAT, `a disk of ${sectors} sectors`, place('sectors'));
  const [dataFork, dataLength] = fork('dataFork');
  if (dataFork + dataLength > offset + at) throw corrupt(FORMAT, 'the data lies past the end of the file', place('dataFork'));
  const [resources, plist] = [fork('resourceFork'), fork('plist')];
  const [field, form, [start, length]] =
    resources[1] > 0 ? (['resourceFork', 'resource fork', resources] as const) : (['plist', 'plist', plist] as const);
  if (length === 0) throw corrupt(FORMAT, 'the image has neither a resource fork nor a property list', place(field));
  if (start + length > offset + at) throw corrupt(FORMAT, `the ${form} lies past the end of the file`, place(field));
  if (length > MAX_TABLES) throw corrupt(FORMAT, `a ${form} of ${length} bytes is too large`, place(field));
  return { size: sectors * SECTOR, dataFork, tables: { form, offset: start, length } };
}

/** The tables of chunks in a resource fork: each resource whose data begins like one. */
export function resourceTables(fork: Uint8Array): Uint8Array[] {
  const bad = (message: string) => corrupt(FORMAT, `resource fork: ${message}`, { field: 'resource fork' });
  if (fork.length < 16) throw bad('it is shorter than its header');
  const data = view(fork);
  const [start, length] = [data.getUint32(0), data.getUint32(8)];
  if (start + length > fork.length) throw bad('its data lies past its end');
  const tables: Uint8Array[] = [];
  for (let at = start; at < start + length; ) {
    if (at + 4 > start + length) throw bad('its data ends inside a resource');
    const size = data.getUint32(at);
    if (size === 0 || at + 4 + size > start + length) throw bad('a resource lies past its end');
    tables.push(fork.subarray(at + 4, at + 4 + size));
    at += 4 + size;
  }
  return tables.filter(isTable);
}

/** The tables of chunks in a property list: each piece of data that begins like one. */
export function plistTables(bytes: Uint8Array): Uint8Array[] {
  const list = text(bytes);
  const tables: Uint8Array[] = [];
  for (let at = list.indexOf('<data>'); at >= 0; at = list.indexOf('<data>', at)) {
    const end = list.indexOf('</data>', at);
    if (end < 0) throw corrupt(FORMAT, 'property list: a piece of data has no end', { field: 'plist' });
    tables.push(fromBase64(list.slice(at + '<data>'.length, end)));
    at = end;
  }
  return tables.filter(isTable);
}

const isTable = (bytes: Uint8Array): boolean => hasText(bytes, 0, 'mish');

function fromBase64(letters: string): Uint8Array {
  try {
    return Uint8Array.from(atob(letters.replace(/\s+/g, '')), (letter) => letter.charCodeAt(0));
  } catch (cause) {
    throw corrupt(FORMAT, 'property list: a piece of data is not in base64', { field: 'plist', cause });
  }
}

/** The chunks of all tables in the order of the disk. `fileSize`: bytes that chunks may lie in. Throws `corrupt`, or `unsupported` for another kind. */
export function parseChunks(tables: readonly Uint8Array[], { size, dataFork }: Trailer, fileSize: number): Chunk[] {
  const chunks = tables.flatMap((table) => tableChunks(table, dataFork)).sort((a, b) => a.start - b.start);
  let end = 0;
  for (const chunk of chunks) {
    if (chunk.start < end) throw bad(`two chunks have the guest's bytes at ${chunk.start}`);
    end = chunk.end;
    if (chunk.end > size) throw bad(`a chunk ends at ${chunk.end}, past the end of the disk`);
    if (chunk.length > 0 && chunk.hostOffset + chunk.length > fileSize) throw bad('a chunk lies past the end of the file', chunk.hostOffset);
  }
  if (chunks.length === 0 && size > 0) throw bad('there are none');
  return chunks;
}

const bad = (message: string, offset?: number) =>
  corrupt(FORMAT, `chunks: ${message}`, { field: 'chunks', ...(offset === undefined ? {} : { offset }) });

function tableChunks(table: Uint8Array, dataFork: number): Chunk[] {
  if (table.length < TABLE_HEADER) throw bad('a table is shorter than its header');
  const data = view(table);
  const count = data.getUint32(TABLE_HEADER - 4);
  if (TABLE_HEADER + count * CHUNK > table.length) throw bad(`a table of ${table.length} bytes cannot have ${count} chunks`);
  const [firstSector, base] = [u64be(data, 8, 'chunks'), u64be(data, 24, 'chunks') + dataFork];
  const chunks: Chunk[] = [];
  for (let i = 0; i < count; i++) {
    const at = TABLE_HEADER + i * CHUNK;
    const type = data.getUint32(at);
    if (type === COMMENT || type === END) continue;
    const kind = TYPE[type as keyof typeof TYPE] as ChunkKind | undefined;
    if (!kind) throw unsupported(FORMAT, `chunks of the type 0x${type.toString(16)} are unknown`, { field: 'chunks' });
    const [start, sectors, offset, length] = [8, 16, 24, 32].map((field) => u64be(data, at + field, 'chunks')) as [number, number, number, number];
    const chunk = { kind, start: (firstSector + start) * SECTOR, end: (firstSector + start + sectors) * SECTOR };
    if (!Number.isSafeInteger(chunk.end) || !Number.isSafeInteger(base + offset + length)) throw bad('a chunk lies beyond all numbers');
    if (sectors > 0) chunks.push(kind === 'zero' ? { ...chunk, hostOffset: 0, length: 0 } : stored(chunk, base + offset, length));
  }
  return chunks;
}

function stored(chunk: Pick<Chunk, 'kind' | 'start' | 'end'>, hostOffset: number, length: number): Chunk {
  const bytes = chunk.end - chunk.start;
  if (chunk.kind === 'raw') {
    if (length < bytes) throw bad(`a chunk of ${bytes} bytes has ${length} in the file`, hostOffset);
    return { ...chunk, hostOffset, length: bytes };
  }
  if (bytes > MAX_CHUNK) throw bad(`a compressed chunk of ${bytes} bytes is larger than ${MAX_CHUNK}`, hostOffset);
  if (length > MAX_CHUNK) throw bad(`a chunk of ${length} compressed bytes is larger than ${MAX_CHUNK}`, hostOffset);
  if (length === 0) throw bad('a compressed chunk has no bytes', hostOffset);
  return { ...chunk, hostOffset, length };
}
