/**
 * Compression as Node does it: its zlib, on Node's own threads, which are there anyway and do nothing between two jobs. What it makes of a
 * cluster is not what QEMU's zlib makes of it byte for byte, but is read by every inflate that keeps 4 KiB in mind.
 */
import { availableParallelism } from 'node:os';
import { constants, deflateRaw, inflateRawSync } from 'node:zlib';
import { type Compression, type Compressor, DiskError, type Inflate } from '../index.ts';

/** Threads that Node has for this; more would wait for each other. */
const MOST_THREADS = 4;

/** Node's threads as a job's compressor; nothing for what Node cannot compress. */
export function nodeCompressor(how: Compression): Compressor | undefined {
  if (how !== 'deflate') return undefined;
  return {
    width: Math.min(MOST_THREADS, availableParallelism()),
    compress: (bytes) =>
      new Promise((resolve, reject) => {
        deflateRaw(bytes, { windowBits: 12, memLevel: 9, chunkSize: bytes.length }, (error, encoded) => {
          if (error) reject(new DiskError('io', `A cluster could not be compressed: ${error.message}`, { cause: error }));
          else resolve(encoded);
        });
      }),
    // The threads are Node's, and what they were given comes to an end by itself.
    close: () => undefined,
  };
}

/** Node's inflate. */
export const nodeInflate: Inflate = (bytes, length) => {
  try {
    const out = inflateRawSync(bytes, { chunkSize: Math.max(64, length), maxOutputLength: length, finishFlush: constants.Z_SYNC_FLUSH });
    return out.length === length ? out : undefined;
  } catch {
    // Looked at again more closely, by what tells why.
    return undefined;
  }
};
