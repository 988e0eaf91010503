/**
 * Reading LZFSE: blocks that are stored, coded with LZVN (lzvn.ts), or with finite state entropy: literal bytes in four interleaved streams, and for each match how
 * many literals come before it, its length and its distance. The block with plain tables, which the reference encoder never writes, is refused.
 */
import { view } from '../base/bytes.ts';
import { decodeLzvn } from './lzvn.ts';

const wrong = (what: string) => new Error(`LZFSE: ${what}`);
const MARK = { end: 0x24787662, stored: 0x2d787662, tables: 0x31787662, entropy: 0x32787662, lzvn: 0x6e787662 } as const;

/** One of the numbers that are coded: states of its table, extra bits of each symbol and the least value of each. */
interface Numbers {
  readonly states: number;
  readonly extra: readonly number[];
  readonly base: readonly number[];
}

function numbers(states: number, extra: readonly number[]): Numbers {
  let next = 0;
  const base = extra.map((bits) => {
    const least = next;
    next += 2 ** bits;
    return least;
  });
  return { states, extra, base };
}

const times = (count: number, value: number): number[] => new Array<number>(count).fill(value);
const LITERAL_COUNTS = numbers(64, [...times(16, 0), 2, 3, 5, 8]);
const LENGTHS = numbers(64, [...times(16, 0), 3, 5, 8, 11]);
const DISTANCES = numbers(
  256,
  Array.from({ length: 64 }, (_, symbol) => symbol >> 2),
);
const LITERALS = numbers(1024, times(256, 0));
/** In the order of the header's frequencies. */
const ALL = [LITERAL_COUNTS, LENGTHS, DISTANCES, LITERALS] as const;

/** Fills `out`. Returns how many bytes there were. Throws if the bytes are damaged, or would yield more. */
export function decodeLzfse(bytes: Uint8Array, out: Uint8Array): number {
  const data = view(bytes);
  let filled = 0;
  for (let at = 0; at + 4 <= bytes.length; ) {
    const mark = data.getUint32(at, true);
    if (mark === MARK.end) return filled;
    if (at + 12 > bytes.length) throw wrong('the bytes end inside a header');
    const length = data.getUint32(at + 4, true);
    if (filled + length > out.length) throw wrong('there are more bytes than expected');
    const part = { out: out.subarray(0, filled + length), filled };
    if (mark === MARK.stored) {
      if (at + 8 + length > bytes.length) throw wrong('the bytes end inside a stored block');
      part.out.set(bytes.subarray(at + 8, at + 8 + length), filled);
      at += 8 + length;
    } else if (mark === MARK.lzvn) {
      const size = data.getUint32(at + 8, true);
      if (decodeLzvn(bytes.subarray(at + 12, at + 12 + size), part.out, filled) !== part.out.length) throw wrong('a block yields too few bytes');
      at += 12 + size;
    } else if (mark === MARK.entropy) at += decodeEntropy(bytes.subarray(at), part);
    else throw wrong(mark === MARK.tables ? 'a block with plain tables' : 'the mark of a block is missing');
    filled += length;
  }
  throw wrong('the end is missing');
}

interface Part {
  readonly out: Uint8Array;
  readonly filled: number;
}

/** Decodes a block, and returns how many bytes it took. */
function decodeEntropy(bytes: Uint8Array, { out, filled }: Part): number {
  if (bytes.length < 32) throw wrong('the bytes end inside a header');
  // Fields have any number of bits, the lowest first.
  const fields = view(bytes.slice(8, 32).reverse());
  const field = (word: 0 | 1 | 2, at: number, bits: number): number => {
    const place = (2 - word) * 8;
    const all = (BigInt(fields.getUint32(place)) << 32n) | BigInt(fields.getUint32(place + 4));
    return Number((all >> BigInt(at)) & ((1n << BigInt(bits)) - 1n));
  };
  const headerSize = field(2, 0, 32);
  const [literalCount, literalBytes, matches] = [field(0, 0, 20), field(0, 20, 20), field(0, 40, 20)];
  const matchBytes = field(1, 40, 20);
  const end = headerSize + literalBytes + matchBytes;
  if (headerSize < 32 || end > bytes.length) throw wrong('the bytes end inside a block');
  if (literalCount > 40_000 || matches > 10_000) throw wrong('a block with too many parts');
  const [literalNumbers, lengths, distances, literalTable] = readTables(bytes.subarray(32, headerSize));
  const stream = new BackwardBits(bytes.subarray(headerSize, headerSize + literalBytes), field(0, 60, 3) - 7);
  const literals = new Uint8Array(literalCount + 3);
  const states = [0, 10, 20, 30].map((at) => field(1, at, 10));
  for (let i = 0; i < literalCount; i++) {
    const state = states[i & 3] as number;
    literals[i] = literalTable.value(stream, state);
    states[i & 3] = literalTable.state;
  }
  const match = new BackwardBits(bytes.subarray(headerSize + literalBytes, end), field(1, 60, 3) - 7);
  let [literalState, lengthState, distanceState] = [field(2, 32, 10), field(2, 42, 10), field(2, 52, 10)];
  let [at, taken, distance] = [filled, 0, 0];
  for (let i = 0; i < matches; i++) {
    const count = literalNumbers.value(match, literalState);
    literalState = literalNumbers.state;
    const length = lengths.value(match, lengthState);
    lengthState = lengths.state;
    distance = distances.value(match, distanceState) || distance;
    distanceState = distances.state;
    if (taken + count > literalCount || at + count + length > out.length) throw wrong('a match beyond the end of its block');
    out.set(literals.subarray(taken, taken + count), at);
    taken += count;
    at += count;
    if (length > 0 && (distance === 0 || distance > at)) throw wrong('a match from before the start');
    for (const last = at + length; at < last; at++) out[at] = out[at - distance] as number;
  }
  if (at !== out.length) throw wrong('a block yields too few bytes');
  return end;
}

