/**
 * Compressed clusters: raw deflate (pako) or zstd frames (zstd.ts; read in zstd-frames.ts). The bytes on disk may be followed by anything, because a
 * descriptor counts in sectors, so decoding stops when the cluster is full; output never exceeds one cluster, whatever the bytes
 * claim.
 */
import { deflateRaw, Inflate } from 'pako';
import { inflateFast } from '../../base/compression.ts';
import { corrupt } from '../../base/errors.ts';
import { type Io, wait } from '../../base/io.ts';
import { FORMAT } from './layout.ts';

let zstd: typeof import('./zstd.ts') & typeof import('./zstd-frames.ts');

/** To be called before clusters are encoded or decoded whose compression type is 1. */
export function* loadZstd(): Io<void> {
  zstd ??= { ...(yield* wait(import('./zstd.ts'))), ...(yield* wait(import('./zstd-frames.ts'))) };
}

/** Decodes one cluster. `compressionType` is the header's: 0 deflate, 1 zstd. Throws `corrupt` if it does not yield a whole cluster. */
export function decodeCluster(bytes: Uint8Array, options: { clusterSize: number; compressionType: number; hostOffset: number }): Uint8Array {
  const fast = options.compressionType === 0 ? inflateFast(bytes, options.clusterSize) : undefined;
  if (fast) return fast;
  const out = new Uint8Array(options.clusterSize);
  const place = { field: 'compressed cluster', offset: options.hostOffset };
  let filled: number;
  try {
    filled = options.compressionType === 1 ? zstd.decodeZstd(bytes, out) : inflate(bytes, out);
  } catch (cause) {
    throw corrupt(FORMAT, 'a compressed cluster cannot be decoded', { ...place, cause });
  }
  if (filled < out.length) throw corrupt(FORMAT, `a compressed cluster decodes to ${filled} of ${out.length} bytes`, place);
  return out;
}

/**
 * A whole cluster, compressed as the header's `compressionType` says, which may be longer. Distances of deflate stay below 4096: readers need
 * no more memory than that.
 */
export function encodeCluster(bytes: Uint8Array, compressionType: number): Uint8Array {
  return compressionType === 1 ? zstd.encodeZstd(bytes) : deflateRaw(bytes, { windowBits: 12, memLevel: 9 });
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
