/**
 * Metadata tables of one size (qcow2's L2 tables and refcount blocks) in memory, under their host offsets. Changed tables stay until
 * the driver's flush writes them in its order; only unchanged ones are forgotten when the budget is used up. A flush writes the tables as they were when
 * it began (`seal`): a change that comes while the flush waits needs another barrier before it.
 *
 * A caller that only looks something up uses a slice of a table, so that look-ups all over a large image read and keep little. A slice is as
 * in the file: a table is either in memory as a whole, which is where changes are, or in slices. Both share the budget,
 * and are charged to the memory that the storage below shares with others, if it does.
 *
 * A caller that needs many tables has them read early (early-tables.ts, by table-walk.ts). Such a table is as in the file, like a slice: it is forgotten when
 * the table is loaded, by `load`, which then takes its bytes, or when the table is changed.
 */
import { roundDown, roundUp, view } from '../base/bytes.ts';
import type { DebugEvent } from '../base/debug-events.ts';
import { corrupt, type DiskError, type ErrorPlace } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { Lru } from '../base/lru.ts';
import { SECTOR } from '../base/units.ts';
import type { Storage } from '../storage/storage.ts';
import { type EarlyReading, EarlyTables, type Scan } from './early-tables.ts';

/** One table. Change `data` and then call `TableCache.touch`. */
export interface Table {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly data: DataView;
  /** Changed bytes not yet written: [dirtyFrom, dirtyTo), empty if the table is as in the file. */
  dirtyFrom: number;
  dirtyTo: number;
  /** Nothing durable points at it yet, so it may be written at any time. */
  fresh: boolean;
  /** Used since the search for a table to forget last passed it. */
  used: boolean;
  /** Changes to it are on their way: it stays in memory. */
  pins: number;
}

/** The bytes of a table to be written: its changed bytes [from, to), as they were when it was sealed. */
interface Seal {
  readonly table: Table;
  readonly from: number;
  readonly to: number;
  readonly bytes: Uint8Array;
}

interface Slice {
  readonly bytes: Uint8Array;
  readonly data: DataView;
  used: boolean;
}

function newSlice(length: number): Slice {
  const bytes = new Uint8Array(length);
  return { bytes, data: view(bytes), used: false };
}

export type { Locked } from './early-tables.ts';

/** Bytes of a slice: QEMU's default too. */
const SLICE = 4096;
/** The tables of a cache. */
export interface TableOptions {
  /** Bytes of a table. */
  readonly tableSize: number;
  /** Bytes: the place of a table is a multiple of it. Default: `tableSize`. */
  readonly alignment?: number;
  /** The format's name and the table's, for errors. */
  readonly format: string;
  readonly what: string;
  /** Bytes of memory. */
  readonly budget: number;
  /** The events that a debugger is told of. */
  readonly events?: { readonly load?: DebugEvent; readonly update?: DebugEvent };
  /**
   * The tables are pages of one table, whose end need not be on a sector: the last page may pass the end of the file, and other bytes may follow the table. Only
   * changed bytes are written then. Default: whole sectors are written, so that no storage has to read before it writes.
   */
  readonly pages?: boolean;
  /** Makes the error for a place that is not on a multiple of the tables' size; default: `corrupt`. */
  readonly misplaced?: (message: string, place: ErrorPlace) => DiskError;
}

/** See the top of this file. */
export class TableCache {
  readonly #storage: Storage;
  readonly #tableSize: number;
  /** Bytes of a slice; a small table is one. */
  readonly sliceSize: number;
  readonly #options: TableOptions;
  readonly #budget: number;
  readonly #tables: Lru<number, Table>;
  readonly #slices: Lru<number, Slice>;
  /**
   * The slice that was forgotten last: the next is read into it. A look-up uses a slice only until its answer, and does not wait before it,
   * so no look-up sees the slice change.
   */
  #spare: Slice | undefined;
  readonly #dirty = new Set<Table>();
  /** The tables that `seal` took and `write` has not written yet. */
  readonly #sealed = new Map<Table, Seal>();
  /** Those of them that were written; the flush is not over. */
  readonly #written = new Map<Table, Seal>();
  readonly #early: EarlyTables;
  /** The last table that `pass` returned. */
  #passing: Table | undefined;
  /** Bytes charged to the storage's memory. */
  #charged = 0;

