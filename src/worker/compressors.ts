/**
 * Compressing in further workers of the same script: whoever starts the engine's worker need not know of them. A worker started under
 * this name serves as one instead of an engine. They end with the job that they were started for.
 */
import type { Compressor } from '../compression/compressor.ts';
import { type CompressionWorker, serveCompression, workerPool } from '../compression/worker-pool.ts';

const NAME = 'tabdisk compressor';
/** More processors than that are seldom free. */
const MOST = 8;

interface Scope {
  readonly name?: string;
  postMessage(message: unknown, transfer: Transferable[]): void;
  onmessage: ((event: MessageEvent) => void) | null;
}

/** If this worker was started to compress, it does from now on, and true is returned. */
export function servedAsCompressor(scope: Scope): boolean {
  if (scope.name !== NAME) return false;
  serveCompression({
    postMessage: (message, transfer) => scope.postMessage(message, transfer),
    listen: (onMessage) => {
      scope.onmessage = ({ data }) => onMessage(data);
    },
  });
  return true;
}

/** Starts workers that compress, as many as there are processors; nothing where a worker cannot start others. */
export function startCompressors(): Compressor | undefined {
  if (typeof Worker === 'undefined') return undefined;
  return workerPool(startOne, Math.min(MOST, Math.max(1, navigator.hardwareConcurrency)));
}

function startOne(): CompressionWorker {
  const worker = new Worker(globalThis.location.href, { type: 'module', name: NAME });
  return {
    postMessage: (message) => worker.postMessage(message),
    listen(onMessage, onFailure) {
      worker.onmessage = ({ data }) => onMessage(data);
      worker.onerror = ({ message }) => onFailure(new Error(message || 'it did not start'));
    },
    terminate: () => worker.terminate(),
  };
}
