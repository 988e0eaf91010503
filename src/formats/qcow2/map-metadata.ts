/** The places of an image's metadata, for the allocation map. Snapshots' L2 tables are left out: reading them all would take long. */
import type { Io } from '../../base/io.ts';
import type { MetadataExtent } from '../tools.ts';
import type { Metadata } from './metadata.ts';

/** Lists tables in memory order; waits for nothing. */
export function* listMetadata(meta: Metadata): Io<MetadataExtent[]> {
  const { header, clusterSize, refcounts } = meta;
  const list: MetadataExtent[] = [{ hostOffset: 0, length: clusterSize, what: 'header' }];
  const add = (what: string, hostOffset: number, length: number) => {
    if (hostOffset !== 0 && length > 0) list.push({ hostOffset, length, what });
  };
  add('refcount table', header.reftableOffset, header.reftableClusters * clusterSize);
  for (let i = 0; i < refcounts.table.entries; i++) add('refcount block', refcounts.table.blockOffset(i), clusterSize);
  add('L1 table', header.l1Offset, header.l1Size * 8);
  for (let i = 0; i < meta.l1.size; i++) add('L2 table', meta.l1.offset(i), clusterSize);
  if (meta.encryption?.place) add('encryption header', meta.encryption.place.offset, meta.encryption.place.length);
  add('snapshot table', header.snapshotsOffset, meta.snapshotTable.length);
  for (const snapshot of meta.snapshots) add('snapshot L1 table', snapshot.l1Offset, snapshot.l1Size * 8);
  const { directory, entries } = meta.bitmaps;
  if (directory) add('bitmap directory', directory.offset, directory.length);
  for (const { tableOffset, tableSize } of entries) add('bitmap table', tableOffset, tableSize * 8);
  return list;
}
