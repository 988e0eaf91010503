/**
 * The files of a ZIP archive, by its directory: stored, or packed with deflate, bzip2, zstd or xz. Their CRC-32 is compared at their end. Encrypted files,
 * archives in several parts, and archives whose files overlap (as bombs do) are refused.
 */
import { ByteReader, bytesOf, type Pieces, streamOf } from '../base/byte-stream.ts';
import { corrupt, unsupported } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { MiB } from '../base/units.ts';
import { crc32 } from '../compression/checksums.ts';
import { WindowStorage } from '../layers/window.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import type { Decoders } from './packed.ts';
import { exactly, type Part } from './part.ts';
import {
  END64_SIZE,
  FORMAT,
  findEnd,
  LOCAL_SIZE,
  LOCATOR_SIZE,
  LONGEST_END,
  parseDirectory,
  parseEnd,
  parseEnd64,
  parseLocal,
  parseLocator,
  type ZipEnd,
  type ZipEntry,
} from './zip-layout.ts';

const MOST_FILES = 10_000;
const LARGEST_DIRECTORY = 16 * MiB;
const STORED = 0;
const METHODS: Readonly<Record<number, keyof Decoders>> = { 8: 'deflate', 12: 'bzip2', 93: 'zstd', 95: 'xz' };
/** Methods that are refused by their names. */
const OTHERS: Readonly<Record<number, string>> = { 1: 'Shrink', 6: 'Implode', 9: 'Deflate64', 14: 'LZMA', 98: 'PPMd' };

/** The files of an archive. Folders are left out. Throws `corrupt` for an archive that is cut short or damaged. */
export function* filesOfZip(storage: Storage, decoders: Decoders): Io<Part[]> {
  const { end, before, shift } = yield* readEnd(storage);
  if (end.entries > MOST_FILES) throw unsupported(FORMAT, `the archive has ${end.entries} files, more than ${MOST_FILES}`, { field: 'entries' });
  const offset = end.offset + shift;
  if (end.size > LARGEST_DIRECTORY || offset + end.size > before)
    throw corrupt(FORMAT, `a central directory of ${end.size} bytes at ${end.offset}`, { field: 'central directory', offset });
  const entries = parseDirectory(yield* readBytes(storage, offset, end.size), end.entries, { offset, shift });
  requireApart(entries, offset);
  return entries.filter(({ path }) => !path.endsWith('/')).map((entry) => new ZipPart(storage, entry, decoders).part());
}

/** The end record; where it, or that of ZIP64, begins; and how many bytes lie before the archive. */
function* readEnd(storage: Storage): Io<{ end: ZipEnd; before: number; shift: number }> {
  const start = Math.max(0, storage.size - LONGEST_END);
  const tail = yield* readBytes(storage, start, storage.size - start);
  const at = findEnd(tail);
  if (at === undefined)
    throw corrupt(FORMAT, 'the end of the archive is missing: the file is cut short, copy or download it anew', {
      field: 'end of central directory',
    });
  const end = parseEnd(tail, at);
  const place = start + at;
  if (!end.more) return { end, before: place, shift: Math.max(0, place - end.size - end.offset) };
  const locator = place < LOCATOR_SIZE ? undefined : parseLocator(yield* readBytes(storage, place - LOCATOR_SIZE, LOCATOR_SIZE));
  if (locator === undefined) return { end, before: place, shift: 0 };
  if (locator + END64_SIZE > place) throw corrupt(FORMAT, 'the end record of ZIP64 lies past the end', { field: 'zip64 end of central directory' });
  return { end: parseEnd64(yield* readBytes(storage, locator, END64_SIZE), locator), before: locator, shift: 0 };
}

/** Throws if two files share bytes, or one reaches into the directory. */
function requireApart(entries: readonly ZipEntry[], directory: number): void {
  let end = 0;
  for (const { path, offset, packed } of [...entries].sort((a, b) => a.offset - b.offset)) {
    const place = { field: 'local file header', offset };
    if (offset < end) throw corrupt(FORMAT, `${JSON.stringify(path)} overlaps another file`, place);
    end = offset + LOCAL_SIZE + packed;
    if (end > directory) throw corrupt(FORMAT, `${JSON.stringify(path)} reaches past the end of the archive`, place);
  }
}

class ZipPart {
  readonly #storage: Storage;
  readonly #entry: ZipEntry;
  readonly #decoders: Decoders;

  constructor(storage: Storage, entry: ZipEntry, decoders: Decoders) {
    this.#storage = storage;
    this.#entry = entry;
    this.#decoders = decoders;
  }

  part(): Part {
    const { path, size } = this.#entry;
    return { path, size, stream: () => streamOf(this.#checked()) };
  }

  *#checked(): Pieces {
    const { path, size, crc } = this.#entry;
    let sum = 0;
    const stream = streamOf(exactly(this.#unpacked(), size, FORMAT));
    for (let piece = yield* stream.next(); piece !== undefined; piece = yield* stream.next()) {
      sum = crc32(piece, sum);
      yield piece;
    }
    if (sum !== crc)
      throw corrupt(FORMAT, `the checksum of ${JSON.stringify(path)} is wrong: the archive is damaged, copy or download it anew`, {
        field: 'crc-32',
      });
  }

  *#unpacked(): Pieces {
    const { path, method, encrypted, packed, offset } = this.#entry;
    const name = JSON.stringify(path);
    if (encrypted)
      throw unsupported(FORMAT, `${name} is encrypted with a password: unpack the archive with the program that made it`, {
        field: 'general purpose bit flag',
      });
    const start = offset + parseLocal(yield* readBytes(this.#storage, offset, LOCAL_SIZE), offset);
    const bytes = bytesOf(new WindowStorage(this.#storage, { name: path, offset: start, length: packed }));
    const decoder = METHODS[method];
    if (decoder) yield* this.#decoders[decoder](new ByteReader(bytes, FORMAT));
    else if (method === STORED) for (let piece = yield* bytes.next(); piece !== undefined; piece = yield* bytes.next()) yield piece;
    else
      throw unsupported(FORMAT, `${name} is packed with ${OTHERS[method] ?? `method ${method}`}: unpack the archive with the program that made it`, {
        field: 'compression method',
      });
  }
}
