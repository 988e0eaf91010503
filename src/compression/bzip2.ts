/**
 * Reading bzip2: streams of blocks, each a Huffman-coded, move-to-front and Burrows-Wheeler transformed run of at most 900,000 bytes. Streams may follow each
 * other. Randomised blocks, which no program has written for decades, are refused.
 */
import type { ByteReader, Pieces } from '../base/byte-stream.ts';
import { MiB } from '../base/units.ts';
import { damaged } from './damaged.ts';

const BLOCK_MAGIC = [0x314159, 0x265359] as const;
const END_MAGIC = [0x177245, 0x385090] as const;
/** Symbols that each choice of a table covers. */
const GROUP = 50;
const MAX_LENGTH = 20;

const wrong = (what: string) => new Error(`bzip2: ${what}`);

/** Fills `out`. Returns how many bytes there were. Throws if the bytes are damaged, or would yield more. */
export function decodeBzip2(bytes: Uint8Array, out: Uint8Array): number {
  const bits = new Bits(bytes);
  const sink: Sink = { out, filled: 0 };
  do {
    decodeStream(bits, new Uint32Array(streamLevel(bits) * 100_000), sink);
    bits.toByte();
  } while (bits.left >= 80 && sink.filled < out.length);
  return sink.filled;
}

const FORMAT = 'bzip2';
/** The most bytes of a block as it is stored: each of its symbols with the longest code, and its tables. */
const LARGEST_BLOCK = 2.5 * MiB;
/** Bytes of a stream's mark. */
const STREAM_MARK = 4;

/** Whether these are the first bytes of a bzip2 file. */
export const isBzip2 = (head: Uint8Array): boolean =>
  String.fromCharCode(...head.subarray(0, 3)) === 'BZh' &&
  [BLOCK_MAGIC, END_MAGIC].some(([high, low]) => head.length >= 10 && magicAt(head, 4) === high && magicAt(head, 7) === low);

const magicAt = (head: Uint8Array, at: number): number => ((head[at] as number) << 16) | ((head[at + 1] as number) << 8) | (head[at + 2] as number);

/** What a bzip2 file holds, block by block. Throws `corrupt` for damage, a wrong checksum and an early end. */
export function* bunzip2(reader: ByteReader): Pieces {
  let stream: { readonly block: Uint32Array; whole: number } | undefined;
  /** Bits of the first byte that the last block took. */
  let used = 0;
  do {
    const held = yield* reader.peek(LARGEST_BLOCK);
    const bits = new Bits(held, used);
    const sink: Sink = { out: new Uint8Array(2 * MiB), filled: 0, grows: true };
    try {
      if (!stream) stream = { block: new Uint32Array(streamLevel(bits) * 100_000), whole: 0 };
      const next = decodeNext(bits, stream.block, stream.whole, sink);
      if (next === undefined) bits.toByte();
      stream = next === undefined ? undefined : { block: stream.block, whole: next };
    } catch (cause) {
      if (bits.left < 24) throw reader.cut();
      throw damaged(FORMAT, reader.position, cause);
    }
    used = bits.position % 8;
    reader.pass(Math.floor(bits.position / 8));
    yield sink.out.subarray(0, sink.filled);
  } while (stream || isStream(yield* reader.peek(STREAM_MARK)));
}

const isStream = (held: Uint8Array): boolean => held.length >= STREAM_MARK && String.fromCharCode(...held.subarray(0, 3)) === 'BZh';

function streamLevel(bits: Bits): number {
  if (bits.take(24) !== 0x425a68) throw wrong('the mark of a stream is missing');
  const level = bits.take(8) - 0x30;
  if (level < 1 || level > 9) throw wrong(`a block size of ${level}`);
  return level;
}

interface Sink {
  out: Uint8Array;
  filled: number;
  /** `out` is replaced by a larger one when it is full: a block is bounded by itself. */
  readonly grows?: true;
}

function decodeStream(bits: Bits, block: Uint32Array, sink: Sink): void {
  for (let whole: number | undefined = 0; whole !== undefined; ) whole = decodeNext(bits, block, whole, sink);
}

