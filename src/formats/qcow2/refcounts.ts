/**
 * Reference counts of host clusters, and finding free ones. First fit from a moving start, in QEMU's order, so that images we
 * write look like QEMU's.
 *
 * Crash argument. A count is raised in memory at once and written by the flush before anything that points at the cluster.
 * A count is lowered only after the pointer's removal is durable: `free` puts the cluster aside (freed-clusters.ts), `applyFrees` (called by
 * the flush, behind its barrier) takes it out; until then it cannot be allocated again. So a cut leaves counts too high: leaks.
 * A new refcount block, and the block that counts it, are durable before the refcount table points at it; a grown refcount
 * table is durable, with the blocks that count it, before the one header write that switches to it.
 */
import { divideUp, setU64be, view } from '../../base/bytes.ts';
import type { DebugHook } from '../../base/debug-events.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import { FreedClusters } from '../../tables/freed-clusters.ts';
import { type Locked, type Table, TableCache } from '../../tables/table-cache.ts';
import { TablesInOrder } from '../../tables/table-walk.ts';
import { fatal } from './fatal.ts';
import { FORMAT, MAX_REFTABLE_BYTES } from './layout.ts';
import { getRefcount, getRefcounts, maxRefcount, setRefcount } from './layout-tables.ts';
import { planGrowth, RefcountTable } from './refcount-table.ts';

const CACHE_BYTES = 8 * 1024 * 1024;
/** Clusters past the end of the file that a search for free ones looks through. */
const MAX_COUNTED_PAST_END = 1 << 22;

export interface RefcountOptions {
  readonly storage: Storage;
  readonly clusterSize: number;
  readonly order: number;
  /** The refcount table as read. */
  readonly reftable: Uint8Array;
  readonly reftableOffset: number;
  /** Writes the header fields of a new refcount table, both in one sector; durable when it returns. */
  readonly switchTable: (offset: number, clusters: number) => Io<void>;
  /** Writes a refcount table entry; durable when it returns. */
  readonly writePointer: (offset: number, bytes: Uint8Array) => Io<void>;
  /** A refcount block or table was added. */
  readonly onNewBlock: () => void;
}

export class Refcounts {
  readonly #storage: Storage;
  readonly #debug: DebugHook | undefined;
  readonly #clusterSize: number;
  #order: number;
  readonly #blocks: TableCache;
  readonly #switchTable: RefcountOptions['switchTable'];
  readonly #writePointer: RefcountOptions['writePointer'];
  readonly #onNewBlock: RefcountOptions['onNewBlock'];
  table: RefcountTable;
  /** The start of the next search: no cluster below is free, as far as is known. */
  #freeIndex = 0;
  /** The place behind the compressed bytes written last, where the next may go; 0 if they are to begin with a new cluster. */
  #freeByte = 0;
  readonly freed = new FreedClusters();

