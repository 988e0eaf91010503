/**
 * Where writes go: in place where a cluster has exactly one reference, else to new clusters, whose L2 entries are filled in by
 * `commit` after the loop has written the data. Also write-zeroes and discard. Functions that wait are called under `Metadata.lock`; `commit` and `abort` need
 * no lock, for they change tables that are in memory, and a flush writes the tables as it sealed them before.
 *
 * Crash argument. New clusters come from free space that nothing durable points at. Commit changes the L2 table in memory
 * after the data was handed to the storage; the flush puts a barrier between the two, so no durable L2 entry points at bytes
 * that are not durable. The clusters that an entry pointed at before go into quarantine (refcounts.ts) and are not reused before the new entry is durable.
 * A cluster that keeps its place may get further subclusters: their bytes in the file have no meaning until their bits are set, and bits are
 * cleared only where the whole cluster is given up, or for bits that say zero. So a durable entry shows the bytes from before, zeros, or the new bytes.
 * In an external data file a cluster that was given up is written again at once, while a durable entry may still show it: its sectors are then
 * the old ones, zeros, or new, each of which was written to them.
 */
import { divideUp } from '../../base/bytes.ts';
import type { Io } from '../../base/io.ts';
import type { Table } from '../../tables/table-cache.ts';
import type { Placement } from '../driver.ts';
import { fatal } from './fatal.ts';
import { bitRange, type EntryValue } from './layout-l2.ts';
import { COMPRESSED_HIGH, type CompressedPlace, compressedPlace, entryOffset } from './layout-tables.ts';
import type { Metadata } from './metadata.ts';

/** QEMU looks at no more than 64 KiB of an L2 table at a time, so its allocations stop there; with the same limit ours have the same places. */
const SLICE_BYTES = 65536;

const NOTHING: EntryValue = { offset: 0, copied: false, allocated: 0, zero: 0 };

/** Clusters of one L2 table that a write goes to, as the table has them. */
interface Run {
  /** Index of the first entry. */
  readonly index: number;
  readonly clusters: number;
  /** The clusters may be written where they are, from `hostOffset` on; else they need a new place. */
  readonly keep: boolean;
  readonly hostOffset: number;
}

/** A write, with the table and the clusters that it concerns. */
interface Target {
  readonly offset: number;
  readonly length: number;
  /** See `ImageDriver.place`. */
  readonly after?: number | undefined;
  /**
   * The clusters only get a place, and read as before where the image can store that (extended L2 entries): for setting space aside.
   */
  readonly empty?: boolean;
}

/**
 * See `ImageDriver.prepare`: a place for the first bytes of a write, after all necessary waiting. The caller holds `Metadata.lock`; `commit` and `abort` of
 * the placement need no lock.
 */
export function* allocate(meta: Metadata, target: Target): Io<Placement> {
  yield* meta.makeRoom();
  const { clusterSize } = meta;
  const { offset } = target;
  const table = yield* meta.l2ForWrite(Math.floor(offset / meta.l2Coverage));
  const run = runFor(meta, table, target);
  if (run.keep) yield* meta.requireWritable(run.hostOffset, run.clusters * clusterSize, offset - (offset % clusterSize));
  return placementIn(meta, table, run.keep ? run : { ...run, ...(yield* newClusters(meta, run.clusters, target)) }, target);
}

/**
 * See `ImageDriver.place`: the same as far as tables in memory tell. Undefined if anything is wrong with them: `allocate` finds out what.
 */
export function placeNow(meta: Metadata, target: Target): Placement | undefined {
  if (!atHand(meta)) return undefined;
  const { clusterSize, refcounts, external } = meta;
  const { offset, after } = target;
  const within = offset % clusterSize;
  const l1Index = Math.floor(offset / meta.l2Coverage);
  const l1 = l1Index < meta.l1.size ? meta.l1.entry(l1Index) : undefined;
  const table = l1?.copied ? meta.l2.get(l1.offset) : undefined;
  if (!table) return undefined;
  const run = runFor(meta, table, target);
  if (run.keep) return meta.writable(run.hostOffset, run.clusters * clusterSize, offset - within) ? placementIn(meta, table, run, target) : undefined;
  if (external) return placementIn(meta, table, { ...run, hostOffset: offset - within }, target);
  const taken = refcounts.take(run.clusters, after !== undefined && after % clusterSize === 0 ? after : undefined);
  if (!taken) return undefined;
  const placed = { index: run.index, clusters: taken.clusters, keep: false, hostOffset: taken.offset };
  if (meta.overlaps().find(taken.offset, taken.clusters * clusterSize) === undefined) return placementIn(meta, table, placed, target);
  refcounts.giveBack(taken.offset, taken.clusters * clusterSize);
  return undefined;
}

