/**
 * Where the next unit of an image goes whose units lie one behind the other: into a hole that was left, else at the end. What is handed out is nobody's until a
 * durable table points at it, so a cut leaves a hole at worst, and never a unit with two owners.
 */
import type { Io } from '../base/io.ts';
import { Mutex } from '../base/locks.ts';
import type { Storage } from '../storage/storage.ts';

/** A unit that was taken. */
export interface TakenUnit {
  readonly index: number;
  /** It lies past the end of a file that may have gaps and was never handed out before: what is not written there reads as zero. */
  readonly untouched: boolean;
}

/** The units of an image that is opened. Unit `index` lies at `base + index * unit`. */
export interface Units {
  readonly base: number;
  readonly unit: number;
  /** Those that tables point at. */
  readonly used: ReadonlySet<number>;
  /** Bytes from `base` on that may not be zero. Default: all units in use. */
  readonly left?: number;
  /** The file may have gaps, which cost no other reader of the format anything. Default: where the storage is sparse. */
  readonly gaps?: boolean;
}

/** See the top of this file. */
export class FileEnd {
  readonly #storage: Storage;
  readonly #unit: number;
  #base: number;
  readonly #gaps: boolean;
  #holes: number[];
  #next: number;
  /** Units below were handed out at some time. */
  #handedOut: number;
  readonly #growth = new Mutex();
  #growing = false;

  /** See `Units`. */
  constructor(storage: Storage, { base, unit, used, left = 0, gaps = storage.sparse === true }: Units) {
    this.#gaps = gaps;
    this.#storage = storage;
    this.#base = base;
    this.#unit = unit;
    this.#next = used.size === 0 ? 0 : [...used].reduce((a, b) => Math.max(a, b)) + 1;
    this.#handedOut = Math.max(this.#next, Math.ceil(left / unit));
    this.#holes = [];
    for (let index = this.#next - 1; index >= 0; index--) if (!used.has(index)) this.#holes.push(index);
  }

  /** One more than the highest unit that is in use. */
  get count(): number {
    return this.#next;
  }

  /** Bytes of the file that has all units. */
  get size(): number {
    return this.#base + this.#next * this.#unit;
  }

  /** Bytes of the file up to the end of the last unit that may have been written to at any time, in use or not. */
  get reach(): number {
    return this.#base + this.#handedOut * this.#unit;
  }

  /** Host offset of a unit. */
  offset(index: number): number {
    return this.#base + index * this.#unit;
  }

  /** The unit that lies at a host offset; undefined if none begins there. */
  unitAt(hostOffset: number): number | undefined {
    const index = (hostOffset - this.#base) / this.#unit;
    return Number.isInteger(index) && index >= 0 ? index : undefined;
  }

  /**
   * Makes the file as long as its units. No unit is handed out until that is done: a truncation that waits would cut off the bytes that a write puts
   * behind the size it was asked for.
   */
  *grow(): Io<void> {
    if (this.#storage.size >= this.size) return;
    this.#growing = true;
    try {
      yield* this.#growth.run(() => this.#storage.truncate(this.size));
    } finally {
      this.#growing = false;
    }
  }

  /** Waits until `take` hands out units. */
  *ready(): Io<void> {
    if (this.#growing) yield* this.#growth.run(function* () {});
  }

  /** Takes a unit; the lowest hole first. Undefined while the file grows: `ready`, then ask again. */
  take(): TakenUnit | undefined {
    if (this.#growing) return undefined;
    const hole = this.#holes.pop();
    if (hole !== undefined) return { index: hole, untouched: false };
    const index = this.#next++;
    const untouched = this.#gaps && index >= this.#handedOut && this.offset(index) >= this.#storage.size;
    this.#handedOut = Math.max(this.#handedOut, this.#next);
    return { index, untouched };
  }

  /** The lowest hole, if there is one. */
  get lowestHole(): number | undefined {
    return this.#holes.at(-1);
  }

  /** Takes units in a row at the end, beginning at `size`, for good. Not to be called while the file grows. */
  takeRun(count: number): void {
    this.#next += count;
    this.#handedOut = Math.max(this.#handedOut, this.#next);
  }

  /** Gives a unit back that nothing points at. `unused`: nothing was written to it either. */
  giveBack({ index, untouched }: TakenUnit, unused = false): void {
    if (unused && untouched && index === this.#next - 1) this.#handedOut = index;
    this.release([index]);
  }

  /** Units that no durable table points at any more are handed out again; those that lie before `base` have negative numbers. */
  release(units: readonly number[]): void {
    const holes = this.#holes;
    for (const index of units) holes.push(index);
    holes.sort((a, b) => b - a);
    let gone = 0;
    for (; holes[gone] === this.#next - 1 && this.#next > 0; gone++) this.#next--;
    holes.splice(0, gone);
  }

  /** The first units are none any more: their bytes are the driver's. */
  dropFirst(count: number): void {
    this.#base += count * this.#unit;
    this.#next = Math.max(0, this.#next - count);
    this.#handedOut = Math.max(0, this.#handedOut - count);
    this.#holes = this.#holes.filter((index) => index >= count).map((index) => index - count);
  }
}
