/**
 * Compressed clusters: raw deflate (pako) or zstd frames (fzstd, which only reads). The bytes on disk may be followed by anything, because a
 * descriptor counts in sectors, so decoding stops when the cluster is full; output never exceeds one cluster, whatever the bytes
 * claim.
 */
import { decompress } from 'fzstd';
import { deflateRaw, Inflate } from 'pako';
import { view } from '../../base/bytes.ts';
import { corrupt } from '../../base/errors.ts';
import { FORMAT } from './layout.ts';

/** Decodes one cluster. `compressionType` is the header's: 0 deflate, 1 zstd. Throws `corrupt` if it does not yield a whole cluster. */
export function decodeCluster(bytes: Uint8Array, options: { clusterSize: number; compressionType: number; hostOffset: number }): Uint8Array {
  const out = new Uint8Array(options.clusterSize);
  const place = { field: 'compressed cluster', offset: options.hostOffset };
  let filled: number;
  try {
    filled = options.compressionType === 1 ? unzstd(bytes, out) : inflate(bytes, out);
  } catch (cause) {
    throw corrupt(FORMAT, 'a compressed cluster cannot be decoded', { ...place, cause });
  }
  if (filled < out.length) throw corrupt(FORMAT, `a compressed cluster decodes to ${filled} of ${out.length} bytes`, place);
  return out;
}

/** Raw deflate of a whole cluster, or `undefined` if that is no shorter. Distances stay below 4096: readers need no more memory than that. */
export function encodeCluster(bytes: Uint8Array): Uint8Array | undefined {
  const encoded = deflateRaw(bytes, { windowBits: 12, memLevel: 9 });
  return encoded.length < bytes.length ? encoded : undefined;
}

/** Thrown out of pako's callback to stop it: it has no other brake. */
const CLUSTER_FULL = new Error('cluster full');

function inflate(bytes: Uint8Array, out: Uint8Array): number {
  let filled = 0;
  const stream = new Inflate({ raw: true, chunkSize: Math.min(out.length, 64 * 1024) });
  stream.onData = (chunk) => {
    const piece = (chunk as Uint8Array).subarray(0, out.length - filled);
    out.set(piece, filled);
    filled += piece.length;
    if (filled === out.length) throw CLUSTER_FULL;
  };
  try {
    stream.push(bytes, true);
  } catch (error) {
    if (error !== CLUSTER_FULL) throw error;
  }
  return filled;
}

/** Decodes frame after frame until the cluster is full. */
function unzstd(bytes: Uint8Array, out: Uint8Array): number {
  let filled = 0;
  for (let at = 0; filled < out.length && at < bytes.length; ) {
    const frame = frameAt(bytes, at);
    if (frame.content !== undefined && frame.content > out.length - filled) throw new Error('the frame holds more than the cluster');
    decompress(bytes.subarray(at, at + frame.length), out.subarray(filled));
    // A frame that does not say its size is taken to fill the cluster: QEMU's encoder always says it where there are several.
    filled += frame.content ?? out.length - filled;
    at += frame.length;
  }
  return filled;
}

/** Length of the zstd frame at `at`, found by walking its blocks, and its content size if the header has one (RFC 8878 §3.1.1). */
function frameAt(bytes: Uint8Array, at: number): { length: number; content: number | undefined } {
  const data = view(bytes);
  if (data.getUint32(at, true) !== 0xfd2fb528) throw new Error('not a zstd frame');
  const flags = data.getUint8(at + 4);
  const single = (flags >> 5) & 1;
  const dictionaryBytes = [0, 1, 2, 4][flags & 3] as number;
  const sizeFlag = flags >> 6;
  const sizeBytes = sizeFlag === 0 ? single : 1 << sizeFlag;
  const sizeAt = at + 6 - single + dictionaryBytes;
  let end = sizeAt + sizeBytes;
  for (let last = false; !last; ) {
    const block = data.getUint8(end) | (data.getUint8(end + 1) << 8) | (data.getUint8(end + 2) << 16);
    last = (block & 1) === 1;
    // A run-length block stores one byte, whatever its size.
    end += 3 + (((block >> 1) & 3) === 1 ? 1 : block >> 3);
  }
  end += ((flags >> 2) & 1) * 4;
  if (end > bytes.length) throw new Error('the zstd frame is cut off');
  return { length: end - at, content: contentSize(data, sizeAt, sizeBytes) };
}

function contentSize(data: DataView, at: number, bytes: number): number | undefined {
  switch (bytes) {
    case 1:
      return data.getUint8(at);
    case 2:
      return data.getUint16(at, true) + 256;
    case 4:
      return data.getUint32(at, true);
    case 8:
      return data.getUint32(at + 4, true) === 0 ? data.getUint32(at, true) : Number.MAX_SAFE_INTEGER;
    default:
      return undefined;
  }
}
