/**
 * The two entropy coders of Zstandard (RFC 8878 §4), writing side: FSE tables with their descriptions, and Huffman codes with theirs.
 * Both write bit streams that are read from the end, so an encoder starts with the last symbol. Pure.
 */
import { assert } from '../base/errors.ts';

/** Bits, least significant first, to be read backwards from a final one bit. */
export class BitWriter {
  #bytes: Uint8Array;
  #length = 0;
  #word = 0;
  #bits = 0;

  constructor(capacity: number) {
    this.#bytes = new Uint8Array(capacity);
  }

  /** Appends the `count` (at most 24) low bits of `value`; its other bits are zero. */
  add(value: number, count: number): void {
    this.#word |= value << this.#bits;
    this.#bits += count;
    while (this.#bits >= 8) this.#byte();
  }

  /** The stream with its final bit, filled up to whole bytes. */
  finish(): Uint8Array {
    this.add(1, 1);
    return this.whole();
  }

  /** The bits so far, filled up to whole bytes, for streams that are read forwards. */
  whole(): Uint8Array {
    if (this.#bits > 0) this.#byte();
    return this.#bytes.subarray(0, this.#length);
  }

  #byte(): void {
    if (this.#length === this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length + 16);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes[this.#length++] = this.#word & 0xff;
    this.#word >>>= 8;
    this.#bits = Math.max(0, this.#bits - 8);
  }
}

/** The number of the highest set bit. */
export const highBit = (value: number): number => 31 - Math.clz32(value);

/** Probabilities of symbols in units of 2^-`log`; -1 is less than one unit but has a place all the same. */
export interface Distribution {
  readonly log: number;
  readonly norm: readonly number[];
}

/** Scales counts to a table of 2^`log` places; at least two symbols occur, and there are places for all. */
export function normalise(counts: Uint32Array, log: number): Distribution {
  const size = 1 << log;
  const total = counts.reduce((sum, count) => sum + count, 0);
  const norm = Array.from(counts, (count) => (count === 0 ? 0 : Math.max(1, Math.floor((count * size) / total))));
  while (norm.at(-1) === 0) norm.pop();
  let left = size - norm.reduce((sum, places) => sum + places, 0);
  // The most frequent symbols take the difference that rounding left.
  while (left !== 0) {
    let best = 0;
    for (let i = 1; i < norm.length; i++) if ((norm[i] as number) > (norm[best] as number)) best = i;
    const change = left > 0 ? left : -Math.min(-left, Math.max(1, (norm[best] as number) >> 2));
    norm[best] = (norm[best] as number) + change;
    left -= change;
  }
  return { log, norm };
}

/** Bits that symbols with these counts take under a distribution; infinite if one has no place. */
export function fseCost(counts: Uint32Array, { log, norm }: Distribution): number {
  let bits = 0;
  for (const [symbol, count] of counts.entries()) {
    if (count === 0) continue;
    const places = norm[symbol] ?? 0;
    if (places === 0) return Number.POSITIVE_INFINITY;
    bits += count * (log - Math.log2(Math.abs(places)));
  }
  return bits;
}

/** Encodes symbols under one distribution; the caller keeps the state. */
export class FseEncoder {
  readonly log: number;
  /** By symbol: how many places it has, and where its places start in `#places`. */
  readonly #norm: Uint16Array;
  readonly #start: Uint16Array;
  /** States of the decoder, by symbol and rising. */
  readonly #places: Uint16Array;

  constructor({ log, norm }: Distribution) {
    const size = 1 << log;
    this.log = log;
    this.#norm = Uint16Array.from(norm, Math.abs);
    this.#start = new Uint16Array(norm.length);
    this.#places = new Uint16Array(size);
    for (let symbol = 1; symbol < norm.length; symbol++)
      this.#start[symbol] = (this.#start[symbol - 1] as number) + (this.#norm[symbol - 1] as number);
    const next = this.#start.slice();
    for (const [state, symbol] of spread(norm, size).entries()) {
      this.#places[next[symbol] as number] = state;
      next[symbol] = (next[symbol] as number) + 1;
    }
  }

  /** The state of a decoder that yields `symbol` and then needs no more. In this state the decoder would still read a bit. */
  first(symbol: number): number {
    return this.#places[this.#start[symbol] as number] as number;
  }

  /** Writes the bits that lead a decoder from the state that yields `symbol` to `state`; returns that former state. */
  encode(bits: BitWriter, state: number, symbol: number): number {
    const places = this.#norm[symbol] as number;
    const whole = state + (1 << this.log);
    let count = this.log - highBit(places);
    if (whole >> count < places) count--;
    bits.add(state & ((1 << count) - 1), count);
    return this.#places[(this.#start[symbol] as number) + (whole >> count) - places] as number;
  }
}

/** The symbol of each state. */
function spread(norm: readonly number[], size: number): Uint8Array {
  const symbols = new Uint8Array(size);
  let high = size - 1;
  for (const [symbol, places] of norm.entries()) if (places === -1) symbols[high--] = symbol;
  const step = (size >> 1) + (size >> 3) + 3;
  let at = 0;
  for (const [symbol, places] of norm.entries()) {
    for (let i = 0; i < places; i++) {
      symbols[at] = symbol;
      do at = (at + step) & (size - 1);
      while (at > high);
    }
  }
  assert(at === 0, 'an FSE distribution does not fill its table');
  return symbols;
}

/** The description of a distribution (§4.1.1). */
export function describeFse({ log, norm }: Distribution): Uint8Array {
  const bits = new BitWriter(64);
  bits.add(log - 5, 4);
  let left = 1 << log;
  for (let symbol = 0; left > 0; ) {
    const places = norm[symbol++] as number;
    const width = highBit(left + 1) + 1;
    // Values below the gap take one bit less; the others make this possible.
    const gap = (1 << width) - 2 - left;
    const value = places + 1;
    if (value < gap) bits.add(value, width - 1);
    else bits.add(value < 1 << (width - 1) ? value : value + gap, width);
    left -= Math.abs(places);
    if (places !== 0) continue;
    let zeroes = 0;
    while (norm[symbol] === 0) {
      zeroes++;
      symbol++;
    }
    for (; zeroes >= 3; zeroes -= 3) bits.add(3, 2);
    bits.add(zeroes, 2);
  }
  return bits.whole();
}

const MAX_CODE_BITS = 11;

/** A Huffman code for literals. */
export interface HuffmanCode {
  /** By symbol: bits of its code, 0 if it does not occur; and the code. */
  readonly lengths: Uint8Array;
  readonly codes: Uint16Array;
  /** The tree's description (§4.2.1). */
  readonly description: Uint8Array;
}

/** A code for bytes with these counts (256 of them); undefined if at most one occurs or the code cannot be described. */
export function huffmanCode(counts: Uint32Array): HuffmanCode | undefined {
  const lengths = codeLengths(counts);
  if (!lengths) return undefined;
  const longest = lengths.reduce((most, length) => Math.max(most, length), 0);
  const description = describeTree(lengths, longest);
  if (!description) return undefined;
  // The longest codes come first, and rise.
  const codes = new Uint16Array(256);
  let next = 0;
  for (let length = longest; length > 0; length--) {
    for (let symbol = 0; symbol < 256; symbol++) if (lengths[symbol] === length) codes[symbol] = next++;
    next >>= 1;
  }
  return { lengths, codes, description };
}

/** Lengths of at most 11 bits that together leave no code unused. */
function codeLengths(counts: Uint32Array): Uint8Array | undefined {
  const symbols = [...counts.keys()].filter((symbol) => counts[symbol] !== 0).sort((a, b) => (counts[a] as number) - (counts[b] as number));
  if (symbols.length < 2) return undefined;
  const lengths = new Uint8Array(256);
  for (const [rank, depth] of treeDepths(symbols.map((symbol) => counts[symbol] as number)).entries())
    lengths[symbols[rank] as number] = Math.min(depth, MAX_CODE_BITS);
  // Codes that were shortened take more room than there is, in units of the longest: the rarest symbols whose codes can grow, grow by a bit.
  let over = symbols.reduce((sum, symbol) => sum + 2 ** (MAX_CODE_BITS - (lengths[symbol] as number)), 0) - 2 ** MAX_CODE_BITS;
  while (over > 0) {
    const symbol = symbols.find((each) => (lengths[each] as number) < MAX_CODE_BITS) as number;
    over -= 2 ** (MAX_CODE_BITS - 1 - (lengths[symbol] as number));
    lengths[symbol] = (lengths[symbol] as number) + 1;
  }
  // The room that is then left over goes to the most frequent symbols that can use it.
  for (let i = symbols.length - 1; i >= 0 && over < 0; ) {
    const symbol = symbols[i] as number;
    const gain = 2 ** (MAX_CODE_BITS - (lengths[symbol] as number));
    if ((lengths[symbol] as number) > 1 && gain <= -over) {
      lengths[symbol] = (lengths[symbol] as number) - 1;
      over += gain;
    } else i--;
  }
  return lengths;
}

/** Depths of the leaves of a Huffman tree; `weights` rise. */
function treeDepths(weights: readonly number[]): number[] {
  const leaves = weights.length;
  const sums: number[] = [];
  const parents = new Int32Array(2 * leaves - 1);
  let leaf = 0;
  let inner = 0;
  const take = (): [number, number] => {
    const fromLeaf = leaf < leaves && (inner >= sums.length || (weights[leaf] as number) <= (sums[inner] as number));
    return fromLeaf ? [leaf, weights[leaf++] as number] : [leaves + inner, sums[inner++] as number];
  };
  while (sums.length < leaves - 1) {
    const [a, first] = take();
    const [b, second] = take();
    parents[a] = leaves + sums.length;
    parents[b] = leaves + sums.length;
    sums.push(first + second);
  }
  const depths = new Int32Array(2 * leaves - 1);
  for (let node = 2 * leaves - 3; node >= 0; node--) depths[node] = (depths[parents[node] as number] as number) + 1;
  return [...depths.subarray(0, leaves)];
}

/** Weights of all symbols but the last that occurs, whose weight follows: FSE coded, or four bits each where that is no longer. */
function describeTree(lengths: Uint8Array, longest: number): Uint8Array | undefined {
  const last = lengths.findLastIndex((length) => length > 0);
  const weights = Array.from(lengths.subarray(0, last), (length) => (length === 0 ? 0 : longest + 1 - length));
  const coded = fseWeights(weights);
  if (last > 128 || (coded && coded.length < last / 2)) {
    if (!coded || coded.length > 127) return undefined;
    return Uint8Array.of(coded.length, ...coded);
  }
  const plain = Array.from({ length: Math.ceil(last / 2) }, (_, i) => ((weights[2 * i] as number) << 4) | (weights[2 * i + 1] ?? 0));
  return Uint8Array.of(127 + last, ...plain);
}

/** Weights under FSE, by two states in turn; undefined if they are too few or all the same. */
function fseWeights(weights: readonly number[]): Uint8Array | undefined {
  const counts = new Uint32Array(MAX_CODE_BITS + 1);
  for (const weight of weights) counts[weight] = (counts[weight] as number) + 1;
  if (weights.length < 3 || counts.filter((count) => count > 0).length < 2) return undefined;
  const distribution = normalise(counts, 6);
  const encoder = new FseEncoder(distribution);
  const bits = new BitWriter(128);
  const states: [number, number] = [0, 0];
  const end = weights.length;
  for (const at of [end - 1, end - 2]) states[(at & 1) as 0 | 1] = encoder.first(weights[at] as number);
  for (let at = end - 3; at >= 0; at--) {
    const which = (at & 1) as 0 | 1;
    states[which] = encoder.encode(bits, states[which], weights[at] as number);
  }
  bits.add(states[1], 6);
  bits.add(states[0], 6);
  const stream = bits.finish();
  const description = describeFse(distribution);
  const whole = new Uint8Array(description.length + stream.length);
  whole.set(description);
  whole.set(stream, description.length);
  return whole;
}
