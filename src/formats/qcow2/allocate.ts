/**
 * Where writes go: in place where a cluster has exactly one reference, else to new clusters, whose L2 entries are filled in by
 * `commit` once the loop has written the data. Also write-zeroes and discard. Callers hold `Metadata.lock`.
 *
 * Crash argument. New clusters come from free space that nothing durable points at. Commit changes the L2 table in memory
 * after the data was handed to the storage; the flush puts a barrier between the two, so no durable L2 entry points at bytes
 * that are not. What an entry pointed at before goes into quarantine (refcounts.ts) and is not reused before the new entry is durable.
 */
import { divideUp } from '../../base/bytes.ts';
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Placement } from '../driver.ts';
import { FORMAT } from './layout.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, type CompressedPlace, compressedPlace, entryOffset, putCompressed, ZERO_LOW } from './layout-tables.ts';
import { type Metadata, putEntry } from './metadata.ts';
import type { Table } from './tables.ts';

/** QEMU looks at no more than 64 KiB of an L2 table at a time, so its allocations stop there; ours then lie the same way. */
const SLICE_ENTRIES = 8192;

type Use = 'in-place' | 'preallocated' | 'new';

/** See `ImageDriver.allocate`. */
export function* allocate(meta: Metadata, offset: number, length: number, after?: number): Io<Placement> {
  yield* meta.makeRoom();
  const { clusterSize } = meta;
  const l1Index = Math.floor(offset / meta.l2Coverage);
  const within = offset % clusterSize;
  const index = Math.floor((offset % meta.l2Coverage) / clusterSize);
  const table = yield* meta.l2ForWrite(l1Index);
  const sliceEnd = Math.min(meta.l2Entries, (Math.floor(index / SLICE_ENTRIES) + 1) * SLICE_ENTRIES);
  const most = Math.min(divideUp(within + length, clusterSize), sliceEnd - index);
  const { use, clusters: found, hostOffset } = useOf(meta, table.data, index, most);
  if (use !== 'new') yield* meta.requireWritable(hostOffset, found * clusterSize);
  if (use === 'in-place') return { length: Math.min(length, found * clusterSize - within), storage: meta.storage, hostOffset: hostOffset + within };
  const { place, clusters } = use === 'new' ? yield* newClusters(meta, found, after) : { place: hostOffset, clusters: found };
  const start = offset - within;
  return {
    length: Math.min(length, clusters * clusterSize - within),
    storage: meta.storage,
    hostOffset: place + within,
    fresh: {
      start,
      end: start + clusters * clusterSize,
      commit: () => meta.lock.run(() => link(meta, { l1Index, index, clusters, hostOffset: place })),
      *abort() {
        if (use === 'new') yield* meta.lock.run(() => meta.refcounts.release(place, clusters * clusterSize));
      },
    },
  };
}

/** Up to `count` new clusters, contiguous: behind the request's last piece if there is room, as QEMU does, else all of them first fit. */
function* newClusters(meta: Metadata, count: number, after: number | undefined): Io<{ place: number; clusters: number }> {
  if (after !== undefined && after % meta.clusterSize === 0) {
    const clusters = yield* meta.refcounts.allocateAt(after, count);
    if (clusters > 0) {
      yield* meta.requireNoMetadata(after, clusters * meta.clusterSize);
      return { place: after, clusters };
    }
  }
  const place = yield* meta.refcounts.allocate(count);
  yield* meta.requireNoMetadata(place, count * meta.clusterSize);
  return { place, clusters: count };
}

/** How the clusters from `index` on can be written, and how many of the next `most` alike (contiguous where they have a place). */
function useOf(meta: Metadata, table: DataView, index: number, most: number): { use: Use; clusters: number; hostOffset: number } {
  const use = entryUse(table, index);
  const hostOffset = entryOffset(table.getUint32(index * 8), table.getUint32(index * 8 + 4));
  if (use !== 'new' && hostOffset % meta.clusterSize !== 0)
    throw corrupt(FORMAT, `L2 entry ${index} points at 0x${hostOffset.toString(16)}, not on a cluster`, { field: 'L2 entry' });
  let clusters = 1;
  for (; clusters < most; clusters++) {
    const at = index + clusters;
    if (entryUse(table, at) !== use) break;
    if (use !== 'new' && entryOffset(table.getUint32(at * 8), table.getUint32(at * 8 + 4)) !== hostOffset + clusters * meta.clusterSize) break;
  }
  return { use, clusters, hostOffset };
}

function entryUse(table: DataView, index: number): Use {
  const high = table.getUint32(index * 8);
  const low = table.getUint32(index * 8 + 4);
  if ((high & COPIED_HIGH) === 0 || (high & COMPRESSED_HIGH) !== 0 || entryOffset(high, low) === 0) return 'new';
  return (low & ZERO_LOW) !== 0 ? 'preallocated' : 'in-place';
}

/** Points L2 entries at clusters whose data was written. */
function* link(meta: Metadata, run: { l1Index: number; index: number; clusters: number; hostOffset: number }): Io<void> {
  const table = yield* meta.l2ForWrite(run.l1Index);
  for (let i = 0; i < run.clusters; i++) {
    const offset = run.hostOffset + i * meta.clusterSize;
    replaceEntry(meta, table, run.index + i, { offset, copied: true });
  }
}

/**
 * See `ImageDriver.writeCompressed`; `encoded` is one cluster's compressed bytes. The bytes are written before the entry changes, and the
 * flush writes counts before entries, as with every other cluster. Returns false if they must be stored as they are.
 */
