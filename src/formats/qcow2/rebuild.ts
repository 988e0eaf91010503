/**
 * A new refcount structure, made from what the image refers to, for one that contradicts itself (blocks shared, misplaced, or where
 * the table cannot say). Nothing of the old one is believed or changed.
 *
 * Crash argument. The new blocks and the new table go past the end of the file, where nothing in use lies; one write of header fields
 * switches to them (`Metadata.switchTo`). Before it the image is as it was, after it the new counts are exact and count the old
 * structure as free. Places past the end that damaged entries name are passed over, so that neither state reads them as its own.
 */
import { divideUp, setU64be, view } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { ClusterCounts } from './cluster-counts.ts';
import { FORMAT, MAX_REFTABLE_BYTES } from './layout.ts';
import { setRefcount } from './layout-tables.ts';
import type { Metadata } from './metadata.ts';

/** Where the new structure goes, in clusters: the blocks from `start` on, then the table. */
interface Plan {
  readonly start: number;
  /** Which clusters they count: block `i` counts clusters from `i * blockEntries` on. Rising. */
  readonly blocks: readonly number[];
  readonly tableClusters: number;
}

/**
 * Replaces the refcount structure. `counts` are the references to everything but refcount blocks and table; `named` are clusters past
 * the end of the file that damaged entries name. The caller holds `Metadata.lock` and has flushed; durable when it returns.
 */
export function* rebuildRefcounts(meta: Metadata, counts: ClusterCounts, named: ReadonlySet<number>): Io<void> {
  const { clusterSize, refcounts, storage } = meta;
  const { start, blocks, tableClusters } = planFor(meta, counts, named);
  const tableAt = start + blocks.length;
  const reftable = new Uint8Array(tableClusters * clusterSize);
  for (const [position, index] of blocks.entries()) {
    const bytes = new Uint8Array(clusterSize);
    const data = view(bytes);
    for (let i = 0; i < refcounts.blockEntries; i++) {
      const cluster = index * refcounts.blockEntries + i;
      const count = cluster >= start && cluster < tableAt + tableClusters ? 1 : counts.get(cluster);
      // A count that does not fit stops at the largest: the next check reports it.
      if (count > 0) setRefcount(data, i, meta.header.refcountOrder, Math.min(count, refcounts.max));
    }
    setU64be(view(reftable), index * 8, (start + position) * clusterSize);
    yield* storage.write((start + position) * clusterSize, bytes);
  }
  yield* storage.write(tableAt * clusterSize, reftable);
  yield* meta.switchTo({ reftableOffset: tableAt * clusterSize, reftableClusters: tableClusters }, { reftable });
}

function planFor(meta: Metadata, counts: ClusterCounts, named: ReadonlySet<number>): Plan {
  const used = blocksInUse(counts, meta.refcounts.blockEntries);
  let start = Math.max(divideUp(meta.storage.size, meta.clusterSize), counts.end);
  for (;;) {
    const plan = planAt(meta, used, start);
    const end = start + plan.blocks.length + plan.tableClusters;
    let clash = start;
    while (clash < end && !named.has(clash)) clash++;
    if (clash === end) return plan;
    start = clash + 1;
  }
}

/** The least that counts everything in use and itself, if it begins at `start`. */
function planAt(meta: Metadata, used: ReadonlySet<number>, start: number): Plan {
  const { blockEntries } = meta.refcounts;
  let blocks = new Set(used);
  let tableClusters = 1;
  for (;;) {
    const end = start + blocks.size + tableClusters;
    const needed = new Set(used);
    for (let index = Math.floor(start / blockEntries); index * blockEntries < end; index++) needed.add(index);
    const clusters = divideUp((Math.floor((end - 1) / blockEntries) + 1) * 8, meta.clusterSize);
    if (clusters * meta.clusterSize > MAX_REFTABLE_BYTES)
      throw new DiskError('no-space', `${FORMAT}: the rebuilt refcount table would exceed 8 MiB: convert the image to a new one`, { format: FORMAT });
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
