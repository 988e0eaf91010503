/** A file inside another one: an archive's member, what a packed file holds, a CD's track. */
import { type ByteStream, bytesOf, type Pieces, streamOf } from '../base/byte-stream.ts';
import { corrupt, DiskError } from '../base/errors.ts';
import { formatSize, GiB } from '../base/units.ts';
import type { Storage } from '../storage/storage.ts';

/** See the top of this file. */
export interface Part {
  /** As the file around has it, folders included. Untrusted text: nothing is opened or made by it. */
  readonly path: string;
  /** Bytes; undefined if only unpacking tells. */
  readonly size: number | undefined;
  /** The bytes at any place, if they lie in the file around as they are. */
  readonly storage?: Storage;
  /** The first bytes, if they were seen when the part was found. */
  readonly head?: Uint8Array;
  /** The bytes in order, from the start each time. Checksums are compared on the way: the end throws if one is wrong. */
  stream(): ByteStream;
}

/** A part whose bytes lie in the file around as they are. */
export const plainPart = (path: string, storage: Storage): Part & { readonly storage: Storage } => ({
  path,
  size: storage.size,
  storage,
  stream: () => bytesOf(storage),
});

/** The last name of a path, without what no name has. */
export function partName(path: string): string {
  const name =
    path
      .replace(/[\\/]+$/, '')
      .split(/[\\/]/)
      .at(-1) ?? '';
  const shown = [...name].filter((letter) => letter >= ' ' && letter !== '\x7f').join('');
  return shown.replace(/^\.+$/, '').slice(-LONGEST_NAME) || 'disk';
}

const LONGEST_NAME = 200;

/** What may be unpacked for each byte that is packed: sparse disks are packed to a thousandth by gzip, to less by others. */
const RATIO = 2000;
/** What may be unpacked in any case. */
const ALWAYS = 4 * GiB;

/** Bound to what may be unpacked of one file. */
export class Budget {
  readonly most: number;
  #spent = 0;
  /** Bytes of each part that were noted. */
  readonly #kept = new WeakMap<Part, number>();

  /** `packed`: bytes of the file. `most`: the caller's own bound. */
  constructor(packed: number, most = ALWAYS + RATIO * packed) {
    this.most = most;
  }

  /** Notes bytes that are kept. Throws `refused` if all of them are more than may be unpacked. */
  spend(bytes: number): void {
    this.#spent += bytes;
    if (this.#spent > this.most) throw this.#exceeded();
  }

  /** For a part whose bytes are kept: notes each of them once, however often the part is kept. Throws as `spend`. */
  keeping(part: Part): (bytes: number) => void {
    let length = 0;
    return (bytes) => {
      length += bytes;
      const before = this.#kept.get(part) ?? 0;
      if (length <= before) return;
      this.#kept.set(part, length);
      this.spend(length - before);
    };
  }

  /** A stream that may be read several times, and is no longer than may be unpacked. */
  bounded(stream: ByteStream): ByteStream {
    let length = 0;
    const { most } = this;
    const exceeded = () => this.#exceeded();
    return {
      *next() {
        const piece = yield* stream.next();
        length += piece?.length ?? 0;
        if (length > most) throw exceeded();
        return piece;
      },
    };
  }

  #exceeded(): DiskError {
    return new DiskError(
      'refused',
      `The file holds more than ${formatSize(this.most)} when it is unpacked, too much for its size: unpack it yourself if it is not a trap`,
      { field: 'unpacked size' },
    );
  }
}

/** Pieces that must be as many bytes as was stated. */
export function* exactly(pieces: Pieces, size: number, format: string): Pieces {
  const stream = streamOf(pieces);
  let length = 0;
  for (let piece = yield* stream.next(); piece !== undefined; piece = yield* stream.next()) {
    length += piece.length;
    if (length > size) break;
    yield piece;
  }
  if (length !== size)
    throw corrupt(format, `a file holds ${length > size ? 'more' : 'fewer'} bytes than the ${size} that are stated`, { field: 'uncompressed size' });
}
