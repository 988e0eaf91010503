/**
 * Bytes in order, pulled piece by piece: what is unpacked is never in memory as a whole. A stream is made of a generator that yields its pieces, and
 * promises where it has to wait; `ByteReader` takes numbers of bytes out of a stream, whatever its pieces are.
 */
import { DiskError } from './errors.ts';
import type { Io } from './io.ts';
import { MiB } from './units.ts';

/** Bytes in order. */
export interface ByteStream {
  /** The next bytes, at least one; undefined at the end. The array is the caller's from then on. */
  next(): Io<Uint8Array | undefined>;
}

/** A generator that yields bytes, and promises that it waits for. */
// biome-ignore lint/suspicious/noExplicitAny: `next` receives the value that the yielded promise resolved to
export type Pieces = Generator<PromiseLike<unknown> | Uint8Array, void, any>;

/** The stream of a generator's pieces; empty ones are left out. */
export function streamOf(pieces: Pieces): ByteStream {
  return {
    *next() {
      let step = pieces.next();
      for (;;) {
        if (step.done) return undefined;
        const { value } = step;
        if (value instanceof Uint8Array) {
          if (value.length > 0) return value;
          step = pieces.next();
          continue;
        }
        let failure: { error: unknown } | undefined;
        let result: unknown;
        try {
          result = yield value;
        } catch (error) {
          failure = { error };
        }
        step = failure ? pieces.throw(failure.error) : pieces.next(result);
      }
    },
  };
}

/** The part of a storage that a stream reads. */
interface Readable {
  readonly size: number;
  read(offset: number, into: Uint8Array): Io<void>;
}

const STEP = MiB;

/** The bytes of a storage from `offset` on, `length` of them. */
export function bytesOf(storage: Readable, offset = 0, length = storage.size - offset): ByteStream {
  return streamOf(storagePieces(storage, offset, length));
}

function* storagePieces(storage: Readable, offset: number, length: number): Pieces {
  for (let done = 0; done < length; done += STEP) {
    const piece = new Uint8Array(Math.min(STEP, length - done));
    yield* storage.read(offset + done, piece);
    yield piece;
  }
}

const NOTHING = new Uint8Array(0);

/** Takes bytes out of a stream. */
export class ByteReader {
  readonly #stream: ByteStream;
  /** For messages: the stream's kind. */
  readonly #what: string;
  #held: Uint8Array = NOTHING;
  #at = 0;
  #ended = false;
  #passed = 0;

  constructor(stream: ByteStream, what: string) {
    this.#stream = stream;
    this.#what = what;
  }

  /** Bytes that were taken. */
  get position(): number {
    return this.#passed;
  }

  /** The bytes that are held, after at least `count` of them were brought as far as the stream has so many. They stay in the reader. */
  *peek(count: number): Io<Uint8Array> {
    while (this.#held.length - this.#at < count && !this.#ended) {
      const next = yield* this.#stream.next();
      if (next === undefined) this.#ended = true;
      else if (this.#at === this.#held.length) this.#hold(next);
      else {
        const left = this.#held.length - this.#at;
        const joined = new Uint8Array(left + next.length);
        joined.set(this.#held.subarray(this.#at));
        joined.set(next, left);
        this.#hold(joined);
      }
    }
    return this.#held.subarray(this.#at);
  }

  /** Passes over bytes that are held. */
  pass(count: number): void {
    this.#at += count;
    this.#passed += count;
  }

  /** Exactly `count` bytes. Throws `corrupt` if the stream ends before. */
  *take(count: number): Io<Uint8Array> {
    const held = yield* this.peek(count);
    if (held.length < count) throw this.cut();
    this.pass(count);
    return held.subarray(0, count);
  }

  /** Some bytes, at most `most`; undefined at the end. */
  *some(most: number): Io<Uint8Array | undefined> {
    const held = yield* this.peek(1);
    if (held.length === 0) return undefined;
    const piece = held.subarray(0, most);
    this.pass(piece.length);
    return piece;
  }

  /** Passes over `count` bytes. Throws `corrupt` if the stream ends before. */
  *skip(count: number): Io<void> {
    for (let left = count; left > 0; ) {
      const piece = yield* this.some(left);
      if (piece === undefined) throw this.cut();
      left -= piece.length;
    }
  }

  /** True if no bytes are left. */
  *atEnd(): Io<boolean> {
    return (yield* this.peek(1)).length === 0;
  }

  /** The error of a stream that ends too early. */
  cut(): DiskError {
    const end = this.#passed + this.#held.length - this.#at;
    return new DiskError('corrupt', `${this.#what}: the bytes end too early, after ${end}: the file is cut short. Copy or download it anew`, {
      format: this.#what,
      field: 'length',
      offset: end,
    });
  }

  #hold(bytes: Uint8Array): void {
    this.#held = bytes;
    this.#at = 0;
  }
}
