/**
 * A set of byte ranges, kept sorted, disjoint and merged where they touch: which bytes of a block are valid or not saved yet, which
 * bytes of a batch a later write covers. Made for few ranges; adding at the end is quick.
 */

/** Bytes `start` to `end` (exclusive). */
export interface ByteRange {
  /** The first byte. */
  readonly start: number;
  /** The byte behind the last. */
  readonly end: number;
}

/** Byte ranges that belong together; see the top of this file. */
export class RangeSet {
  #ranges: ByteRange[] = [];

  get empty(): boolean {
    return this.#ranges.length === 0;
  }

  /** Bytes in the set. */
  get length(): number {
    let total = 0;
    for (const { start, end } of this.#ranges) total += end - start;
    return total;
  }

  /** Adds a range; returns how many of its bytes are new. */
  add(start: number, end: number): number {
    if (start >= end) return 0;
    const last = this.#ranges.at(-1);
    // Mostly appended to, or repeated: no need to rebuild the list.
    if (!last || start > last.end) {
      this.#ranges.push({ start, end });
      return end - start;
    }
    if (this.covers(start, end)) return 0;
    const before = this.length;
    let from = start;
    let to = end;
    const merged: ByteRange[] = [];
    for (const range of this.#ranges) {
      if (range.end < from || range.start > to) merged.push(range);
      else {
        from = Math.min(from, range.start);
        to = Math.max(to, range.end);
      }
    }
    merged.push({ start: from, end: to });
    this.#ranges = merged.sort((a, b) => a.start - b.start);
    return this.length - before;
  }

  /** True if every byte of the range is in the set. */
  covers(start: number, end: number): boolean {
    return start >= end || this.#ranges.some((range) => range.start <= start && range.end >= end);
  }

  /** The parts of a range that are not in the set, in order. */
  gaps(start: number, end: number): ByteRange[] {
    const gaps: ByteRange[] = [];
    let at = start;
    for (const range of this.#ranges) {
      if (range.end <= at) continue;
      if (range.start >= end) break;
      if (range.start > at) gaps.push({ start: at, end: range.start });
      at = range.end;
    }
    if (at < end) gaps.push({ start: at, end });
    return gaps;
  }

  clear(): void {
    this.#ranges = [];
  }

  [Symbol.iterator](): IterableIterator<ByteRange> {
    return this.#ranges[Symbol.iterator]();
  }
}
