/**
 * A new snapshot table in the place of a damaged one: the readable part of each entry, in order.
 *
 * Crash argument. The new table goes past the end of the file, where nothing in use lies, and past the places that damaged entries name there. It is durable,
 * and counted, before one write of header fields switches to it; a cut before that leaves the old table and a leak. After it the old
 * table's clusters, and those of snapshots that could not be read, are leaks, until they are given back here and by the counting that follows. If the
 * refcount structure contradicts itself the new table is not counted: nothing can be written before the structure is replaced, table and all.
 */
import { divideUp, roundUp } from '../../base/bytes.ts';
import type { Io } from '../../base/io.ts';
import type { CheckRun } from './check-run.ts';
import { encodeSnapshots, soundSnapshots } from './layout-snapshots.ts';
import type { Metadata } from './metadata.ts';

/**
 * Puts the mended snapshot table in force; durable when it returns. `contents` has counted the references, `named` are clusters past the end of
 * the file that something names. The caller holds `Metadata.lock` and has flushed.
 */
export function* mendSnapshots(meta: Metadata, contents: CheckRun, named: ReadonlySet<number>): Io<void> {
  const { clusterSize, refcounts, snapshotTable, storage } = meta;
  const old = meta.header.snapshotsOffset;
  const own = isOwn(meta, contents);
  const bytes = encodeSnapshots(snapshotTable.mended);
  const clusters = divideUp(bytes.length, clusterSize);
  let start = Math.max(divideUp(storage.size, clusterSize), contents.references.end);
  for (let cluster = start; cluster < start + clusters; cluster++) if (named.has(cluster)) start = cluster + 1;
  if (clusters > 0) {
    const whole = new Uint8Array(roundUp(bytes.length, clusterSize));
    whole.set(bytes);
    yield* storage.write(start * clusterSize, whole);
    for (let cluster = start; contents.structureSound && cluster < start + clusters; cluster++) yield* refcounts.repair(cluster, 1, start + clusters);
    yield* refcounts.write();
  }
  const change = { snapshotCount: snapshotTable.mended.length, snapshotsOffset: clusters > 0 ? start * clusterSize : 0 };
  yield* meta.switchTo(change, { snapshots: soundSnapshots(snapshotTable.mended) });
  if (own) meta.refcounts.free(old, snapshotTable.length);
  yield* meta.flush();
}

/** True if the clusters of the old table are its own: if it was misplaced, other structures may have them. */
function isOwn({ clusterSize, snapshotTable, header }: Metadata, { references, structureSound }: CheckRun): boolean {
  const first = header.snapshotsOffset / clusterSize;
  const clusters = divideUp(snapshotTable.length, clusterSize);
  if (!structureSound || clusters === 0 || !Number.isInteger(first)) return false;
  for (let cluster = first; cluster < first + clusters; cluster++) if (references.get(cluster) !== 1) return false;
  return true;
}
