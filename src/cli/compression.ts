/**
 * Compression by Node's zlib, on Node's own threads, which exist anyway and have nothing to do between two jobs. Its result for a
 * cluster is not the same, byte for byte, as that of QEMU's zlib, but every inflate with a window of 4 KiB reads it. Zstd is ours, in threads of
 * the command's script that end with the job.
 */
import { availableParallelism } from 'node:os';
import { type MessagePort, parentPort, Worker } from 'node:worker_threads';
import { constants, deflateRaw, inflateRawSync } from 'node:zlib';
import { type Compression, type CompressionWorker, type Compressor, DiskError, serveCompression, workerPool } from '../index.ts';
import type { Inflate } from '../qemu.ts';

/** Threads that Node has for this; more would wait for each other. */
const MOST_THREADS = 4;

/** Threads as a job's compressor. `script` compresses, in threads, the kinds that Node cannot; without it the result is undefined for those. */
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
    // The threads are Node's, and their work comes to an end by itself.
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

/** The work of the script in a thread: it compresses. */
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
    // The caller decodes again with a slower decoder, which reports the reason.
    return undefined;
  }
};
