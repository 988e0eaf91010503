/** Inflating what an image has compressed, into as many bytes as its driver expects: no more are ever made, whatever the compressed bytes claim. */
import { Inflate } from 'pako';
import { view } from '../base/bytes.ts';
import { inflateFast } from './compressor.ts';

/** Thrown out of pako's callback to stop it: there is no other way. */
const FULL = new Error('the compressed bytes yield more than was expected');

/** Fills `out` from raw deflate, which may be followed by anything. Returns how many bytes there were. Throws if they are no deflate. */
export function inflateRaw(bytes: Uint8Array, out: Uint8Array): number {
  let filled = 0;
  const stream = new Inflate({ raw: true, chunkSize: Math.min(out.length, 64 * 1024) });
  stream.onData = (chunk) => {
    const piece = (chunk as Uint8Array).subarray(0, out.length - filled);
    out.set(piece, filled);
    filled += piece.length;
    if (filled === out.length) throw FULL;
  };
  try {
    stream.push(bytes, true);
  } catch (error) {
    if (error !== FULL) throw error;
  }
  return filled;
}

/**
 * The bytes of a zlib stream (RFC 1950), which may be followed by anything: `least` (default: `length`) to `length` of them. Throws if it is damaged, or
 * yields more or fewer.
 */
export function inflateZlib(bytes: Uint8Array, length: number, least = length): Uint8Array {
  const [method = 0, flags = 0] = bytes;
  const plain = bytes.length > 6 && method % 16 === 8 && (method * 256 + flags) % 31 === 0 && (flags & 0x20) === 0;
  const fast = plain ? inflateFast(bytes.subarray(2, -4), length) : undefined;
  if (fast && adler32(fast) === view(bytes).getUint32(bytes.length - 4)) return fast;
  let out: Uint8Array | undefined;
  // Room for one byte more shows at once that there are too many.
  const stream = new Inflate({ chunkSize: length + 1 });
  stream.onData = (chunk) => {
    if (out || chunk.length > length) throw FULL;
    out = chunk as Uint8Array;
  };
  stream.push(bytes, true);
  if (stream.err !== 0) throw new Error(stream.msg || `inflate failed with ${stream.err}`);
  if (!out || !stream.ended || out.length < least) throw new Error(`the compressed bytes yield ${out?.length ?? 0} of ${length} bytes`);
  return out;
}

/** The checksum of a zlib stream. So many bytes can be added before the sums must be reduced. */
const STEP = 5552;

function adler32(bytes: Uint8Array): number {
  let low = 1;
  let high = 0;
  for (let at = 0; at < bytes.length; ) {
    for (const end = Math.min(at + STEP, bytes.length); at < end; at++) {
      low += bytes[at] as number;
      high += low;
    }
    low %= 65521;
    high %= 65521;
  }
  return high * 65536 + low;
}