/** Decodes a block; returns the checksum of the stream up to there, or undefined at the end of the stream. */
function decodeNext(bits: Bits, block: Uint32Array, whole: number, sink: Sink): number | undefined {
  const [high, low] = [bits.take(24), bits.take(24)];
  const checksum = (bits.take(16) * 65536 + bits.take(16)) >>> 0;
  if (high === END_MAGIC[0] && low === END_MAGIC[1]) {
    if (checksum !== whole >>> 0) throw wrong('the checksum of a stream is wrong');
    return undefined;
  }
  if (high !== BLOCK_MAGIC[0] || low !== BLOCK_MAGIC[1]) throw wrong('the mark of a block is missing');
  const found = decodeBlock(bits, block, sink);
  if (found !== checksum) throw wrong('the checksum of a block is wrong');
  return ((whole << 1) | (whole >>> 31)) ^ found;
}

/** Decodes a block, and returns its checksum. */
function decodeBlock(bits: Bits, block: Uint32Array, sink: Sink): number {
  if (bits.take(1) === 1) throw wrong('a randomised block');
  const origin = bits.take(24);
  const counts = new Uint32Array(256);
  const length = readSymbols(bits, block, counts);
  if (origin >= length) throw wrong('the origin of a block lies outside');
  // The high bits of each place get the place of the byte that follows it.
  for (let value = 0, sum = 0; value < 256; value++) {
    const count = counts[value] as number;
    counts[value] = sum;
    sum += count;
  }
  for (let i = 0; i < length; i++) {
    const value = (block[i] as number) & 0xff;
    const place = counts[value] as number;
    block[place] = (block[place] as number) | (i << 8);
    counts[value] = place + 1;
  }
  return writeRuns(block, length, (block[origin] as number) >>> 8, sink);
}

/** The bytes of a block behind the first coding: four equal ones are followed by a count of more of them. */
function writeRuns(block: Uint32Array, length: number, start: number, sink: Sink): number {
  let { out } = sink;
  let at = start;
  let previous = -1;
  let run = 0;
  let checksum = 0xffffffff;
  for (let i = 0; i < length; i++) {
    const entry = block[at] as number;
    const value = entry & 0xff;
    at = entry >>> 8;
    const times = run === 4 ? value : 1;
    const byte = run === 4 ? previous : value;
    if (sink.filled + times > out.length) out = grown(sink);
    for (let n = 0; n < times; n++) {
      out[sink.filled++] = byte;
      checksum = (checksum << 8) ^ (CRC[((checksum >>> 24) ^ byte) & 0xff] as number);
    }
    if (run === 4) {
      run = 0;
      previous = -1;
    } else {
      run = value === previous ? run + 1 : 1;
      previous = value;
    }
  }
  return ~checksum >>> 0;
}

function grown(sink: Sink): Uint8Array {
  if (!sink.grows) throw wrong('there are more bytes than expected');
  const { out } = sink;
  sink.out = new Uint8Array(2 * out.length);
  sink.out.set(out);
  return sink.out;
}

/** Reads the symbols of a block: bytes by their place in a list that moves the last one to the front, and runs of the first. Returns their number. */
function readSymbols(bits: Bits, block: Uint32Array, counts: Uint32Array): number {
  const order = usedBytes(bits);
  const tables = bits.take(3);
  const choices = readChoices(bits, tables);
  const symbols = order.length + 2;
  const codes = Array.from({ length: tables }, () => readCode(bits, symbols));
  const end = symbols - 1;
  let filled = 0;
  let run = 0;
  let weight = 1;
  for (let group = 0; ; group++) {
    const code = codes[choices[group] ?? -1];
    if (!code) throw wrong('a block has more symbols than its tables cover');
    for (let i = 0; i < GROUP; i++) {
      const symbol = code.next(bits);
      if (symbol <= 1) {
        run += weight << symbol;
        weight *= 2;
        if (run > block.length - filled) throw wrong('a block is longer than its stream allows');
        continue;
      }
      if (run > 0) {
        const first = order[0] as number;
        block.fill(first, filled, filled + run);
        counts[first] = (counts[first] as number) + run;
        filled += run;
        run = 0;
        weight = 1;
      }
      if (symbol === end) return filled;
      if (filled >= block.length) throw wrong('a block is longer than its stream allows');
      const value = order[symbol - 1] as number;
      order.copyWithin(1, 0, symbol - 1);
      order[0] = value;
      block[filled++] = value;
      counts[value] = (counts[value] as number) + 1;
    }
  }
}

