/**
 * The memory of block caches: lines of 32 KiB with two bits for each page of 4 KiB: in memory or not, and changed or not. One
 * `CacheMemory` serves any number of caches with a bounded number of lines; lines with changes stay. Of the others the first is evicted that was
 * not used again (SIEVE: a hand goes from the oldest line to the newest, skips the lines that were used again since its last pass,
 * and takes the first that was not). So one pass over a large file does not evict the lines that are used again and again. Never waits.
 */
import { check, SIZE } from '../base/arguments.ts';
import { MiB } from '../base/units.ts';

/** Bytes that are loaded and changed as one. */
export const PAGE = 4096;
/** Bytes of a line. */
export const LINE = 32 * 1024;
/** Lines get their memory by so many bytes at a time: lines taken one after the other are then neighbours in memory. */
const SLAB = MiB;
/** A cache must be able to hold the largest request that it takes, and others at the same time. */
const LEAST_LINES = 64;

/** The bits of pages [first, last] of a line. */
export const pageBits = (first: number, last: number): number => ((2 << (last - first)) - 1) << first;

/** Neighbouring pages of one storage, kept or forgotten together. */
export class Line {
  readonly bytes: Uint8Array;
  readonly slab: Slab;
  owner: CacheLines | undefined;
  index = 0;
  /** Bits of the pages whose bytes are here. */
  valid = 0;
  /** Bits of the pages that the storage below does not have yet. */
  dirty = 0;
  /** Bits of dirty pages that are being written, and were not changed since. */
  saving = 0;
  /** Used again since the hand last passed. */
  visited = false;
  newer: Line | undefined;
  older: Line | undefined;

  constructor(slab: Slab, at: number) {
    this.slab = slab;
    this.bytes = new Uint8Array(slab.bytes, at, LINE);
  }

  /** Whether the bytes of `other` begin in memory where those of this line end. */
  isBefore(other: Line): boolean {
    return this.slab === other.slab && this.bytes.byteOffset + LINE === other.bytes.byteOffset;
  }
}

/** Memory of neighbouring lines. */
class Slab {
  readonly bytes = new ArrayBuffer(SLAB);
  /** Unused lines; the last of them is taken next. */
  readonly spare: Line[] = [];

  constructor() {
    for (let at = SLAB - LINE; at >= 0; at -= LINE) this.spare.push(new Line(this, at));
  }

  get unused(): boolean {
    return this.spare.length === SLAB / LINE;
  }
}

/** The memory that the block caches of one engine share. */
export class CacheMemory {
  readonly #bytes: number;
  #charged = 0;
  #capacity: number;
  #lines = 0;
  /** Slabs with unused lines; the slab that was added last is used first. */
  readonly #slabs: Slab[] = [];
  #newest: Line | undefined;
  #oldest: Line | undefined;
  #hand: Line | undefined;
  /** Lines with changes. @internal */
  dirty = 0;

  /** `bytes`: the most that lines and charged memory may take together; default 64 MiB. Lines always have at least 2 MiB. */
  constructor(bytes: number = 64 * MiB) {
    check('CacheMemory', 'bytes', bytes, SIZE);
    this.#bytes = bytes;
    this.#capacity = this.#room();
  }

  /** Bytes in use, by lines and by charges. */
  get used(): number {
    return this.#lines * LINE + this.#charged;
  }

  /** Whether a line can be taken. */
  get hasRoom(): boolean {
    return this.dirty < this.#capacity;
  }

  /** Whether so many lines are changed that some of them should be written. */
  get crowded(): boolean {
    return this.dirty > this.#capacity / 2;
  }

  /** A line for `owner`, new or taken from another owner; none if every line has changes. @internal */
  take(owner: CacheLines): Line | undefined {
    let line: Line | undefined;
    this.#shrink();
    if (this.#lines < this.#capacity) {
      line = this.#spare();
      this.#lines++;
    } else line = this.#evict();
    if (!line) return undefined;
    line.owner = owner;
    line.older = this.#newest;
    if (this.#newest) this.#newest.newer = line;
    this.#newest = line;
    this.#oldest ??= line;
    return line;
  }

  /** Takes back a line that its owner has forgotten. @internal */
  free(line: Line): void {
    this.#unlink(line);
    this.#giveUp(line);
  }

  #giveUp(line: Line): void {
    this.#lines--;
    const { slab } = line;
    line.owner = undefined;
    if (slab.spare.length === 0) this.#slabs.push(slab);
    slab.spare.push(line);
    if (slab.unused) this.#slabs.splice(this.#slabs.indexOf(slab), 1);
  }

