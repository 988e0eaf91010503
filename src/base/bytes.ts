/**
 * Reading and writing integers in byte arrays, both byte orders. Offsets are `number`: the one 64-bit reader refuses
 * values above 2^53-1, and flags in the top bits are read with `u32` on the high word before the offset is taken.
 */
import { BYTES, check, TEXT } from './arguments.ts';
import { DiskError } from './errors.ts';

/** The array that a read resolves to: the caller's own, or a new one, which has memory of its own. */
export type BytesRead<T extends number | Uint8Array> = T extends Uint8Array ? T : Uint8Array<ArrayBuffer>;

/** 2^32, for putting two words together without BigInt. */
export const TWO_32 = 0x1_0000_0000;

/** A `DataView` over exactly these bytes. */
export const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Puts a 64-bit value together from its words; refuses what a double cannot hold exactly. `field` names it in the error. */
export function u64(high: number, low: number, field: string): number {
  const value = high * TWO_32 + low;
  if (value > Number.MAX_SAFE_INTEGER)
    throw new DiskError('corrupt', `${field} is 0x${high.toString(16)}${low.toString(16).padStart(8, '0')}: larger than 2^53-1`, { field });
  return value;
}

/** Big-endian u64 at `at`; refuses values above 2^53-1. */
export const u64be = (data: DataView, at: number, field: string): number => u64(data.getUint32(at), data.getUint32(at + 4), field);

/** Little-endian u64 at `at`; refuses values above 2^53-1. */
export const u64le = (data: DataView, at: number, field: string): number => u64(data.getUint32(at + 4, true), data.getUint32(at, true), field);

/** Writes a non-negative safe integer as big-endian u64. */
export function setU64be(data: DataView, at: number, value: number): void {
  data.setUint32(at, Math.floor(value / TWO_32));
  data.setUint32(at + 4, value % TWO_32);
}

/** Writes a non-negative safe integer as little-endian u64. */
export function setU64le(data: DataView, at: number, value: number): void {
  data.setUint32(at + 4, Math.floor(value / TWO_32), true);
  data.setUint32(at, value % TWO_32, true);
}

/** Node's comparison, which is the C library's; other platforms have none, and words are compared there. */
const nativeCompare = (globalThis as { Buffer?: { compare?(a: Uint8Array, b: Uint8Array): number } }).Buffer?.compare;
/** A call of it costs as much as looking at so many bytes. */
const WORTH_A_CALL = 512;
const ZEROS = new Uint8Array(nativeCompare ? 64 * 1024 : 0);

/** True if every byte is zero. */
export function isZero(bytes: Uint8Array): boolean {
  const { length } = bytes;
  // Most arrays that are not zero show it in their first or last byte.
  if (length > 0 && (bytes[0] !== 0 || bytes[length - 1] !== 0)) return false;
  if (!nativeCompare || length < WORTH_A_CALL) return wordsAreZero(bytes);
  for (let at = 0; at < length; at += ZEROS.length) {
    const count = Math.min(ZEROS.length, length - at);
    if (nativeCompare(part(bytes, at, count), part(ZEROS, 0, count)) !== 0) return false;
  }
  return true;
}

/** True if both hold the same bytes. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  const { length } = a;
  if (length !== b.length) return false;
  if (nativeCompare && length >= WORTH_A_CALL) return nativeCompare(a, b) === 0;
  let at = 0;
  if (length >= 64 && a.byteOffset % 4 === 0 && b.byteOffset % 4 === 0) {
    const [left, right] = [wordsOf(a), wordsOf(b)];
    // So many at a time that checking the bounds costs little.
    for (let i = 0; i < left.length; i += 4, at += 16) {
      const differ = (get(left, i) ^ get(right, i)) | (get(left, i + 1) ^ get(right, i + 1));
      if ((differ | (get(left, i + 2) ^ get(right, i + 2)) | (get(left, i + 3) ^ get(right, i + 3))) !== 0) return false;
    }
  }
  for (; at < length; at++) if (a[at] !== b[at]) return false;
  return true;
}

function wordsAreZero(bytes: Uint8Array): boolean {
  let at = 0;
  if (bytes.length >= 64 && bytes.byteOffset % 4 === 0) {
    const words = wordsOf(bytes);
    for (let i = 0; i < words.length; i += 4, at += 16)
      if ((get(words, i) | get(words, i + 1) | get(words, i + 2) | get(words, i + 3)) !== 0) return false;
  }
  for (; at < bytes.length; at++) if (bytes[at] !== 0) return false;
  return true;
}

/** The start of an aligned array, as whole fours of words. */
const wordsOf = (bytes: Uint8Array): Int32Array => new Int32Array(bytes.buffer, bytes.byteOffset, (bytes.byteLength >>> 4) * 4);
const get = (words: Int32Array, index: number): number => words[index] as number;

const part = (bytes: Uint8Array, offset: number, length: number): Uint8Array =>
  length === bytes.length ? bytes : bytes.subarray(offset, offset + length);

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** Where a byte that is not UTF-8 stands in text: surrogates that nothing else uses alone. */
const ESCAPED = 0xdc00;
const HAS_ESCAPES = /[\udc80-\udcff]/u;

/** Bytes as text, for magic strings and names. A byte that is not UTF-8 becomes the lone surrogate U+DC80 to U+DCFF: `utf8` makes it that byte again. */
export function text(bytes: Uint8Array): string {
  check('decodeText', 'bytes', bytes, BYTES);
  return decoded(bytes) ?? withEscapes(bytes);
}

function decoded(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Decodes runs of valid UTF-8 at once: a name that is not UTF-8 may be long, and the decoder takes long to refuse. */
function withEscapes(bytes: Uint8Array): string {
  let value = '';
  let run = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = letterLength(bytes, at);
    if (length === 0) {
      value += decoder.decode(bytes.subarray(run, at)) + String.fromCharCode(ESCAPED + (bytes[at] as number));
      run = at + 1;
    }
    at += length || 1;
  }
  return value + decoder.decode(bytes.subarray(run));
}

/** How many bytes the letter at `at` has, 0 if none begins there. The Unicode Standard, table 3-7: well-formed UTF-8. */
function letterLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at] as number;
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  const second = bytes[at + 1] ?? 0;
  const least = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const most = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (second < least || second > most) return 0;
  for (let i = 2; i < length; i++) if (((bytes[at + i] ?? 0) & 0xc0) !== 0x80) return 0;
  return length;
}

/** Text as UTF-8 bytes. The surrogates that `text` made of other bytes become those bytes again. */
export function utf8(value: string): Uint8Array {
  check('encodeText', 'value', value, TEXT);
  const encoder = new TextEncoder();
  if (!HAS_ESCAPES.test(value)) return encoder.encode(value);
  const bytes = [...value].flatMap((letter) => (HAS_ESCAPES.test(letter) ? letter.charCodeAt(0) - ESCAPED : [...encoder.encode(letter)]));
  return new Uint8Array(bytes);
}

/** The bytes before the first that is zero, as C reads a name. */
export function untilZero(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

/** Rounds up to a multiple. Works above 2^32, unlike bit masks. */
export const roundUp = (value: number, multiple: number): number => Math.ceil(value / multiple) * multiple;

/** Rounds down to a multiple. */
export const roundDown = (value: number, multiple: number): number => Math.floor(value / multiple) * multiple;

/** How many `unit`s hold `value`. */
export const divideUp = (value: number, unit: number): number => Math.ceil(value / unit);
