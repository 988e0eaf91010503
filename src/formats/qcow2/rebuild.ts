/**
 * A new refcount structure: made from the references in the image, for a structure that contradicts itself (blocks shared, misplaced, or where the table
 * cannot say; nothing of the old one is trusted then), or with the same counts in another width. Nothing of the old one is changed.
 *
 * Crash argument. The new blocks and the new table go past the end of the file, where nothing in use lies; one write of header fields
 * switches to them (`Metadata.switchTo`). Before it the image is as it was, after it the new counts are exact and count the old
 * structure as free. Places past the end that damaged entries name are passed over, so that neither state reads them as its own.
 */
import { divideUp, setU64be, view } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { ClusterCounts } from './cluster-counts.ts';
import { FORMAT, MAX_REFTABLE_BYTES } from './layout.ts';
import { maxRefcount, setRefcount } from './layout-tables.ts';
import type { Metadata } from './metadata.ts';

/** The place of the new structure, in clusters: the blocks from `start` on, then the table. */
interface Plan {
  readonly start: number;
  /** The numbers of the blocks: block `i` counts clusters from `i * blockEntries` on. Rising. */
  readonly blocks: readonly number[];
  readonly tableClusters: number;
}

/**
 * Replaces the refcount structure. `counts` are the references to everything but refcount blocks and table; `named` are clusters past
 * the end of the file that damaged entries name. The caller holds `Metadata.lock` and has flushed; durable when it returns.
 */
export function* rebuildRefcounts(meta: Metadata, counts: ClusterCounts, options: { named?: ReadonlySet<number>; order?: number } = {}): Io<void> {
  const { clusterSize, storage } = meta;
  const { named = new Set(), order = meta.header.refcountOrder } = options;
  const blockEntries = (clusterSize * 8) >> order;
  const max = maxRefcount(order);
  const { start, blocks, tableClusters } = planFor(meta, counts, { named, blockEntries });
  const tableAt = start + blocks.length;
  const reftable = new Uint8Array(tableClusters * clusterSize);
  for (const [position, index] of blocks.entries()) {
    const bytes = new Uint8Array(clusterSize);
    const data = view(bytes);
    for (let i = 0; i < blockEntries; i++) {
      const cluster = index * blockEntries + i;
      const count = cluster >= start && cluster < tableAt + tableClusters ? 1 : counts.get(cluster);
      // A count that does not fit stops at the largest: the next check reports it.
      if (count > 0) setRefcount(data, i, order, Math.min(count, max));
    }
    setU64be(view(reftable), index * 8, (start + position) * clusterSize);
    yield* storage.write((start + position) * clusterSize, bytes);
  }
  yield* storage.write(tableAt * clusterSize, reftable);
  yield* meta.switchRefcounts({ reftableOffset: tableAt * clusterSize, reftableClusters: tableClusters, refcountOrder: order }, reftable);
}

/**
 * The same counts with 2^`order` bits each. Counts that are too high stay so, as in QEMU. Throws `refused` if one does not fit. The caller
 * holds `Metadata.lock`.
 */
export function* changeRefcountWidth(meta: Metadata, order: number, onProgress: (done: number, total: number) => void): Io<void> {
  const { clusterSize, refcounts } = meta;
  yield* meta.flushCounts();
  const counts = new ClusterCounts();
  const max = Math.min(maxRefcount(order), 2 ** 32 - 1);
  for (let index = 0; index < refcounts.table.entries; index++) {
    onProgress(index, refcounts.table.entries);
    if (!(yield* refcounts.loadBlock(index))) continue;
    const counted = yield* refcounts.countsOf(index, refcounts.blockEntries);
    for (let within = 0; within < counted.length; within++) {
      const count = counted[within] as number;
      if (count === 0) continue;
      const cluster = index * refcounts.blockEntries + within;
      const hex = (cluster * clusterSize).toString(16);
      if (count > max)
        throw new DiskError(
          'refused',
          `${FORMAT}: Cannot decrease refcount entry width to ${1 << order} bits: Cluster at offset 0x${hex} has a refcount of ${count}`,
          { format: FORMAT, field: 'refcount_bits' },
        );
      counts.add(cluster, count);
    }
  }
  // The new structure does not count the one that is left behind.
  for (const offset of refcounts.blockOffsets()) uncount(counts, offset / clusterSize, 1);
  uncount(counts, refcounts.table.offset / clusterSize, divideUp(refcounts.table.entries * 8, clusterSize));
  yield* rebuildRefcounts(meta, counts, { order });
}

function uncount(counts: ClusterCounts, first: number, clusters: number): void {
  for (let cluster = first; cluster < first + clusters; cluster++) if (counts.get(cluster) > 0) counts.add(cluster, -1);
}

function planFor(meta: Metadata, counts: ClusterCounts, { named, blockEntries }: { named: ReadonlySet<number>; blockEntries: number }): Plan {
  const used = blocksInUse(counts, blockEntries);
  let start = Math.max(divideUp(meta.storage.size, meta.clusterSize), counts.end);
  for (;;) {
    const plan = planAt(meta.clusterSize, blockEntries, { used, start });
    const end = start + plan.blocks.length + plan.tableClusters;
    let clash = start;
    while (clash < end && !named.has(clash)) clash++;
    if (clash === end) return plan;
    start = clash + 1;
  }
}

/** The smallest structure that counts everything in use and itself, if it begins at `start`. */
function planAt(clusterSize: number, blockEntries: number, { used, start }: { used: ReadonlySet<number>; start: number }): Plan {
  let blocks = new Set(used);
  let tableClusters = 1;
  for (;;) {
    const end = start + blocks.size + tableClusters;
    const needed = new Set(used);
    for (let index = Math.floor(start / blockEntries); index * blockEntries < end; index++) needed.add(index);
    const clusters = divideUp((Math.floor((end - 1) / blockEntries) + 1) * 8, clusterSize);
    if (clusters * clusterSize > MAX_REFTABLE_BYTES)
      throw new DiskError('no-space', `${FORMAT}: the new refcount table would exceed 8 MiB: convert the image to a new one`, { format: FORMAT });
    if (needed.size === blocks.size && clusters === tableClusters) return { start, blocks: [...needed].sort((a, b) => a - b), tableClusters };
    blocks = needed;
    tableClusters = Math.max(tableClusters, clusters);
  }
}

function blocksInUse(counts: ClusterCounts, blockEntries: number): Set<number> {
  const used = new Set<number>();
  for (let cluster = 0; cluster < counts.end; cluster++) {
    if (counts.get(cluster) === 0) continue;
    const index = Math.floor(cluster / blockEntries);
    used.add(index);
    cluster = (index + 1) * blockEntries - 1;
  }
  return used;
}