  constructor(storage: Storage, options: TableOptions) {
    const { tableSize, budget } = options;
    this.#storage = storage;
    this.#tableSize = tableSize;
    this.sliceSize = Math.min(SLICE, tableSize);
    this.#options = options;
    this.#budget = Math.max(4 * tableSize, budget);
    this.#tables = new Lru(Math.floor(this.#budget / tableSize));
    this.#slices = new Lru(Math.floor(this.#budget / this.sliceSize));
    const resident = (offset: number) => this.#tables.peek(offset) !== undefined;
    this.#early = new EarlyTables(storage, { tableSize, budget: this.#budget, resident, onChange: () => this.#charge() });
  }

  /** Bytes of changed tables. */
  get dirtyBytes(): number {
    return this.#dirty.size * this.#tableSize;
  }

  /** Half of the budget is changed tables: it is time to flush. */
  get crowded(): boolean {
    return this.#dirty.size * 2 > this.#tables.capacity;
  }

  /** The table if it is in memory. A use sets a flag only: so a look-up costs little. */
  get(offset: number): Table | undefined {
    const table = this.#tables.peek(offset);
    if (table) table.used = true;
    return table;
  }

  /** The table, read if needed. Refuses an offset that is not on a cluster or not inside the file. */
  *load(offset: number): Io<Table> {
    const resident = this.get(offset);
    if (resident) return resident;
    this.#requirePlace(offset);
    const early = this.#early.get(offset);
    const bytes = early ?? new Uint8Array(this.#tableSize);
    yield* this.#tell('load');
    if (!early) yield* this.#storage.read(offset, bytes);
    return this.#keep({ offset, bytes, data: view(bytes), dirtyFrom: 0, dirtyTo: 0, fresh: false, used: false, pins: 0 });
  }

  /** The entries of a table that is in memory or was read early; the next call of `peek` may overwrite them. */
  peek(offset: number): DataView | undefined {
    return this.#tables.peek(offset)?.data ?? this.#early.peek(offset);
  }

  /** As `load`, for a caller that visits all tables: if memory is full, the table before it in the walk makes room, not the tables that others use. */
  *pass(offset: number): Io<Table> {
    const resident = this.get(offset);
    if (resident) return resident;
    const before = this.#passing;
    if (before && !this.#hasRoom(this.#tableSize) && this.#spareable(before)) this.#tables.delete(before.offset);
    const table = yield* this.load(offset);
    this.#passing = table;
    return table;
  }

  /** The slice at byte `within` of a table, if it is in memory by itself; look for the table with `get` first. */
  slice(offset: number, within: number): DataView | undefined {
    const slice = this.#slices.peek(offset + within);
    if (slice) slice.used = true;
    return slice?.data;
  }

  /** Reads the slice at byte `within` of a table that is not in memory: `slice` finds it then. Refuses the same offsets as `load`. */
  *loadSlice(offset: number, within: number): Io<void> {
    this.#requirePlace(offset);
    this.#makeRoom(this.sliceSize);
    const slice = this.#spare ?? newSlice(this.sliceSize);
    this.#spare = undefined;
    yield* this.#storage.read(offset + within, slice.bytes);
    slice.used = false;
    if (this.#tables.peek(offset)) this.#spare = slice;
    else this.#slices.set(offset + within, slice);
    this.#charge();
  }

  /** How many tables it is useful to read early at a time. */
  get earlyTables(): number {
    return this.#early.depth;
  }

  /** The table is in memory, or was read early. */
  has(offset: number): boolean {
    return this.#tables.peek(offset) !== undefined || this.#early.has(offset);
  }

  /**
   * Reads tables that are not in memory early, in steps so short that others can wait for them. Returns how many tables, counted from the first, are done.
   * Tables at an invalid place, or that cannot be read, are left to `load`, which throws the reason.
   */
  *readEarly(offsets: readonly number[], how: EarlyReading): Io<number> {
    // A debugger must be told of each table at the moment it is needed.
    if (this.#storage.debugEvent) return offsets.length;
    const places = offsets.filter((offset) => this.#fault(offset) === undefined);
    const read = yield* this.#early.read(places, how);
    return read === places.length ? offsets.length : Math.max(1, offsets.indexOf(places[read] as number));
  }

  /** Shows tables in the order of the file, each once: those that can be read, and only if no debugger is there. */
  *scan(offsets: readonly number[], { look, ...how }: Scan): Io<void> {
    if (this.#storage.debugEvent) return;
    const places = offsets.filter((offset) => this.#fault(offset) === undefined);
    yield* this.#early.scan(places, { ...how, look: (offset, entries) => look(offset, this.#tables.peek(offset)?.data ?? entries) });
  }

  /** Forgets tables that were read early and have not been loaded since. */
  forgetEarly(offsets: readonly number[]): void {
    for (const offset of offsets) this.#early.forget(offset);
    this.#charge();
  }

  #requirePlace(offset: number): void {
    const fault = this.#fault(offset);
    if (fault) throw fault;
  }

  /** The error about a table's place; undefined if the place is right. */
  #fault(offset: number): DiskError | undefined {
    const { format, what, misplaced = (message, place) => corrupt(format, message, place), alignment = this.#tableSize } = this.#options;
    const place = { field: what, offset };
    const hex = `0x${offset.toString(16)}`;
    if (offset % alignment !== 0) return misplaced(`${what} offset ${hex} is not on a cluster`, place);
    if (offset + (this.#options.pages ? 1 : this.#tableSize) > this.#storage.size)
      return corrupt(format, `${what} at ${hex} lies past the end of the file`, place);
    return undefined;
  }

  *#tell(what: 'load' | 'update'): Io<void> {
    const event = this.#options.events?.[what];
    if (event && this.#storage.debugEvent) yield* this.#storage.debugEvent(event);
  }

  /** A new table at a place just allocated; its bytes are copied from `contents` or zero. */
  add(offset: number, contents?: Uint8Array): Table {
    const bytes = contents ? contents.slice() : new Uint8Array(this.#tableSize);
    const table = this.#keep({ offset, bytes, data: view(bytes), dirtyFrom: 0, dirtyTo: 0, fresh: true, used: false, pins: 0 });
    this.touch(table, 0, bytes.length);
    return table;
  }

  /** Marks bytes [from, to) of a table as changed. */
  touch(table: Table, from: number, to: number): void {
    const clean = !this.#dirty.has(table);
    table.dirtyFrom = clean ? from : Math.min(table.dirtyFrom, from);
    table.dirtyTo = clean ? to : Math.max(table.dirtyTo, to);
    if (clean) this.#dirty.add(table);
  }

  /** Forgets a table whose cluster is no longer a table. */
  drop(offset: number): void {
    this.#dropSlices(offset);
    this.#early.forget(offset);
    const table = this.#tables.peek(offset);
    if (!table) return;
    this.#dirty.delete(table);
    this.#sealed.delete(table);
    this.#written.delete(table);
    this.#tables.delete(offset);
    this.#charge();
  }

  /** Forgets everything, changed or not. */
  clear(): void {
    this.#dirty.clear();
    this.#sealed.clear();
    this.#written.clear();
    this.#tables.clear();
    this.#slices.clear();
    this.#early.clear();
    this.#passing = undefined;
    this.#spare = undefined;
    this.#charge();
  }

  /** True if some changed table, sealed or not, is already pointed at on disk. */
  get hasDirtyLinked(): boolean {
    for (const table of this.#dirty) if (!table.fresh) return true;
    for (const table of this.#sealed.keys()) if (!table.fresh) return true;
    return false;
  }

  /** Takes the changed tables as they are now, for `write`. A change made while `write` waits is written next time. */
  seal(): void {
    // A debugger may make a flush wait on any storage.
    const still = this.#storage.synchronous && !this.#storage.debugEvent;
    const unit = this.#options.pages ? 1 : SECTOR;
    for (const table of this.#dirty) {
      const from = roundDown(table.dirtyFrom, unit);
      const to = roundUp(table.dirtyTo, unit);
      this.#sealed.set(table, { table, from, to, bytes: still ? table.bytes.subarray(from, to) : table.bytes.slice(from, to) });
    }
    this.#dirty.clear();
  }

  /** Some sealed tables are not written yet. */
  get hasSealed(): boolean {
    return this.#sealed.size > 0;
  }

  /** Sealed tables that were not written become ordinary changed tables again; unless the flush was durable, also those that were. */
  unseal(durable = true): void {
    for (const { table, from, to } of this.#sealed.values()) this.touch(table, from, to);
    if (!durable) for (const { table, from, to } of this.#written.values()) this.touch(table, from, to);
    this.#sealed.clear();
    this.#written.clear();
  }

  /** Writes sealed tables in file order: all, or only those nothing points at yet. */
  *write(which: 'all' | 'fresh'): Io<void> {
    const due = [...this.#sealed.values()].filter(({ table }) => which === 'all' || table.fresh).sort((a, b) => a.table.offset - b.table.offset);
    for (const sealed of due) {
      const { table, from, bytes } = sealed;
      yield* this.#tell('update');
      yield* this.#storage.write(table.offset + from, bytes);
      this.#sealed.delete(table);
      this.#written.set(table, sealed);
    }
  }

  /** Seals and writes everything, for tables that need no order. */
  *writeAll(): Io<void> {
    this.seal();
    try {
      yield* this.write('all');
    } finally {
      this.unseal();
    }
  }

  /** To be called when everything written is durable and linked. */
  settle(): void {
    for (const [, table] of this.#tables) table.fresh = false;
  }

  #keep(table: Table): Table {
    this.#dropSlices(table.offset);
    this.#early.forget(table.offset);
    this.#makeRoom(this.#tableSize);
    this.#tables.set(table.offset, table);
    this.#charge();
    return table;
  }

  #charge(): void {
    const bytes = this.#tables.size * this.#tableSize + this.#early.bytes + this.#slices.size * this.sliceSize;
    if (bytes !== this.#charged) this.#storage.memory?.charge(bytes - this.#charged);
    this.#charged = bytes;
  }

  #dropSlices(offset: number): void {
    if (this.#slices.size > 0) for (let within = 0; within < this.#tableSize; within += this.sliceSize) this.#slices.delete(offset + within);
  }

  #hasRoom(bytes: number): boolean {
    return this.#tables.size * this.#tableSize + this.#slices.size * this.sliceSize + bytes <= this.#budget;
  }

  /** The file has all of it, and no change to it is under way. A fresh table that was written must stay recognisable as fresh until it is linked. */
  #spareable(table: Table): boolean {
    return !this.#dirty.has(table) && !this.#sealed.has(table) && !this.#written.has(table) && !table.fresh && table.pins === 0;
  }

  /** Forgets entries until `bytes` more fit: slices while tables have no more than half of the budget, else tables. */
  #makeRoom(bytes: number): void {
    for (;;) {
      if (this.#hasRoom(bytes)) return;
      const tables = this.#tables.size * this.#tableSize;
      const spare = () => unused(this.#tables, (table) => this.#spareable(table));
      const table = tables * 2 > this.#budget ? spare() : undefined;
      const slice = table ? undefined : unused(this.#slices, () => true);
      const last = table ?? (slice ? undefined : spare());
      if (last) this.#tables.delete(last[0]);
      else if (slice) {
        this.#slices.delete(slice[0]);
        this.#spare = slice[1];
      } else return;
    }
  }
}

/** The least recently used entry, as far as flags tell: an entry with its flag set moves behind the others and loses the flag. */
function unused<V extends { used: boolean }>(entries: Lru<number, V>, mayGo: (value: V) => boolean): [number, V] | undefined {
  return entries.victim((value, key) => {
    if (!mayGo(value)) return false;
    if (!value.used) return true;
    value.used = false;
    entries.get(key);
    return false;
  });
}
