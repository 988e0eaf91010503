/**
 * Metadata tables of one cluster (L2 tables, refcount blocks) in memory, under their host offsets. Changed tables stay until
 * the flush in metadata.ts writes them in its order; only unchanged ones are forgotten when the budget is used up. A flush writes them as they were when
 * it began (`seal`): a change that comes while it waits needs another barrier before it.
 *
 * Who only looks something up gets by with a slice of a table, so that looking all over a large image reads and keeps little. A slice is as
 * the file is: a table is either in memory as a whole, which is where changes are, or in slices. Both share the budget,
 * and are charged to the memory that the storage below shares with others, if it does.
 *
 * Who goes over many tables has them read early (early-tables.ts, by table-walk.ts). Such a table is as the file is, like a slice: it goes when the table comes
 * into memory, by `load`, which then takes its bytes, or by a change.
 */
import { roundDown, roundUp, view } from '../../base/bytes.ts';
import type { DebugEvent } from '../../base/debug-events.ts';
import { corrupt, type DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Lru } from '../../base/lru.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import { type EarlyReading, EarlyTables, type Scan } from './early-tables.ts';
import { fatal } from './fatal.ts';
import { FORMAT } from './layout.ts';

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
  /** Asked for since it was last passed over as one to forget. */
  used: boolean;
  /** Changes to it are on their way: it stays in memory. */
  pins: number;
}

/** What is to be written of a table: its changed bytes [from, to), as they were when it was sealed. */
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
/** What a debugger is told of; that a refcount block is used, Refcounts tells. */
const EVENTS: Readonly<Record<'L2 table' | 'refcount block', { readonly load?: DebugEvent; readonly update: DebugEvent }>> = {
  'L2 table': { load: 'l2_load', update: 'l2_update' },
  'refcount block': { update: 'refblock_update_part' },
};

export class TableCache {
  readonly #storage: Storage;
  readonly #tableSize: number;
  /** Bytes of a slice; a small table is one. */
  readonly sliceSize: number;
  readonly #what: keyof typeof EVENTS;
  readonly #budget: number;
  readonly #tables: Lru<number, Table>;
  readonly #slices: Lru<number, Slice>;
  /**
   * The slice that was forgotten last: the next is read into it. Whoever looks something up has a slice only until the answer, which waits for
   * nothing, so nobody sees it change.
   */
  #spare: Slice | undefined;
  readonly #dirty = new Set<Table>();
  /** What `seal` took and `write` has not written yet. */
  readonly #sealed = new Map<Table, Seal>();
  readonly #early: EarlyTables;
  /** The last table that was asked for in passing. */
  #passing: Table | undefined;
  /** Bytes that the storage's memory knows of. */
  #charged = 0;

