/**
 * A Zstandard encoder (RFC 8878) for one cluster: a single-segment frame that states its content size, with matches over the whole
 * cluster, Huffman-coded literals and FSE-coded sequences where they pay. It has no dictionary, no checksum, and repeats no tables. Every
 * decoder reads its frames; they come near to those of the reference encoder at its usual level. Matches are found in zstd-matches.ts.
 */
import { view } from '../base/bytes.ts';
import { BitWriter, type Distribution, describeFse, FseEncoder, fseCost, highBit, huffmanCode, normalise } from './zstd-entropy.ts';
import { findSequences, type Sequences } from './zstd-matches.ts';

const MAGIC = 0xfd2fb528;
/** Most bytes that one block yields. */
const BLOCK = 128 * 1024;
const BLOCK_TYPE = { raw: 0, repeated: 1, compressed: 2 } as const;

/** The code of each value, and the extra bits that go with it: by code, the least value and the number of bits. */
interface Codes {
  readonly base: readonly number[];
  readonly extra: readonly number[];
  /** The probabilities of codes, unless the block gives its own. */
  readonly usual: Distribution;
  /** The largest table that a block may give. */
  readonly maxLog: number;
}

const times = (count: number, value: number): number[] => new Array<number>(count).fill(value);

/** A table of codes from the number of extra bits of each. */
function codes(start: number, extra: readonly number[], usual: Distribution, maxLog: number): Codes {
  let next = start;
  const base = extra.map((bits) => {
    const least = next;
    next += 2 ** bits;
    return least;
  });
  return { base, extra, usual, maxLog };
}

