/**
 * Visiting many tables of an image: they are read some time before they are used, in the order of the file and not in the order of the walk, since a
 * request for each table costs more than reading the bytes between them (`TableCache.readEarly`). Other requests wait for one of these reads at most.
 */
import type { Io } from '../base/io.ts';
import type { EarlyReading } from './early-tables.ts';
import type { Locked, Table, TableCache } from './table-cache.ts';

/** Tables whose order is known from the start. */
export class TableWalk {
  readonly #cache: TableCache;
  readonly #offsets: readonly number[];
  readonly #locked: Locked;
  /** The tables read early last, and where the next begin. */
  #window: readonly number[] = [];
  #end = 0;

  /** `offsets` in the order of the walk. `locked`: runs the reading of tables; the caller holds no lock of them. */
  constructor(cache: TableCache, offsets: readonly number[], locked: Locked) {
    this.#cache = cache;
    this.#offsets = offsets;
    this.#locked = locked;
  }

  /** Table `at` of the walk, in memory; the walk may skip tables. Throws as `TableCache.load` if the place is invalid. */
  *table(at: number): Io<Table> {
    if (at >= this.#end) {
      this.end();
      this.#window = this.#offsets.slice(at, at + this.#cache.earlyTables);
      this.#end = at + (yield* this.#cache.readEarly(this.#window, { locked: this.#locked }));
    }
    const offset = this.#offsets[at] as number;
    return this.#cache.get(offset) ?? (yield* this.#locked(() => this.#cache.pass(offset)));
  }

  /** Forgets the tables in memory that were not used. */
  end(): void {
    this.#cache.forgetEarly(this.#window);
    this.#window = [];
  }
}

/** So many tables are read early after the second table in order; later as many as there is room for. */
const FIRST_DEPTH = 32;

/** Tables that may be used in order, or not. */
export class TablesInOrder {
  readonly #cache: TableCache;
  readonly #locked: Locked;
  /** The last table used, the one behind it, and how many were read early. */
  #last: number | undefined;
  #next: number | undefined;
  #depth = 0;
  #window: readonly number[] = [];
  /** The offset of the last table used. */
  #passed: number | undefined;

  constructor(cache: TableCache, locked: Locked) {
    this.#cache = cache;
    this.#locked = locked;
  }

  /**
   * To be called before table `index` is used. `offsetAt`: the offset of a table, 0 where there is none; there are `count`. Tables
   * behind it are read early if the table before it was the last one used, with `step` between requests.
   */
  *reach(index: number, count: number, offsetAt: (index: number) => number, step?: EarlyReading['step']): Io<void> {
    if (offsetAt(index) === 0) return;
    const here = this.#cache.has(offsetAt(index));
    if (here && index === this.#last) return;
    // The table behind the walk need not be kept until the end of the walk.
    if (this.#passed !== undefined) this.#cache.forgetEarly([this.#passed]);
    this.#passed = offsetAt(index);
    if (!here) {
      this.#depth = this.#depthAt(index);
      this.#cache.forgetEarly(this.#window);
      this.#window = this.#depth === 0 ? [] : offsetsFrom(index, this.#depth, count, offsetAt);
      if (this.#window.length > 0) yield* this.#cache.readEarly(this.#window, { locked: this.#locked, ...(step ? { step } : {}) });
    }
    let next = index + 1;
    while (next < count && offsetAt(next) === 0) next++;
    this.#last = index;
    this.#next = next;
  }

  /** How many tables to read early from `index` on; table `index` is not in memory. */
  #depthAt(index: number): number {
    if (index !== this.#next) return 0;
    const { earlyTables } = this.#cache;
    return this.#depth === 0 ? Math.min(FIRST_DEPTH, earlyTables) : earlyTables;
  }
}

/** Places of at most `most` tables from `index` on. */
function offsetsFrom(index: number, most: number, count: number, offsetAt: (index: number) => number): number[] {
  const offsets: number[] = [];
  for (let at = index; at < count && offsets.length < most; at++) if (offsetAt(at) !== 0) offsets.push(offsetAt(at));
  return offsets;
}
