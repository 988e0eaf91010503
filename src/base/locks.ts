/**
 * Locks between coroutines of one thread. Taking a free lock never waits, so synchronous code pays only the bookkeeping;
 * a taken one is waited for in order of arrival. Holders release in a `finally` block.
 */
import { type Io, wait } from './io.ts';

/** One holder at a time, first come first served. */
export class Mutex {
  #held = false;
  readonly #queue: (() => void)[] = [];

  /** True while the lock is taken. */
  get held(): boolean {
    return this.#held;
  }

  *acquire(): Io<void> {
    if (!this.#held) {
      this.#held = true;
      return;
    }
    const turn = new Promise<void>((resolve) => {
      this.#queue.push(resolve);
    });
    try {
      yield* wait(turn);
    } catch (error) {
      // Abandoned by runSync: pass the lock on as soon as it becomes ours.
      void turn.then(() => this.release());
      throw error;
    }
  }

  release(): void {
    const next = this.#queue.shift();
    if (next) next();
    else this.#held = false;
  }

  /** Runs `body` while holding the lock. */
  *run<T>(body: () => Io<T>): Io<T> {
    yield* this.acquire();
    try {
      return yield* body();
    } finally {
      this.release();
    }
  }
}

/** A held byte range. */
export interface HeldRange {
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
}

interface WaitingRange extends HeldRange {
  admit: () => void;
}

/**
 * Byte ranges, shared or exclusive. A request waits for every earlier one, held or waiting, that overlaps it unless both
 * are shared; so no request waits forever, and writes to one range happen in the order they were made.
 */
export class RangeLock {
  readonly #held = new Set<HeldRange>();
  #waiting: WaitingRange[] = [];

  /** Whether `acquire` would not wait. Code that then runs to its end without waiting need not take the range. */
  free(start: number, end: number, exclusive: boolean): boolean {
    return (this.#held.size === 0 && this.#waiting.length === 0) || this.#free({ start, end, exclusive }, this.#waiting.length);
  }

  /** Takes [start, end) for writing (`exclusive`) or reading. Give the result to `release`. */
  *acquire(start: number, end: number, exclusive: boolean): Io<HeldRange> {
    const range: HeldRange = { start, end, exclusive };
    if (this.#free(range, this.#waiting.length)) {
      this.#held.add(range);
      return range;
    }
    const turn = new Promise<HeldRange>((resolve) => {
      const waiting: WaitingRange = {
        start,
        end,
        exclusive,
        admit: () => {
          this.#held.add(waiting);
          resolve(waiting);
        },
      };
      this.#waiting.push(waiting);
    });
    try {
      return yield* wait(turn);
    } catch (error) {
      // Abandoned by runSync: give the range back as soon as it becomes ours.
      void turn.then((held) => this.release(held));
      throw error;
    }
  }

  release(range: HeldRange): void {
    this.#held.delete(range);
    if (this.#waiting.length > 0) this.#admitWaiting();
  }

  /** True if no range conflicts that is held, or that waits before position `before`. */
  #free(range: HeldRange, before: number): boolean {
    for (const held of this.#held) if (conflict(held, range)) return false;
    for (let i = 0; i < before; i++) if (conflict(this.#waiting[i] as WaitingRange, range)) return false;
    return true;
  }

  #admitWaiting(): void {
    const still: WaitingRange[] = [];
    const queue = this.#waiting;
    this.#waiting = still;
    for (const range of queue) {
      if (this.#free(range, still.length)) range.admit();
      else still.push(range);
    }
  }
}

const conflict = (a: HeldRange, b: HeldRange): boolean => (a.exclusive || b.exclusive) && a.start < b.end && b.start < a.end;