/** The first clusters that a write concerns. */
function runFor(meta: Metadata, table: Table, { offset, length }: Target): Run {
  const { clusterSize } = meta;
  const index = Math.floor((offset % meta.l2Coverage) / clusterSize);
  const slice = SLICE_BYTES / meta.shape.bytes;
  const sliceEnd = Math.min(meta.l2Entries, (Math.floor(index / slice) + 1) * slice);
  return placesAt(meta, table.data, index, Math.min(divideUp((offset % clusterSize) + length, clusterSize), sliceEnd - index));
}

/** The placement in clusters that are kept, or that were just taken; they begin at `run.hostOffset`. */
function placementIn(meta: Metadata, table: Table, run: Run, { offset, length, empty = false }: Target): Placement {
  const { clusterSize, subclusterSize, shape } = meta;
  const within = offset % clusterSize;
  const start = offset - within;
  const size = run.clusters * clusterSize;
  const done = Math.min(length, size - within);
  const storage = meta.dataStorage(start, run.hostOffset);
  const hostOffset = run.hostOffset + within;
  const { from, to } = aliveAfter(meta, table.data, run, { start: within, end: within + done });
  if (run.keep && from === to) return { length: done, storage, hostOffset };
  const alive = empty && shape.subclusters > 1 ? { from: 0, to: 0 } : { from: Math.floor(from / subclusterSize), to: divideUp(to, subclusterSize) };
  const handedOut = meta.handedOut;
  // With encryption, a hole deciphers to other bytes than zero.
  const untouched = !run.keep && !meta.external && meta.handOut(run.hostOffset, size) && !meta.encryption;
  const last = run.index + run.clusters - 1;
  // The table must stay in memory until the commit.
  table.pins++;
  return {
    length: done,
    storage,
    hostOffset,
    fresh: {
      start: start + from,
      end: start + to,
      untouched,
      wasEmpty: untouched && shape.empty(table.data, run.index) && shape.empty(table.data, last),
      commit() {
        table.pins--;
        link(meta, table, run, alive);
      },
      abort(unused = false) {
        table.pins--;
        if (run.keep || meta.external) return;
        meta.refcounts.giveBack(run.hostOffset, size);
        if (unused) meta.handedOut = handedOut;
      },
    },
  };
}

/**
 * Whether data clusters whose entries are in memory may be written over: each has one reference, and `Metadata.requireWritable` would find
 * nothing wrong. They begin at a guest offset, and are contiguous from `hostOffset` on.
 */
export function mayWriteOver(meta: Metadata, guestOffset: number, hostOffset: number, clusters: number): boolean {
  const { clusterSize, shape } = meta;
  const entries = meta.entriesAt(guestOffset);
  if (!entries) return false;
  const first = (guestOffset / clusterSize) % (entries.byteLength / shape.bytes);
  for (let i = 0; i < clusters; i++) if (!shape.copied(entries, first + i)) return false;
  return meta.writable(hostOffset, clusters * clusterSize, guestOffset);
}

/** Whether tables in memory may be changed at once: the lock is free, there is room for more changes, and no debugger is there. */
function atHand({ storage, lock, debug, sound, l2, refcounts }: Metadata): boolean {
  return storage.synchronous && !lock.held && !debug && sound && !l2.crowded && !refcounts.crowded;
}

/**
 * Up to `count` new clusters, contiguous: behind the request's last piece if there is room, as QEMU does, else all of them first fit. In an
 * external data file each cluster has a fixed place.
 */
function* newClusters(meta: Metadata, count: number, { offset, after }: Target): Io<Pick<Run, 'hostOffset' | 'clusters'>> {
  const { clusterSize } = meta;
  if (meta.external) return { hostOffset: offset - (offset % clusterSize), clusters: count };
  if (after !== undefined && after % clusterSize === 0) {
    const clusters = yield* meta.refcounts.allocateAt(after, count);
    if (clusters > 0) {
      yield* meta.requireNoMetadata(after, clusters * clusterSize);
      return { hostOffset: after, clusters };
    }
  }
  const hostOffset = yield* meta.refcounts.allocate(count);
  yield* meta.requireNoMetadata(hostOffset, count * clusterSize);
  return { hostOffset, clusters: count };
}

