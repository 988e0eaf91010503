/**
 * Matches for the Zstandard encoder: hash chains over the whole input, a look one byte ahead before a match is taken, and the offsets
 * used last tried first, because they cost next to nothing. Pure; one search goes over the input once, block by block.
 */

/** The parts of a block: runs of literals, each followed by a match; the literals after the last match are the rest. */
export interface Sequences {
  readonly count: number;
  /** By sequence: literals before the match, the match's length (at least 3), and the offset as the format codes it (1-3: a recent one). */
  readonly literals: Uint32Array;
  readonly lengths: Uint32Array;
  readonly offsets: Uint32Array;
  /** The offsets used last, for the next block. */
  readonly recent: readonly number[];
}

const MAX_HASH_BITS = 16;
const MIN_MATCH = 4;
/** Candidates looked at for one place. */
const DEPTH = 16;
/** A match this long is taken without further search. */
const GOOD = 64;

/** Begins a search in `bytes`. Call the returned function for block after block, with the recent offsets that the reader will know. */
export function findSequences(bytes: Uint8Array, block: number): (from: number, to: number, recent: readonly number[]) => Sequences {
  const search = new Search(bytes, block);
  return (from, to, recent) => search.run(from, to, recent);
}

interface Match {
  readonly length: number;
  readonly offset: number;
}

const NONE: Match = { length: 0, offset: 0 };

class Search {
  readonly #bytes: Uint8Array;
  /** By hash: one more than the last place with it; by place: the same for the place before. */
  readonly #heads: Int32Array;
  readonly #shift: number;
  readonly #previous: Int32Array;
  readonly #literals: Uint32Array;
  readonly #lengths: Uint32Array;
  readonly #offsets: Uint32Array;
  /** All places below have been entered. */
  #entered = 0;

  constructor(bytes: Uint8Array, block: number) {
    const most = Math.ceil(Math.min(block, bytes.length) / 3);
    const hashBits = Math.min(MAX_HASH_BITS, 33 - Math.clz32(bytes.length));
    this.#bytes = bytes;
    this.#heads = new Int32Array(1 << hashBits);
    this.#shift = 32 - hashBits;
    this.#previous = new Int32Array(bytes.length);
    this.#literals = new Uint32Array(most);
    this.#lengths = new Uint32Array(most);
    this.#offsets = new Uint32Array(most);
  }

  run(from: number, to: number, before: readonly number[]): Sequences {
    let recent = before;
    let count = 0;
    let start = from;
    for (let at = from; at + MIN_MATCH <= to; ) {
      let match = this.#best(at, to, recent);
      if (match.length === 0) {
        // Where nothing has matched for long, a match is unlikely: steps get longer.
        at += 1 + Math.min(64, (at - start) >> 9);
        continue;
      }
      if (match.length < GOOD && at + 1 + MIN_MATCH <= to) {
        const later = this.#best(at + 1, to, recent);
        if (worth(later, recent) > worth(match, recent) + 1) {
          match = later;
          at++;
        }
      }
      const back = this.#commonBefore(at, at - match.offset, start);
      at -= back;
      match = { length: match.length + back, offset: match.offset };
      const literals = at - start;
      const coded = code(match.offset, literals, recent);
      this.#literals[count] = literals;
      this.#lengths[count] = match.length;
      this.#offsets[count++] = coded.value;
      recent = coded.recent;
      at += match.length;
      start = at;
    }
    return { count, literals: this.#literals, lengths: this.#lengths, offsets: this.#offsets, recent };
  }

  /** The match at `at` that saves most; length 0 if there is none. */
  #best(at: number, to: number, recent: readonly number[]): Match {
    let best = NONE;
    let bestWorth = 0;
    for (const offset of recent) {
      if (offset > at) continue;
      const length = this.#common(at, at - offset, to);
      if (length < MIN_MATCH - 1 || length + 2 <= bestWorth) continue;
      best = { length, offset };
      bestWorth = length + 2;
    }
    this.#enter(at);
    let candidate = (this.#previous[at] as number) - 1;
    const bytes = this.#bytes;
    for (let depth = DEPTH; candidate >= 0 && depth > 0 && best.length < GOOD; depth--) {
      // A match that is no longer than the best so far is no better: mostly one byte shows that.
      if (bytes[candidate + best.length] === bytes[at + best.length]) {
        const length = this.#common(at, candidate, to);
        const offset = at - candidate;
        if (length >= MIN_MATCH && length - farness(offset) > bestWorth) {
          best = { length, offset };
          bestWorth = length - farness(offset);
        }
      }
      candidate = (this.#previous[candidate] as number) - 1;
    }
    return best;
  }

  /** Enters all places up to and including `at` into the chains. */
  #enter(at: number): void {
    const bytes = this.#bytes;
    const end = Math.min(at + 1, bytes.length - MIN_MATCH + 1);
    for (let place = this.#entered; place < end; place++) {
      const word =
        (bytes[place] as number) | ((bytes[place + 1] as number) << 8) | ((bytes[place + 2] as number) << 16) | ((bytes[place + 3] as number) << 24);
      const hash = Math.imul(word, 0x9e3779b1) >>> this.#shift;
      this.#previous[place] = this.#heads[hash] as number;
      this.#heads[hash] = place + 1;
    }
    this.#entered = Math.max(this.#entered, end);
  }

  /** How many bytes from `at` on, up to `to`, equal those from `from` on. */
  #common(at: number, from: number, to: number): number {
    const bytes = this.#bytes;
    let length = 0;
    while (at + length < to && bytes[at + length] === bytes[from + length]) length++;
    return length;
  }

  /** How many bytes before `at`, down to `least`, equal those before `from`. */
  #commonBefore(at: number, from: number, least: number): number {
    const bytes = this.#bytes;
    let length = 0;
    while (at - length > least && from - length > 0 && bytes[at - length - 1] === bytes[from - length - 1]) length++;
    return length;
  }
}

/** Bytes that a match must be longer by because its offset takes more bits. */
const farness = (offset: number): number => (31 - Math.clz32(offset)) / 8;

const worth = ({ length, offset }: Match, recent: readonly number[]): number => (recent.includes(offset) ? length + 2 : length - farness(offset));

/** An offset as the format codes it, and the recent ones afterwards (RFC 8878 §3.1.1.5). */
function code(offset: number, literals: number, recent: readonly number[]): { value: number; recent: readonly number[] } {
  const [first, second, third] = recent as [number, number, number];
  // Without literals the first recent offset cannot repeat, so the numbers have other meanings.
  const names = literals > 0 ? [first, second, third] : [second, third, first - 1];
  const found = names.indexOf(offset);
  const value = found < 0 ? offset + 3 : found + 1;
  if (offset === first) return { value, recent: value > 3 ? [offset, first, second] : recent };
  if (offset === second && value <= 3) return { value, recent: [second, first, third] };
  return { value, recent: [offset, first, second] };
}
