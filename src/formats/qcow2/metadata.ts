/**
 * The tables that an open qcow2 image keeps in memory, and THE order in which changes reach the file.
 *
 * Crash argument: that of tables/write-order.ts, with these stages:
 *   1. raised refcounts, and L2 tables that nothing points at yet (guest data was written before they were filled in);
 *   2. L2 tables in place, and L1 entries: now everything points at durable data, counted;
 *   3. lowered refcounts of clusters that nothing points at any more.
 * A cut after any write leaves every pointer on something durable and counted, at worst counted too often: leaks. Changes of
 * more than one table at once (snapshots, L1 growth) build the new tables in unused space and switch with `switchTo`: one
 * write of header fields that share the file's first sector, so a cut finds either all of the old or all of the new.
 *
 * Guest data in an external file is flushed before all of this: a barrier in one file says nothing about another. Such clusters are not
 * counted, and never move.
 *
 * With lazy reference counts the counts stay in memory until the image is closed (or they crowd it). The dirty bit is durable before
 * anything that the file does not count is pointed at, and cleared when the counts are durable. A cut in between leaves it, and the next
 * opening for writing then counts anew (image.ts). Freed clusters are used again after the flush that made their removal durable.
 */
import { view } from '../../base/bytes.ts';
import type { DebugHook } from '../../base/debug-events.ts';
import { assert, corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Mutex } from '../../base/locks.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { type Table, TableCache } from '../../tables/table-cache.ts';
import { WriteOrder } from '../../tables/write-order.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { Encryption } from './encryption.ts';
import { fatal, isFatal } from './fatal.ts';
import { type FileBitmaps, NO_SNAPSHOTS, readTables, type Tables } from './file-tables.ts';
import { L1Table } from './l1-table.ts';
import {
  AUTOCLEAR,
  COMPATIBLE,
  encodeSwitch,
  FIELD,
  FORMAT,
  type Header,
  hasDataFile,
  hasSubclusters,
  INCOMPATIBLE,
  l1EntriesFor,
  patchFixedHeader,
  type SwitchFields,
} from './layout.ts';
import { EntryShape } from './layout-l2.ts';
import type { SnapshotEntry, SnapshotTable } from './layout-snapshots.ts';
import { mapOverlaps, type OverlapMap } from './overlap.ts';
import { Refcounts } from './refcounts.ts';
import type { RuntimeOptions } from './runtime.ts';

const L2_CACHE_BYTES = 32 * 1024 * 1024;

/** The files of an image. */
interface ImageFiles {
  readonly storage: Storage;
  /** The external data file, if there is one. */
  readonly data?: Storage;
}

export class Metadata {
  readonly storage: Storage;
  /** See `ImageDriver.debug`. */
  readonly debug: DebugHook | undefined;
  /** The storage of guest data: the image's own file, or an external one, in which a guest byte is at its guest offset. */
  readonly data: Storage;
  readonly external: boolean;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** How entries of L2 tables are read and written. */
  readonly shape: EntryShape;
  /** Guest bytes that are allocated, or read as zero, on their own: a cluster without extended L2 entries. */
  readonly subclusterSize: number;
  /** Entries of an L2 table. */
  readonly l2Entries: number;
  /** Guest bytes that one L2 table maps. */
  readonly l2Coverage: number;
  readonly l2: TableCache;
  readonly refcounts: Refcounts;
  /** Held while tables change or are read in; a look-up in a resident table does not take it. */
  readonly lock: Mutex;
  header: Header;
  snapshotTable: SnapshotTable;
  /** The reason why the refcount table cannot be read, if there is one: no cluster is known to be free, so nothing can be written. */
  reftableFault: DiskError | undefined;
  /** The bitmaps in the file; see bitmaps.ts. */
  bitmaps: FileBitmaps;
  /** The reason why the bitmaps that the header vouches for cannot be read, if there is one. */
  bitmapFault: DiskError | undefined;
  /** Open for writing: a fatal inconsistency is marked in the header, unless the image is open for repair. */
  forWriting = false;
  /** Is told when the image is marked corrupt. */
  onDamage: OpenParameters['onDamage'];
  /** Opened for check and repair: no other change before a repair succeeds. */
  forRepair = false;
  /** Set by the code that opens an encrypted image. */
  encryption: Encryption | undefined;
  /** Guest bytes that a slice of an L2 table maps. */
  readonly #sliceCoverage: number;
  /** The end of the new clusters handed out so far. */
  handedOut = 0;
  l1: L1Table;
  /** Made when first needed and after every switch of tables. */
  #overlaps: OverlapMap | undefined;
  readonly #order: WriteOrder;
  /** Whether the present flush leaves the counts in memory. */
  #lazyFlush = false;