/** How many bits the codes of frequencies have, by their lowest five bits, and the frequencies of the shorter ones. */
const FREQUENCY_BITS = [2, 3, 2, 5, 2, 3, 2, 8, 2, 3, 2, 5, 2, 3, 2, 14, 2, 3, 2, 5, 2, 3, 2, 8, 2, 3, 2, 5, 2, 3, 2, 14];
const FREQUENCIES = [0, 2, 1, 4, 0, 3, 1, 0, 0, 2, 1, 5, 0, 3, 1, 0, 0, 2, 1, 6, 0, 3, 1, 0, 0, 2, 1, 7, 0, 3, 1, 0];

function readTables(bytes: Uint8Array): [Table, Table, Table, Table] {
  let held = 0;
  let count = 0;
  let at = 0;
  const next = (): number => {
    for (; count < 14 && at < bytes.length; count += 8) held |= (bytes[at++] as number) << count;
    const low = held & 31;
    const bits = FREQUENCY_BITS[low] as number;
    if (bits > count) throw wrong('the frequencies end too early');
    const value = bits === 8 ? 8 + ((held >> 4) & 15) : bits === 14 ? 24 + ((held >> 4) & 1023) : (FREQUENCIES[low] as number);
    held >>>= bits;
    count -= bits;
    return value;
  };
  return ALL.map((kind) => new Table(kind, bytes.length === 0 ? kind.extra.map(() => 0) : kind.extra.map(next))) as [Table, Table, Table, Table];
}

/** The table of one kind of number: each state has a value, and the next state, which some bits are added to. */
class Table {
  /** After `value`: the next state. */
  state = 0;
  readonly #bits: Uint8Array;
  readonly #next: Int32Array;
  readonly #symbols: Uint8Array;
  readonly #numbers: Numbers;
  readonly #filled: number;

  constructor(kind: Numbers, frequencies: readonly number[]) {
    const { states } = kind;
    this.#numbers = kind;
    this.#bits = new Uint8Array(states);
    this.#next = new Int32Array(states);
    this.#symbols = new Uint8Array(states);
    let place = 0;
    for (const [symbol, frequency] of frequencies.entries()) {
      if (place + frequency > states) throw wrong('frequencies of more than the whole');
      if (frequency === 0) continue;
      const bits = Math.clz32(frequency) - Math.clz32(states);
      const shorter = ((2 * states) >> bits) - frequency;
      for (let i = 0; i < frequency; i++, place++) {
        this.#symbols[place] = symbol;
        this.#bits[place] = i < shorter ? bits : bits - 1;
        this.#next[place] = i < shorter ? ((frequency + i) << bits) - states : (i - shorter) << (bits - 1);
      }
    }
    this.#filled = place;
  }

  /** The value of a state. */
  value(stream: BackwardBits, state: number): number {
    if (state >= this.#filled) throw wrong('a state that is not there');
    const symbol = this.#symbols[state] as number;
    this.state = (this.#next[state] as number) + stream.take(this.#bits[state] as number);
    const extra = this.#numbers.extra[symbol] as number;
    return (this.#numbers.base[symbol] as number) + (extra === 0 ? 0 : stream.take(extra));
  }
}

/** Bits of an array from its end to its beginning. */
class BackwardBits {
  readonly #bytes: Uint8Array;
  #left: number;

  /** `unused`: 0 to -7, the bits of the last byte that are not used. */
  constructor(bytes: Uint8Array, unused: number) {
    this.#bytes = bytes;
    this.#left = bytes.length * 8 + unused;
  }

  /** The next 0 to 16 bits. */
  take(count: number): number {
    this.#left -= count;
    if (this.#left < 0) throw wrong('the bits of a block end too early');
    const at = this.#left >> 3;
    const word = (this.#bytes[at] ?? 0) | ((this.#bytes[at + 1] ?? 0) << 8) | ((this.#bytes[at + 2] ?? 0) << 16);
    return (word >> (this.#left & 7)) & ((1 << count) - 1);
  }
}
