/** Reading the bitmap directory and bitmap tables, with bounds on their size. Loaded with the first image that has bitmaps. */
import { roundUp } from '../../base/bytes.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { type FileBitmaps, NO_BITMAPS } from './file-tables.ts';
import { AUTOCLEAR, FORMAT, type Header } from './layout.ts';
import { type BitmapEntry, parseBitmapDirectory, parseBitmapExtension, parseBitmapTable } from './layout-bitmaps.ts';
import type { Metadata } from './metadata.ts';

/** Takes over the bitmaps that a header names and vouches for. An error of reading them is only noted: no other code needs them. */
export function* takeBitmaps(meta: Metadata): Io<void> {
  try {
    meta.bitmaps = yield* readBitmaps(meta.storage, meta.header);
  } catch (error) {
    meta.bitmapFault = damageOnly(error);
  }
}

/** Returns the error if it is about the contents of the file; throws others. */
export function damageOnly(error: unknown): DiskError {
  if (error instanceof DiskError && (error.kind === 'corrupt' || error.kind === 'unsupported')) return error;
  throw error;
}

function* readBitmaps(storage: Storage, header: Header): Io<FileBitmaps> {
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

/** Reads a bitmap's table. Throws `corrupt` if it is not inside the file or has reserved bits set. */
export function* readBitmapTable(storage: Storage, entry: BitmapEntry, clusterSize: number): Io<Float64Array> {
  const { tableOffset, tableSize, name } = entry;
  if (tableOffset + tableSize * 8 > roundUp(storage.size, clusterSize))
    throw corrupt(FORMAT, `the table of bitmap '${name}' ends past the end of the file`, { field: 'bitmap_table_offset', offset: tableOffset });
  return parseBitmapTable(yield* readBytes(storage, tableOffset, tableSize * 8), clusterSize);
}