export function* writeEncoded(meta: Metadata, offset: number, encoded: Uint8Array): Io<boolean> {
  const hostOffset = yield* meta.lock.run(() => placeEncoded(meta, encoded.length));
  let linked = false;
  try {
    yield* meta.storage.write(hostOffset, encoded);
    linked = yield* meta.lock.run(() => linkEncoded(meta, offset, { hostOffset, length: encoded.length }));
    return linked;
  } finally {
    if (!linked) yield* meta.lock.run(() => meta.refcounts.release(hostOffset, encoded.length));
  }
}

function* placeEncoded(meta: Metadata, length: number): Io<number> {
  yield* meta.makeRoom();
  const hostOffset = yield* meta.refcounts.allocateBytes(length);
  yield* meta.requireNoMetadata(hostOffset, length);
  return hostOffset;
}

function* linkEncoded(meta: Metadata, offset: number, place: CompressedPlace): Io<boolean> {
  const table = yield* meta.l2ForWrite(Math.floor(offset / meta.l2Coverage));
  const index = Math.floor((offset % meta.l2Coverage) / meta.clusterSize);
  const high = table.data.getUint32(index * 8);
  const low = table.data.getUint32(index * 8 + 4);
  if (!putCompressed(table.data, index, place, meta.clusterBits)) return false;
  freeEntry(meta, high, low, 0);
  meta.l2.touch(table, index * 8, index * 8 + 8);
  return true;
}

/** Gives up what an L2 entry pointed at, unless that is at `kept`. */
function freeEntry(meta: Metadata, high: number, low: number, kept: number): void {
  if ((high & COMPRESSED_HIGH) !== 0) {
    const { hostOffset, length } = compressedPlace(high, low, meta.clusterBits);
    meta.refcounts.free(hostOffset, length);
    return;
  }
  const hostOffset = entryOffset(high, low);
  if (hostOffset !== 0 && hostOffset !== kept) meta.refcounts.free(hostOffset, meta.clusterSize);
}

/** Changes an L2 entry and gives up what it pointed at, unless the new entry points there too. */
function replaceEntry(meta: Metadata, table: Table, index: number, to: { offset: number; copied: boolean; zero?: boolean }): void {
  freeEntry(meta, table.data.getUint32(index * 8), table.data.getUint32(index * 8 + 4), to.offset);
  putEntry(table.data, index, to.offset, to.copied);
  if (to.zero) table.data.setUint32(index * 8 + 4, table.data.getUint32(index * 8 + 4) | ZERO_LOW);
  meta.l2.touch(table, index * 8, index * 8 + 8);
}

/**
 * See `ImageDriver.zero`. Version 3 has a flag for it; version 2 has not, so nothing is done there. A cluster keeps its place
 * unless `unmap` is set or it is compressed.
 */
export function* zero(meta: Metadata, offset: number, length: number, unmap: boolean): Io<number> {
  if (meta.header.version < 3) return 0;
  yield* meta.makeRoom();
  const { index, clusters } = clustersAt(meta, offset, length);
  const table = yield* meta.l2ForWrite(Math.floor(offset / meta.l2Coverage));
  for (let i = index; i < index + clusters; i++) {
    const high = table.data.getUint32(i * 8);
    const hostOffset = (high & COMPRESSED_HIGH) !== 0 || unmap ? 0 : entryOffset(high, table.data.getUint32(i * 8 + 4));
    replaceEntry(meta, table, i, { offset: hostOffset, copied: hostOffset !== 0 && (high & COPIED_HIGH) !== 0, zero: true });
  }
  return Math.min(length, clusters * meta.clusterSize);
}

/**
 * See `ImageDriver.discard`. As in QEMU: whole clusters (and the disk's last, cut off) lose their place and then read as zero; in
 * version 2, which cannot say "zero", they become unallocated, so with a backing file nothing is done.
 */
export function* discard(meta: Metadata, offset: number, length: number, hasBacking: boolean): Io<number> {
  const { clusterSize } = meta;
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
  if (meta.l1Offset(l1Index) === 0 && !hasBacking) return rest;
  const table = yield* meta.l2ForWrite(l1Index);
  for (let i = index; i < index + clusters; i++) {
    const unallocated = table.data.getUint32(i * 8) === 0 && table.data.getUint32(i * 8 + 4) === 0;
    if (unallocated && !hasBacking) continue;
    replaceEntry(meta, table, i, { offset: 0, copied: false, zero: !version2 });
  }
  return rest;
}

/** Makes whole clusters unallocated, whatever the version; for shrinking. Returns bytes done. */
export function* unmap(meta: Metadata, offset: number, length: number): Io<number> {
  yield* meta.makeRoom();
  const l1Index = Math.floor(offset / meta.l2Coverage);
  const { index, clusters } = clustersAt(meta, offset, length);
  const done = Math.min(length, clusters * meta.clusterSize);
  if (meta.l1Offset(l1Index) === 0) return done;
  const table = yield* meta.l2ForWrite(l1Index);
  for (let i = index; i < index + clusters; i++) replaceEntry(meta, table, i, { offset: 0, copied: false });
  return done;
}

/** The part of a range from `offset` (on a cluster) that one L2 table maps. */
function clustersAt(meta: Metadata, offset: number, length: number): { index: number; clusters: number } {
  const index = Math.floor((offset % meta.l2Coverage) / meta.clusterSize);
  return { index, clusters: Math.min(divideUp(length, meta.clusterSize), meta.l2Entries - index) };
}
