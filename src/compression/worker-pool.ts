/**
 * Compressing in workers: a `Compressor` over as many of them as it is told, and the code that answers in each. The caller's function
 * starts the workers (Web Workers, Node's worker threads); they end with the pool. Results depend on nothing but the bytes, so neither the number nor
 * the speed of workers shows in an image; and this thread does the work of a worker that did not start, failed or is silent.
 */
import { COUNT, check, FUNCTION, objectWith, optionsOf } from '../base/arguments.ts';
import { asDiskError, DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import type { Compression, Compressor } from './compressor.ts';
import { encoder } from './encode.ts';

/** The functions of a worker that a pool needs. */
export interface CompressionWorker {
  /** Sends a message to the worker, copied. */
  postMessage(message: unknown): void;
  /** Calls back with each message, and once if the worker fails. */
  listen(onMessage: (data: unknown) => void, onFailure: (error: Error) => void): void;
  /** Ends the worker at once. */
  terminate(): void;
}

/** The other end: the worker's own scope, or its port. */
export interface CompressionPort {
  /** Sends a message to the pool's side. */
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  /** Calls back with each message from there. */
  listen(onMessage: (data: unknown) => void): void;
}

interface Question {
  readonly id: number;
  readonly how: Compression;
  readonly bytes: Uint8Array;
}
type Answer = { readonly id: number; readonly encoded: Uint8Array } | { readonly id: number; readonly error: string };

/** Answers questions that arrive at `port`, for as long as the worker lives. */
export function serveCompression(port: CompressionPort): void {
  check('serveCompression', 'port', port, objectWith('a port, { postMessage, listen }', ['postMessage', 'listen']));
  port.listen((data) => void answer(port, data as Question));
}

async function answer(port: CompressionPort, { id, how, bytes }: Question): Promise<void> {
  try {
    const found = (await runAsync(encoder(how)))(bytes);
    // Encoders may return a part of a larger array.
    const encoded = found.slice();
    port.postMessage({ id, encoded } satisfies Answer, [encoded.buffer]);
  } catch (error) {
    port.postMessage({ id, error: String(error) } satisfies Answer, []);
  }
}

/** Milliseconds after which a worker that answers nothing is given up; default 10,000. Its clusters are compressed all the same. */
export interface PoolOptions {
  /** Milliseconds. */
  readonly patience?: number;
}

const OPTIONS = optionsOf<PoolOptions>({ patience: COUNT });
const PATIENCE = 10_000;
/** Milliseconds of compressing in this thread before it is given back. */
const SLICE = 40;

interface Waiting {
  readonly bytes: Uint8Array;
  readonly how: Compression;
  readonly resolve: (encoded: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
}

/** A worker, and the clusters that it has. */
interface Member {
  readonly worker: CompressionWorker;
  readonly asked: Set<number>;
  /** When the worker last answered, or got a cluster while it had none. */
  since: number;
}

class WorkerPool implements Compressor {
  readonly width: number;
  readonly #patience: number;
  readonly #members: Member[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #closed = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The clusters that this thread compresses itself, one after the other. */
  #here: Promise<void> = Promise.resolve();
  #sliceStart = 0;

  constructor(start: () => CompressionWorker, width: number, patience: number) {
    this.width = width;
    this.#patience = patience;
    try {
      while (this.#members.length < width) this.#add(start());
    } catch {
      // The workers that did start have more to do.
    }
  }

  compress(bytes: Uint8Array, how: Compression): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#waiting.set(id, { bytes, how, resolve, reject });
      if (this.#closed) return this.close();
      // In turn: clusters are alike, and each worker always has its next one.
      const member = this.#members[id % this.#members.length];
      if (member) this.#ask(member, id, bytes, how);
      else this.#compressHere(id);
    });
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const { worker } of this.#members.splice(0)) worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(new DiskError('aborted', 'The threads that compress have been ended'));
    this.#waiting.clear();
  }

  #add(worker: CompressionWorker): void {
    const member: Member = { worker, asked: new Set(), since: 0 };
    this.#members.push(member);
    worker.listen(
      (data) => this.#hear(member, data),
      () => this.#drop(member),
    );
  }

  #ask(member: Member, id: number, bytes: Uint8Array, how: Compression): void {
    if (member.asked.size === 0) member.since = performance.now();
    member.asked.add(id);
    this.#timer ??= setTimeout(() => this.#look(), this.#patience / 4);
    try {
      member.worker.postMessage({ id, how, bytes } satisfies Question);
    } catch {
      this.#drop(member);
    }
  }

  /** A message may be anything: the worker may run a wrong script. */
  #hear(member: Member, data: unknown): void {
    if (typeof data !== 'object' || data === null || !('id' in data) || typeof data.id !== 'number' || !member.asked.delete(data.id)) return;
    member.since = performance.now();
    if ('encoded' in data && data.encoded instanceof Uint8Array) this.#take(data.id)?.resolve(data.encoded);
    else this.#compressHere(data.id);
  }

  /** Gives up workers that have had a cluster for too long. */
  #look(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const member of [...this.#members]) if (member.asked.size > 0 && now - member.since > this.#patience) this.#drop(member);
    if (this.#members.some(({ asked }) => asked.size > 0)) this.#timer = setTimeout(() => this.#look(), this.#patience / 4);
  }

  /** Clusters that a worker leaves undone are compressed here: the result is the same, even if the worker should finish them too. */
  #drop(member: Member): void {
    const at = this.#members.indexOf(member);
    if (at < 0) return;
    this.#members.splice(at, 1);
    member.worker.terminate();
    for (const id of member.asked) this.#compressHere(id);
  }

  #compressHere(id: number): void {
    this.#here = this.#here.then(async () => {
      if (performance.now() - this.#sliceStart > SLICE) {
        await new Promise((resolve) => setTimeout(resolve));
        this.#sliceStart = performance.now();
      }
      const waiting = this.#take(id);
      if (!waiting) return;
      const { bytes, how, resolve, reject } = waiting;
      try {
        resolve((await runAsync(encoder(how)))(bytes).slice());
      } catch (error) {
        reject(asDiskError(error, 'A cluster could not be compressed'));
      }
    });
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }
}

/**
 * Starts `width` workers that compress. If one does not start, fails, or does not answer, the others and this thread do its work: only `close`
 * makes compressing fail.
 */
export function workerPool(start: () => CompressionWorker, width: number, options: PoolOptions = {}): Compressor {
  check('workerPool', 'start', start, FUNCTION);
  check('workerPool', 'width', width, COUNT);
  if (width === 0) throw new DiskError('refused', 'workerPool: width must be at least 1', { field: 'width' });
  check('workerPool', 'options', options, OPTIONS);
  const { patience = PATIENCE } = options;
  return new WorkerPool(start, width, patience);
}