  readonly #runtime: RuntimeOptions;

  private constructor({ storage, data = storage }: ImageFiles, header: Header, tables: Tables, runtime: RuntimeOptions) {
    this.storage = storage;
    this.#runtime = runtime;
    this.data = data;
    this.external = hasDataFile(header);
    this.header = header;
    this.clusterBits = header.clusterBits;
    this.clusterSize = 2 ** header.clusterBits;
    this.shape = new EntryShape(hasSubclusters(header), this.external);
    this.subclusterSize = this.clusterSize / this.shape.subclusters;
    this.l2Entries = this.clusterSize / this.shape.bytes;
    this.l2Coverage = this.l2Entries * this.clusterSize;
    this.l1 = new L1Table(header, tables.l1, storage.size);
    this.snapshotTable = tables.snapshots;
    this.reftableFault = tables.reftableFault;
    this.bitmaps = tables.bitmaps;
    this.debug = storage.debugEvent;
    this.l2 = new TableCache(storage, {
      tableSize: this.clusterSize,
      format: FORMAT,
      what: 'L2 table',
      budget: runtime.l2CacheBytes ?? L2_CACHE_BYTES,
      events: { load: 'l2_load', update: 'l2_update' },
      misplaced: fatal,
    });
    this.#sliceCoverage = (this.l2.sliceSize / this.shape.bytes) * this.clusterSize;
    this.refcounts = new Refcounts({
      storage,
      clusterSize: this.clusterSize,
      order: header.refcountOrder,
      reftable: tables.reftable,
      reftableOffset: header.reftableOffset,
      switchTable: (reftableOffset, reftableClusters) => this.#writeSwitch({ ...this.header, reftableOffset, reftableClusters }),
      writePointer: (offset, bytes) => this.#order.point(offset, bytes),
      onNewBlock: () => {
        this.#overlaps = undefined;
      },
    });
    const { freed } = this.refcounts;
    this.#order = new WriteOrder(storage, {
      format: FORMAT,
      changes: [this.l2, freed],
      stages: [
        { pending: () => true, write: () => this.#writeCounted() },
        { pending: () => this.l2.hasSealed || this.l1.hasChanges, write: () => this.#writeLinks() },
        { pending: () => !this.#lazyFlush && freed.due !== undefined, write: () => this.#writeFrees() },
      ],
    });
    this.lock = this.#order.lock;
  }

  /** Reads the tables a header names, except the snapshot table and those of bitmaps. */
  static *load(files: ImageFiles, header: Header, runtime: RuntimeOptions = {}): Io<Metadata> {
    const { storage } = files;
    if (storage.debugEvent) yield* storage.debugEvent('reftable_load');
    return new Metadata(files, header, yield* readTables(storage, header), runtime);
  }

  /** The snapshots, as far as their table can be read. */
  get snapshots(): readonly SnapshotEntry[] {
    return this.snapshotTable.entries;
  }

  /** Guest offset of the machine state's first byte: the first past the disk that an L2 table of its own maps (vm-state.ts). */
  get vmStateStart(): number {
    return l1EntriesFor(this.header.size, this.header) * this.l2Coverage;
  }

  /** The tables of a snapshot, for reading: clusters that they name never change in place while the snapshot exists. */
  viewOf({ size, l1, l1Offset }: { size: number; l1: Uint8Array; l1Offset: number }): Metadata {
    const incompatible = this.header.incompatible & ~INCOMPATIBLE.dirty;
    const header = { ...this.header, incompatible, size, l1Offset, l1Size: l1.length / 8, snapshotCount: 0, snapshotsOffset: 0 };
    const tables = { l1, reftable: this.refcounts.table.copy(), snapshots: NO_SNAPSHOTS, bitmaps: this.bitmaps };
    const view = new Metadata(this, header, tables, this.#runtime);
    view.encryption = this.encryption;
    return view;
  }

  /** The storage of guest bytes from `guestOffset` on, plain at `hostOffset`. Throws `refused` if the data file was left closed. */
  dataStorage(guestOffset: number, hostOffset: number): Storage {
    if (this.external && this.data === this.storage)
      throw new DiskError('refused', `${FORMAT}: the external data file was left closed (noData)`, { format: FORMAT, field: 'data_file' });
    return this.encryption ? this.encryption.over(this.data, guestOffset, hostOffset) : this.data;
  }

  /** The places of metadata. Throws `corrupt` if tables overlap: then nothing may be written. */
  overlaps(): OverlapMap {
    if (this.#overlaps) return this.#overlaps;
    this.#overlaps = mapOverlaps(this);
    return this.#overlaps;
  }

  /** False if `requireWritable` would refuse. */
  writable(offset: number, length: number, guestOffset: number): boolean {
    if (this.external) return this.strayed(offset, guestOffset) === undefined;
    return offset + length < this.storage.size + this.clusterSize && this.overlaps().find(offset, length) === undefined;
  }

  /** Refuses a place that an L2 entry gives for the data at `guestOffset` unless it is in the file and free of metadata. */
  *requireWritable(offset: number, length: number, guestOffset: number): Io<void> {
    const stray = this.strayed(offset, guestOffset);
    if (stray) throw stray;
    if (this.external) return;
    if (offset + length >= this.storage.size + this.clusterSize)
      throw corrupt(FORMAT, `an L2 entry points at 0x${offset.toString(16)}, past the end of the file`, { field: 'L2 entry', offset });
    yield* this.requireNoMetadata(offset, length);
  }

  /**
   * Notes that new clusters are given to guest data, and tells whether they were never given out before and lie past the end of a sparse file.
   * Only clusters that were given out can hold bytes of a failed write.
   */
  handOut(hostOffset: number, length: number): boolean {
    const untouched = this.storage.sparse === true && hostOffset >= this.storage.size && hostOffset >= this.handedOut;
    this.handedOut = Math.max(this.handedOut, hostOffset + length);
    return untouched;
  }

  /** The fault of an L2 entry that gives data in an external file another place than its own. */
  strayed(offset: number, guestOffset: number): DiskError | undefined {
    if (!this.external || offset === guestOffset) return undefined;
    return fatal(
      `external data file host cluster offset 0x${offset.toString(16)} does not match guest cluster offset 0x${guestOffset.toString(16)}`,
      { field: 'L2 entry', offset: guestOffset },
    );
  }

  /** Refuses a range that guest data is to be written to if metadata lies there; marks the image corrupt then, as QEMU does. */
  *requireNoMetadata(offset: number, length: number): Io<void> {
    const what = this.overlaps().find(offset, length);
    if (what === undefined) return;
    const error = fatal(`a write to 0x${offset.toString(16)} would overwrite the ${what}; check and repair the image`, { field: what, offset });
    yield* this.#condemn(error);
    throw error;
  }

  /** Runs code that uses the tables: if it meets a fatal inconsistency (fatal.ts) in an image open for writing, marks the image corrupt and refuses changes. */
  *guarded<T>(body: () => Io<T>): Io<T> {
    try {
      return yield* body();
    } catch (error) {
      return yield* this.fail(error);
    }
  }

  /** Throws an error as `guarded` does. */
  *fail(error: unknown): Io<never> {
    if (this.forWriting && !this.forRepair && isFatal(error)) yield* this.lock.run(() => this.#condemn(error));
    throw error;
  }

  /** The mark is one write into the first sector; no change in memory follows it into the file. */
  *#condemn(error: DiskError): Io<void> {
    if (!this.#order.fail(error)) return;
    const incompatible = this.header.incompatible | INCOMPATIBLE.corrupt;
    this.onDamage?.(`qcow2: Marking image as corrupt: ${error.message.replace('qcow2: ', '')}; further corruption events will be suppressed`);
    if (this.header.version >= 3) yield* this.setFeatures({ incompatible });
  }

  /** Points an L1 entry at a table that is ours alone, or (offset 0) at none. Written by the next flush. */
  setL1(index: number, offset: number): void {
    const old = this.l1.offset(index);
    if (old !== 0) this.#overlaps?.remove(old);
    if (offset !== 0) this.#overlaps?.add('L2 table', offset, this.clusterSize);
    this.l1.put(index, offset, offset !== 0);
  }

  /** The L2 table for L1 entry `index`, which must have one. */
  *loadL2(index: number): Io<Table> {
    const offset = this.l1.offset(index);
    return this.l2.get(offset) ?? (yield* this.l2.load(offset));
  }

  /** The entries about a guest offset, if they are in memory: those of the whole L2 table, or of the slice of it that has the offset's. */
  entriesAt(guestOffset: number, l1Index = Math.floor(guestOffset / this.l2Coverage), offset = this.l1.offset(l1Index)): DataView | undefined {
    return this.l2.get(offset)?.data ?? this.l2.slice(offset, this.#sliceAt(guestOffset, l1Index));
  }

  /** Reads the slice with the entries about a guest offset, if there is an L2 table for it. */
  *loadSlice(guestOffset: number): Io<void> {
    const l1Index = Math.floor(guestOffset / this.l2Coverage);
    const offset = this.l1.offset(l1Index);
    if (offset === 0 || this.entriesAt(guestOffset)) return;
    // With a debugger, the whole table is loaded, so that it is told of each table once, as by QEMU.
    if (this.debug) yield* this.l2.load(offset);
    else yield* this.l2.loadSlice(offset, this.#sliceAt(guestOffset, l1Index));
  }

  #sliceAt(guestOffset: number, l1Index: number): number {
    return Math.floor((guestOffset - l1Index * this.l2Coverage) / this.#sliceCoverage) * this.l2.sliceSize;
  }

  /** The L2 table for L1 entry `index` as one that may be changed: made if there is none, copied if it is shared. */
  *l2ForWrite(index: number): Io<Table> {
    const { offset, copied } = this.l1.entry(index);
    if (offset !== 0 && copied) return yield* this.loadL2(index);
    if (offset !== 0 && this.debug) yield* this.debug('l2_alloc_cow_read');
    const shared = offset === 0 ? undefined : yield* this.loadL2(index);
    const place = yield* this.refcounts.allocate(1);
    yield* this.requireNoMetadata(place, this.clusterSize);
    if (this.debug) yield* this.debug('l2_alloc_write');
    const table = this.l2.add(place, shared?.bytes);
    this.setL1(index, table.offset);
    if (shared) this.refcounts.free(offset, this.clusterSize);
    return table;
  }

  /** Flushes if changed tables crowd the cache. Called before a change uses tables. */
  *makeRoom(): Io<void> {
    this.requireSound();
    if (this.l2.crowded || this.refcounts.crowded) yield* this.flush();
  }

  /** False if `requireSound` refuses. */
  get sound(): boolean {
    return this.#order.sound && !this.forRepair;
  }

  /** Refuses changes after a switch that failed half-way, and to an image opened for repair that still needs it. */
  requireSound(): void {
    this.#order.requireSound();
    if (this.forRepair) throw new DiskError('refused', `${this.storage.name} is open for repair: repair it first`, { format: FORMAT });
  }

  /** See the top of this file. The caller holds `lock`. `told` is called before everything is made durable. */
  *flush(told?: DebugHook): Io<void> {
    yield* this.#order.flush(told);
    this.l2.settle();
    if (this.#lazyFlush) yield* this.refcounts.applyFrees();
  }

  *#writeCounted(): Io<void> {
    if (this.external) yield* this.data.flush();
    this.#lazyFlush = this.#lazy && !this.refcounts.crowded;
    if (!this.#lazyFlush) yield* this.refcounts.write();
    else if (this.refcounts.hasChanges) yield* this.#markDirty();
    yield* this.l2.write('fresh');
  }

  *#writeLinks(): Io<void> {
    yield* this.l2.write('all');
    yield* this.l1.write(this.storage, this.header.l1Offset, this.debug);
  }

  *#writeFrees(): Io<void> {
    yield* this.refcounts.applyFrees();
    yield* this.refcounts.write();
  }

  /** A flush after which the counts are in the file, also where they are lazy; the image is no longer dirty then. The caller holds `lock`. */
  *flushCounts(): Io<void> {
    yield* this.flush();
    if (this.refcounts.hasChanges) {
      yield* this.refcounts.write();
      yield* this.storage.flush();
    }
    const { incompatible } = this.header;
    if ((incompatible & INCOMPATIBLE.dirty) !== 0) yield* this.setFeatures({ incompatible: incompatible & ~INCOMPATIBLE.dirty });
  }

  /** The external data file must read as the disk does. */
  get rawData(): boolean {
    return this.external && (this.header.autoclear & AUTOCLEAR.rawDataFile) !== 0;
  }

  get #lazy(): boolean {
    return this.#runtime.lazyRefcounts ?? (this.header.compatible & COMPATIBLE.lazyRefcounts) !== 0;
  }

  *#markDirty(): Io<void> {
    const { incompatible } = this.header;
    if ((incompatible & INCOMPATIBLE.dirty) === 0) yield* this.setFeatures({ incompatible: incompatible | INCOMPATIBLE.dirty });
  }

  /**
   * Switches to new tables. Everything they need was written; no change is in memory but not in the file. In memory the
   * change is complete when this returns; the caller has to free the clusters of replaced tables.
   */
  *switchTo(change: Partial<SwitchFields>, tables: { l1?: Uint8Array; reftable?: Uint8Array; snapshots?: SnapshotTable }): Io<void> {
    assert(!this.l1.hasChanges && !this.l2.hasDirtyLinked, 'tables are switched while others wait to be written');
    // A flush, not a barrier: a storage that buffers runs out of space here, where everything can still be undone.
    yield* this.storage.flush();
    yield* this.#writeSwitch({ ...this.header, ...change });
    this.#overlaps = undefined;
    if (tables.l1) {
      this.l1 = new L1Table(this.header, tables.l1);
      this.l2.clear();
    }
    if (tables.reftable) this.reftableFault = undefined;
    if (tables.reftable) this.refcounts.adopt(tables.reftable, this.header.reftableOffset);
    if (tables.snapshots) this.snapshotTable = tables.snapshots;
  }

  /** Sets the feature words; durable when it returns. */
  *setFeatures(change: { incompatible?: number; compatible?: number; autoclear?: number }): Io<void> {
    const header = { ...this.header, ...change, autoclearHigh: false };
    const words = new Uint8Array(FIELD.autoclear + 8 - FIELD.incompatible);
    yield* this.storage.read(FIELD.incompatible, words);
    view(words).setUint32(4, header.incompatible);
    view(words).setUint32(12, header.compatible);
    view(words).setUint32(16, 0);
    view(words).setUint32(20, header.autoclear);
    yield* this.storage.write(FIELD.incompatible, words);
    yield* this.storage.flush();
    this.header = header;
  }

  /** Replaces the file's first sector, which `header` was read from: other extensions and another backing file, nothing else. Durable. */
  *putFirstSector(bytes: Uint8Array, header: Header): Io<void> {
    // A flush, not a barrier: see `switchTo`.
    yield* this.storage.flush();
    yield* this.#order.point(0, bytes);
    this.header = header;
  }

  /**
   * Switches to another refcount structure, perhaps one of another width: the header fields for it lie in the first sector, which is written at
   * once. Everything it names was written, no change is in memory but not in the file; the clusters of the old structure are no longer counted.
   */
  *switchRefcounts(change: Pick<Header, 'reftableOffset' | 'reftableClusters' | 'refcountOrder'>, reftable: Uint8Array): Io<void> {
    assert(!this.l1.hasChanges && !this.l2.hasDirtyLinked, 'the refcounts are switched while tables wait to be written');
    const header = { ...this.header, ...change };
    const sector = yield* readBytes(this.storage, 0, SECTOR);
    patchFixedHeader(sector.subarray(0, Math.min(header.headerLength, SECTOR)), header);
    yield* this.putFirstSector(sector, header);
    this.#overlaps = undefined;
    this.reftableFault = undefined;
    this.refcounts.renew(reftable, change);
  }

  /** Takes over the bitmaps that `rewriteHeader` has put in force. */
  adoptBitmaps(bitmaps: FileBitmaps): void {
    this.bitmaps = bitmaps;
    this.bitmapFault = undefined;
    this.#overlaps = undefined;
  }

  *#writeSwitch(header: Header): Io<void> {
    yield* this.#order.point(FIELD.size, encodeSwitch(header));
    this.header = header;
  }
}
