/** Reading the snapshot table, as far as it can be read. Loaded with the first image that has snapshots. */
import type { Io } from '../../base/io.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { Header } from './layout.ts';
import { MAX_ENTRY_BYTES, MAX_SNAPSHOT_TABLE_BYTES, type SnapshotTable, SnapshotTableReader } from './layout-snapshots.ts';

/** Bytes that are read first; the table's length is known only from its entries. */
const FIRST_READ = 1024 * 1024;

/** The snapshot table that a header names. Its faults are in `SnapshotTable.faults`; only the storage makes this fail. */
export function* readSnapshots(storage: Storage, header: Header): Io<SnapshotTable> {
  const { snapshotsOffset: offset, clusterBits } = header;
  const reader = new SnapshotTableReader({ header, fileSize: storage.size });
  if (reader.done) return reader.table;
  if (offset === 0) reader.lose('the table is said to be in the header');
  else if (offset % 2 ** clusterBits !== 0) reader.lose('the table is not cluster aligned');
  const most = Math.max(0, Math.min(storage.size - offset, MAX_SNAPSHOT_TABLE_BYTES));
  let bytes = new Uint8Array();
  while (!reader.done) {
    if (reader.at + MAX_ENTRY_BYTES > bytes.length && bytes.length < most) {
      const length = Math.min(most, Math.max(FIRST_READ, bytes.length * 2));
      bytes = (yield* readBytes(storage, offset, length)) as Uint8Array<ArrayBuffer>;
    }
    reader.read(bytes);
  }
  return reader.table;
}
