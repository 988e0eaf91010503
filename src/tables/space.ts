/**
 * Where new units of an image go that lie anywhere in its file: into a gap between units that are in use, else to the file's end. A unit that tables gave up is
 * a gap once that is durable: until then a cut may leave the entry that points at it.
 */
import { roundUp } from '../base/bytes.ts';
import type { Io } from '../base/io.ts';
import type { Storage } from '../storage/storage.ts';
import { FileEnd, type TakenUnit } from './file-end.ts';

/** Bytes [start, end) of a file. */
export interface Bytes {
  readonly start: number;
  readonly end: number;
}

/** A place for a unit, in bytes of the file. `untouched`: see `TakenUnit`. */
export interface Place {
  readonly offset: number;
  readonly untouched: boolean;
  /** Where it is of the file's end. */
  readonly at?: { readonly end: FileEnd; readonly unit: TakenUnit };
}

/** The units of an image that is opened. */
export interface SpaceOptions {
  /** Bytes of a unit. */
  readonly unit: number;
  /** Bytes at a unit's beginning, tables of its own, that lie before its place. Default 0. */
  readonly ahead?: number;
  /** Units begin at multiples of it. */
  readonly align: number;
  /** Where units begin that find no gap. */
  readonly end: number;
  /** Bytes behind that which may not be zero. Default 0. */
  readonly left?: number;
  /** See `Units.gaps`. */
  readonly gaps?: boolean;
  /** The units in use, and what else the file has. */
  readonly used: readonly Bytes[];
  readonly reserved: readonly Bytes[];
}

/** See the top of this file. */
export class Space {
  readonly #storage: Storage;
  readonly #options: SpaceOptions;
  readonly #ahead: number;
  /** Places of gaps, the lowest last. */
  readonly #gaps: number[];
  /** Places that were given up: by changes in memory, and by those of the present flush. */
  #waiting: number[] = [];
  readonly #due: number[] = [];
  #end: FileEnd;

  /** See `SpaceOptions`. */
  constructor(storage: Storage, options: SpaceOptions) {
    this.#storage = storage;
    this.#options = options;
    this.#ahead = options.ahead ?? 0;
    this.#gaps = gapsBetween(options).map((start) => start + this.#ahead);
    this.#end = this.#newEnd(options.end, options.left);
  }

  #newEnd(start: number, left = 0): FileEnd {
    const { unit, gaps } = this.#options;
    return new FileEnd(this.#storage, { base: start + this.#ahead, unit, used: new Set(), left, ...(gaps === undefined ? {} : { gaps }) });
  }

  /** Bytes of the file up to the end of the last unit that may have been written to at any time. */
  get reach(): number {
    return this.#end.reach - this.#ahead;
  }

  /** Bytes of the file that has all units. */
  get size(): number {
    return this.#end.size - this.#ahead;
  }

  /** The next place is a gap. */
  get hasGap(): boolean {
    return this.#gaps.length > 0;
  }

  /** Takes a place. Undefined while the file grows: `ready`, then ask again. */
  take(): Place | undefined {
    const gap = this.#gaps.pop();
    if (gap !== undefined) return { offset: gap, untouched: false };
    const end = this.#end;
    const unit = end.take();
    return unit && { offset: end.offset(unit.index), untouched: unit.untouched, at: { end, unit } };
  }

  /** Gives a place back that nothing points at. `unused`: nothing was written to it either. */
  giveBack({ offset, at }: Place, unused?: boolean): void {
    if (at) at.end.giveBack(at.unit, unused);
    else this.#addGap(offset);
  }

  /** Takes bytes at the file's end for something else, for good; where they begin. Bytes there may be anything that is not zero. */
  *takeRun(length: number): Io<number> {
    while (this.#end.growing) yield* this.ready();
    const start = roundUp(Math.max(this.reach, this.size), this.#options.align);
    this.#end = this.#newEnd(start + length);
    return start;
  }

  /** Tables in memory gave up the unit of this place. */
  free(offset: number): void {
    this.#waiting.push(offset);
  }

  /** See `Sealed`. */
  seal(): void {
    this.#due.push(...this.#waiting);
    this.#waiting = [];
  }

  /** Nothing: what a flush that failed had to free stays due. */
  unseal(): void {}

  /** To be called after a flush: what was given up before it may be used again. */
  *release(): Io<void> {
    for (let offset = this.#due.pop(); offset !== undefined; offset = this.#due.pop()) {
      yield* this.#storage.discard(offset - this.#ahead, this.#options.unit);
      this.#addGap(offset);
    }
  }

  #addGap(offset: number): void {
    this.#gaps.push(offset);
    this.#gaps.sort((a, b) => b - a);
  }

  /** Makes the file as long as its units. */
  grow(): Io<void> {
    return this.#end.grow();
  }

  /** Waits until `take` gives places. */
  ready(): Io<void> {
    return this.#end.ready();
  }
}

/** Where units fit between others, the lowest last. */
function gapsBetween({ used, reserved, unit, align }: SpaceOptions): number[] {
  const gaps: number[] = [];
  let end = used.reduce((least, { start }) => Math.min(least, start), Number.POSITIVE_INFINITY);
  const last = used.reduce((most, { start }) => Math.max(most, start), 0);
  for (const range of [...used, ...reserved].sort((a, b) => a.start - b.start)) {
    for (let at = roundUp(end, align); at + unit <= Math.min(range.start, last); at += unit) gaps.push(at);
    if (range.end > end) end = range.end;
  }
  return gaps.reverse();
}