  constructor(options: RefcountOptions) {
    const { storage, clusterSize, order } = options;
    this.#storage = storage;
    this.#debug = storage.debugEvent;
    this.#clusterSize = clusterSize;
    this.#order = order;
    this.#blocks = new TableCache(storage, {
      tableSize: clusterSize,
      format: FORMAT,
      what: 'refcount block',
      budget: CACHE_BYTES,
      // The code that uses a block reports that use itself.
      events: { update: 'refblock_update_part' },
      misplaced: fatal,
    });
    this.table = new RefcountTable(options.reftable, options.reftableOffset);
    this.#switchTable = options.switchTable;
    this.#writePointer = options.writePointer;
    this.#onNewBlock = options.onNewBlock;
  }

  /** Clusters that a refcount block counts. */
  get blockEntries(): number {
    return (this.#clusterSize * 8) >> this.#order;
  }

  /** The largest count this width holds. */
  get max(): number {
    return maxRefcount(this.#order);
  }

  get crowded(): boolean {
    return this.#blocks.crowded;
  }

  /** Some counts are not yet in the file. */
  get hasChanges(): boolean {
    return this.#blocks.dirtyBytes > 0;
  }

  /** Host offsets of all refcount blocks. */
  *blockOffsets(): Generator<number> {
    for (const index of this.table.inUse()) {
      const offset = this.table.blockOffset(index);
      if (offset !== 0) yield offset;
    }
  }

  /** The stored count of a cluster. */
  *get(clusterIndex: number): Io<number> {
    const block = yield* this.loadBlock(Math.floor(clusterIndex / this.blockEntries));
    return block ? getRefcount(block.data, clusterIndex % this.blockEntries, this.#order) : 0;
  }

  /** Refcount block `index`, or `undefined` where there is none and all counts are 0. */
  *loadBlock(index: number): Io<Table | undefined> {
    const offset = this.table.blockOffset(index);
    return offset === 0 ? undefined : (this.#blocks.get(offset) ?? (yield* this.#blocks.load(offset)));
  }

  /** For a caller that visits the blocks in order: call the result before each block is read; it reads the next blocks early. */
  blocksInOrder(locked: Locked): (index: number) => Io<void> {
    const tables = new TablesInOrder(this.#blocks, locked);
    return (index) => tables.reach(index, this.table.entries, (at) => this.table.blockOffset(at));
  }

  /** The stored counts of the clusters that refcount block `index` counts, from its entry `from` on, at most `most`. */
  *countsOf(index: number, most: number, from = 0): Io<Float64Array> {
    const counts = new Float64Array(Math.min(most, this.blockEntries - from));
    const block = yield* this.loadBlock(index);
    if (block) getRefcounts(block.data, from, this.#order, counts);
    return counts;
  }

  /** Sets a count outright. A missing block is made at or past `end`: clusters that the counts call free may be in use. */
  *repair(clusterIndex: number, count: number, end: number): Io<void> {
    this.#freeByte = 0;
    const index = Math.floor(clusterIndex / this.blockEntries);
    this.#freeIndex = Math.max(this.#freeIndex, end);
    while (!(yield* this.loadBlock(index))) yield* this.#makeBlock(clusterIndex);
    this.#set((yield* this.loadBlock(index)) as Table, clusterIndex, count);
  }

  /**
   * Sets the counts of clusters from `first` on, past the end of the file, to 0 except those that are `kept`; returns how many counts changed. Otherwise
   * a new cluster would get its place behind them, and the file would have to be that long. Nothing may refer to them.
   */
  *clearFrom(first: number, kept: ReadonlySet<number>): Io<number> {
    let cleared = 0;
    for (const index of [...this.table.inUse()]) {
      const start = index * this.blockEntries;
      if (start + this.blockEntries <= first) continue;
      const block = yield* this.loadBlock(index);
      for (let cluster = Math.max(first, start); block && cluster < start + this.blockEntries; cluster++) {
        if (getRefcount(block.data, cluster - start, this.#order) === 0 || kept.has(cluster)) continue;
        this.#set(block, cluster, 0);
        cleared++;
      }
    }
    if (cleared > 0) this.#freeIndex = Math.min(this.#freeIndex, first);
    return cleared;
  }

  /** Takes `count` contiguous free clusters and returns their host offset. Nothing durable counts them before the next flush. */
  *allocate(count: number): Io<number> {
    if (this.#debug) yield* this.#debug('cluster_alloc');
    for (;;) {
      const first = yield* this.#findFree(count);
      if (yield* this.#claim(first, count)) return first * this.#clusterSize;
    }
  }

  /** Takes as many of the `count` clusters at `offset` as are free, up to the first that is not. Returns how many. */
  *allocateAt(offset: number, count: number): Io<number> {
    const first = offset / this.#clusterSize;
    for (;;) {
      const free = this.#freeAt(first, count);
      if (free === undefined) yield* this.#loadBlocks(first, count);
      else if (free === 0 || (yield* this.#claim(first, free))) return free;
    }
  }

  /**
   * The clusters that `allocateAt` (given `after`, a host offset) or else `allocate` would take, if the blocks that count them are in memory. Never waits;
   * undefined: call those.
   */
  take(count: number, after?: number): { readonly offset: number; readonly clusters: number } | undefined {
    const next = after === undefined ? 0 : this.#freeAt(after / this.#clusterSize, count);
    if (next === undefined) return undefined;
    const clusters = next > 0 ? next : count;
    const first = next > 0 ? (after as number) / this.#clusterSize : this.#seek(count);
    if (typeof first !== 'number') return undefined;
    if (this.#raise(first, clusters)) return { offset: first * this.#clusterSize, clusters };
    if (next === 0) this.#freeIndex = Math.min(this.#freeIndex, first);
    return undefined;
  }

  /** Gives clusters back that `take` or `allocate` took and nothing points at: at once if the blocks are in memory, else with the next flush. */
  giveBack(offset: number, length: number): void {
    const [first, count] = this.#touched(offset, length);
    for (let cluster = first; cluster < first + count; cluster++) {
      const block = this.#residentBlock(cluster);
      if (block) this.#lowerOne(block, cluster);
      else this.free(cluster * this.#clusterSize, this.#clusterSize);
    }
  }

  /** How many of `count` clusters from `first` on are free, up to the first that is not; undefined if a block would have to be read to tell. */
  #freeAt(first: number, count: number): number | undefined {
    for (let free = 0; free < count; free++) {
      const cluster = first + free;
      const block = this.#residentBlock(cluster);
      if (!block && this.#blockOffsetFor(cluster) !== 0) return undefined;
      if (block && getRefcount(block.data, cluster % this.blockEntries, this.#order) !== 0) return free;
    }
    return count;
  }

  /**
   * Takes `length` bytes (less than a cluster) and returns their host offset: behind those taken last, where they may go on into the next
   * cluster if that is free, else at the start of a new one. Every cluster they touch has one reference more.
   */
  *allocateBytes(length: number): Io<number> {
    if (this.#debug) yield* this.#debug('cluster_alloc_bytes');
    for (;;) {
      const at = this.#freeByte;
      const room = at === 0 ? 0 : this.#clusterSize - (at % this.#clusterSize);
      const shared = Math.floor(at / this.#clusterSize);
      const sharedCount = at === 0 ? 0 : yield* this.get(shared);
      const full = sharedCount === 0 || sharedCount >= this.max;
      let offset = at;
      if (full || room < length) {
        const fresh = yield* this.#findFree(1);
        if (full || fresh !== shared + 1) offset = fresh * this.#clusterSize;
        if (!(yield* this.#claim(fresh, 1))) {
          this.#freeByte = 0;
          continue;
        }
      } else if (this.#debug) yield* this.#tellOfBlock(this.#debug, true);
      if (offset === at) this.#set((yield* this.loadBlock(Math.floor(shared / this.blockEntries))) as Table, shared, sharedCount + 1);
      this.#freeByte = (offset + length) % this.#clusterSize === 0 ? 0 : offset + length;
      return offset;
    }
  }

  /** Gives clusters, or compressed bytes, back that nothing ever pointed at. */
  *release(offset: number, length: number): Io<void> {
    this.#freeByte = 0;
    if (this.#debug) yield* this.#debug('cluster_free');
    yield* this.#lower(...this.#touched(offset, length));
  }

  /** One reference to every cluster touched by [offset, offset + length) is gone; they are free after the next flush. */
  free(offset: number, length: number): void {
    const [first, count] = this.#touched(offset, length);
    // No more bytes are put into a cluster whose last reference may be going.
    const open = Math.floor(this.#freeByte / this.#clusterSize);
    if (open >= first && open < first + count) this.#freeByte = 0;
    this.freed.add(first, count);
  }

  /** Lowers the counts of clusters freed before `FreedClusters.seal`. Only after the removal of the pointers is durable. */
  *applyFrees(): Io<void> {
    for (let { due } = this.freed; due; { due } = this.freed) {
      const [first, count] = due;
      if (this.#debug) yield* this.#debug('cluster_free');
      yield* this.#loadBlocks(first, count);
      yield* this.#lower(first, count);
      this.freed.done();
    }
  }

  /** Writes changed blocks, in file order. */
  *write(): Io<void> {
    yield* this.#blocks.writeAll();
    this.#blocks.settle();
  }

  /** Changes to another refcount table whose header switch is durable; blocks in memory are read again. */
  adopt(reftable: Uint8Array, reftableOffset: number): void {
    this.table = new RefcountTable(reftable, reftableOffset);
    this.#blocks.clear();
    this.#freeByte = 0;
  }

  /** Changes to another structure, whose header switch is durable: free clusters are not known any more, and none wait to be freed. */
  renew(reftable: Uint8Array, { reftableOffset, refcountOrder }: { reftableOffset: number; refcountOrder: number }): void {
    this.adopt(reftable, reftableOffset);
    this.#order = refcountOrder;
    this.#freeIndex = 0;
  }

  /** The first cluster that a range touches, and how many. */
  #touched(offset: number, length: number): [number, number] {
    const first = Math.floor(offset / this.#clusterSize);
    return [first, Math.floor((offset + length - 1) / this.#clusterSize) - first + 1];
  }

  *#findFree(count: number): Io<number> {
    for (;;) {
      const found = this.#seek(count);
      if (typeof found === 'number') return found;
      yield* this.loadBlock(found.unread);
    }
  }

  /** The first of `count` free clusters, behind which the next search starts; or the block that has to be read to tell. */
  #seek(count: number): number | { readonly unread: number } {
    // Few clusters past the end of the file can be counted as used. A table that claims endlessly many is not trusted.
    const limit = divideUp(this.#storage.size, this.#clusterSize) + MAX_COUNTED_PAST_END + count;
    let run = 0;
    for (let cluster = this.#freeIndex; ; ) {
      if (cluster > limit)
        throw corrupt(FORMAT, 'the refcount blocks count clusters far past the end of the file as used', { field: 'refcount block' });
      if (cluster * this.#clusterSize > Number.MAX_SAFE_INTEGER)
        throw new DiskError('no-space', `${FORMAT}: no free cluster below 2^53`, { format: FORMAT });
      const block = this.#residentBlock(cluster);
      if (!block && this.#blockOffsetFor(cluster) !== 0) {
        this.#freeIndex = cluster - run;
        return { unread: Math.floor(cluster / this.blockEntries) };
      }
      for (let i = cluster % this.blockEntries; i < this.blockEntries; i++) {
        run = block && getRefcount(block.data, i, this.#order) !== 0 ? 0 : run + 1;
        cluster++;
        if (run < count) continue;
        this.#freeIndex = cluster;
        return cluster - count;
      }
    }
  }

  /** The block that counts a cluster, if it is in memory. */
  #residentBlock(clusterIndex: number): Table | undefined {
    const offset = this.#blockOffsetFor(clusterIndex);
    return offset === 0 ? undefined : this.#blocks.get(offset);
  }

  #blockOffsetFor(clusterIndex: number): number {
    return this.table.blockOffset(Math.floor(clusterIndex / this.blockEntries));
  }

  /** Tells the debugger that a refcount block is about to be changed; if it is not there, it is made first. */
  *#tellOfBlock(debug: DebugHook, there: boolean): Io<void> {
    yield* debug('refblock_alloc');
    if (there) yield* debug('refblock_load');
  }

  /** Raises the counts of free clusters to 1 if the blocks that count them are in memory. */
  #raise(first: number, count: number): boolean {
    for (let cluster = first; cluster < first + count; cluster++) if (!this.#residentBlock(cluster)) return false;
    for (let cluster = first; cluster < first + count; cluster++) this.#set(this.#residentBlock(cluster) as Table, cluster, 1);
    return true;
  }

  /** The same, but the blocks are read in. False if a missing refcount block had to be made: then no count is raised. */
  *#claim(first: number, count: number): Io<boolean> {
    const end = first + count;
    for (let cluster = first; cluster < end; ) {
      const index = Math.floor(cluster / this.blockEntries);
      const block = yield* this.loadBlock(index);
      if (this.#debug) yield* this.#tellOfBlock(this.#debug, block !== undefined);
      if (!block) {
        // The new block may lie in these very clusters, behind those raised already; so they are searched again from their start.
        try {
          yield* this.#makeBlock(cluster);
        } finally {
          yield* this.#lower(first, cluster - first);
          this.#freeIndex = Math.min(this.#freeIndex, first);
        }
        return false;
      }
      const blockEnd = Math.min(end, (index + 1) * this.blockEntries);
      for (; cluster < blockEnd; cluster++) this.#set(block, cluster, 1);
    }
    return true;
  }

  #set(block: Table, clusterIndex: number, count: number): void {
    const index = clusterIndex % this.blockEntries;
    setRefcount(block.data, index, this.#order, count);
    const bits = 1 << this.#order;
    this.#blocks.touch(block, Math.floor((index * bits) / 8), Math.ceil(((index + 1) * bits) / 8));
  }

  /** Reads the blocks of a run in beforehand, so that lowering its counts cannot fail half-way. */
  *#loadBlocks(first: number, count: number): Io<void> {
    const last = Math.floor((first + count - 1) / this.blockEntries);
    for (let index = Math.floor(first / this.blockEntries); index <= last; index++) yield* this.loadBlock(index);
  }

  *#lower(first: number, count: number): Io<void> {
    for (let cluster = first; cluster < first + count; cluster++) {
      if (this.#debug && (cluster === first || cluster % this.blockEntries === 0)) yield* this.#tellOfBlock(this.#debug, true);
      const block = yield* this.loadBlock(Math.floor(cluster / this.blockEntries));
      if (block) this.#lowerOne(block, cluster);
    }
  }

  #lowerOne(block: Table, cluster: number): void {
    const stored = getRefcount(block.data, cluster % this.blockEntries, this.#order);
    // A count that was too low already (a damaged image) stays: a check reports it.
    if (stored === 0) return;
    this.#set(block, cluster, stored - 1);
    if (stored === 1) this.#freeIndex = Math.min(this.#freeIndex, cluster);
  }

  /** Makes the refcount block that counts `clusterIndex`. */
  *#makeBlock(clusterIndex: number): Io<void> {
    const index = Math.floor(clusterIndex / this.blockEntries);
    const cluster = yield* this.#findFree(1);
    const offset = cluster * this.#clusterSize;
    if (Math.floor(cluster / this.blockEntries) === index) {
      const block = this.#blocks.add(offset);
      this.#set(block, cluster, 1);
    } else {
      // The new block is counted in another block, which may have to be made first. The recursion ends at the latest when a block counts itself.
      while (!(yield* this.#claim(cluster, 1))) if ((yield* this.get(cluster)) !== 0) return;
      this.#blocks.add(offset);
    }
    try {
      if (index < this.table.entries) yield* this.#hook(index, offset);
      else yield* this.#growTable(index, offset, clusterIndex);
    } catch (error) {
      // Nothing points at the block: it must not be written over later contents of its cluster.
      this.#blocks.drop(offset);
      yield* this.#lower(cluster, 1);
      throw error;
    }
  }

  /** Points the refcount table at a block, after everything it needs is durable. */
  *#hook(index: number, offset: number): Io<void> {
    if (this.#debug) yield* this.#debug('refblock_alloc_write');
    yield* this.write();
    yield* this.#storage.barrier();
    if (this.#debug) yield* this.#debug('refblock_alloc_hookup');
    const entry = new Uint8Array(8);
    setU64be(view(entry), 0, offset);
    yield* this.#writePointer(this.table.offset + index * 8, entry);
    this.table.put(index, offset);
    this.#onNewBlock();
  }

  /**
   * A larger refcount table, with new blocks that count themselves and the table, at the next place that no block counts yet;
   * half as large again as needed.
   */
  *#growTable(newIndex: number, newOffset: number, clusterIndex: number): Io<void> {
    if (this.#debug) yield* this.#debug('reftable_grow');
    const n = this.blockEntries;
    const firstBlock = divideUp(Math.max(clusterIndex + 1, newOffset / this.#clusterSize), n);
    const start = firstBlock * n;
    const { blocks, tableClusters } = planGrowth(firstBlock, { blockEntries: n, clusterSize: this.#clusterSize });
    if (tableClusters * this.#clusterSize > MAX_REFTABLE_BYTES)
      throw new DiskError('no-space', `${FORMAT}: the refcount table would exceed 8 MiB: the file cannot grow further`, { format: FORMAT });
    const table = new Uint8Array(tableClusters * this.#clusterSize);
    table.set(this.table.copy());
    const entries = view(table);
    setU64be(entries, newIndex * 8, newOffset);
    for (let i = 0; i < blocks; i++) {
      const offset = (start + i) * this.#clusterSize;
      setU64be(entries, (firstBlock + i) * 8, offset);
      const block = this.#blocks.add(offset);
      const end = Math.min(start + blocks + tableClusters, (firstBlock + i + 1) * n);
      for (let cluster = start + i * n; cluster < end; cluster++) this.#set(block, cluster, 1);
    }
    const tableOffset = (start + blocks) * this.#clusterSize;
    try {
      if (this.#debug) yield* this.#debug('refblock_alloc_write_blocks');
      yield* this.write();
      if (this.#debug) yield* this.#debug('refblock_alloc_write_table');
      yield* this.#storage.write(tableOffset, table);
      yield* this.#storage.barrier();
      if (this.#debug) yield* this.#debug('refblock_alloc_switch_table');
      yield* this.#switchTable(tableOffset, tableClusters);
    } catch (error) {
      for (let i = 0; i < blocks; i++) this.#blocks.drop((start + i) * this.#clusterSize);
      throw error;
    }
    const old = this.table;
    this.table = new RefcountTable(table, tableOffset);
    this.#onNewBlock();
    this.free(old.offset, old.length);
  }
}
