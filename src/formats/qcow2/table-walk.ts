/**
 * Going over many tables of an image: they are read some time before they are looked at, in the order of the file and not in the order of the walk, since a
 * request for each costs more than what lies between them (`TableCache.readEarly`). Nobody else waits for such a read longer than for one request.
 */
import type { Io } from '../../base/io.ts';
import type { EarlyReading } from './early-tables.ts';
import type { Locked, Table, TableCache } from './table-cache.ts';

/** Tables whose order is known from the start. */
export class TableWalk {
  readonly #cache: TableCache;
  readonly #offsets: readonly number[];
  readonly #locked: Locked;
  /** Those read early last, and where the next begin. */
  #window: readonly number[] = [];
  #end = 0;

  /** `offsets` in the order of the walk. `locked`: how tables are read in; the caller holds no lock of them. */
  constructor(cache: TableCache, offsets: readonly number[], locked: Locked) {
    this.#cache = cache;
    this.#offsets = offsets;
    this.#locked = locked;
  }

  /** Table `at` of the walk, in memory; some may be left out. Throws as `TableCache.load` where there can be none. */
  *table(at: number): Io<Table> {
    if (at >= this.#end) {
      this.end();
      this.#window = this.#offsets.slice(at, at + this.#cache.earlyTables);
      this.#end = at + (yield* this.#cache.readEarly(this.#window, { locked: this.#locked }));
    }
    const offset = this.#offsets[at] as number;
    return this.#cache.get(offset) ?? (yield* this.#locked(() => this.#cache.pass(offset)));
  }

  /** Gives up what is left in memory for tables that were not asked for. */
  end(): void {
    this.#cache.forgetEarly(this.#window);
    this.#window = [];
  }
}

/** After the second table in order so many are read early, and then as many as there is room for. */
const FIRST_DEPTH = 32;

/** Tables that may be asked for in order, or not. */
export class TablesInOrder {
  readonly #cache: TableCache;
  readonly #locked: Locked;
  /** The table asked for last, the one behind it, and how many were read early. */
  #last: number | undefined;
  #next: number | undefined;
  #depth = 0;
  #window: readonly number[] = [];
  /** Where the table asked for last is. */
  #passed: number | undefined;

  constructor(cache: TableCache, locked: Locked) {
    this.#cache = cache;
    this.#locked = locked;
  }

  /**
   * To be called before table `index` is looked at. `offsetAt`: the place of a table, 0 where there is none; there are `count`. Tables
   * behind it are read early if the one before it was asked for last, with `step` between requests.
   */
  *reach(index: number, count: number, offsetAt: (index: number) => number, step?: EarlyReading['step']): Io<void> {
    if (offsetAt(index) === 0) return;
    const here = this.#cache.has(offsetAt(index));
    if (here && index === this.#last) return;
    // What is behind the walk need not be kept up to its end.
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

  /** How many tables to read early from `index` on, which is not in memory. */
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
