/**
 * The L1 table and the L2 tables of an open image. A table may have a gigabyte, so that memory holds pages of tables, each of which is a table to the
 * caches: changed pages stay until the flush, in which L2 pages go before those of the L1 table that points at them.
 */
import { setU64le } from '../../base/bytes.ts';
import { corrupt, type DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Mutex } from '../../base/locks.ts';
import { KiB, MiB } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import { type Table, TableCache } from '../../tables/table-cache.ts';
import { badPlace, ENTRY, entryAt, FORMAT, type Header } from './layout.ts';

const PAGE = 4 * KiB;
export const PAGE_ENTRIES = PAGE / ENTRY;

/** The part of an L2 table with a cluster's entry. */
export interface Entries {
  readonly page: Table;
  /** Of the cluster, in the page. */
  readonly index: number;
}

/** See the top of this file. */
export class Tables {
  readonly l1: TableCache;
  readonly l2: TableCache;
  readonly #storage: Storage;
  readonly #header: Header;
  readonly #loading = new Mutex();
  /** Entries of a table. */
  readonly entries: number;
  /** Guest bytes that one L2 table maps. */
  readonly coverage: number;

  constructor(storage: Storage, header: Header) {
    this.#storage = storage;
    this.#header = header;
    this.l1 = new TableCache(storage, { tableSize: PAGE, format: FORMAT, what: 'L1 table', budget: MiB });
    this.l2 = new TableCache(storage, { tableSize: PAGE, format: FORMAT, what: 'L2 table', budget: 4 * MiB });
    this.entries = (header.clusterSize * header.tableSize) / ENTRY;
    this.coverage = this.entries * header.clusterSize;
  }

  /** Where the L2 table for a guest offset is, as the L1 table says, if that is in memory; 0: there is none. */
  tableOf(offset: number): number | undefined {
    const index = Math.floor(offset / this.coverage);
    const page = this.l1.get(this.#pageOf(this.#header.l1Offset, index));
    return page && entryAt(page.data, index % PAGE_ENTRIES);
  }

  /** The entries of the L2 table for a guest offset, if they are in memory. Not to be asked where there is no such table. */
  find(offset: number): Entries | undefined {
    const table = this.tableOf(offset);
    if (!table || this.#badTable(table)) return undefined;
    const index = Math.floor((offset % this.coverage) / this.#header.clusterSize);
    const page = this.l2.get(this.#pageOf(table, index));
    return page && { page, index: index % PAGE_ENTRIES };
  }

  /** Makes `tableOf` and `find` answer. Throws `corrupt` for an L1 entry that points nowhere. */
  *load(offset: number): Io<void> {
    // Two reads of one page at the same time could lose a change of the first.
    yield* this.#loading.run(() => this.#load(offset));
  }

  *#load(offset: number): Io<void> {
    const l1Index = Math.floor(offset / this.coverage);
    yield* this.l1.load(this.#pageOf(this.#header.l1Offset, l1Index));
    const table = this.tableOf(offset) as number;
    if (table === 0) return;
    const bad = this.#badTable(table);
    if (bad) throw this.#fault('L1', l1Index, bad);
    const index = Math.floor((offset % this.coverage) / this.#header.clusterSize);
    yield* this.l2.load(this.#pageOf(table, index));
  }

  /** Makes the L1 table, which is in memory there, point at an L2 table. */
  link(offset: number, table: number): void {
    const index = Math.floor(offset / this.coverage);
    const page = this.l1.get(this.#pageOf(this.#header.l1Offset, index));
    if (page) setEntry(this.l1, { page, index: index % PAGE_ENTRIES }, table);
  }

  /** What is wrong with a cluster's place; the L1 table is none either. */
  badCluster(hostOffset: number): string | undefined {
    const { l1Offset, clusterSize, tableSize } = this.#header;
    if (hostOffset >= l1Offset && hostOffset < l1Offset + tableSize * clusterSize) return `0x${hostOffset.toString(16)}, inside the L1 table`;
    return badPlace(this.#header, hostOffset, this.#storage.size);
  }

  /** The error about the entry of a cluster. */
  badEntry(offset: number, bad: string): DiskError {
    return this.#fault('L2', Math.floor(offset / this.#header.clusterSize), bad);
  }

  /** The page of a table that has this entry. */
  #pageOf(table: number, index: number): number {
    return table + Math.floor(index / PAGE_ENTRIES) * PAGE;
  }

  #badTable(table: number): string | undefined {
    return this.badCluster(table) ?? badPlace(this.#header, table, this.#storage.size, this.#header.tableSize);
  }

  #fault(what: 'L1' | 'L2', index: number, bad: string): DiskError {
    return corrupt(FORMAT, `${what} entry ${index} points at ${bad}`, { field: `${what} entry` });
  }
}

/** Changes an entry of a page in memory. */
export function setEntry(cache: TableCache, { page, index }: Entries, value: number): void {
  setU64le(page.data, index * ENTRY, value);
  cache.touch(page, index * ENTRY, (index + 1) * ENTRY);
}
