/**
 * What every job shares: progress, cancelling, and giving the thread back. A job over synchronous storage never waits by itself, so
 * `pace` lets other work of the thread in from time to time; without it no message could arrive that fires the signal.
 * `pace` is called between steps, where stopping leaves nothing half done.
 */
import { DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';

/** Options of everything that takes long. */
export interface JobOptions {
  /** Bytes done and in all (for `check`: clusters). Called at most some ten times a second, and once at the end. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Stops the job between two steps; it then throws kind `aborted`. What was written by then stays written. */
  readonly signal?: AbortSignal;
}

/** Milliseconds of work before the thread is given back. */
const SLICE = 40;
/** Milliseconds between two progress calls. */
const PROGRESS_INTERVAL = 100;

/** The pace of one running job. */
export class Pace {
  readonly #options: JobOptions;
  readonly #total: number;
  #sliceStart = performance.now();
  #reportedAt = Number.NEGATIVE_INFINITY;

  constructor(options: JobOptions, total: number) {
    this.#options = options;
    this.#total = total;
  }

  /** Between two steps: reports progress, gives the thread back if it is time, and throws `aborted` if the job was cancelled. */
  *step(done: number): Io<void> {
    const now = performance.now();
    if (now - this.#reportedAt >= PROGRESS_INTERVAL && done < this.#total) this.#report(done, now);
    if (now - this.#sliceStart >= SLICE) {
      yield* wait(nextTask());
      this.#sliceStart = performance.now();
    }
    throwIfAborted(this.#options.signal);
  }

  /** The last report: everything is done. */
  finish(): void {
    this.#report(this.#total, performance.now());
  }

  #report(done: number, now: number): void {
    this.#reportedAt = now;
    this.#options.onProgress?.(done, this.#total);
  }
}

/** Throws kind `aborted` once the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new DiskError('aborted', 'The job was cancelled', { cause: signal.reason });
}

function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 0);
  });
}
