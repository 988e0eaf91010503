/**
 * Compressing in further workers of the same script: the code that starts the engine's worker need not know of them. A worker started under
 * this name compresses and is no engine. They end with the job that they were started for.
 */
import type { Compressor } from '../compression/compressor.ts';
import { type CompressionWorker, serveCompression, workerPool } from '../compression/worker-pool.ts';
import type { Port } from './outbox.ts';

const NAME = 'tabdisk compressor';
/** More processors are seldom free. */
const MOST = 8;

/** If this worker was started to compress, makes it compress from now on, and returns true. */
export function servedAsCompressor(scope: Port & { readonly name?: string }): boolean {
  if (scope.name !== NAME) return false;
  serveCompression({
    postMessage: (message, transfer) => scope.postMessage(message, transfer),
    listen: (onMessage) => scope.addEventListener('message', ({ data }) => onMessage(data)),
  });
  return true;
}

/** Starts workers that compress, as many as there are processors. Undefined where a worker cannot start others, and on the page's own thread. */
export function startCompressors(): Compressor | undefined {
  if (typeof Worker === 'undefined' || typeof document !== 'undefined') return undefined;
  return workerPool(startOne, Math.min(MOST, navigator.hardwareConcurrency || 1));
}

/**
 * The type of this worker, which a further worker of the same script must have too: bundlers make either. `importScripts` without arguments does nothing in a
 * classic worker and throws in a module.
 */
function ownType(): WorkerType {
  try {
    (globalThis as { importScripts?: () => void }).importScripts?.();
    return 'classic';
  } catch {
    return 'module';
  }
}

function startOne(): CompressionWorker {
  const worker = new Worker(globalThis.location.href, { type: ownType(), name: NAME });
  return {
    postMessage: (message) => worker.postMessage(message),
    listen(onMessage, onFailure) {
      worker.onmessage = ({ data }) => onMessage(data);
      worker.onerror = (event) => {
        // The pool handles the failure; uncancelled, the event would go on to the page as if the engine had failed.
        event.preventDefault();
        onFailure(new Error(event.message || 'it did not start'));
      };
    },
    terminate: () => worker.terminate(),
  };
}
