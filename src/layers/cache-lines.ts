/**
 * The memory of a block cache: lines of 32 KiB with a bit for each page of 4 KiB, which is there or not, and changed or not. A bounded
 * number of lines; those with changes stay, of the others the one goes that nobody came back to (SIEVE: a hand goes from the oldest
 * line to the newest, spares those that were asked for again since it last came by, and takes the first that was not). So one pass
 * over a large file does not drive out what is used again and again. Never waits.
 */

/** Bytes that are loaded and changed as one. */
export const PAGE = 4096;
/** Bytes of a line. */
export const LINE = 32 * 1024;

/** The bits of pages [first, last] of a line. */
export const pageBits = (first: number, last: number): number => ((2 << (last - first)) - 1) << first;

export class Line {
  index = 0;
  readonly bytes = new Uint8Array(LINE);
  /** Bits of the pages whose bytes are here. */
  valid = 0;
  /** Bits of the pages that the storage below does not have yet. */
  dirty = 0;
  /** Bits of dirty pages that are being written, and were not changed since. */
  saving = 0;
  /** Asked for again since the hand came by. */
  visited = false;
  newer: Line | undefined;
  older: Line | undefined;
}

export class CacheLines {
  readonly #capacity: number;
  readonly #byIndex = new Map<number, Line>();
  readonly #dirty = new Set<Line>();
  #newest: Line | undefined;
  #oldest: Line | undefined;
  #hand: Line | undefined;
  #last: Line | undefined;

  /** `capacity`: lines. */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Lines with changes. */
  get dirtyLines(): number {
    return this.#dirty.size;
  }

  /** Whether another line can be had. */
  get hasRoom(): boolean {
    return this.#dirty.size < this.#capacity;
  }

  /** The line, if it is here. */
  get(index: number): Line | undefined {
    if (this.#last?.index === index) return this.#last;
    const line = this.#byIndex.get(index);
    if (line) this.#last = line;
    return line;
  }

  /** The line, made if need be; none if every line has changes. */
  take(index: number): Line | undefined {
    const known = this.get(index);
    if (known) return known;
    const line = this.#byIndex.size < this.#capacity ? new Line() : this.#evict();
    if (!line) return undefined;
    line.index = index;
    line.older = this.#newest;
    if (this.#newest) this.#newest.newer = line;
    this.#newest = line;
    this.#oldest ??= line;
    this.#byIndex.set(index, line);
    this.#last = line;
    return line;
  }

  /** Notes that pages of a line have changed. */
  soil(line: Line, pages: number): void {
    line.valid |= pages;
    line.dirty |= pages;
    line.saving &= ~pages;
    this.#dirty.add(line);
  }

  /** Notes that pages of a line are as they are below. */
  clean(line: Line, pages: number): void {
    line.dirty &= ~pages;
    line.saving &= ~pages;
    if (line.dirty === 0) this.#dirty.delete(line);
  }

  /** Forgets pages, changes included. */
  forget(line: Line, pages: number): void {
    line.valid &= ~pages;
    this.clean(line, pages);
  }

  /** Forgets all pages from this offset on, and what follows them. Bytes; a multiple of a page. */
  forgetFrom(offset: number): void {
    for (const line of this.#byIndex.values()) {
      const first = Math.max(0, Math.ceil((offset - line.index * LINE) / PAGE));
      if (first * PAGE < LINE) this.forget(line, pageBits(first, LINE / PAGE - 1));
    }
  }

  /** Lines with changes, in order of their offsets. */
  changed(): Line[] {
    return [...this.#dirty].sort((a, b) => a.index - b.index);
  }

  /** Calls `visit` for each line that is here and each part of the range in it: its first byte and its end within the line. */
  each(offset: number, length: number, visit: (line: Line, start: number, end: number) => void): void {
    const stop = offset + length;
    const last = Math.floor((stop - 1) / LINE);
    const part = (line: Line) => visit(line, Math.max(0, offset - line.index * LINE), Math.min(LINE, stop - line.index * LINE));
    if (last - Math.floor(offset / LINE) > this.#byIndex.size) {
      for (const line of this.#byIndex.values()) if (line.index * LINE < stop && (line.index + 1) * LINE > offset) part(line);
      return;
    }
    for (let index = Math.floor(offset / LINE); index <= last; index++) {
      const line = this.#byIndex.get(index);
      if (line) part(line);
    }
  }

  #evict(): Line | undefined {
    // Twice round: the first round may only take away marks.
    for (let left = 2 * this.#byIndex.size; left > 0; left--) {
      const line = this.#hand ?? this.#oldest;
      if (!line) return undefined;
      this.#hand = line.newer;
      if (line.dirty !== 0) continue;
      if (line.visited) line.visited = false;
      else {
        this.#remove(line);
        return line;
      }
    }
    return undefined;
  }

  #remove(line: Line): void {
    this.#byIndex.delete(line.index);
    if (this.#last === line) this.#last = undefined;
    if (line.newer) line.newer.older = line.older;
    else this.#newest = line.older;
    if (line.older) line.older.newer = line.newer;
    else this.#oldest = line.newer;
    line.newer = undefined;
    line.older = undefined;
    line.valid = 0;
    line.visited = false;
  }
}
