/**
 * One check of an image: how often everything in the file is referred to, compared with the stored counts, and copied flags compared with
 * the counts. Counts, wording and order of findings are qemu-img check's. The repairs, and their order, are in check.ts.
 */
import { view } from '../../base/bytes.ts';
import { asDiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { TableWalk } from '../../tables/table-walk.ts';
import type { CheckOptions, CheckResult } from '../tools.ts';
import { CopiedFlags, hex, hex64, type LookedAt, lookAt } from './check-flags.ts';
import type { CheckWork } from './check-pace.ts';
import { ClusterCounts } from './cluster-counts.ts';
import { readBitmapTable } from './file-bitmaps.ts';
import { l1Fault } from './layout-snapshots.ts';
import { COPIED_HIGH, entryOffset, l1Reserved, l2Reserved, maxRefcount } from './layout-tables.ts';
import type { Metadata } from './metadata.ts';
import { readL1 } from './table-switch.ts';

const MAX_MESSAGES = 1000;
/** So many clusters past the end of the file are remembered as named: no rebuilt structure is larger. */
const MAX_NOTED = 1 << 21;
/** Stored counts that are read together. */
const MOST_COUNTS = 1 << 16;

/** The repairs of `compareCounts`. */
interface Fix {
  readonly leaks: boolean;
  readonly errors: boolean;
  readonly missing?: boolean;
}

export class CheckRun {
  readonly result: CheckResult;
  readonly work: CheckWork;
  readonly #meta: Metadata;
  readonly #options: CheckOptions;
  readonly #fileClusters: number;
  readonly references = new ClusterCounts();
  readonly flags = new CopiedFlags();
  /** Clusters shortly past the end of the file that something names all the same. */
  readonly #pastEnd = new Set<number>();
  /** False once a refcount block is misplaced, shared, or not where the table says. */
  #structureSound = true;

  constructor(meta: Metadata, options: CheckOptions, work: CheckWork) {
    this.#meta = meta;
    this.work = work;
    this.#options = options;
    this.#fileClusters = Math.ceil(meta.storage.size / meta.clusterSize);
    this.result = {
      corruptions: 0,
      leaks: 0,
      checkErrors: 0,
      corruptionsFixed: 0,
      leaksFixed: 0,
      totalClusters: Math.ceil(meta.header.size / meta.clusterSize),
      allocatedClusters: 0,
      fragmentedClusters: 0,
      compressedClusters: 0,
      imageEndOffset: 0,
      messages: [],
    };
  }

  /** Counts the references from everything in the file. */
  *countReferences(): Io<void> {
    const { header, clusterSize } = this.#meta;
    yield* this.#countContents();
    const { reftableFault } = this.#meta;
    if (reftableFault) {
      this.#corruption(`ERROR: ${reftableFault.message}`);
      this.#structureSound = false;
    } else this.#refer(header.reftableOffset, header.reftableClusters * clusterSize);
    this.#countRefcountBlocks();
  }

  /** Counts the references from everything but the refcount structure. */
  *#countContents(): Io<void> {
    const meta = this.#meta;
    const { header, clusterSize } = meta;
    this.#refer(0, clusterSize);
    for (const { found, count } of meta.snapshotTable.faults) this.#corruption(found, count);
    this.#refer(header.l1Offset, meta.l1.known * 8);
    const lost = meta.l1.fault(meta.l1.known);
    if (lost) {
      this.#corruption(`ERROR: ${lost.message}`);
      this.flags.doubt();
    }
    yield* this.#countTree(meta.l1.copy(), true);
    for (const snapshot of meta.snapshots) {
      // The fault of its place was reported before.
      if (l1Fault(snapshot, { header, fileSize: meta.storage.size }) !== undefined) continue;
      this.#refer(snapshot.l1Offset, snapshot.l1Size * 8);
      yield* this.#countTree(yield* readL1(meta, snapshot), false);
    }
    this.#refer(header.snapshotsOffset, meta.snapshotTable.length);
    if (meta.encryption?.place) this.#refer(meta.encryption.place.offset, meta.encryption.place.length);
    yield* this.#countBitmaps();
  }

  /** The refcount structure does not contradict itself, as far as it has been read. */
  get structureSound(): boolean {
    return this.#structureSound;
  }

  /** Clusters of the file; the last may be in the file in part. */
  get fileClusters(): number {
    return this.#fileClusters;
  }

  /** Clusters past the end of the file that a counted structure, or a refcount table entry, names. */
  placesPastEnd(): ReadonlySet<number> {
    for (const offset of this.#meta.refcounts.blockOffsets()) this.#notePastEnd(offset, this.#meta.clusterSize);
    return this.#pastEnd;
  }

  *#countBitmaps(): Io<void> {
    const { bitmaps, bitmapFault, clusterSize, storage } = this.#meta;
    if (bitmapFault) this.#corruption(`ERROR: ${bitmapFault.message}`);
    if (bitmaps.directory) this.#refer(bitmaps.directory.offset, bitmaps.directory.length);
    for (const entry of bitmaps.entries) {
      this.#refer(entry.tableOffset, entry.tableSize * 8);
      try {
        for (const place of yield* readBitmapTable(storage, entry, clusterSize)) if (place >= clusterSize) this.#refer(place, clusterSize);
      } catch (error) {
        const { message } = asDiskError(error, 'bitmap table');
        if (message !== bitmapFault?.message) this.#corruption(`ERROR: ${message}`);
      }
    }
  }

  /**
   * Compares stored counts with references, repairing as allowed; counts that are missing altogether only with `missing`. Returns false if the refcount
   * structure itself is unsound.
   */
  *compareCounts(fix: Fix): Io<boolean> {
    const { refcounts, clusterSize } = this.#meta;
    const { result } = this;
    const clusters = Math.max(this.#fileClusters, this.references.end);
    const { locked, pace } = this.work;
    const reach = refcounts.blocksInOrder(locked);
    pace.begin(Math.ceil(clusters / refcounts.blockEntries));
    let highest = 0;
    for (let cluster = 0; cluster < clusters; ) {
      const index = Math.floor(cluster / refcounts.blockEntries);
      const blockEnd = Math.min(clusters, (index + 1) * refcounts.blockEntries);
      yield* pace.step(cluster / clusters);
      yield* reach(index);
      while (cluster < blockEnd) {
        const counts = yield* this.#storedCounts(cluster, blockEnd - cluster);
        highest = Math.max(highest, this.#lastUsed(cluster, counts));
        yield* this.#compareRange(cluster, counts, fix);
        // If a block cannot be read, nothing more is reported about it.
        cluster = counts.length > 0 ? cluster + counts.length : blockEnd;
      }
    }
    this.flags.end();
    result.imageEndOffset = (highest + 1) * clusterSize;
    return this.#structureSound;
  }

  /** The last of the clusters from `first` on that counts or references have; 0 if none is. */
  #lastUsed(first: number, counts: Float64Array): number {
    let cluster = first + counts.length - 1;
    while (cluster >= first && counts[cluster - first] === 0 && (cluster >= this.references.end || this.references.get(cluster) === 0)) cluster--;
    return cluster < first ? 0 : cluster;
  }

  /** Compares stored counts of the clusters from `first` on with references, and with copied flags. */
  *#compareRange(first: number, counts: Float64Array, fix: Fix): Io<void> {
    this.flags.compare(first, counts);
    for (let i = 0; ; i++) {
      i += this.references.alike(first + i, counts, i);
      if (i >= counts.length) return;
      yield* this.#mismatch(first + i, { stored: counts[i] as number, references: this.references.get(first + i) }, fix);
    }
  }

  /** The stored counts of clusters from `first` on, at most `most`; none if the block cannot be read, which was reported before. */
  *countsOf(first: number, most: number): Io<Float64Array> {
    try {
      return yield* this.#countsFrom(first, most);
    } catch {
      return new Float64Array(0);
    }
  }

  *#countTree(l1: Uint8Array, active: boolean): Io<void> {
    const meta = this.#meta;
    const { locked, pace } = this.work;
    const entries = namedEntries(l1);
    pace.begin();
    const counted = yield* this.#countQuiet(entries, active);
    const rest = entries.filter(({ offset }) => !counted.has(offset));
    const walk = new TableWalk(
      meta.l2,
      rest.map(({ offset }) => offset),
      locked,
    );
    if (active && rest.length > 0) this.flags.doubt();
    let at = 0;
    try {
      for (const { high, low, offset } of entries) {
        const quiet = counted.has(offset);
        if (!quiet) yield* pace.step(1);
        if (l1Reserved(high, low)) {
          this.#corruption(`ERROR found L1 entry with reserved bits set: ${hex64(high, low)}`);
          this.flags.doubt();
        }
        if (offset !== 0) {
          this.#refer(offset, meta.clusterSize);
          if (offset % meta.clusterSize !== 0) this.#corruption(`ERROR l2_offset=${hex(offset)}: Table is not cluster aligned; L1 entry corrupted`);
          // A table past the end was reported before.
          if (!quiet && offset < meta.storage.size) yield* this.#countTableAt(walk, at, { offset, active });
        }
        if (!quiet) at++;
      }
    } finally {
      walk.end();
    }
  }

  /**
   * Counts the references from tables without faults, in the order of the file; returns the places of those tables. Faults are reported in
   * the order of the L1 table. A table that is named twice counts twice, and is left out here.
   */
  *#countQuiet(entries: readonly NamedEntry[], active: boolean): Io<ReadonlySet<number>> {
    const { locked, pace } = this.work;
    const { clusterSize, l2 } = this.#meta;
    const once = new Map<number, NamedEntry>();
    const twice = new Set<number>();
    for (const entry of entries) {
      if (once.has(entry.offset)) twice.add(entry.offset);
      once.set(entry.offset, entry);
    }
    for (const offset of [0, ...twice]) once.delete(offset);
    const counted = new Set<number>();
    const look = (offset: number, table: DataView): void => {
      if (!this.#isQuiet(table)) return;
      this.#countTable({ data: table }, active);
      counted.add(offset);
      if (active) this.flags.note(offset / clusterSize, 1, ((once.get(offset) as NamedEntry).high & COPIED_HIGH) !== 0);
    };
    yield* l2.scan([...once.keys()], { locked, look, step: (part) => pace.step(part) });
    return counted;
  }

  /** A table without faults: all its entries are as the specification says, and their clusters are in the file. */
  #isQuiet(table: DataView): boolean {
    const { shape, clusterSize, clusterBits, external } = this.#meta;
    const end = table.byteLength / shape.bytes;
    for (let index = 0; index < end; ) {
      const length = shape.run(table, { index, end, clusterSize });
      if (shape.compressed(table, index)) {
        const place = shape.compressedAt(table, index, clusterBits);
        if (external || shape.copied(table, index) || shape.marked(table, index) || this.#isPastEnd(place.hostOffset, place.length)) return false;
      } else if (!shape.empty(table, index)) {
        if (!this.#sound(table, index)) return false;
        if (!external && shape.placed(table, index) && this.#isPastEnd(shape.offset(table, index), length * clusterSize)) return false;
      }
      index += length;
    }
    return true;
  }

  *#countTableAt(walk: TableWalk, at: number, { offset, active }: { offset: number; active: boolean }): Io<void> {
    try {
      const table = yield* lookAt(this.#meta, walk, at, offset);
      this.#countTable(table, active);
    } catch (error) {
      this.result.checkErrors++;
      this.say(`ERROR: ${asDiskError(error, 'L2 table').message}`);
    }
  }

  #countTable(table: LookedAt, active: boolean): void {
    const { shape, clusterSize } = this.#meta;
    const end = table.data.byteLength / shape.bytes;
    /** The end of the cluster that was counted last: the next one should begin there. */
    let next = 0;
    for (let index = 0; index < end; ) {
      const length = shape.run(table.data, { index, end, clusterSize });
      if (shape.compressed(table.data, index)) this.#countCompressed(table.data, index, active);
      else if (!shape.empty(table.data, index)) {
        // Either no entry of the run has a fault, or each has one.
        const together = this.#sound(table.data, index) ? length : 1;
        for (let i = 0; i < length; i += together) next = this.#countRun(table, { index: index + i, length: together }, active, next);
      }
      index += length;
    }
  }

  /** An entry that is as the specification says. */
  #sound(table: DataView, index: number): boolean {
    const { shape, header, clusterSize } = this.#meta;
    return !l2Reserved(shape.high(table, index), shape.low(table, index), header.version) && !shape.fault(table, index, clusterSize);
  }

  /** Counts the clusters of several sound entries in one run, or of one entry. Returns the end of the last. */
  #countRun({ data: table, resident }: LookedAt, { index, length }: { index: number; length: number }, active: boolean, next: number): number {
    const meta = this.#meta;
    const { shape, clusterSize } = meta;
    const high = shape.high(table, index);
    const low = shape.low(table, index);
    if (l2Reserved(high, low, meta.header.version)) this.#corruption(`ERROR found l2 entry with reserved bits set: ${hex64(high, low)}`);
    const offset = entryOffset(high, low);
    const contradicts = shape.contradicts(table, index);
    if (!shape.placed(table, index)) {
      if (contradicts) this.#corruption('ERROR: Unallocated cluster has non-zero subcluster allocation map');
      return next;
    }
    if (contradicts) this.#corruption(`ERROR offset=${hex(offset)}: Allocated cluster has corrupted subcluster allocation bitmap`);
    if (offset % clusterSize !== 0) {
      const empty = shape.allocated(table, index) === 0;
      const mend = empty && resident !== undefined && this.#options.repair === 'all';
      const what = `offset=${hex(offset)}: ${empty ? 'Preallocated' : 'Data'} cluster is not properly aligned; L2 entry corrupted.`;
      this.flag(what, mend);
      if (mend) {
        shape.put(table, index, { offset: 0, copied: false, allocated: 0, zero: shape.zero(table, index) });
        meta.l2.touch(resident, index * shape.bytes, (index + 1) * shape.bytes);
        return next;
      }
    }
    if (!meta.external) this.#referEach(offset, length);
    if (!active) return next;
    const copied = shape.copied(table, index);
    // Clusters in an external data file are not counted, and never shared.
    if (!meta.external) this.flags.note(Math.floor(offset / clusterSize), length, copied);
    else if (!copied) this.flags.doubt();
    this.result.allocatedClusters += length;
    if (next !== 0 && offset !== next) this.result.fragmentedClusters++;
    return offset + length * clusterSize;
  }

  #countCompressed(table: DataView, index: number, active: boolean): void {
    const { shape, clusterBits } = this.#meta;
    const { hostOffset, length } = shape.compressedAt(table, index, clusterBits);
    if (shape.copied(table, index)) this.#corruption(`ERROR: coffset=0x${hex(hostOffset)}: copied flag must never be set for compressed clusters`);
    if (this.#meta.external) {
      const entry = hex64(shape.high(table, index), shape.low(table, index));
      this.#corruption(`ERROR compressed cluster ${index} with data file, entry=0x${entry}`);
      return;
    }
    if (shape.marked(table, index)) {
      const entry = hex64(shape.high(table, index), shape.low(table, index));
      this.#corruption(`ERROR compressed cluster ${index} with non-zero subcluster allocation bitmap, entry=0x${entry}`);
      return;
    }
    if (active) {
      this.result.allocatedClusters++;
      this.result.compressedClusters++;
      this.result.fragmentedClusters++;
    }
    this.#refer(hostOffset, length);
  }

  #countRefcountBlocks(): void {
    const { refcounts, clusterSize, storage } = this.#meta;
    for (const i of refcounts.table.inUse()) {
      const [offset, reserved] = [refcounts.table.blockOffset(i), refcounts.table.reserved(i)];
      const unsound = (message: string) => {
        this.#corruption(message);
        this.#structureSound = false;
      };
      if (reserved) unsound(`ERROR refcount table entry ${i} has reserved bits set`);
      else if (offset % clusterSize !== 0) unsound(`ERROR refcount block ${i} is not cluster aligned; refcount table entry corrupted`);
      else if (offset + clusterSize > storage.size) unsound(`ERROR refcount block ${i} is outside image`);
      else {
        this.#refer(offset, clusterSize);
        const count = this.references.get(offset / clusterSize);
        if (count !== 1) unsound(`ERROR refcount block ${i} refcount=${count}`);
      }
    }
  }

  /** One reference to every cluster that a range touches. */
  #refer(offset: number, length: number): void {
    if (length === 0) return;
    const { clusterSize } = this.#meta;
    if (this.#isPastEnd(offset, length)) {
      this.#corruption(
        `ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x${hex(offset)} size 0x${hex(length)}`,
      );
      this.#notePastEnd(offset, length);
      return;
    }
    const last = Math.floor((offset + length - 1) / clusterSize);
    const first = Math.floor(offset / clusterSize);
    this.references.addRange(first, last + 1 - first);
  }

  /** A range is past the end by a cluster or more: the file's last cluster may be cut off. */
  #isPastEnd(offset: number, length: number): boolean {
    return offset + length - this.#meta.storage.size >= this.#meta.clusterSize;
  }

  /** The same for clusters one by one, so that each one past the end is reported. */
  #referEach(offset: number, clusters: number): void {
    const { clusterSize, storage } = this.#meta;
    if (offset + clusters * clusterSize <= storage.size) this.#refer(offset, clusters * clusterSize);
    else for (let i = 0; i < clusters; i++) this.#refer(offset + i * clusterSize, clusterSize);
  }

  #notePastEnd(offset: number, length: number): void {
    const { clusterSize } = this.#meta;
    const end = Math.min(Math.ceil((offset + length) / clusterSize), this.#fileClusters + MAX_NOTED);
    for (let cluster = Math.max(this.#fileClusters, Math.floor(offset / clusterSize)); cluster < end; cluster++) this.#pastEnd.add(cluster);
  }

  /** The stored counts of clusters from `first` on: some of the `rest` that its refcount block counts. None if the block cannot be read. */
  *#storedCounts(first: number, rest: number): Io<Float64Array> {
    try {
      return yield* this.#countsFrom(first, Math.min(rest, MOST_COUNTS));
    } catch (error) {
      // As in QEMU one finding for each cluster, but one line.
      this.result.checkErrors += rest;
      this.say(`Can't get refcount for cluster ${first}: ${asDiskError(error, 'refcount block').message}`);
      return new Float64Array(0);
    }
  }

  /**
   * The stored counts of clusters from `first` on, up to the end of their refcount block, at most `most`. If the block is past the end of the file,
   * which was reported before, all are 0.
   */
  *#countsFrom(first: number, most: number): Io<Float64Array> {
    const { refcounts, clusterSize, storage } = this.#meta;
    const from = first % refcounts.blockEntries;
    const index = (first - from) / refcounts.blockEntries;
    const offset = refcounts.table.blockOffset(index);
    if (offset % clusterSize === 0 && offset + clusterSize > storage.size) return new Float64Array(Math.min(most, refcounts.blockEntries - from));
    return yield* this.work.locked(() => refcounts.countsOf(index, most, from));
  }

  *#mismatch(cluster: number, { stored, references }: { stored: number; references: number }, fix: Fix): Io<void> {
    const { result } = this;
    const low = stored < references;
    // As in QEMU: if one count is missing, the others are not trusted any more.
    if (stored === 0) this.#structureSound = false;
    const repair =
      (stored > 0 || fix.missing === true) && (low ? fix.errors : fix.leaks) && references <= maxRefcount(this.#meta.header.refcountOrder);
    this.say(`${repair ? 'Repairing' : low ? 'ERROR' : 'Leaked'} cluster ${cluster} refcount=${stored} reference=${references}`);
    if (repair) {
      this.flags.doubt();
      yield* this.#meta.refcounts.repair(cluster, references, this.#fileClusters);
      if (low) result.corruptionsFixed++;
      else result.leaksFixed++;
    } else if (low) result.corruptions++;
    else result.leaks++;
  }

  flag(message: string, repair: boolean): void {
    this.say(`${repair ? 'Repairing' : 'ERROR'} ${message}`);
    if (repair) this.result.corruptionsFixed++;
    else this.result.corruptions++;
  }

  #corruption(message: string, count = 1): void {
    this.result.corruptions += count;
    this.say(message);
  }

  /** Adds a line to the result, and passes it to the listener. */
  say(message: string): void {
    this.#options.onMessage?.(message);
    if (this.result.messages.length < MAX_MESSAGES) this.result.messages.push(message);
  }
}

/** An entry of an L1 table that is not 0, with the place that it names. */
interface NamedEntry {
  readonly high: number;
  readonly low: number;
  readonly offset: number;
}

function namedEntries(l1: Uint8Array): NamedEntry[] {
  const entries = view(l1);
  const named: NamedEntry[] = [];
  for (let at = 0; at < l1.length; at += 8) {
    const [high, low] = [entries.getUint32(at), entries.getUint32(at + 4)];
    if (high !== 0 || low !== 0) named.push({ high, low, offset: entryOffset(high, low) });
  }
  return named;
}