/** How the clusters from `index` on can be written, and how many of the next `most` in the same way (contiguous where they have a place). */
function placesAt({ shape, clusterSize }: Metadata, table: DataView, index: number, most: number): Run {
  const isKept = (at: number) => shape.copied(table, at) && !shape.compressed(table, at) && shape.placed(table, at);
  const keep = isKept(index);
  const hostOffset = keep ? shape.offset(table, index) : 0;
  let clusters = 0;
  for (; clusters < most; clusters++) {
    const at = index + clusters;
    // A cluster that is given up may have a wrong place: if the rest of its bytes must be read, that read finds it.
    const fault = keep || shape.contradicts(table, at) ? shape.fault(table, at, clusterSize) : undefined;
    if (fault) throw fatal(`L2 entry ${at} ${fault}: check the image`, { field: 'L2 entry' });
    if (isKept(at) !== keep || (keep && shape.offset(table, at) !== hostOffset + clusters * clusterSize)) break;
  }
  return { index, clusters, keep, hostOffset };
}

/**
 * The bytes of a run that become visible with a write to its bytes [start, end): empty if all of these are visible already. A subcluster whose bytes
 * are in place needs no bytes around the write; one that gets its place now becomes visible as a whole. In a new place everything
 * between the first and the last subcluster that were visible in the old place becomes visible too.
 */
function aliveAfter({ shape, clusterSize, subclusterSize }: Metadata, table: DataView, run: Run, { start, end }: { start: number; end: number }) {
  const n = shape.subclusters;
  const last = Math.floor((end - 1) / clusterSize);
  const bits = (cluster: number) => (shape.compressed(table, run.index + cluster) ? shape.all : shape.allocated(table, run.index + cluster));
  const first = Math.floor(start / subclusterSize);
  const final = Math.floor((end - 1) / subclusterSize);
  if (!run.keep) {
    const lowest = bits(0) === 0 ? n : 31 - Math.clz32(bits(0) & -bits(0));
    const highest = 31 - Math.clz32(bits(last));
    return { from: Math.min(first, lowest) * subclusterSize, to: (Math.max(final, last * n + highest) + 1) * subclusterSize };
  }
  let missing = false;
  for (let cluster = 0; cluster <= last && !missing; cluster++) {
    const touched = bitRange(Math.max(0, first - cluster * n), Math.min(n, final + 1 - cluster * n));
    missing = (touched & ~bits(cluster)) !== 0;
  }
  if (!missing) return { from: start, to: start };
  const there = (subcluster: number) => (bits(Math.floor(subcluster / n)) & (1 << (subcluster % n))) !== 0;
  return { from: there(first) ? start : first * subclusterSize, to: there(final) ? end : (final + 1) * subclusterSize };
}

/** Points L2 entries at clusters whose data was written: in the run's subclusters [from, to), counted from its start. */
function link(meta: Metadata, table: Table, run: Run, { from, to }: { from: number; to: number }): void {
  const { shape } = meta;
  for (let i = 0; i < run.clusters; i++) {
    const at = run.index + i;
    const offset = run.hostOffset + i * meta.clusterSize;
    const first = i * shape.subclusters;
    const bits = to > from ? bitRange(Math.max(0, from - first), Math.min(shape.subclusters, to - first)) : 0;
    const allocated = (run.keep ? shape.allocated(table.data, at) : 0) | bits;
    replaceEntry(meta, table, at, { offset, copied: true, allocated, zero: shape.zero(table.data, at) & ~bits });
  }
}

/**
 * See `ImageDriver.writeCompressed`; `encoded` is one cluster's compressed bytes. The bytes are written before the entry changes, and the
 * flush writes counts before entries, as with every other cluster. Returns false if they must be stored as they are.
 */
