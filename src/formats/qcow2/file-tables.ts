/** Reading the snapshot table, the bitmap directory and bitmap tables, with bounds on what a file may make of them. */
import { roundUp } from '../../base/bytes.ts';
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { AUTOCLEAR, FORMAT, type Header, MAX_L1_BYTES } from './layout.ts';
import { type BitmapDirectory, type BitmapEntry, parseBitmapDirectory, parseBitmapExtension, parseBitmapTable } from './layout-bitmaps.ts';
import { MAX_SNAPSHOT_TABLE_BYTES, parseSnapshot, type SnapshotEntry } from './layout-tables.ts';

/** The bitmap directory in force, and what is in it; none without bitmaps. */
export interface FileBitmaps {
  readonly directory: BitmapDirectory | undefined;
  readonly entries: readonly BitmapEntry[];
}

export const NO_BITMAPS: FileBitmaps = { directory: undefined, entries: [] };

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

/** The bitmaps that a header names and vouches for. */
export function* readBitmaps(storage: Storage, header: Header): Io<FileBitmaps> {
  const directory = parseBitmapExtension(header, (header.autoclear & AUTOCLEAR.bitmaps) !== 0);
  if (!directory) return NO_BITMAPS;
  if (directory.offset + directory.length > storage.size)
    throw corrupt(FORMAT, 'the bitmap directory ends past the end of the file', { field: 'bitmap_directory_offset', offset: directory.offset });
  const bytes = yield* readBytes(storage, directory.offset, directory.length);
  const entries = parseBitmapDirectory(bytes, directory.count, { size: header.size, clusterSize: 2 ** header.clusterBits });
  if (entries.reduce((sum, { tableSize }) => sum + tableSize * 8, 0) > storage.size)
    throw corrupt(FORMAT, 'the bitmap tables are larger than the file', { field: 'bitmap_table_size' });
  return { directory, entries };
}

/** Reads a bitmap's table. Throws `corrupt` if it does not lie in the file or has reserved bits set. */
export function* readBitmapTable(storage: Storage, entry: BitmapEntry, clusterSize: number): Io<Float64Array> {
  const { tableOffset, tableSize, name } = entry;
  if (tableOffset + tableSize * 8 > roundUp(storage.size, clusterSize))
    throw corrupt(FORMAT, `the table of bitmap '${name}' ends past the end of the file`, { field: 'bitmap_table_offset', offset: tableOffset });
  return parseBitmapTable(yield* readBytes(storage, tableOffset, tableSize * 8), clusterSize);
}