  #spare(): Line {
    let slab = this.#slabs.at(-1);
    if (!slab) {
      slab = new Slab();
      this.#slabs.push(slab);
    }
    const line = slab.spare.pop() as Line;
    if (slab.spare.length === 0) this.#slabs.pop();
    return line;
  }

  /** Takes memory from the lines, or gives it back where `bytes` is negative. Lines with changes stay until they are saved. @internal */
  charge(bytes: number): void {
    this.#charged += bytes;
    this.#capacity = this.#room();
    this.#shrink();
  }

  #shrink(): void {
    while (this.#lines > this.#capacity) {
      const line = this.#evict();
      if (!line) return;
      this.#giveUp(line);
    }
  }

  #room(): number {
    return Math.max(LEAST_LINES, Math.floor((this.#bytes - this.#charged) / LINE));
  }

  #evict(): Line | undefined {
    // Twice round: the first round may only take away marks.
    for (let left = 2 * this.#lines; left > 0; left--) {
      const line = this.#hand ?? this.#oldest;
      if (!line) return undefined;
      this.#hand = line.newer;
      if (line.dirty !== 0) continue;
      if (line.visited) line.visited = false;
      else {
        this.#unlink(line);
        line.owner?.lost(line);
        return line;
      }
    }
    return undefined;
  }

  #unlink(line: Line): void {
    if (this.#hand === line) this.#hand = line.newer;
    if (line.newer) line.newer.older = line.older;
    else this.#newest = line.older;
    if (line.older) line.older.newer = line.newer;
    else this.#oldest = line.newer;
    line.newer = undefined;
    line.older = undefined;
  }
}

/** The lines of one cache. */
export class CacheLines {
  readonly #memory: CacheMemory;
  readonly #byIndex = new Map<number, Line>();
  readonly #dirty = new Set<Line>();
  #last: Line | undefined;
  #charged = 0;

  constructor(memory: CacheMemory) {
    this.#memory = memory;
  }

  /** Charges the memory for copies of the same bytes that are kept above. */
  charge(bytes: number): void {
    this.#charged += bytes;
    this.#memory.charge(bytes);
  }

  /** Whether any line has changes. */
  get changes(): boolean {
    return this.#dirty.size > 0;
  }

  /** The line, if it is in memory. */
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
    const line = this.#memory.take(this);
    if (!line) return undefined;
    line.index = index;
    line.valid = 0;
    line.visited = false;
    this.#byIndex.set(index, line);
    this.#last = line;
    return line;
  }

  /** The memory has given this line to another owner. @internal */
  lost(line: Line): void {
    this.#byIndex.delete(line.index);
    if (this.#last === line) this.#last = undefined;
  }

  /** Gives every line back, changes included, and all charges. */
  clear(): void {
    this.charge(-this.#charged);
    for (const line of this.#byIndex.values()) {
      this.clean(line, line.dirty);
      this.#memory.free(line);
    }
    this.#byIndex.clear();
    this.#last = undefined;
  }

  /** Notes that pages of a line have changed. */
  soil(line: Line, pages: number): void {
    line.valid |= pages;
    line.dirty |= pages;
    line.saving &= ~pages;
    if (this.#dirty.has(line)) return;
    this.#dirty.add(line);
    this.#memory.dirty++;
  }

  /** Notes that pages of a line equal those in the storage below. */
  clean(line: Line, pages: number): void {
    line.dirty &= ~pages;
    line.saving &= ~pages;
    if (line.dirty === 0 && this.#dirty.delete(line)) this.#memory.dirty--;
  }

  /** Forgets pages, changes included. */
  forget(line: Line, pages: number): void {
    line.valid &= ~pages;
    this.clean(line, pages);
  }

  /** Forgets all pages from this offset on. Bytes; a multiple of a page. */
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

  /** Calls `visit` for each line in memory and each part of the range in it: its first byte and its end within the line. */
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
}
