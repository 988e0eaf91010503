/**
 * The L1 table and the L2 tables of an open image. The L1 table may have gigabytes, so that memory holds pages of it; L2 tables are held whole. Changed ones
 * stay until the flush, in which L2 tables go before the L1 table that points at them.
 */
import { setU64be } from '../../base/bytes.ts';
import { corrupt, type DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Mutex } from '../../base/locks.ts';
import { KiB, MiB } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import { type Table, TableCache } from '../../tables/table-cache.ts';
import { badPlace, ENTRY, entryAt, FORMAT, type Header } from './layout.ts';

/** Bytes, and entries, of a page of the L1 table. */
const PAGE = 4 * KiB;
export const PAGE_ENTRIES = PAGE / ENTRY;

/** An entry of a table, or of a page of one, that is in memory. */
export interface Entry {
  readonly table: Table;
  readonly index: number;
}

/** See the top of this file. */
export class Tables {
  readonly l1: TableCache;
  readonly l2: TableCache;
  readonly #storage: Storage;
  readonly #header: Header;
  readonly #loading = new Mutex();

  constructor(storage: Storage, header: Header) {
    this.#storage = storage;
    this.#header = header;
    const { l2Bytes, clusterSize } = header;
    this.l1 = new TableCache(storage, { tableSize: PAGE, alignment: ENTRY, pages: true, format: FORMAT, what: 'L1 table', budget: MiB });
    this.l2 = new TableCache(storage, { tableSize: l2Bytes, alignment: clusterSize, format: FORMAT, what: 'L2 table', budget: 4 * MiB });
  }

  /** The L1 entry for a guest offset, if it is in memory. */
  l1Entry(offset: number): Entry | undefined {
    const index = Math.floor(offset / this.#header.coverage);
    const table = this.l1.get(this.#pageOf(index));
    return table && { table, index: index % PAGE_ENTRIES };
  }

  /** The L2 entry for a guest offset, if it is in memory; also undefined where there is no L2 table, or the place of one is wrong. */
  l2Entry(offset: number): Entry | undefined {
    const { coverage, clusterSize } = this.#header;
    const entry = this.l1Entry(offset);
    const place = entry ? entryAt(entry.table.data, entry.index) : 0;
    if (place === 0 || this.#badTable(place)) return undefined;
    const table = this.l2.get(place);
    return table && { table, index: Math.floor((offset % coverage) / clusterSize) };
  }

  /** Brings the L1 entry for a guest offset into memory, and its L2 table if there is one. Throws `corrupt` for an L1 entry that points nowhere. */
  *load(offset: number): Io<void> {
    // Two reads of one table at the same time could lose a change of the first.
    yield* this.#loading.run(() => this.#load(offset));
  }

  *#load(offset: number): Io<void> {
    const index = Math.floor(offset / this.#header.coverage);
    const page = yield* this.l1.load(this.#pageOf(index));
    const place = entryAt(page.data, index % PAGE_ENTRIES);
    if (place === 0) return;
    const bad = this.#badTable(place);
    if (bad) throw fault('L1', index, bad);
    yield* this.l2.load(place);
  }

  /** Makes every L1 entry say that there is no L2 table. */
  *unlinkAll(): Io<void> {
    const { l1Entries } = this.#header;
    for (let first = 0; first < l1Entries; first += PAGE_ENTRIES) {
      const table = yield* this.l1.pass(this.#pageOf(first));
      for (let index = 0; index < Math.min(PAGE_ENTRIES, l1Entries - first); index++)
        if (entryAt(table.data, index) !== 0) setEntry(this.l1, { table, index }, 0);
    }
  }

  /** What is wrong with a cluster's place. */
  badCluster(hostOffset: number): string | undefined {
    return badPlace(this.#header, hostOffset, { length: this.#header.clusterSize, needed: 1, fileSize: this.#storage.size });
  }

  /** The error about the entry of a cluster. */
  badEntry(offset: number, bad: string): DiskError {
    return fault('L2', Math.floor(offset / this.#header.clusterSize), bad);
  }

  #pageOf(index: number): number {
    return this.#header.l1Offset + Math.floor(index / PAGE_ENTRIES) * PAGE;
  }

  #badTable(place: number): string | undefined {
    const { l2Bytes } = this.#header;
    return badPlace(this.#header, place, { length: l2Bytes, needed: l2Bytes, fileSize: this.#storage.size });
  }
}

const fault = (what: 'L1' | 'L2', index: number, bad: string): DiskError =>
  corrupt(FORMAT, `${what} entry ${index} points at ${bad}`, { field: `${what} entry` });

/** Changes an entry of a table in memory. */
export function setEntry(cache: TableCache, { table, index }: Entry, value: number): void {
  setU64be(table.data, index * ENTRY, value);
  touch(cache, { table, index });
}

/** Notes that an entry was changed. */
export function touch(cache: TableCache, { table, index }: Entry): void {
  cache.touch(table, index * ENTRY, (index + 1) * ENTRY);
}
