/**
 * The files of a tar archive: in a storage they are windows onto it; in a stream, as a packed archive is one, they are read in order. Sparse files of GNU
 * tar, in its own form and in that of pax 1.0, are filled with zeros. Links, folders and devices are passed over.
 */
import { ByteReader, type ByteStream, bytesOf, type Pieces, streamOf } from '../base/byte-stream.ts';
import { roundUp, text, untilZero } from '../base/bytes.ts';
import { corrupt } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { KiB, MiB } from '../base/units.ts';
import { WindowStorage } from '../layers/window.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import { type Part, plainPart } from './part.ts';
import {
  BLOCK,
  FORMAT,
  parseHeader,
  parseMoreStretches,
  parsePax,
  paxSize,
  refuseSparse,
  requireOrder,
  type Stretch,
  type TarHeader,
} from './tar-layout.ts';

/** Files that an archive may have. */
const MOST_FILES = 10_000;
/** Bytes of a long name or a pax header. */
const LONGEST_HEADER = MiB;
/** Stretches of a sparse file. */
const MOST_STRETCHES = 1_000_000;

/** Reads headers, and passes over what lies between them. */
interface Cursor {
  readonly position: number;
  take(count: number): Io<Uint8Array>;
  skip(count: number): Io<void>;
  atEnd(): Io<boolean>;
}

/** A file of the archive. */
interface TarFile {
  readonly path: string;
  /** Where its bytes are in the archive. */
  readonly offset: number;
  readonly stored: number;
  readonly size: number;
  readonly stretches?: readonly Stretch[];
  readonly head?: Uint8Array;
}

/** The files of an archive that lies in a storage. */
export function* filesOfTar(storage: Storage): Io<Part[]> {
  const files = yield* listFiles(new StorageCursor(storage));
  return files.map((file) => {
    const window = new WindowStorage(storage, { name: file.path, offset: file.offset, length: file.stored });
    if (!file.stretches) return plainPart(file.path, window);
    return { path: file.path, size: file.size, stream: () => streamOf(filled(bytesOf(window), file)) };
  });
}

/**
 * The files of an archive that can only be read in order; `packed` begins it anew. Its first `MOST_HEADS` files of some size come with their first bytes, so
 * that the archive is not unpacked once more for each.
 */
export function* filesOfTarStream(packed: () => ByteStream, headSize: number): Io<Part[]> {
  const files = yield* listFiles(new ByteReader(packed(), FORMAT), headSize);
  return files.map((file) => {
    const { path, size, head = new Uint8Array(0) } = file;
    return { path, size, head, stream: () => streamOf(unpacked(packed(), file)) };
  });
}

/** First bytes that are kept at most. */
const MOST_HEADS = 512;

function* unpacked(archive: ByteStream, file: TarFile): Pieces {
  const reader = new ByteReader(archive, FORMAT);
  yield* reader.skip(file.offset);
  if (file.stretches) yield* filled({ next: () => reader.some(MiB) }, file);
  else yield* inOrder(reader, file.stored);
}

function* inOrder(reader: ByteReader, length: number): Pieces {
  for (let left = length; left > 0; ) {
    const piece = yield* reader.some(left);
    if (piece === undefined) throw reader.cut();
    left -= piece.length;
    yield piece;
  }
}

const ZEROS = 256 * KiB;

/** A sparse file with zeros between its stretches. */
function* filled(stored: ByteStream, { stretches = [], size }: TarFile): Pieces {
  const reader = new ByteReader(stored, FORMAT);
  let at = 0;
  for (const { offset, length } of [...stretches, { offset: size, length: 0 }]) {
    for (; at < offset; at += Math.min(ZEROS, offset - at)) yield new Uint8Array(Math.min(ZEROS, offset - at));
    yield* inOrder(reader, length);
    at = offset + length;
  }
}

