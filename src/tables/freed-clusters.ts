/**
 * Clusters that lost a reference, until the removal of the pointer is durable. A flush takes the clusters that were there when it began (`seal`): clusters
 * freed while it waits are still pointed at in the file, by tables that only the next flush writes.
 */

/** The first cluster of a run, and how many. */
type Run = [first: number, count: number];

export class FreedClusters {
  #waiting: Run[] = [];
  /** The clusters of the present flush, or of one that failed. */
  readonly #due: Run[] = [];

  /** One reference to each cluster of a run is gone. */
  add(first: number, count: number): void {
    const last = this.#waiting.at(-1);
    if (last && last[0] + last[1] === first) last[1] += count;
    else this.#waiting.push([first, count]);
  }

  /** See `Sealed`. */
  seal(): void {
    this.#due.push(...this.#waiting);
    this.#waiting = [];
  }

  /** Nothing: clusters of a flush that failed stay due. */
  unseal(): void {}

  /** The next run whose counts may be lowered once the removals are durable; the caller then calls `done`. */
  get due(): Readonly<Run> | undefined {
    return this.#due[0];
  }

  done(): void {
    this.#due.shift();
  }
}
