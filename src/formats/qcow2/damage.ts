/**
 * What is wrong with the tables of an open image that the guest's bytes are read without. Before something is written they must be believed: with
 * a refcount table that is not sound, what is in use may be taken for free; what a snapshot table leads to that cannot be read is nobody's. A
 * check with repair mends them.
 */
import { corrupt, type DiskError } from '../../base/errors.ts';
import { FORMAT } from './layout.ts';
import type { Metadata } from './metadata.ts';

/** What keeps an image from being written, if anything. */
export function damageOf(meta: Metadata): DiskError | undefined {
  const fault = meta.snapshotTable.faults.find(({ harmless }) => !harmless);
  const lost = meta.l1.fault(meta.l1.known) ?? meta.reftableFault ?? meta.bitmapFault;
  if (lost) return lost;
  if (fault) return corrupt(FORMAT, fault.found.replace('ERROR ', ''), { field: 'snapshot_table', offset: meta.header.snapshotsOffset });
  return blockDamage(meta);
}

/** A refcount table entry that names no block. */
function blockDamage({ refcounts, clusterSize, storage }: Metadata): DiskError | undefined {
  for (const index of refcounts.entriesInUse()) {
    const { offset, reserved } = refcounts.rawBlockOffset(index);
    const past = offset + clusterSize > storage.size;
    if (!reserved && !past && offset % clusterSize === 0) continue;
    const wrong = reserved ? 'has reserved bits set' : past ? 'ends past the end of the file' : 'is not on a cluster';
    return corrupt(FORMAT, `refcount block ${index} at 0x${offset.toString(16)} ${wrong}`, { field: 'refcount_table', offset });
  }
  return undefined;
}

/** Says what is wrong to a caller that only reads. */
export function tellDamage({ snapshotTable, reftableFault, bitmapFault }: Metadata, say: (message: string) => void): void {
  for (const { found, harmless } of snapshotTable.faults) if (!harmless) say(`warning: ${FORMAT}: ${found.replace('ERROR ', '')}`);
  for (const fault of [reftableFault, bitmapFault]) if (fault) say(`warning: ${fault.message}`);
}
