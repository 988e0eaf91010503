/**
 * The directory of an extent and its grain tables, which may exist twice: in memory as far as needed, and where new ones and new grains go.
 *
 * Crash argument. A grain gets a place that no durable entry names: behind the end of the file, or that of a grain that was given up. Its data is written
 * there, and both copies of the entry change in memory. A flush (write-order.ts) makes the file as long as its grains, and behind a barrier writes the
 * tables, new ones too; behind another barrier the directories, which name the new tables. So a cut leaves grains and tables that nothing names, and
 * copies of which one is older, never an entry that names what is not there. The place of a grain that was given up is handed out again only after the
 * flush of the tables that no longer name it. Larger directories (`grow`) are written behind all else, with the tables that they add, while the header
 * still names the old ones.
 */
import { isZero, roundDown, roundUp } from '../../base/bytes.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Mutex } from '../../base/locks.ts';
import { MiB, SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import { FileEnd } from '../../tables/file-end.ts';
import { FreedClusters } from '../../tables/freed-clusters.ts';
import { type Table, TableCache } from '../../tables/table-cache.ts';
import { type Sealed, WriteOrder } from '../../tables/write-order.ts';
import { FORMAT, type Grain, type Shape } from './layout.ts';
import { MetadataPlaces } from './metadata-places.ts';
import { type Survey, surveyGrains } from './survey.ts';

/** Memory for the tables of one extent, and for its second ones. */
const BUDGET = 2 * MiB;
/** Entries are 32 bits of sectors. */
export const MAX_FILE = 0xffffffff * SECTOR;
/** An entry without a grain, and one of zeros. */
export const EMPTY = { none: 0, zero: 1 } as const;

/** A directory and its tables. */
interface Copy {
  readonly offset: number;
  readonly directory: EntryTable;
  readonly tables: TableCache;
  readonly what: string;
}

/** See the top of this file. */
export class GrainTables {
  readonly storage: Storage;
  readonly order: WriteOrder;
  shape: Shape;
  end: FileEnd;
  /** Where the next compressed grain goes. */
  append: number;
  /** The copies that are kept alike: the first alone where the extent is only read. */
  #copies: readonly [Copy, ...Copy[]];
  #places: MetadataPlaces;
  /** Tables are read, and new ones made, by one request at a time. */
  readonly #lock = new Mutex();
  /** Grains that were given up, as units of `end`; those before its base were there when the extent was opened. */
  readonly #freed = new FreedClusters();
  /** Those of them that tables in the file may still name. */
  readonly #named = new Set<number>();
  /** Those that another entry names, too. */
  readonly #shared = new Set<number>();
  /** What the grains that were there are used for; undefined until the first of them is given up. */
  #survey: Survey | undefined;

  /** Throws `corrupt` if a directory is not wholly in the file. */
  constructor(storage: Storage, shape: Shape, readOnly: boolean) {
    this.storage = storage;
    this.shape = shape;
    const first = this.#copy(shape.directory, 'grain directory', 'grain table');
    const second =
      shape.redundant === undefined || readOnly ? [] : [this.#copy(shape.redundant, 'redundant grain directory', 'redundant grain table')];
    this.#copies = [first, ...second];
    this.#places = this.#placesOf();
    this.append = roundUp(storage.size, SECTOR);
    this.end = new FileEnd(storage, { base: roundUp(storage.size, shape.grainSize), unit: shape.grainSize, used: new Set() });
    this.order = this.#writeOrder();
  }

  #writeOrder(): WriteOrder {
    const each = (deed: (changes: Sealed) => void): void => {
      for (const { directory, tables } of this.#copies) for (const changes of [directory, tables]) deed(changes);
    };
    const self = this;
    return new WriteOrder(this.storage, {
      format: FORMAT,
      changes: [{ seal: () => each((changes) => changes.seal()), unseal: (durable) => each((changes) => changes.unseal(durable)) }, this.#freed],
      stages: [
        { pending: () => !this.shape.compressed && this.#copies.some(({ tables }) => tables.hasSealed), write: () => this.end.grow() },
        {
          pending: () => this.#copies.some(({ tables }) => tables.hasSealed),
          *write() {
            for (const { tables } of self.#copies) yield* tables.write('all');
          },
        },
        {
          pending: () => this.#copies.some(({ directory }) => directory.hasSealed),
          *write() {
            for (const { directory } of self.#copies) yield* directory.write();
          },
        },
      ],
    });
  }

  /** The directories of all copies, also of one that is not read. */
  #placesOf(): MetadataPlaces {
    const { tableEntries, entryBytes, directoryEntries, redundant } = this.shape;
    const directories = this.#copies.map(({ offset }) => offset);
    if (directories.length === 1 && redundant !== undefined) directories.push(redundant);
    // Tables of wide entries are not named by their places.
    const named = entryBytes === 4;
    return new MetadataPlaces({
      directories,
      directorySize: directoryEntries * entryBytes,
      tableSize: tableEntries * entryBytes,
      directoryEntries,
      named,
    });
  }

  #copy(offset: number, what: string, tableName: string): Copy {
    const { tableEntries, entryBytes } = this.shape;
    return {
      offset,
      directory: this.#directory(offset, what),
      tables: new TableCache(this.storage, {
        tableSize: tableEntries * entryBytes,
        alignment: SECTOR,
        format: FORMAT,
        what: tableName,
        budget: BUDGET,
      }),
      what,
    };
  }

  #directory(offset: number, what: string): EntryTable {
    const { directoryEntries, entryBytes } = this.shape;
    return new EntryTable(this.storage, { offset, entries: directoryEntries * (entryBytes / 4), littleEndian: true, format: FORMAT, what });
  }

  /** The host offset of the table for a grain, 0 if there is none; undefined if memory cannot tell. Throws `corrupt`. */
  #tableOf(index: number, { directory, what }: Copy): number | undefined {
    const { tableEntries, entryBytes, least, tableAt } = this.shape;
    const words = entryBytes / 4;
    const at = Math.floor(index / tableEntries) * words;
    const low = directory.get(at);
    if (low === undefined) return undefined;
    const table = tableAt(words === 2 ? (directory.get(at + 1) ?? 0) : 0, low);
    if (table !== 0 && (table < least || this.#places.hasDirectory(table, tableEntries * entryBytes)))
      throw corrupt(FORMAT, `a table at 0x${table.toString(16)}, where none can be`, { field: what, offset: table });
    return table;
  }

  /** What a grain's entry says, whether it can be or not; undefined if memory cannot tell. Throws `corrupt`. */
  entry(index: number): Grain | undefined {
    const [first] = this.#copies;
    const table = this.#tableOf(index, first);
    if (!table) return table === 0 ? 'none' : undefined;
    const { tables } = first;
    const { tableEntries, entryBytes, grainAt } = this.shape;
    const within = (index % tableEntries) * entryBytes;
    const slice = roundDown(within, tables.sliceSize);
    const whole = tables.get(table)?.data;
    const data = whole ?? tables.slice(table, slice);
    if (!data) return undefined;
    const at = whole ? within : within - slice;
    const low = data.getUint32(at, true);
    return entryBytes === 8 ? grainAt(data.getUint32(at + 4, true), low) : grainAt(0, low);
  }

  /** The state of a grain; undefined if memory cannot tell. Throws `corrupt`. */
  grain(index: number): Grain | undefined {
    const grain = this.entry(index);
    const { least, grainSize, capacity, compressed } = this.shape;
    if (typeof grain !== 'number') return grain;
    const { size } = this.storage;
    const length = compressed ? SECTOR : Math.min(grainSize, capacity - index * grainSize);
    if (grain >= least && grain < size && !this.#places.has(grain, length)) return grain;
    const reason = grain < size ? 'where none can be' : 'past the end of the file';
    throw corrupt(FORMAT, `grain ${index} is at 0x${grain.toString(16)}, ${reason}`, { field: 'grain table' });
  }

  /** As `grain`, for callers that may not fail: they are told by `load`. */
  known(index: number): Grain | undefined {
    try {
      return this.grain(index);
    } catch (error) {
      if (error instanceof DiskError) return undefined;
      throw error;
    }
  }

  /** Makes `grain` answer. Throws `corrupt`. */
  *load(index: number): Io<void> {
    yield* this.#lock.run(() => this.#loadEntry(index));
    this.grain(index);
  }

  /** Reads where the tables of all copies are, once. Those that cannot be there are told by `load`. */
  *#learnPlaces(): Io<void> {
    const { directoryEntries, tableEntries, entryBytes, least } = this.shape;
    const places = this.#places;
    if (!places.wantsTables) return;
    const found: number[] = [];
    for (const { directory } of this.#copies) {
      yield* directory.loadAll();
      for (let at = 0; at < directoryEntries; at++) {
        const table = (directory.get(at) ?? 0) * SECTOR;
        if (table >= least && !places.hasDirectory(table, tableEntries * entryBytes)) found.push(table);
      }
    }
    places.tell(found);
  }

  *#loadEntry(index: number): Io<void> {
    yield* this.#learnPlaces();
    const [first] = this.#copies;
    const { directory, tables } = first;
    const { tableEntries, entryBytes } = this.shape;
    yield* directory.load(Math.floor(index / tableEntries) * (entryBytes / 4));
    const table = this.#tableOf(index, first);
    if (table && this.grain(index) === undefined) yield* tables.loadSlice(table, roundDown((index % tableEntries) * entryBytes, tables.sliceSize));
  }

  /** The tables of all copies that have a grain's entry, if they are in memory. */
  tablesFor(index: number): Table[] | undefined {
    const found: Table[] = [];
    for (const copy of this.#copies) {
      const offset = this.#tableOf(index, copy);
      const table = offset ? copy.tables.get(offset) : undefined;
      if (!table) return undefined;
      found.push(table);
    }
    return found;
  }

  /** Changes a grain's entry in all copies, and gives up the grain that it names. */
  set(index: number, tables: readonly Table[], value: number): void {
    const old = this.known(index);
    const at = (index % this.shape.tableEntries) * 4;
    for (const [i, table] of tables.entries()) {
      table.data.setUint32(at, value, true);
      this.#copies[i]?.tables.touch(table, at, at + 4);
    }
    if (typeof old !== 'number' || this.shape.compressed) return;
    const unit = (old - this.end.offset(0)) / this.shape.grainSize;
    // A grain that lies across two units of ours is left alone.
    if (!Number.isInteger(unit)) return;
    this.#freed.add(unit, 1);
    this.#named.add(unit);
  }

  /** Brings the tables with a grain's entry into memory, and makes them where there are none. */
  *ready(index: number): Io<void> {
    if (this.#copies.some(({ tables }) => tables.crowded)) yield* this.flush();
    yield* this.#lock.run(() => this.#loadTables(index));
  }

  *#loadTables(index: number): Io<void> {
    yield* this.#learnPlaces();
    for (const [i, copy] of this.#copies.entries()) {
      yield* copy.directory.load(Math.floor(index / this.shape.tableEntries));
      const table = this.#tableOf(index, copy);
      if (table) yield* copy.tables.load(table);
      else if (i > 0) throw differ(copy.what);
      else return yield* this.#newTables(index);
    }
  }

  /** New, empty tables in a place of their own. */
  *#newTables(index: number): Io<void> {
    const { tableEntries } = this.shape;
    const [tableSize, at] = [tableEntries * 4, Math.floor(index / tableEntries)];
    for (const copy of this.#copies) yield* copy.directory.load(at);
    if (this.#copies.some((copy) => this.#tableOf(index, copy) !== 0)) throw differ('redundant grain directory');
    let host = yield* this.#placeOf(tableSize * this.#copies.length);
    for (const { directory, tables } of this.#copies) {
      // The file has the place before the flush writes the table: so it is a table of the file at once.
      yield* this.storage.write(host, new Uint8Array(tableSize));
      tables.add(host);
      directory.set(at, host / SECTOR);
      host += tableSize;
    }
  }

  /** A place for new tables or directories, at the end of the file. */
  *#placeOf(length: number): Io<number> {
    if (this.shape.compressed) {
      const host = this.append;
      this.append += length;
      return host;
    }
    yield* this.end.ready();
    const host = this.end.size;
    if (host + length > MAX_FILE) throw full(this.storage);
    this.end.takeRun(Math.ceil(length / this.shape.grainSize));
    return host;
  }

  /**
   * Directories of more entries, each with a table of zeros, for a larger disk; durable with the next flush, and then named by nothing but `places`. `size`: bytes of
   * the disk up to now. Returns a function that goes back to the old ones.
   */
  *grow(larger: Shape, size: number): Io<() => void> {
    const [old, copies, before] = [this.shape, this.#copies, this.shape.directoryEntries];
    const back = (): void => {
      this.shape = old;
      this.#copies = copies;
      this.#places = this.#placesOf();
    };
    this.shape = larger;
    try {
      yield* this.#clearBehind(old, size);
      if (larger.directoryEntries > before) yield* this.#lock.run(() => this.#largerDirectories(before));
    } catch (error) {
      back();
      throw error;
    }
    return back;
  }

  /** Entries behind the old end may say anything. */
  *#clearBehind({ directoryEntries, grainSize, tableEntries }: Shape, size: number): Io<void> {
    const first = Math.ceil(size / grainSize);
    for (let at = Math.floor(first / tableEntries); at < directoryEntries; at++) {
      for (const copy of this.#copies) yield* copy.directory.load(at);
      if (this.#copies.every((copy) => this.#tableOf(at * tableEntries, copy) === 0)) continue;
      yield* this.ready(at * tableEntries);
      const from = Math.max(0, first - at * tableEntries) * 4;
      for (const [i, found] of (this.tablesFor(at * tableEntries) ?? []).entries()) {
        if (isZero(found.bytes.subarray(from))) continue;
        found.bytes.fill(0, from);
        this.#copies[i]?.tables.touch(found, from, found.bytes.length);
      }
    }
  }

  *#largerDirectories(before: number): Io<void> {
    const { directoryEntries, tableEntries } = this.shape;
    const tableSize = tableEntries * 4;
    const directorySize = roundUp(directoryEntries * 4, SECTOR);
    const each = directorySize + (directoryEntries - before) * tableSize;
    const length = each * this.#copies.length;
    for (const { directory } of this.#copies) yield* directory.loadAll();
    const host = yield* this.#placeOf(length);
    // Bytes past the end of the file read as zero once it is longer; before its end may be the rest of a write that failed.
    if (this.storage.size > host) yield* this.storage.zero(host, length);
    yield* this.end.grow();
    const copies: Copy[] = [];
    for (const [i, copy] of this.#copies.entries()) {
      const offset = host + i * each;
      const directory = this.#directory(offset, copy.what);
      yield* directory.loadAll();
      for (let at = 0; at < directoryEntries; at++)
        directory.set(at, at < before ? (copy.directory.get(at) ?? 0) : (offset + directorySize + (at - before) * tableSize) / SECTOR);
      copies.push({ ...copy, offset, directory });
    }
    this.#copies = copies as [Copy, ...Copy[]];
    this.#places = this.#placesOf();
  }

  /** Where the directories are, in the order of the shape: the first, and the second if there is one. */
  get places(): readonly number[] {
    return this.#copies.map(({ offset }) => offset);
  }

  /** Gives up all grains: an entry after the other, in all tables. Durable when it returns; a cut leaves some of them. */
  *makeEmpty(): Io<void> {
    const { directoryEntries, tableEntries } = this.shape;
    let last = this.shape.grains ?? 0;
    for (let at = 0; at < directoryEntries; at++) {
      const index = at * tableEntries;
      for (const copy of this.#copies) {
        yield* copy.directory.load(at);
        const table = this.#tableOf(index, copy);
        if (!table) continue;
        if (copy.tables.crowded) yield* this.flush();
        const found = yield* copy.tables.load(table);
        last = Math.max(last, table + found.bytes.length);
        if (isZero(found.bytes)) continue;
        found.bytes.fill(0);
        copy.tables.touch(found, 0, found.bytes.length);
      }
    }
    yield* this.flush();
    for (const { offset } of this.#copies) last = Math.max(last, offset + directoryEntries * 4);
    const { grainSize } = this.shape;
    const base = roundUp(last, grainSize);
    if (base >= this.storage.size) return;
    yield* this.storage.truncate(base);
    yield* this.storage.flush();
    this.#survey = undefined;
    this.end = new FileEnd(this.storage, { base, unit: grainSize, used: new Set() });
  }

  flush(): Io<void> {
    return this.order.lock.run(() => this.#flush());
  }

  *#flush(): Io<void> {
    yield* this.order.flush(this.storage.debugEvent);
    for (const { tables } of this.#copies) tables.settle();
    while (this.#freed.due) yield* this.#reuse(...(this.#freed.due as [number, number]));
  }

  /**
   * Hands out again what no table names any more. For grains that were there when the extent was opened, all others are looked at first, once: then grains that an
   * earlier cut has left are handed out too, and none of them if two entries name one grain.
   */
  *#reuse(first: number, count: number): Io<void> {
    if (first < 0 && !this.#survey) {
      this.#survey = yield* this.#surveyed();
      const { shared, unused } = this.#survey;
      const base = this.end.offset(0) / this.shape.grainSize;
      const free = new Set(unused.map((grain) => grain - base));
      for (const unit of this.#named) if (unit < 0 && !free.has(unit)) this.#shared.add(unit);
      if (!shared) this.end.release([...free].filter((unit) => unit < 0 && !this.#named.has(unit)));
    }
    const units = Array.from({ length: count }, (_, i) => first + i);
    for (const unit of units) this.#named.delete(unit);
    this.end.release(units.filter((unit) => unit >= 0 || (this.#survey?.shared === false && !this.#shared.has(unit))));
    this.#freed.done();
  }

  /** What the grains of the file are used for. */
  #surveyed(): Io<Survey> {
    const copies = this.#copies;
    return surveyGrains(this.storage, {
      shape: this.shape,
      directories: copies.map(({ offset }) => offset),
      entry: (index) => this.entry(index),
      load: (index) => this.#lock.run(() => this.#loadEntries(index, copies)),
      tables: (index) => copies.flatMap((copy) => this.#tableOf(index, copy) || []),
    });
  }

  *#loadEntries(index: number, copies: readonly Copy[]): Io<void> {
    const at = Math.floor(index / this.shape.tableEntries) * (this.shape.entryBytes / 4);
    for (const { directory } of copies) yield* directory.load(at);
    yield* this.#loadEntry(index);
  }
}

const differ = (field: string): DiskError => corrupt(FORMAT, 'the two grain directories differ: open the image read-only', { field });

/** The error for a file that can have no further grain. */
export const full = (storage: Storage): DiskError =>
  new DiskError('no-space', `${storage.name}: an extent has at most ${MAX_FILE} bytes`, { format: FORMAT });

/** The error for a write to compressed grains that is no whole one. */
export const notWhole = (): DiskError =>
  unsupported(FORMAT, 'a streamOptimized image takes whole grains, compressed, and each once', { field: 'subformat' });
