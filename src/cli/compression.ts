/**
 * Compression as Node does it: its zlib, on Node's own threads, which are there anyway and do nothing between two jobs. What it makes of a
 * cluster is not what QEMU's zlib makes of it byte for byte, but is read by every inflate that keeps 4 KiB in mind. Zstd is ours, in threads of
 * the command's script that end with the job.
 */
import { availableParallelism } from 'node:os';
import { type MessagePort, parentPort, Worker } from 'node:worker_threads';
import { constants, deflateRaw, inflateRawSync } from 'node:zlib';
import { type Compression, type CompressionWorker, type Compressor, DiskError, serveCompression, workerPool } from '../index.ts';
import type { Inflate } from '../qemu.ts';

/** Threads that Node has for this; more would wait for each other. */
const MOST_THREADS = 4;

/** Threads as a job's compressor. What Node cannot compress is compressed by `script`, in threads; nothing without it. */
export function nodeCompressor(how: Compression, script: URL | undefined): Compressor | undefined {
  const width = Math.min(MOST_THREADS, availableParallelism());
  if (how !== 'deflate') return script && workerPool(() => startThread(script), width);
  return {
    width,
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

function startThread(script: URL): CompressionWorker {
  const worker = new Worker(script);
  return {
    postMessage: (message) => worker.postMessage(message),
    listen(onMessage, onFailure) {
      worker.on('message', onMessage);
      worker.on('error', onFailure);
    },
    terminate: () => void worker.terminate(),
  };
}

/** What the script does in a thread: it compresses. */
export function serveAsThread(): void {
  const port = parentPort as MessagePort;
  serveCompression({
    postMessage: (message, transfer) => port.postMessage(message, transfer),
    listen: (onMessage) => port.on('message', onMessage),
  });
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
