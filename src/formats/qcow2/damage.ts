/**
 * Faults in the tables of an open image that are not needed for reading the guest's bytes. Before the first write these tables must be trusted: with
 * an unsound refcount table, clusters in use may be taken for free; clusters of a snapshot table that cannot be read would belong to nothing. A
 * check with repair mends them.
 */
import { corrupt, type DiskError } from '../../base/errors.ts';
import { FORMAT } from './layout.ts';
import type { Metadata } from './metadata.ts';

/** The reason why an image must not be written, if there is one. */
export function damageOf(meta: Metadata): DiskError | undefined {
  const fault = meta.snapshotTable.faults.find(({ harmless }) => !harmless);
  const lost = meta.l1.fault(meta.l1.known) ?? meta.reftableFault ?? meta.bitmapFault;
  if (lost) return lost;
  if (fault) return corrupt(FORMAT, fault.found.replace('ERROR ', ''), { field: 'snapshot_table', offset: meta.header.snapshotsOffset });
  return blockDamage(meta);
}

/** A refcount table entry that names no block. */
function blockDamage({ refcounts, clusterSize, storage }: Metadata): DiskError | undefined {
  for (const index of refcounts.table.inUse()) {
    const [offset, reserved] = [refcounts.table.blockOffset(index), refcounts.table.reserved(index)];
    const past = offset + clusterSize > storage.size;
    if (!reserved && !past && offset % clusterSize === 0) continue;
    const wrong = reserved ? 'has reserved bits set' : past ? 'ends past the end of the file' : 'is not on a cluster';
    return corrupt(FORMAT, `refcount block ${index} at 0x${offset.toString(16)} ${wrong}`, { field: 'refcount_table', offset });
  }
  return undefined;
}

/** Reports the faults to a caller that only reads. */
export function tellDamage({ snapshotTable, reftableFault, bitmapFault }: Metadata, say: (message: string, warning: boolean) => void): void {
  for (const { found, harmless } of snapshotTable.faults) if (!harmless) say(`warning: ${FORMAT}: ${found.replace('ERROR ', '')}`, true);
  for (const fault of [reftableFault, bitmapFault]) if (fault) say(`warning: ${fault.message}`, true);
}
