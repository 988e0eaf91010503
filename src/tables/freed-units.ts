/**
 * Units of a file that the tables in memory do not point at any more. They belong to nobody once the tables in the file do not either: the flush that makes that
 * durable releases them. Units that are freed while it waits are released by the next one.
 */
import type { Sealed } from './write-order.ts';

/** See the top of this file. */
export class FreedUnits implements Sealed {
  readonly #release: (units: readonly number[]) => void;
  #waiting: number[] = [];
  #sealed: number[] = [];

  /** `release`: see `FileEnd.release`. */
  constructor(release: (units: readonly number[]) => void) {
    this.#release = release;
  }

  /** Nothing in memory points at a unit any more. */
  add(unit: number): void {
    this.#waiting.push(unit);
  }

  seal(): void {
    this.#sealed = this.#waiting;
    this.#waiting = [];
  }

  unseal(durable: boolean): void {
    if (!durable) this.#waiting = this.#sealed.concat(this.#waiting);
    else if (this.#sealed.length > 0) this.#release(this.#sealed);
    this.#sealed = [];
  }
}
