/**
 * The steps of a job that goes over a disk in order, made ahead of the one that is being dealt with: reading goes on while the target is
 * written. Each step begins where the one before it ends, so a step waits until that is known, and for nothing else of it.
 */
import { begin, type Io, type Task } from '../base/io.ts';

/** What a step tells: where the next one begins, and what still goes on for it. */
export interface AheadStep {
  /** Bytes from the start of the disk. */
  readonly end: number;
  /** Has to end before anything that the step reads from is closed. */
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

  /** `make` makes the step at an offset below `size`, the first at `start` (0). With a `depth` of 0 each is made when it is asked for. */
  constructor(make: (offset: number) => Io<T>, { start = 0, size, depth }: { start?: number; size: number; depth: number }) {
    this.#make = make;
    this.#start = start;
    this.#size = size;
    this.#depth = depth;
  }

  /** The next step; nothing behind the last. What making it throws is thrown when its turn has come. */
  *next(): Io<T | undefined> {
    while (this.#begun.length <= this.#depth) {
      this.#last = begin(this.#after(this.#last));
      this.#begun.push(this.#last);
    }
    const first = this.#begun.shift();
    return first && (yield* first.join());
  }

  /** Waits until nothing goes on any more. To be called once, also after a failure. */
  *settle(): Io<void> {
    for (const task of this.#begun.splice(0)) {
      try {
        const step = yield* task.join();
        if (step?.underWay) yield* step.underWay.join();
      } catch {
        // Nobody will ask for this step.
      }
    }
  }

  *#after(before: Task<T | undefined> | undefined): Io<T | undefined> {
    if (!before) return this.#start < this.#size ? yield* this.#make(this.#start) : undefined;
    const step = yield* before.join();
    return step && step.end < this.#size ? yield* this.#make(step.end) : undefined;
  }
}
