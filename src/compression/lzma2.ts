/**
 * Reading LZMA2: chunks that are stored, or coded with LZMA: each bit by the range coder with a probability of its own, literals, matches and repeated
 * distances. The output is the dictionary.
 */
import type { ByteReader, Pieces } from '../base/byte-stream.ts';
import { roundDown, roundUp } from '../base/bytes.ts';
import { MiB } from '../base/units.ts';
import { RangeDecoder } from './range-decoder.ts';

const wrong = (what: string) => new Error(`LZMA2: ${what}`);

/** A chunk, as its header says. */
interface Chunk {
  /** Bytes of the header, without the properties. */
  readonly header: number;
  /** Bytes that follow, and bytes that come of them. */
  readonly size: number;
  readonly length: number;
}

/** Bytes of the longest header of a chunk, and of what follows at most. */
const HEADER = 6;
/** Bytes that a chunk yields at most. */
const LONGEST = 2 * MiB;

/** The decoder of chunk after chunk. The output, as far as it was kept, is the dictionary. */
class Chunks {
  /** Where the dictionary begins in `out`; negative if its beginning was dropped. */
  base: number;
  #coder: Lzma | undefined;
  #fresh = true;

  constructor(base: number) {
    this.base = base;
  }

  /** Reads the header of a chunk that goes to `filled`. */
  header(bytes: Uint8Array, filled: number): Chunk {
    const control = bytes[0] as number;
    if (control === 1 || control >= 0xe0) {
      this.base = filled;
      this.#fresh = false;
    }
    if (this.#fresh || (control > 2 && control < 0x80)) throw wrong(`a chunk that begins with 0x${control.toString(16)}`);
    const low = ((bytes[1] ?? 0) << 8) + (bytes[2] ?? 0) + 1;
    if (control < 0x80) return { header: 3, size: low, length: low };
    const size = ((bytes[3] ?? 0) << 8) + (bytes[4] ?? 0) + 1;
    return { header: control >= 0xc0 ? 6 : 5, size, length: ((control & 31) << 16) + low };
  }

  /** Decodes a chunk, whose bytes begin with its header, to `filled`. */
  decode(bytes: Uint8Array, { header, size, length }: Chunk, out: Uint8Array, filled: number): void {
    const control = bytes[0] as number;
    const data = bytes.subarray(header, header + size);
    if (data.length < size) throw wrong('the bytes end inside a chunk');
    if (control < 0x80) {
      out.set(data, filled);
      return;
    }
    if (control >= 0xc0) this.#coder = new Lzma(bytes[5] ?? 255);
    else if (control >= 0xa0) this.#coder?.reset();
    if (!this.#coder) throw wrong('a chunk without properties');
    this.#coder.decode(new RangeDecoder(data), { out, base: this.base, start: filled, end: filled + length });
  }
}

/** Decodes chunks up to the mark of their end, into `out` from `start` on. Returns the bytes read, and how many `out` has then. */
export function decodeLzma2(bytes: Uint8Array, out: Uint8Array, start: number): { read: number; filled: number } {
  const chunks = new Chunks(start);
  let at = 0;
  let filled = start;
  for (;;) {
    const control = bytes[at];
    if (control === undefined) throw wrong('the bytes end too early');
    if (control === 0) return { read: at + 1, filled };
    const chunk = chunks.header(bytes.subarray(at), filled);
    if (filled + chunk.length > out.length) throw wrong('there are more bytes than expected');
    chunks.decode(bytes.subarray(at), chunk, out, filled);
    at += chunk.header + chunk.size;
    filled += chunk.length;
  }
}

/** What chunks up to the mark of their end hold, piece by piece. Matches reach back `dictionary` bytes at most. */
export function* unpackLzma2(reader: ByteReader, dictionary: number): Pieces {
  const most = roundUp(dictionary, ALIGNED) + 2 * LONGEST;
  let out = new Uint8Array(Math.min(most, 4 * LONGEST));
  let filled = 0;
  const chunks = new Chunks(0);
  for (;;) {
    const head = yield* reader.peek(HEADER);
    if (head.length === 0) throw reader.cut();
    if (head[0] === 0) return reader.pass(1);
    const chunk = chunks.header(head, filled);
    const bytes = yield* reader.take(chunk.header + chunk.size);
    if (filled + chunk.length > out.length) {
      // What no match can reach is dropped; the rest keeps its place to 16 bytes, which probabilities depend on.
      const dropped = roundDown(Math.max(0, filled - dictionary), ALIGNED);
      const wanted = filled - dropped + chunk.length > out.length / 2 ? Math.min(most, 2 * out.length) : out.length;
      const next = wanted > out.length ? new Uint8Array(wanted) : out;
      next.set(out.subarray(dropped, filled));
      out = next;
      filled -= dropped;
      chunks.base -= dropped;
    }
    chunks.decode(bytes, chunk, out, filled);
    yield out.slice(filled, filled + chunk.length);
    filled += chunk.length;
  }
}

/** The positions that probabilities depend on count up to this. */
const ALIGNED = 16;

interface Window {
  readonly out: Uint8Array;
  /** Where the dictionary begins; negative if `out` has not all of it. */
  readonly base: number;
  readonly start: number;
  readonly end: number;
}

const STATES = 12;
const EVEN = 1024;
/** Low bits of a far distance that have probabilities. */
const ALIGN_BITS = 4;
const probabilities = (count: number): Uint16Array => new Uint16Array(count).fill(EVEN);

/** The state of the coder, which goes on from chunk to chunk. */
class Lzma {
  readonly #literalContext: number;
  readonly #literalPosition: number;
  readonly #positions: number;
  #state = 0;
  #distances = [0, 0, 0, 0] as [number, number, number, number];
  #isMatch = probabilities(0);
  #isRepeat = probabilities(0);
  #isRepeat0 = probabilities(0);
  #isRepeat1 = probabilities(0);
  #isRepeat2 = probabilities(0);
  #isLong = probabilities(0);
  #literals = probabilities(0);
  #slots = probabilities(0);
  #nearBits = probabilities(0);
  #alignBits = probabilities(0);
  #matchLength = new Lengths();
  #repeatLength = new Lengths();

  constructor(properties: number) {
    if (properties >= 225) throw wrong(`properties of ${properties}`);
    this.#literalContext = properties % 9;
    this.#literalPosition = Math.floor(properties / 9) % 5;
    this.#positions = 2 ** Math.floor(properties / 45);
    if (this.#literalContext + this.#literalPosition > 4) throw wrong(`properties of ${properties}`);
    this.reset();
  }

  reset(): void {
    this.#state = 0;
    this.#distances = [0, 0, 0, 0];
    this.#isMatch = probabilities(STATES * 16);
    this.#isRepeat = probabilities(STATES);
    this.#isRepeat0 = probabilities(STATES);
    this.#isRepeat1 = probabilities(STATES);
    this.#isRepeat2 = probabilities(STATES);
    this.#isLong = probabilities(STATES * 16);
    this.#literals = probabilities(0x300 << (this.#literalContext + this.#literalPosition));
    this.#slots = probabilities(4 * 64);
    this.#nearBits = probabilities(128);
    this.#alignBits = probabilities(1 << ALIGN_BITS);
    this.#matchLength = new Lengths();
    this.#repeatLength = new Lengths();
  }

  decode(range: RangeDecoder, { out, base, start, end }: Window): void {
    for (let at = start; at < end; ) {
      const position = (at - base) & (this.#positions - 1);
      if (range.bit(this.#isMatch, this.#state * 16 + position) === 0) {
        out[at] = this.#literal(range, out, at, base);
        at++;
        continue;
      }
      const length = this.#match(range, position);
      const distance = this.#distances[0] + 1;
      if (distance > at - base || distance > at) throw wrong('a match from before the start');
      if (length > end - at) throw wrong('a match beyond the end of its chunk');
      for (const last = at + length; at < last; at++) out[at] = out[at - distance] as number;
    }
    range.requireEnd();
  }

  #literal(range: RangeDecoder, out: Uint8Array, at: number, base: number): number {
    const previous = at > base ? (out[at - 1] as number) : 0;
    const place = ((at - base) & ((1 << this.#literalPosition) - 1)) << this.#literalContext;
    const table = (place + (previous >> (8 - this.#literalContext))) * 0x300;
    let symbol = 1;
    if (this.#state >= 7) {
      // After a match the byte that would have gone on with it tells which probabilities are used, as long as the bits agree.
      const distance = this.#distances[0] + 1;
      if (distance > at - base || distance > at) throw wrong('a match from before the start');
      let other = out[at - distance] as number;
      while (symbol < 0x100) {
        const expected = (other >> 7) & 1;
        other <<= 1;
        const bit = range.bit(this.#literals, table + ((1 + expected) << 8) + symbol);
        symbol = symbol * 2 + bit;
        if (bit !== expected) break;
      }
    }
    while (symbol < 0x100) symbol = symbol * 2 + range.bit(this.#literals, table + symbol);
    this.#state = this.#state < 4 ? 0 : this.#state < 10 ? this.#state - 3 : this.#state - 6;
    return symbol & 0xff;
  }

  /** Reads a match: its distance becomes the first of the four. Returns its length. */
  #match(range: RangeDecoder, position: number): number {
    const state = this.#state;
    const [first, second, third, fourth] = this.#distances;
    const afterLiteral = state < 7;
    if (range.bit(this.#isRepeat, state) === 0) {
      const length = this.#matchLength.next(range, position);
      this.#state = afterLiteral ? 7 : 10;
      this.#distances = [this.#distance(range, length), first, second, third];
      return length;
    }
    if (range.bit(this.#isRepeat0, state) === 0) {
      if (range.bit(this.#isLong, state * 16 + position) === 0) {
        this.#state = afterLiteral ? 9 : 11;
        return 1;
      }
    } else if (range.bit(this.#isRepeat1, state) === 0) this.#distances = [second, first, third, fourth];
    else if (range.bit(this.#isRepeat2, state) === 0) this.#distances = [third, first, second, fourth];
    else this.#distances = [fourth, first, second, third];
    const length = this.#repeatLength.next(range, position);
    this.#state = afterLiteral ? 8 : 11;
    return length;
  }

  #distance(range: RangeDecoder, length: number): number {
    const slot = range.tree(this.#slots, Math.min(length - 2, 3) * 64, 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const start = (2 | (slot & 1)) * 2 ** bits;
    if (slot < 14) return start + range.reverseTree(this.#nearBits, start - slot, bits);
    return start + range.direct(bits - ALIGN_BITS) * 2 ** ALIGN_BITS + range.reverseTree(this.#alignBits, 0, ALIGN_BITS);
  }
}

/** Lengths of matches: short, middle and long ones. */
class Lengths {
  readonly #choice = probabilities(2);
  readonly #low = probabilities(16 * 8);
  readonly #middle = probabilities(16 * 8);
  readonly #high = probabilities(256);

  next(range: RangeDecoder, position: number): number {
    if (range.bit(this.#choice, 0) === 0) return 2 + range.tree(this.#low, position * 8, 3);
    if (range.bit(this.#choice, 1) === 0) return 10 + range.tree(this.#middle, position * 8, 3);
    return 18 + range.tree(this.#high, 0, 8);
  }
}