export function* writeEncoded(meta: Metadata, offset: number, encoded: Uint8Array): Io<boolean> {
  const hostOffset = yield* meta.lock.run(() => placeEncoded(meta, offset, encoded.length));
  let linked = false;
  try {
    if (meta.debug) yield* meta.debug('write_compressed');
    yield* meta.storage.write(hostOffset, encoded);
    linked = yield* meta.lock.run(() => linkEncoded(meta, offset, { hostOffset, length: encoded.length }));
    return linked;
  } finally {
    if (!linked) yield* meta.lock.run(() => meta.refcounts.release(hostOffset, encoded.length));
  }
}

function* placeEncoded(meta: Metadata, offset: number, length: number): Io<number> {
  yield* meta.makeRoom();
  // A missing table gets its place before the bytes, as in QEMU.
  yield* meta.l2ForWrite(Math.floor(offset / meta.l2Coverage));
  const hostOffset = yield* meta.refcounts.allocateBytes(length);
  yield* meta.requireNoMetadata(hostOffset, length);
  return hostOffset;
}

function* linkEncoded(meta: Metadata, offset: number, place: CompressedPlace): Io<boolean> {
  const table = yield* meta.l2ForWrite(Math.floor(offset / meta.l2Coverage));
  const index = Math.floor((offset % meta.l2Coverage) / meta.clusterSize);
  const { shape } = meta;
  if (meta.debug) yield* meta.debug('l2_update_compressed');
  const high = shape.high(table.data, index);
  const low = shape.low(table.data, index);
  if (!shape.putCompressed(table.data, index, place, meta.clusterBits)) return false;
  freeEntry(meta, high, low, 0);
  meta.l2.touch(table, index * shape.bytes, (index + 1) * shape.bytes);
  return true;
}

/** Gives up the clusters that an L2 entry pointed at, unless they are at `kept`. */
function freeEntry(meta: Metadata, high: number, low: number, kept: number): void {
  if (meta.external) return;
  if ((high & COMPRESSED_HIGH) !== 0) {
    const { hostOffset, length } = compressedPlace(high, low, meta.clusterBits);
    meta.refcounts.free(hostOffset, length);
    return;
  }
  const hostOffset = entryOffset(high, low);
  // A place that is not on a cluster belongs to nothing that could be given back.
  if (hostOffset !== 0 && hostOffset !== kept && hostOffset % meta.clusterSize === 0) meta.refcounts.free(hostOffset, meta.clusterSize);
}

/** Changes an L2 entry and gives up the clusters it pointed at, unless the new entry points there too. */
export function replaceEntry(meta: Metadata, table: Table, index: number, to: EntryValue): void {
  const { shape } = meta;
  freeEntry(meta, shape.high(table.data, index), shape.low(table.data, index), to.offset);
  shape.put(table.data, index, to);
  meta.l2.touch(table, index * shape.bytes, (index + 1) * shape.bytes);
}

/**
 * See `ImageDriver.zero`. Version 3 has a flag for it. Version 2 has none: without a backing file clusters are given up there, with one nothing
 * is done. A cluster keeps its place unless `unmap` is set or it is compressed. Part of a cluster, in whole subclusters, is marked so unless the cluster is
 * compressed; its bytes in the file stay as they are, and are written anew before they are visible again.
 */
export function* zero(meta: Metadata, offset: number, length: number, { unmap, hasBacking }: { unmap: boolean; hasBacking: boolean }): Io<number> {
  if (meta.header.version < 3) return hasBacking ? 0 : yield* discard(meta, offset, length, false);
  yield* meta.makeRoom();
  const { shape, clusterSize } = meta;
  const within = offset % clusterSize;
  const table = yield* meta.l2ForWrite(Math.floor(offset / meta.l2Coverage));
  // As in QEMU, the disk's last cluster counts as whole.
  const whole = within === 0 && (length >= clusterSize || offset + length >= meta.header.size);
  const { index, clusters } = clustersAt(meta, offset, whole && offset + length < meta.header.size ? length - (length % clusterSize) : length);
  if (!whole) {
    const done = zeroSubclusters(meta, table, index, { start: within, end: Math.min(clusterSize, within + length) });
    if (done > 0 && meta.rawData) yield* meta.data.zero(offset, done);
    return done;
  }
  const done = Math.min(length, clusters * clusterSize);
  if (meta.rawData) yield* meta.data.zero(offset, done);
  if (unmap) yield* discardData(meta, table, { start: offset, index, clusters });
  for (let i = index; i < index + clusters; i++) {
    const kept = !shape.compressed(table.data, i) && !unmap && shape.placed(table.data, i);
    const hostOffset = kept ? shape.offset(table.data, i) : 0;
    replaceEntry(meta, table, i, { offset: hostOffset, copied: kept && shape.copied(table.data, i), allocated: 0, zero: shape.all });
  }
  return done;
}

