/**
 * The steps of a job that reads a disk in order, made ahead of the one in use: reading goes on while the target is
 * written. Each step begins where the one before it ends, so a step waits until that end is known, and for nothing else.
 */
import { begin, type Io, type Task } from '../base/io.ts';

/** The result of a step: where the next one begins, and the task that still goes on for it. */
export interface AheadStep {
  /** Bytes from the start of the disk. */
  readonly end: number;
  /** Must end before anything that the step reads from is closed. */
  readonly underWay?: Task<unknown>;
}

/** Steps on demand, up to `depth` more of them made beforehand. */
export class Ahead<T extends AheadStep> {
  readonly #make: (offset: number) => Io<T>;
  readonly #start: number;
  readonly #size: number;
  readonly #depth: number;
  readonly #begun: Task<T | undefined>[] = [];
  #last: Task<T | undefined> | undefined;

  /** `make` makes the step at an offset below `size`, the first at `start` (0). With a `depth` of 0 each is made when it is needed. */
  constructor(make: (offset: number) => Io<T>, { start = 0, size, depth }: { start?: number; size: number; depth: number }) {
    this.#make = make;
    this.#start = start;
    this.#size = size;
    this.#depth = depth;
  }

  /** The next step; undefined after the last. An error of making it is thrown when its turn has come. */
  *next(): Io<T | undefined> {
    while (this.#begun.length <= this.#depth) {
      this.#last = begin(this.#after(this.#last));
      this.#begun.push(this.#last);
    }
    const first = this.#begun.shift();
    return first && (yield* first.join());
  }

  /** Waits until all tasks have ended. To be called once, also after a failure. */
  *settle(): Io<void> {
    for (const task of this.#begun.splice(0)) {
      try {
        const step = yield* task.join();
        if (step?.underWay) yield* step.underWay.join();
      } catch {
        // This step will not be used.
      }
    }
  }

  *#after(before: Task<T | undefined> | undefined): Io<T | undefined> {
    if (!before) return this.#start < this.#size ? yield* this.#make(this.#start) : undefined;
    const step = yield* before.join();
    return step && step.end < this.#size ? yield* this.#make(step.end) : undefined;
  }
}