/** `headSize`: bytes of each file that are kept. */
function* listFiles(cursor: Cursor, headSize = 0): Io<TarFile[]> {
  const files: TarFile[] = [];
  let heads = 0;
  let facts = new Map<string, string>();
  let longName: string | undefined;
  while (!(yield* cursor.atEnd())) {
    const offset = cursor.position;
    const header = parseHeader(yield* cursor.take(BLOCK), offset);
    if (!header) break;
    const { kind, size } = header;
    if ('xgLK'.includes(kind)) {
      if (size > LONGEST_HEADER) throw corrupt(FORMAT, `the header at ${offset} has ${size} bytes`, { field: 'size', offset });
      const bytes = (yield* cursor.take(roundUp(size, BLOCK))).slice(0, size);
      if (kind === 'x') facts = parsePax(bytes, offset);
      if (kind === 'L') longName = text(untilZero(bytes));
      continue;
    }
    const file = yield* readFile(cursor, header, { facts, longName, offset });
    if (kind === '0' || kind === '7' || kind === 'S') {
      // Bytes of a sparse file's first stretch need not be its first bytes.
      const keep = file.stretches && file.stretches[0]?.offset !== 0 ? 0 : Math.min(headSize, file.stretches?.[0]?.length ?? file.stored);
      const head = keep > 0 && heads < MOST_HEADS ? (yield* cursor.take(keep)).slice() : undefined;
      if (head) heads++;
      files.push(head ? { ...file, head } : file);
    }
    if (files.length > MOST_FILES) throw corrupt(FORMAT, `more than ${MOST_FILES} files`, { field: 'files', offset });
    facts = new Map();
    longName = undefined;
    yield* cursor.skip(roundUp(file.offset + file.stored, BLOCK) - cursor.position);
  }
  return files;
}

interface Context {
  readonly facts: ReadonlyMap<string, string>;
  readonly longName: string | undefined;
  readonly offset: number;
}

function* readFile(cursor: Cursor, header: TarHeader, { facts, longName, offset }: Context): Io<TarFile> {
  refuseSparse(facts, offset);
  const stated = facts.get('size');
  const stored = stated === undefined ? header.size : paxSize(stated, 'size', offset);
  const path = facts.get('GNU.sparse.name') ?? facts.get('path') ?? longName ?? header.path;
  // Links and folders have no bytes, whatever their headers say.
  if ('123456'.includes(header.kind)) return { path, offset: cursor.position, stored: 0, size: 0 };
  if (header.sparse) {
    const stretches = [...header.sparse.stretches];
    for (let { more } = header.sparse; more; ) {
      const next = parseMoreStretches(yield* cursor.take(BLOCK), offset);
      stretches.push(...next.stretches);
      more = next.more;
      if (stretches.length > MOST_STRETCHES) throw corrupt(FORMAT, 'a sparse file of too many stretches', { field: 'sparse map', offset });
    }
    const { size } = header.sparse;
    requireOrder(stretches, { size, stored, offset });
    return { path, offset: cursor.position, stored, size, stretches };
  }
  const realSize = facts.get('GNU.sparse.realsize');
  if (realSize === undefined) return { path, offset: cursor.position, stored, size: stored };
  const size = paxSize(realSize, 'GNU.sparse.realsize', offset);
  const start = cursor.position;
  const stretches = yield* readPaxMap(cursor, offset);
  const map = cursor.position - start;
  requireOrder(stretches, { size, stored: stored - map, offset });
  return { path, offset: cursor.position, stored: stored - map, size, stretches };
}

/** The map of a sparse file in the form of pax 1.0: lines of numbers in front of the bytes. */
function* readPaxMap(cursor: Cursor, offset: number): Io<Stretch[]> {
  let lines = '';
  const numbers: number[] = [];
  for (;;) {
    lines += text(yield* cursor.take(BLOCK));
    const whole = lines.split('\n');
    lines = (whole.pop() ?? '').replace(/\0+$/, '');
    if (lines.length > 20) throw corrupt(FORMAT, `the map of the sparse file at ${offset} is damaged`, { field: 'sparse map', offset });
    numbers.push(...whole.map((line) => paxSize(line, 'sparse map', offset)));
    const [count = 0] = numbers;
    if (count > MOST_STRETCHES) throw corrupt(FORMAT, 'a sparse file of too many stretches', { field: 'sparse map', offset });
    if (numbers.length >= 1 + 2 * count)
      return Array.from({ length: count }, (_, i) => ({ offset: numbers[1 + 2 * i] as number, length: numbers[2 + 2 * i] as number }));
  }
}

/** A cursor over a storage, which passes over bytes without reading them. */
class StorageCursor implements Cursor {
  readonly #storage: Storage;
  position = 0;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  *take(count: number): Io<Uint8Array> {
    const start = this.position;
    yield* this.skip(count);
    return yield* readBytes(this.#storage, start, count);
  }

  *skip(count: number): Io<void> {
    const end = this.position + count;
    const { size } = this.#storage;
    // The padding of the last file may be missing.
    if (end > roundUp(size, BLOCK))
      throw corrupt(FORMAT, `the archive is cut short: it should have ${end} bytes at least, it has ${size}. Copy or download it anew`, {
        field: 'length',
        offset: this.position,
      });
    this.position = end;
  }

  *atEnd(): Io<boolean> {
    return this.position >= this.#storage.size;
  }
}