function zeroSubclusters(meta: Metadata, table: Table, index: number, { start, end }: { start: number; end: number }): number {
  const { shape, subclusterSize } = meta;
  if (shape.compressed(table.data, index)) return 0;
  const bits = bitRange(start / subclusterSize, divideUp(end, subclusterSize));
  replaceEntry(meta, table, index, {
    offset: shape.offset(table.data, index),
    copied: shape.copied(table.data, index),
    allocated: shape.allocated(table.data, index) & ~bits,
    zero: shape.zero(table.data, index) | bits,
  });
  return end - start;
}

/**
 * See `ImageDriver.discard`. As in QEMU: whole clusters (and the disk's last, cut off) lose their place and then read as zero; in
 * version 2, which cannot say "zero", they become unallocated, so with a backing file nothing is done.
 */
export function* discard(meta: Metadata, offset: number, length: number, hasBacking: boolean): Io<number> {
  const { clusterSize, shape } = meta;
  const version2 = meta.header.version < 3;
  const start = divideUp(offset, clusterSize) * clusterSize;
  const atEnd = offset + length === meta.header.size;
  const end = atEnd ? offset + length : Math.floor((offset + length) / clusterSize) * clusterSize;
  if (start >= end || (version2 && hasBacking)) return length;
  yield* meta.makeRoom();
  const l1Index = Math.floor(start / meta.l2Coverage);
  const { index, clusters } = clustersAt(meta, start, end - start);
  const done = start - offset + Math.min(end - start, clusters * clusterSize);
  const rest = end - offset <= done ? length : done;
  // Without a table and a backing file the range reads as zero already.
  if (meta.l1.offset(l1Index) === 0 && !hasBacking) return rest;
  const table = yield* meta.l2ForWrite(l1Index);
  yield* discardData(meta, table, { start, index, clusters });
  for (let i = index; i < index + clusters; i++) {
    const unallocated = !shape.compressed(table.data, i) && !shape.placed(table.data, i);
    if (unallocated && !hasBacking) continue;
    replaceEntry(meta, table, i, { ...NOTHING, zero: version2 ? 0 : shape.all });
  }
  return rest;
}

/**
 * Passes a discard of whole clusters, the first at guest offset `start`, on to an external data file. It happens before the entries change:
 * a cut in between leaves the old bytes or zeros, as any discard may. A raw data file must show the disk's contents: zeros.
 */
function* discardData(meta: Metadata, table: Table, { start, index, clusters }: { start: number; index: number; clusters: number }): Io<void> {
  if (!meta.external) return;
  const { clusterSize, data, header, shape } = meta;
  for (let i = 0; i < clusters; ) {
    let end = i;
    while (end < clusters && shape.placed(table.data, index + end)) end++;
    const from = start + i * clusterSize;
    const length = Math.min(start + end * clusterSize, header.size) - from;
    if (length > 0 && meta.rawData) yield* data.zero(from, length);
    if (length > 0) yield* data.discard(from, length);
    i = end + 1;
  }
}

/** Makes whole clusters unallocated, in either version; for shrinking. Returns bytes done. */
export function* unmap(meta: Metadata, offset: number, length: number): Io<number> {
  yield* meta.makeRoom();
  const l1Index = Math.floor(offset / meta.l2Coverage);
  const { index, clusters } = clustersAt(meta, offset, length);
  const done = Math.min(length, clusters * meta.clusterSize);
  if (meta.l1.offset(l1Index) === 0) return done;
  const table = yield* meta.l2ForWrite(l1Index);
  for (let i = index; i < index + clusters; i++) replaceEntry(meta, table, i, NOTHING);
  return done;
}

/** The part of a range from `offset` (on a cluster) that one L2 table maps. */
function clustersAt(meta: Metadata, offset: number, length: number): { index: number; clusters: number } {
  const index = Math.floor((offset % meta.l2Coverage) / meta.clusterSize);
  return { index, clusters: Math.min(divideUp(length, meta.clusterSize), meta.l2Entries - index) };
}