  /** `what` names the table in errors; `budget` is bytes. */
  constructor(storage: Storage, { tableSize, what, budget }: { tableSize: number; what: keyof typeof EVENTS; budget: number }) {
    this.#storage = storage;
    this.#tableSize = tableSize;
    this.sliceSize = Math.min(SLICE, tableSize);
    this.#what = what;
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

  /** Half of the budget is changed tables: time to flush. */
  get crowded(): boolean {
    return this.#dirty.size * 2 > this.#tables.capacity;
  }

  /** The table if it is in memory. A use is a flag: a look-up costs no more than looking. */
  get(offset: number): Table | undefined {
    const table = this.#tables.peek(offset);
    if (table) table.used = true;
    return table;
  }

  /** The table, read if need be. Refuses an offset that is not on a cluster or not inside the file. */
  *load(offset: number): Io<Table> {
    const resident = this.get(offset);
    if (resident) return resident;
    this.#requirePlace(offset);
    const early = this.#early.get(offset);
    const bytes = early ?? new Uint8Array(this.#tableSize);
    const { load } = EVENTS[this.#what];
    if (load && this.#storage.debugEvent) yield* this.#storage.debugEvent(load);
    if (!early) yield* this.#storage.read(offset, bytes);
    return this.#keep({ offset, bytes, data: view(bytes), dirtyFrom: 0, dirtyTo: 0, fresh: false, used: false, pins: 0 });
  }

  /** The entries of a table that is in memory or was read early, to be looked at before the next ones are. */
  peek(offset: number): DataView | undefined {
    return this.#tables.peek(offset)?.data ?? this.#early.peek(offset);
  }

  /** As `load`, for a caller that goes over all tables: where memory is full, the table before it in the walk makes room, not those that others use. */
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

  /** Reads the slice at byte `within` of a table that is not in memory: `slice` finds it then. Refuses what `load` refuses. */
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

  /** How many tables are worth reading early at a time. */
  get earlyTables(): number {
    return this.#early.depth;
  }

  /** The table is in memory, or was read early. */
  has(offset: number): boolean {
    return this.#tables.peek(offset) !== undefined || this.#early.has(offset);
  }

  /**
   * Reads tables that are not in memory early, in steps that are short enough for others to wait for; returns of how many, from the first on. Tables that lie
   * where none can, or that cannot be read, are left to `load`, which says why.
   */
  *readEarly(offsets: readonly number[], how: EarlyReading): Io<number> {
    // Who debugs hears of each table when it is needed.
    if (this.#storage.debugEvent) return offsets.length;
    const places = offsets.filter((offset) => this.#fault(offset) === undefined);
    const read = yield* this.#early.read(places, how);
    return read === places.length ? offsets.length : Math.max(1, offsets.indexOf(places[read] as number));
  }

  /** Shows tables as they come by in the order of the file, each once; those that can be read, and where nobody debugs. */
  *scan(offsets: readonly number[], { look, ...how }: Scan): Io<void> {
    if (this.#storage.debugEvent) return;
    const places = offsets.filter((offset) => this.#fault(offset) === undefined);
    yield* this.#early.scan(places, { ...how, look: (offset, entries) => look(offset, this.#tables.peek(offset)?.data ?? entries) });
  }

  /** Gives up what was read early of tables that nobody has loaded since. */
  forgetEarly(offsets: readonly number[]): void {
    for (const offset of offsets) this.#early.forget(offset);
    this.#charge();
  }

  #requirePlace(offset: number): void {
    const fault = this.#fault(offset);
    if (fault) throw fault;
  }

  /** What is wrong with a table's place. */
  #fault(offset: number): DiskError | undefined {
    const field = this.#what;
    const hex = `0x${offset.toString(16)}`;
    if (offset % this.#tableSize !== 0) return fatal(`${field} offset ${hex} is not on a cluster`, { field, offset });
    if (offset + this.#tableSize > this.#storage.size) return corrupt(FORMAT, `${field} at ${hex} lies past the end of the file`, { field, offset });
    return undefined;
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

  /** Forgets a table whose cluster is no longer one. */
  drop(offset: number): void {
    this.#dropSlices(offset);
    this.#early.forget(offset);
    const table = this.#tables.peek(offset);
    if (!table) return;
    this.#dirty.delete(table);
    this.#sealed.delete(table);
    this.#tables.delete(offset);
    this.#charge();
  }

  /** Forgets everything, changed or not. */
  clear(): void {
    this.#dirty.clear();
    this.#sealed.clear();
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

  /** Takes the changed tables as they are now, for `write`. Where writing waits they may change meanwhile: that is for the next time. */
  seal(): void {
    const still = this.#storage.synchronous;
    for (const table of this.#dirty) {
      // Whole sectors, so that no storage has to read in order to write.
      const from = roundDown(table.dirtyFrom, SECTOR);
      const to = roundUp(table.dirtyTo, SECTOR);
      this.#sealed.set(table, { table, from, to, bytes: still ? table.bytes.subarray(from, to) : table.bytes.slice(from, to) });
    }
    this.#dirty.clear();
  }

  /** Some of what was sealed is not written yet. */
  get hasSealed(): boolean {
    return this.#sealed.size > 0;
  }

  /** What was sealed and not written is as any changed table again. */
  unseal(): void {
    for (const { table, from, to } of this.#sealed.values()) this.touch(table, from, to);
    this.#sealed.clear();
  }

  /** Writes sealed tables in file order: all, or only those nothing points at yet. */
  *write(which: 'all' | 'fresh'): Io<void> {
    const due = [...this.#sealed.values()].filter(({ table }) => which === 'all' || table.fresh).sort((a, b) => a.table.offset - b.table.offset);
    for (const { table, from, bytes } of due) {
      if (this.#storage.debugEvent) yield* this.#storage.debugEvent(EVENTS[this.#what].update);
      yield* this.#storage.write(table.offset + from, bytes);
      this.#sealed.delete(table);
    }
  }

  /** Seals and writes everything, for tables of which no order is kept. */
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

  /** The file has all of it, and nobody is about to change it. A fresh table that was written must stay recognisable as fresh until it is linked. */
  #spareable(table: Table): boolean {
    return !this.#dirty.has(table) && !this.#sealed.has(table) && !table.fresh && table.pins === 0;
  }

  /** Forgets what can be spared until `bytes` more fit: slices while tables have no more than half of the budget, else tables. */
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

/** What was not used for longest, as far as flags tell: what was used goes behind the others and is met again without its flag. */
function unused<V extends { used: boolean }>(entries: Lru<number, V>, mayGo: (value: V) => boolean): [number, V] | undefined {
  return entries.victim((value, key) => {
    if (!mayGo(value)) return false;
    if (!value.used) return true;
    value.used = false;
    entries.get(key);
    return false;
  });
}
