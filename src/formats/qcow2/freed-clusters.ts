/**
 * Clusters that lost a reference, until the pointer's removal is durable. A flush takes those that were there when it began (`seal`): what is freed while
 * it waits is pointed at by tables that only the next flush writes.
 */

/** The first cluster of a run, and how many. */
type Run = [first: number, count: number];

export class FreedClusters {
  #waiting: Run[] = [];
  /** Of the flush that goes on, or that failed. */
  readonly #due: Run[] = [];

  /** One reference to each cluster of a run is gone. */
  add(first: number, count: number): void {
    const last = this.#waiting.at(-1);
    if (last && last[0] + last[1] === first) last[1] += count;
    else this.#waiting.push([first, count]);
  }

  seal(): void {
    this.#due.push(...this.#waiting);
    this.#waiting = [];
  }

  /** The next run whose counts may be lowered once the removals are durable; `done` then. */
  get due(): Readonly<Run> | undefined {
    return this.#due[0];
  }

  done(): void {
    this.#due.shift();
  }
}
