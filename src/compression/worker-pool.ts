/**
 * Compressing in workers: a `Compressor` over as many of them as it is told, and what answers in each. Workers are started by whoever
 * knows how (Web Workers, Node's worker threads); they end with the pool, and all of it fails with the first of them that does. Outcomes
 * depend on nothing but the bytes, so neither the number of workers nor who is faster shows in an image.
 */
import { DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import type { Compression, Compressor } from './compressor.ts';
import { encoder } from './encode.ts';

/** What a pool needs of a worker. */
export interface CompressionWorker {
  postMessage(message: unknown): void;
  /** Calls back with each message, and once if the worker fails. */
  listen(onMessage: (data: unknown) => void, onFailure: (error: Error) => void): void;
  terminate(): void;
}

/** The other end: the worker's own scope, or its port. */
export interface CompressionPort {
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  listen(onMessage: (data: unknown) => void): void;
}

interface Question {
  readonly id: number;
  readonly how: Compression;
  readonly bytes: Uint8Array;
}
type Answer = { readonly id: number; readonly encoded: Uint8Array } | { readonly id: number; readonly error: string };

/** Answers questions that come in at `port`, for as long as the worker lives. */
export function serveCompression(port: CompressionPort): void {
  port.listen((data) => void answer(port, data as Question));
}

async function answer(port: CompressionPort, { id, how, bytes }: Question): Promise<void> {
  try {
    const found = (await runAsync(encoder(how)))(bytes);
    // Encoders may give a part of a larger array.
    const encoded = found.slice();
    port.postMessage({ id, encoded } satisfies Answer, [encoded.buffer]);
  } catch (error) {
    port.postMessage({ id, error: String(error) } satisfies Answer, []);
  }
}

interface Waiting {
  readonly resolve: (encoded: Uint8Array) => void;
  readonly reject: (error: DiskError) => void;
}

class WorkerPool implements Compressor {
  readonly width: number;
  readonly #workers: CompressionWorker[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #failure: DiskError | undefined;

  constructor(start: () => CompressionWorker, width: number) {
    this.width = width;
    try {
      while (this.#workers.length < width) this.#workers.push(this.#started(start()));
    } catch (error) {
      this.close();
      throw new DiskError('io', `A thread that compresses could not be started: ${String(error)}`, { cause: error });
    }
  }

  compress(bytes: Uint8Array, how: Compression): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(this.#failure);
      const id = this.#next++;
      this.#waiting.set(id, { resolve, reject });
      // In turn: clusters are alike, and a worker always has the next one at hand.
      this.#workers[id % this.width]?.postMessage({ id, how, bytes } satisfies Question);
    });
  }

  close(): void {
    this.#end(new DiskError('aborted', 'The threads that compress have been ended'));
  }

  #started(worker: CompressionWorker): CompressionWorker {
    worker.listen(
      (data) => this.#settle(data as Answer),
      (error) => this.#end(new DiskError('io', `A thread that compresses has failed: ${error.message}`, { cause: error })),
    );
    return worker;
  }

  #settle(answer: Answer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ('encoded' in answer) waiting?.resolve(answer.encoded);
    else waiting?.reject(new DiskError('io', `A cluster could not be compressed: ${answer.error}`));
  }

  #end(failure: DiskError): void {
    this.#failure ??= failure;
    for (const worker of this.#workers.splice(0)) worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(failure);
    this.#waiting.clear();
  }
}

/** Starts `width` workers that compress. Throws kind `io` if one does not start. */
export function workerPool(start: () => CompressionWorker, width: number): Compressor {
  return new WorkerPool(start, width);
}
