/** Reading xz: streams of blocks that are LZMA2 (lzma2.ts) and nothing else. Checks by CRC-32 are compared; other checks are not. */
import { view } from '../base/bytes.ts';
import { crc32 } from './checksums.ts';
import { decodeLzma2 } from './lzma2.ts';

const wrong = (what: string) => new Error(`xz: ${what}`);
export const STREAM_HEADER = 12;
export const STREAM_FOOTER = 12;
/** Bytes of each kind of check. */
export const CHECK_SIZES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
const LZMA2 = 0x21;

/** Fills `out`. Returns how many bytes there were. Throws if the bytes are damaged, or would yield more. */
export function decodeXz(bytes: Uint8Array, out: Uint8Array): number {
  const check = parseStreamHeader(bytes);
  let at = STREAM_HEADER;
  let filled = 0;
  // The index, which follows the blocks, begins with a zero.
  while (at < bytes.length && bytes[at] !== 0) {
    const headerSize = ((bytes[at] as number) + 1) * 4;
    const header = bytes.subarray(at, at + headerSize);
    requireLzma2(header, headerSize);
    const block = decodeLzma2(bytes.subarray(at + headerSize), out, filled);
    at += headerSize + Math.ceil(block.read / 4) * 4;
    if (check === 1 && at + 4 <= bytes.length && crc32(out.subarray(filled, block.filled)) !== view(bytes).getUint32(at, true))
      throw wrong('the check of a block is wrong');
    at += CHECK_SIZES[check] as number;
    filled = block.filled;
  }
  if (at + STREAM_FOOTER > bytes.length) throw wrong('the bytes end too early');
  return filled;
}

/** Whether these are the first bytes of an xz file. */
export const isXz = (head: Uint8Array): boolean =>
  head.length >= STREAM_HEADER && view(head).getUint32(0) === 0xfd377a58 && view(head).getUint16(4) === 0x5a00;

/** Reads the header of a stream: the kind of its checks. */
export function parseStreamHeader(bytes: Uint8Array): number {
  if (!isXz(bytes)) throw wrong('the mark is missing');
  if (bytes[6] !== 0 || (bytes[7] as number) > 15 || crc32(bytes.subarray(6, 8)) !== view(bytes).getUint32(8, true)) throw wrong('a damaged header');
  return (bytes[7] as number) & 15;
}

/** Throws unless the block's only filter is LZMA2. Returns the size of its dictionary. */
export function requireLzma2(header: Uint8Array, size: number): number {
  if (header.length < size) throw wrong('the bytes end inside a header');
  if (crc32(header.subarray(0, size - 4)) !== view(header).getUint32(size - 4, true)) throw wrong('a damaged header of a block');
  const flags = header[1] as number;
  if ((flags & 3) !== 0 || (flags & 0x3c) !== 0) throw wrong('a block with more filters than one');
  let at = 2;
  for (const bit of [0x40, 0x80]) {
    if ((flags & bit) === 0) continue;
    while (at < size && (header[at] as number) >= 0x80) at++;
    at++;
  }
  if (header[at] !== LZMA2 || header[at + 1] !== 1) throw wrong(`the filter 0x${(header[at] ?? 0).toString(16)}`);
  const bits = header[at + 2] as number;
  if (bits > 40) throw wrong(`a dictionary of 2^${bits}`);
  return bits === 40 ? 2 ** 32 - 1 : (2 | (bits & 1)) * 2 ** (Math.floor(bits / 2) + 11);
}