function usedBytes(bits: Bits): Uint8Array {
  const groups = bits.take(16);
  const used: number[] = [];
  for (let group = 0; group < 16; group++) {
    if (((groups >> (15 - group)) & 1) === 0) continue;
    const members = bits.take(16);
    for (let i = 0; i < 16; i++) if (((members >> (15 - i)) & 1) === 1) used.push(group * 16 + i);
  }
  if (used.length === 0) throw wrong('a block uses no bytes');
  return Uint8Array.from(used);
}

/** Which table each group of symbols uses. */
function readChoices(bits: Bits, tables: number): Uint8Array {
  if (tables < 2 || tables > 6) throw wrong(`${tables} tables`);
  const choices = new Uint8Array(bits.take(15));
  const order = [0, 1, 2, 3, 4, 5].slice(0, tables);
  for (let i = 0; i < choices.length; i++) {
    let place = 0;
    while (bits.take(1) === 1) if (++place >= tables) throw wrong('a table that is not there');
    const [table] = order.splice(place, 1) as [number];
    order.unshift(table);
    choices[i] = table;
  }
  return choices;
}

/** The lengths of a table's codes, each as steps from the one before. */
function readCode(bits: Bits, symbols: number): Code {
  const lengths = new Uint8Array(symbols);
  let length = bits.take(5);
  for (let i = 0; i < symbols; i++) {
    for (;;) {
      if (length < 1 || length > MAX_LENGTH) throw wrong(`a code of ${length} bits`);
      if (bits.take(1) === 0) break;
      length += bits.take(1) === 0 ? 1 : -1;
    }
    lengths[i] = length;
  }
  return new Code(lengths);
}

/** A Huffman code: shorter codes come first, and equal lengths in the order of their symbols. */
class Code {
  /** By length: one more than the largest code, and the place of the first symbol less the first code. */
  readonly #limits = new Float64Array(MAX_LENGTH + 1);
  readonly #shifts = new Int32Array(MAX_LENGTH + 1);
  readonly #symbols: Uint16Array;

  constructor(lengths: Uint8Array) {
    this.#symbols = new Uint16Array(lengths.length);
    let code = 0;
    let place = 0;
    for (let length = 1; length <= MAX_LENGTH; length++) {
      code *= 2;
      this.#shifts[length] = place - code;
      for (const [symbol, own] of lengths.entries()) {
        if (own !== length) continue;
        this.#symbols[place++] = symbol;
        code++;
      }
      this.#limits[length] = code;
    }
  }

  next(bits: Bits): number {
    let code = 0;
    for (let length = 1; length <= MAX_LENGTH; length++) {
      code = code * 2 + bits.take(1);
      const symbol = code < (this.#limits[length] as number) ? this.#symbols[code + (this.#shifts[length] as number)] : undefined;
      if (symbol !== undefined) return symbol;
    }
    throw wrong('a code that stands for nothing');
  }
}

/** Bits of an array, the highest of each byte first. */
class Bits {
  readonly #bytes: Uint8Array;
  #at = 0;
  #held = 0;
  #count = 0;

  /** `used`: bits of the first byte that are not among them. */
  constructor(bytes: Uint8Array, used = 0) {
    this.#bytes = bytes;
    if (used > 0) this.take(used);
  }

  /** Bits that were taken, or did not count from the start. */
  get position(): number {
    return this.#at * 8 - this.#count;
  }

  /** Bits that were not taken. */
  get left(): number {
    return (this.#bytes.length - this.#at) * 8 + this.#count;
  }

  /** The next 1 to 24 bits. */
  take(count: number): number {
    while (this.#count < count) {
      if (this.#at >= this.#bytes.length) throw wrong('the bytes end too early');
      this.#held = (this.#held << 8) | (this.#bytes[this.#at++] as number);
      this.#count += 8;
    }
    this.#count -= count;
    return (this.#held >>> this.#count) & ((1 << count) - 1);
  }

  /** Skips what is left of a byte. */
  toByte(): void {
    this.#count -= this.#count % 8;
  }
}

/** CRC-32, the highest bit first. */
const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 24;
  for (let i = 0; i < 8; i++) value = (value << 1) ^ (value < 0 ? 0x04c11db7 : 0);
  return value;
});
