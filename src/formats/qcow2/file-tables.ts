/** Reading the header and the snapshot table, with bounds on what a file may make of them, and what is kept of the latter and of bitmaps. */
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { SnapshotInfo } from '../driver.ts';
import { FORMAT, type Header, MAX_L1_BYTES, parseHeader } from './layout.ts';
import type { BitmapDirectory, BitmapEntry } from './layout-bitmaps.ts';
import { MAX_SNAPSHOT_TABLE_BYTES, parseSnapshot, type SnapshotEntry } from './layout-tables.ts';

/** The bitmap directory in force, and what is in it; none without bitmaps. */
export interface FileBitmaps {
  readonly directory: BitmapDirectory | undefined;
  readonly entries: readonly BitmapEntry[];
}

export const NO_BITMAPS: FileBitmaps = { directory: undefined, entries: [] };

/** Reads the header with its extensions. `fileSize`: bytes in which the tables it names are to lie. */
export function* readHeader(storage: Storage, fileSize = storage.size): Io<Header> {
  const start = yield* readBytes(storage, 0, Math.min(512, storage.size));
  // The cluster size decides how far extensions may reach; a nonsensical one is named by parseHeader.
  const clusterBits = start.length >= 24 ? Math.min(21, new DataView(start.buffer).getUint32(20)) : 9;
  const length = Math.min(2 ** Math.max(9, clusterBits), storage.size);
  return parseHeader(length > start.length ? yield* readBytes(storage, 0, length) : start, fileSize);
}

/** The error of a bitmap that is not there. */
export const noBitmap = (name: string): DiskError =>
  new DiskError('not-found', `${FORMAT}: Dirty bitmap '${name}' not found`, { format: FORMAT, field: 'bitmap' });

/** The snapshots that a header names. */
export function* readSnapshots(storage: Storage, header: Header): Io<SnapshotEntry[]> {
  const entries: SnapshotEntry[] = [];
  const field = 'snapshot_table';
  let bytes = new Uint8Array();
  for (let at = 0; entries.length < header.snapshotCount; ) {
    // The table's length is known only from its entries, which are at most 1 KiB of extra data and two 64 KiB names each.
    if (at + 256 * 1024 > bytes.length) {
      const length = Math.min(bytes.length + 1024 * 1024, storage.size - header.snapshotsOffset, MAX_SNAPSHOT_TABLE_BYTES);
      if (length > bytes.length) bytes = (yield* readBytes(storage, header.snapshotsOffset, length)) as Uint8Array<ArrayBuffer>;
    }
    const { entry, next } = parseSnapshot(bytes, at);
    if (entry.l1Size * 8 > MAX_L1_BYTES) throw corrupt(FORMAT, `l1_size of snapshot ${JSON.stringify(entry.name)} is ${entry.l1Size}`, { field });
    entries.push(entry);
    at = next;
  }
  return entries;
}

/** A snapshot as whoever opened the image sees it; `presentSize`: the disk's now, where the entry does not say its own. */
export function snapshotInfo(entry: SnapshotEntry, presentSize: number): SnapshotInfo {
  return {
    id: entry.id,
    name: entry.name,
    vmStateSize: entry.vmStateSize,
    dateSeconds: entry.dateSeconds,
    dateNanoseconds: entry.dateNanoseconds,
    vmClockNanoseconds: entry.vmClockNanoseconds,
    ...(entry.icount === undefined ? {} : { icount: entry.icount }),
    diskSize: entry.diskSize ?? presentSize,
  };
}
