/**
 * Reading LZMA2: chunks that are stored, or coded with LZMA: each bit by the range coder with a probability of its own, literals, matches and repeated
 * distances. The output is the dictionary.
 */
import { RangeDecoder } from './range-decoder.ts';

const wrong = (what: string) => new Error(`LZMA2: ${what}`);

/** Decodes chunks up to the mark of their end, into `out` from `start` on. Returns the bytes read, and how many `out` has then. */
export function decodeLzma2(bytes: Uint8Array, out: Uint8Array, start: number): { read: number; filled: number } {
  let at = 0;
  let filled = start;
  let base = start;
  let coder: Lzma | undefined;
  let fresh = true;
  for (;;) {
    const control = bytes[at++];
    if (control === undefined) throw wrong('the bytes end too early');
    if (control === 0) return { read: at, filled };
    if (control === 1 || control >= 0xe0) {
      base = filled;
      fresh = false;
    }
    if (fresh || (control > 2 && control < 0x80)) throw wrong(`a chunk that begins with 0x${control.toString(16)}`);
    const low = ((bytes[at] ?? 0) << 8) + (bytes[at + 1] ?? 0) + 1;
    const length = control < 0x80 ? low : ((control & 31) << 16) + low;
    if (filled + length > out.length) throw wrong('there are more bytes than expected');
    if (control < 0x80) {
      at += 2;
      if (at + length > bytes.length) throw wrong('the bytes end inside a stored chunk');
      out.set(bytes.subarray(at, at + length), filled);
      at += length;
      filled += length;
      continue;
    }
    const size = ((bytes[at + 2] ?? 0) << 8) + (bytes[at + 3] ?? 0) + 1;
    at += 4;
    if (control >= 0xc0) coder = new Lzma(bytes[at++] ?? 255);
    else if (control >= 0xa0) coder?.reset();
    if (!coder) throw wrong('a chunk without properties');
    if (at + size > bytes.length) throw wrong('the bytes end inside a chunk');
    coder.decode(new RangeDecoder(bytes.subarray(at, at + size)), { out, base, start: filled, end: filled + length });
    at += size;
    filled += length;
  }
}

interface Window {
  readonly out: Uint8Array;
  /** Where the dictionary begins. */
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
      if (distance > at - base) throw wrong('a match from before the start');
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
      if (distance > at - base) throw wrong('a match from before the start');
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