/* The tables of §3.1.1.3.2.1.1 and §3.1.1.3.2.2. */
const LITERALS = codes(
  0,
  [...times(16, 0), 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
  { log: 6, norm: [4, 3, ...times(11, 2), 1, 1, 1, ...times(9, 2), 3, 2, ...times(5, 1), ...times(4, -1)] },
  9,
);
const MATCHES = codes(
  3,
  [...times(32, 0), 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
  { log: 6, norm: [1, 4, 3, ...times(6, 2), ...times(37, 1), ...times(7, -1)] },
  9,
);
const OFFSETS = codes(
  1,
  Array.from({ length: 23 }, (_, code) => code),
  { log: 5, norm: [...times(6, 1), 2, 2, 2, ...times(15, 1), ...times(5, -1)] },
  8,
);

/** One frame that decodes to `bytes` (at most 2^31 of them). It may be longer than they are. */
export function encodeZstd(bytes: Uint8Array): Uint8Array {
  const parts = [frameHeader(bytes.length)];
  let offsets: readonly number[] = [1, 4, 8];
  const found = findSequences(bytes, BLOCK);
  for (let at = 0; at < bytes.length || at === 0; at += BLOCK) {
    const piece = bytes.subarray(at, at + BLOCK);
    const last = at + BLOCK >= bytes.length;
    const sequences = found(at, at + piece.length, offsets);
    const body = piece.length < 3 ? undefined : encodeBlock(piece, sequences);
    if (piece.length > 3 && piece.every((byte) => byte === piece[0]))
      parts.push(blockHeader(BLOCK_TYPE.repeated, piece.length, last), piece.subarray(0, 1));
    else if (!body || body.length >= piece.length) parts.push(blockHeader(BLOCK_TYPE.raw, piece.length, last), piece);
    else {
      parts.push(blockHeader(BLOCK_TYPE.compressed, body.length, last), body);
      // A block that is stored in another way gives its reader no offsets.
      offsets = sequences.recent;
    }
  }
  return joined(parts);
}

function frameHeader(size: number): Uint8Array {
  const bytes = new Uint8Array(9);
  const data = view(bytes);
  data.setUint32(0, MAGIC, true);
  const width = size < 256 ? 0 : size < 65536 + 256 ? 1 : 2;
  bytes[4] = (width << 6) | (1 << 5);
  if (width === 0) bytes[5] = size;
  else if (width === 1) data.setUint16(5, size - 256, true);
  else data.setUint32(5, size, true);
  return bytes.subarray(0, 5 + 2 ** width);
}

function blockHeader(type: number, size: number, last: boolean): Uint8Array {
  const word = (last ? 1 : 0) | (type << 1) | (size << 3);
  return Uint8Array.of(word & 0xff, (word >> 8) & 0xff, word >> 16);
}

function encodeBlock(bytes: Uint8Array, sequences: Sequences): Uint8Array {
  return joined([...literalsSection(literalsOf(bytes, sequences)), ...sequencesSection(sequences)]);
}

function literalsOf(bytes: Uint8Array, { count, literals, lengths }: Sequences): Uint8Array {
  const all = new Uint8Array(bytes.length);
  let from = 0;
  let filled = 0;
  for (let i = 0; i < count; i++) {
    const run = literals[i] as number;
    all.set(bytes.subarray(from, from + run), filled);
    filled += run;
    from += run + (lengths[i] as number);
  }
  all.set(bytes.subarray(from), filled);
  return all.subarray(0, filled + bytes.length - from);
}

/** Literals as they are, as one repeated byte, or Huffman coded: whichever is shortest. */
function literalsSection(literals: Uint8Array): Uint8Array[] {
  const { length } = literals;
  if (length > 4 && literals.every((byte) => byte === literals[0])) return [plainLiterals(1, length), literals.subarray(0, 1)];
  const coded = length >= 16 ? huffmanLiterals(literals) : undefined;
  return coded && coded.length < length ? [coded] : [plainLiterals(0, length), literals];
}

function plainLiterals(type: 0 | 1, length: number): Uint8Array {
  if (length < 32) return Uint8Array.of(type | (length << 3));
  const word = type | ((length < 4096 ? 1 : 3) << 2) | (length << 4);
  return Uint8Array.of(word & 0xff, (word >> 8) & 0xff, word >> 16).subarray(0, length < 4096 ? 2 : 3);
}

function huffmanLiterals(literals: Uint8Array): Uint8Array | undefined {
  const counts = new Uint32Array(256);
  for (const byte of literals) counts[byte] = (counts[byte] as number) + 1;
  const code = huffmanCode(counts);
  if (!code) return undefined;
  const stream = (part: Uint8Array): Uint8Array => {
    const bits = new BitWriter(part.length);
    for (let i = part.length - 1; i >= 0; i--) bits.add(code.codes[part[i] as number] as number, code.lengths[part[i] as number] as number);
    return bits.finish();
  };
  const parts = [code.description];
  const single = literals.length < 1024;
  if (single) parts.push(stream(literals));
  else {
    const quarter = Math.ceil(literals.length / 4);
    const streams = [0, 1, 2, 3].map((i) => stream(literals.subarray(i * quarter, (i + 1) * quarter)));
    const jumps = new Uint8Array(6);
    for (let i = 0; i < 3; i++) view(jumps).setUint16(2 * i, (streams[i] as Uint8Array).length, true);
    parts.push(jumps, ...streams);
  }
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  if (size >= literals.length) return undefined;
  // Both sizes have 10, 14 or 18 bits, behind four that say so.
  const format = single ? 0 : literals.length < 1024 ? 1 : literals.length < 16384 ? 2 : 3;
  const width = format < 2 ? 10 : format === 2 ? 14 : 18;
  const head = new BitWriter(5);
  head.add(2 | (format << 2), 4);
  head.add(literals.length, width);
  head.add(size, width);
  return joined([head.whole(), ...parts]);
}

/** How one of the three numbers of all sequences is coded. */
interface Coding {
  readonly mode: 0 | 1 | 2;
  readonly header: Uint8Array;
  readonly codes: Uint8Array;
  /** Absent if one code stands for all. */
  readonly encoder?: FseEncoder;
}

function sequencesSection({ count, literals, lengths, offsets }: Sequences): Uint8Array[] {
  if (count === 0) return [Uint8Array.of(0)];
  const small = count < 128;
  const number = small
    ? Uint8Array.of(count)
    : count < 0x7f00
      ? Uint8Array.of((count >> 8) + 128, count & 0xff)
      : Uint8Array.of(255, (count - 0x7f00) & 0xff, (count - 0x7f00) >> 8);
  const runs = codingOf(LITERALS, literals.subarray(0, count));
  const places = codingOf(OFFSETS, offsets.subarray(0, count));
  const matches = codingOf(MATCHES, lengths.subarray(0, count));
  const modes = Uint8Array.of((runs.mode << 6) | (places.mode << 4) | (matches.mode << 2));
  const bits = new BitWriter(count * 4 + 16);
  const extra = ({ base, extra: widths }: Codes, coding: Coding, value: number, i: number) => {
    const code = coding.codes[i] as number;
    bits.add(value - (base[code] as number), widths[code] as number);
  };
  const state = (coding: Coding): number => coding.encoder?.first(coding.codes[count - 1] as number) ?? 0;
  let [runState, placeState, matchState] = [state(runs), state(places), state(matches)];
  for (let i = count - 1; i >= 0; i--) {
    if (i < count - 1) {
      placeState = places.encoder?.encode(bits, placeState, places.codes[i] as number) ?? 0;
      matchState = matches.encoder?.encode(bits, matchState, matches.codes[i] as number) ?? 0;
      runState = runs.encoder?.encode(bits, runState, runs.codes[i] as number) ?? 0;
    }
    extra(LITERALS, runs, literals[i] as number, i);
    extra(MATCHES, matches, lengths[i] as number, i);
    extra(OFFSETS, places, offsets[i] as number, i);
  }
  bits.add(matchState, matches.encoder?.log ?? 0);
  bits.add(placeState, places.encoder?.log ?? 0);
  bits.add(runState, runs.encoder?.log ?? 0);
  return [number, modes, runs.header, places.header, matches.header, bits.finish()];
}

/** The shortest of: one code for all, the usual probabilities, or the block's own, which must be described. */
function codingOf(table: Codes, values: Uint32Array): Coding {
  const numbers = new Uint8Array(values.length);
  const counts = new Uint32Array(table.base.length);
  for (const [i, value] of values.entries()) {
    const code = codeFor(table, value);
    numbers[i] = code;
    counts[code] = (counts[code] as number) + 1;
  }
  const different = counts.reduce((sum, count) => sum + (count > 0 ? 1 : 0), 0);
  if (different === 1 && values.length > 2) return { mode: 1, header: numbers.slice(0, 1), codes: numbers };
  const usual = fseCost(counts, table.usual);
  if (different > 1 && values.length > 16) {
    const log = Math.min(table.maxLog, Math.max(5, highBit(values.length) - 2, highBit(different) + 1));
    const own = normalise(counts, log);
    const header = describeFse(own);
    if (header.length * 8 + fseCost(counts, own) < usual) return { mode: 2, header, codes: numbers, encoder: new FseEncoder(own) };
  }
  return { mode: 0, header: new Uint8Array(), codes: numbers, encoder: new FseEncoder(table.usual) };
}

/** The code for a value. Offsets' codes are powers of two; the others are looked up where they are few. */
function codeFor({ base, extra }: Codes, value: number): number {
  if (extra[1] === 1) return highBit(value);
  let low = 0;
  let high = base.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((base[middle] as number) <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
