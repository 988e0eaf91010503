/**
 * Compressed clusters: raw deflate (pako) or zstd frames (both in src/compression). The bytes on disk may be followed by anything, because a
 * descriptor counts in sectors, so decoding stops when the cluster is full; output never exceeds one cluster, whatever the bytes
 * claim.
 */
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { lazily } from '../../base/load-part.ts';
import { type Compression, inflateFast } from '../../compression/compressor.ts';
import { encoder } from '../../compression/encode.ts';
import { inflateRaw } from '../../compression/inflate.ts';
import { FORMAT } from './layout.ts';

const zstdFrames = lazily(() => import('../../compression/zstd-frames.ts'));
let decodeZstd: ((bytes: Uint8Array, out: Uint8Array) => number) | undefined;
const encoders = new Map<Compression, (bytes: Uint8Array) => Uint8Array>();

/** How clusters of this type (the header's) are compressed. */
export const compressionOf = (compressionType: number): Compression => (compressionType === 1 ? 'zstd' : 'deflate');

/** To be called before clusters are encoded or decoded. */
export function* loadCompression(compressionType: number): Io<void> {
  const how = compressionOf(compressionType);
  if (!encoders.has(how)) encoders.set(how, yield* encoder(how));
  if (how === 'zstd') decodeZstd ??= (yield* zstdFrames()).decodeZstd;
}

/** Decodes one cluster. `compressionType` is the header's: 0 deflate, 1 zstd. Throws `corrupt` if it does not yield a whole cluster. */
export function decodeCluster(bytes: Uint8Array, options: { clusterSize: number; compressionType: number; hostOffset: number }): Uint8Array {
  const fast = options.compressionType === 0 ? inflateFast(bytes, options.clusterSize) : undefined;
  if (fast) return fast;
  const out = new Uint8Array(options.clusterSize);
  const place = { field: 'compressed cluster', offset: options.hostOffset };
  let filled: number;
  try {
    filled = (options.compressionType === 1 && decodeZstd ? decodeZstd : inflateRaw)(bytes, out);
  } catch (cause) {
    throw corrupt(FORMAT, 'a compressed cluster cannot be decoded', { ...place, cause });
  }
  if (filled < out.length) throw corrupt(FORMAT, `a compressed cluster decodes to ${filled} of ${out.length} bytes`, place);
  return out;
}

/** A whole cluster, compressed as the header's `compressionType` says. The result may be longer. */
export function encodeCluster(bytes: Uint8Array, compressionType: number): Uint8Array {
  const encode = encoders.get(compressionOf(compressionType));
  if (!encode) throw new Error('tabdisk: loadCompression has not been called');
  return encode(bytes);
}
