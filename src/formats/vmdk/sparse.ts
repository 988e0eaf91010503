/**
 * An extent with tables: a directory names grain tables, whose entries name grains. The directory and its tables may exist twice.
 *
 * Crash argument. A grain gets a place behind the end of the file as it was opened, which no entry names; its data is written there, and both copies of the
 * entry change in memory. A flush (write-order.ts) makes the file as long as its grains, and behind a barrier writes the tables, new ones too; behind
 * another barrier the directories, which name the new tables. So a cut leaves grains and tables that nothing names, and copies of which one is
 * older, never an entry that names what is not there. What is behind the last grain after a cut stays unused.
 */
import { roundDown, roundUp } from '../../base/bytes.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Mutex } from '../../base/locks.ts';
import { MiB, SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { EncodedReads } from '../../tables/encoded-reads.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import { FileEnd } from '../../tables/file-end.ts';
import { type Table, TableCache } from '../../tables/table-cache.ts';
import { WriteOrder } from '../../tables/write-order.ts';
import type { Extent, Placement } from '../driver.ts';
import type { DiskPart } from './extents.ts';
import { encodeGrain, grainReads } from './grains.ts';
import { FORMAT, type Grain, type Shape } from './layout.ts';

/** Memory for the tables of one extent, and for its second ones. */
const BUDGET = 2 * MiB;
const ZERO_ENTRY = 1;
/** Entries are 32 bits of sectors. */
const MAX_FILE = 0xffffffff * SECTOR;

/** A directory and its tables. */
interface Copy {
  readonly directory: EntryTable;
  readonly tables: TableCache;
  readonly what: string;
}

/** See the top of this file. */
export class SparsePart implements DiskPart {
  readonly storage: Storage;
  readonly shape: Shape;
  readonly size: number;
  readonly grainSize: number;
  readonly kind: string;
  readonly #first: Copy;
  /** The copies that are kept alike: the first alone where the extent is only read. */
  readonly #copies: readonly Copy[];
  readonly #end: FileEnd;
  readonly #order: WriteOrder;
  readonly #reads: EncodedReads;
  /** Tables are read, and new ones made, by one request at a time. */
  readonly #lock = new Mutex();
  /** Where the next compressed grain goes. */
  #append: number;

  /** `size`: bytes of the disk that are taken of the extent. Throws `corrupt` if a directory is not wholly in the file. */
  constructor(storage: Storage, shape: Shape, { size, kind, readOnly }: { size: number; kind: string; readOnly: boolean }) {
    this.storage = storage;
    this.shape = shape;
    this.size = size;
    this.kind = kind;
    this.grainSize = shape.grainSize;
    this.#first = this.#copy(shape.directory, 'grain directory', 'grain table');
    const second =
      shape.redundant !== undefined && !readOnly ? [this.#copy(shape.redundant, 'redundant grain directory', 'redundant grain table')] : [];
    this.#copies = [this.#first, ...second];
    this.#append = roundUp(storage.size, SECTOR);
    this.#end = new FileEnd(storage, { base: roundUp(storage.size, shape.grainSize), unit: shape.grainSize, used: new Set() });
    const copies = this.#copies;
    this.#order = new WriteOrder(storage, {
      format: FORMAT,
      changes: copies.flatMap(({ directory, tables }) => [directory, tables]),
      stages: [
        { pending: () => !shape.compressed && copies.some(({ tables }) => tables.hasSealed), write: () => this.#end.grow() },
        {
          pending: () => copies.some(({ tables }) => tables.hasSealed),
          *write() {
            for (const { tables } of copies) yield* tables.write('all');
          },
        },
        {
          pending: () => copies.some(({ directory }) => directory.hasSealed),
          *write() {
            for (const { directory } of copies) yield* directory.write();
          },
        },
      ],
    });
    this.#reads = this.#encoded();
  }

  get compressed(): boolean {
    return this.shape.compressed;
  }

  get fixed(): string | undefined {
    return this.shape.fixed;
  }

  #copy(offset: number, what: string, tableName: string): Copy {
    const { tableEntries, entryBytes, directoryEntries } = this.shape;
    const words = entryBytes / 4;
    return {
      directory: new EntryTable(this.storage, { offset, entries: directoryEntries * words, littleEndian: true, format: FORMAT, what }),
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

  /** The host offset of the table for a grain, 0 if there is none; undefined if memory cannot tell. Throws `corrupt`. */
  #tableOf(index: number, { directory, what }: Copy): number | undefined {
    const { tableEntries, entryBytes, least, tableAt } = this.shape;
    const words = entryBytes / 4;
    const at = Math.floor(index / tableEntries) * words;
    const low = directory.get(at);
    if (low === undefined) return undefined;
    const table = tableAt(words === 2 ? (directory.get(at + 1) ?? 0) : 0, low);
    if (table !== 0 && table < least) throw corrupt(FORMAT, `a table at 0x${table.toString(16)}, where none can be`, { field: what, offset: table });
    return table;
  }

  /** What a grain's entry says, whether it can be or not; undefined if memory cannot tell. Throws `corrupt`. */
  #entry(index: number): Grain | undefined {
    const table = this.#tableOf(index, this.#first);
    if (!table) return table === 0 ? 'none' : undefined;
    const { tables } = this.#first;
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
  #grain(index: number): Grain | undefined {
    const grain = this.#entry(index);
    const { least } = this.shape;
    if (typeof grain !== 'number' || (grain >= least && grain < this.storage.size)) return grain;
    const reason = grain < least ? 'where none can be' : 'past the end of the file';
    throw corrupt(FORMAT, `grain ${index} is at 0x${grain.toString(16)}, ${reason}`, { field: 'grain table' });
  }

  /** As `#grain`, for callers that may not fail: they are told by `load`. */
  #known(index: number): Grain | undefined {
    try {
      return this.#grain(index);
    } catch (error) {
      if (error instanceof DiskError) return undefined;
      throw error;
    }
  }

  look(offset: number, length: number): Extent | undefined {
    const { grainSize, storage } = this;
    const within = offset % grainSize;
    const first = (offset - within) / grainSize;
    const grain = this.#known(first);
    if (grain === undefined) return undefined;
    const data = typeof grain === 'number' && !this.compressed;
    let index = first + 1;
    while (index * grainSize < offset + length) {
      const next = this.#known(index);
      if (data ? next !== grain + (index - first) * grainSize : typeof grain === 'number' ? typeof next !== 'number' : next !== grain) break;
      index++;
    }
    const run = Math.min(length, index * grainSize - offset);
    if (grain === 'none') return { kind: 'backing', length: run };
    if (grain === 'zero') return { kind: 'zero', length: run };
    return data ? { kind: 'data', length: run, storage, hostOffset: grain + within } : { kind: 'encoded', length: run, compressed: true };
  }

  *load(offset: number): Io<void> {
    const index = Math.floor(offset / this.grainSize);
    yield* this.#lock.run(() => this.#loadEntry(index));
    this.#grain(index);
  }

  *#loadEntry(index: number): Io<void> {
    const { directory, tables } = this.#first;
    const { tableEntries, entryBytes } = this.shape;
    yield* directory.load(Math.floor(index / tableEntries) * (entryBytes / 4));
    const table = this.#tableOf(index, this.#first);
    if (table && this.#grain(index) === undefined) yield* tables.loadSlice(table, roundDown((index % tableEntries) * entryBytes, tables.sliceSize));
  }

  /** The tables of all copies that have a grain's entry, if they are in memory. */
  #tablesFor(index: number): Table[] | undefined {
    const found: Table[] = [];
    for (const copy of this.#copies) {
      const offset = this.#tableOf(index, copy);
      const table = offset ? copy.tables.get(offset) : undefined;
      if (!table) return undefined;
      found.push(table);
    }
    return found;
  }

  #setEntry(index: number, tables: readonly Table[], value: number): void {
    const at = (index % this.shape.tableEntries) * 4;
    for (const [i, table] of tables.entries()) {
      table.data.setUint32(at, value, true);
      this.#copies[i]?.tables.touch(table, at, at + 4);
    }
  }

  place(offset: number, length: number): Placement | undefined {
    const { grainSize, storage } = this;
    const within = offset % grainSize;
    const start = offset - within;
    const index = start / grainSize;
    const grain = this.#known(index);
    if (grain === undefined || this.compressed) return undefined;
    const inside = Math.min(length, grainSize - within);
    if (typeof grain === 'number') return { length: inside, storage, hostOffset: grain + within };
    let tables: readonly Table[] | undefined;
    try {
      tables = this.#end.size + grainSize <= MAX_FILE ? this.#tablesFor(index) : undefined;
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
    }
    const unit = tables && this.#end.take();
    if (!tables || !unit) return undefined;
    const pinned = tables;
    const pin = (by: 1 | -1): void => {
      for (const table of pinned) table.pins += by;
    };
    pin(1);
    const hostOffset = this.#end.offset(unit.index);
    return {
      length: inside,
      storage,
      hostOffset: hostOffset + within,
      fresh: {
        start,
        end: Math.min(start + grainSize, this.size),
        ...(unit.untouched ? { untouched: true } : {}),
        ...(grain === 'none' ? { wasEmpty: true } : {}),
        commit: () => {
          this.#setEntry(index, pinned, hostOffset / SECTOR);
          pin(-1);
        },
        abort: (unused) => {
          this.#end.giveBack(unit, unused);
          pin(-1);
        },
      },
    };
  }

  *prepare(offset: number): Io<void> {
    const index = Math.floor(offset / this.grainSize);
    if (this.compressed) throw unsupported(FORMAT, 'a streamOptimized image takes whole grains, compressed, and each once', { field: 'subformat' });
    yield* this.#ready(index);
    this.#grain(index);
    if (this.#end.size + this.grainSize > MAX_FILE)
      throw new DiskError('no-space', `${this.storage.name}: an extent has at most ${MAX_FILE} bytes`, { format: FORMAT });
    yield* this.#end.ready();
  }

  /** Brings the tables with a grain's entry into memory, and makes them where there are none. */
  *#ready(index: number): Io<void> {
    if (this.#copies.some(({ tables }) => tables.crowded)) yield* this.flush();
    yield* this.#lock.run(() => this.#loadTables(index));
  }

  *#loadTables(index: number): Io<void> {
    for (const [i, copy] of this.#copies.entries()) {
      yield* copy.directory.load(Math.floor(index / this.shape.tableEntries));
      const table = this.#tableOf(index, copy);
      if (table) yield* copy.tables.load(table);
      else if (i > 0) throw corrupt(FORMAT, 'the two grain directories differ: open the image read-only', { field: copy.what });
      else return yield* this.#newTables(index);
    }
  }

  /** New, empty tables in a place of their own. */
  *#newTables(index: number): Io<void> {
    const { tableEntries } = this.shape;
    const [tableSize, at] = [tableEntries * 4, Math.floor(index / tableEntries)];
    for (const copy of this.#copies) yield* copy.directory.load(at);
    if (this.#copies.some((copy) => this.#tableOf(index, copy) !== 0))
      throw corrupt(FORMAT, 'the two grain directories differ: open the image read-only', { field: 'redundant grain directory' });
    let host = yield* this.#placeOf(tableSize * this.#copies.length);
    for (const { directory, tables } of this.#copies) {
      // The file has the place before the flush writes the table: so it is a table of the file at once.
      yield* this.storage.write(host, new Uint8Array(tableSize));
      tables.add(host);
      directory.set(at, host / SECTOR);
      host += tableSize;
    }
  }

  /** A place for new tables. */
  *#placeOf(length: number): Io<number> {
    if (this.compressed) {
      const host = this.#append;
      this.#append += length;
      return host;
    }
    if (length > this.grainSize) throw unsupported(FORMAT, 'grain tables larger than a grain', { field: 'grainSize' });
    for (;;) {
      const unit = this.#end.take();
      if (unit) return this.#end.offset(unit.index);
      yield* this.#end.ready();
    }
  }

  /** Grains that are made to read as zero keep no place; their old one stays unused. */
  *zero(offset: number, length: number): Io<number> {
    const { grainSize, size } = this;
    const end = offset + length === size ? size : roundDown(offset + length, grainSize);
    if (!this.shape.zeroGrains || this.compressed || offset % grainSize !== 0 || end <= offset) return 0;
    for (let at = offset; at < end; at += grainSize) {
      const index = at / grainSize;
      let tables = this.#tablesFor(index);
      if (!tables) {
        yield* this.#ready(index);
        tables = this.#tablesFor(index);
      }
      if (tables) this.#setEntry(index, tables, ZERO_ENTRY);
    }
    return end - offset;
  }

  decode(offset: number, into: Uint8Array): Io<void> {
    return this.#reads.read(offset, into);
  }

  *writeCompressed(offset: number, bytes: Uint8Array): Io<void> {
    const index = offset / this.grainSize;
    yield* this.#ready(index);
    if (this.#grain(index) !== 'none')
      throw unsupported(FORMAT, `grain ${index} has been written: a streamOptimized image takes each once`, { field: 'subformat', offset });
    const encoded = encodeGrain(bytes, offset / SECTOR);
    const host = this.#append;
    if (host + encoded.length > MAX_FILE)
      throw new DiskError('no-space', `${this.storage.name}: an extent has at most ${MAX_FILE} bytes`, { format: FORMAT });
    this.#append += encoded.length;
    yield* this.storage.write(host, encoded);
    yield* this.#ready(index);
    const tables = this.#tablesFor(index);
    if (tables) this.#setEntry(index, tables, host / SECTOR);
  }

  #encoded(): EncodedReads {
    const { grainSize, storage, size } = this;
    return grainReads(storage, { grainSize, size, known: (index) => this.#known(index), load: (offset) => this.load(offset) });
  }

  *flush(): Io<void> {
    yield* this.#order.lock.run(() => this.#order.flush(this.storage.debugEvent));
    for (const { tables } of this.#copies) tables.settle();
  }

  /** Goes over all grains in turn. `tell` hears of each that cannot be read, because its place or its tables are wrong, and ends the walk with false. */
  *walk(tell: (index: number, wrong: 'past the end' | 'unreadable') => boolean, step: () => void): Io<void> {
    const grains = Math.ceil(this.size / this.grainSize);
    for (let index = 0; index < grains; index++) {
      if (index % this.shape.tableEntries === 0) step();
      if (this.#known(index) !== undefined) continue;
      try {
        yield* this.load(index * this.grainSize);
      } catch (error) {
        if (!(error instanceof DiskError) || error.kind !== 'corrupt') throw error;
        if (!tell(index, this.#isPastEnd(index) ? 'past the end' : 'unreadable')) return;
      }
    }
  }

  #isPastEnd(index: number): boolean {
    try {
      const grain = this.#entry(index);
      return typeof grain === 'number' && grain >= this.storage.size;
    } catch {
      return false;
    }
  }
}
