/**
 * Reading the header and the refcount table, with bounds on their size, and the parts of the snapshot table and of bitmaps that are kept.
 * Opening needs the header and the L1 table only: a fault of the refcount table forbids writing an image, not reading it.
 */
import { roundUp } from '../../base/bytes.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { SnapshotInfo } from '../driver.ts';
import { FIELD, FORMAT, type Header, MAX_REFTABLE_BYTES, parseHeader } from './layout.ts';
import type { BitmapDirectory, BitmapEntry } from './layout-bitmaps.ts';
import type { SnapshotEntry, SnapshotTable } from './layout-snapshots.ts';

/** The bitmap directory in force, and its bitmaps; undefined without bitmaps. */
export interface FileBitmaps {
  readonly directory: BitmapDirectory | undefined;
  readonly entries: readonly BitmapEntry[];
}

/** The snapshot table of an image without snapshots. */
export const NO_SNAPSHOTS: SnapshotTable = { entries: [], faults: [], length: 0, mended: [] };

export const NO_BITMAPS: FileBitmaps = { directory: undefined, entries: [] };

/** Reads the header with its extensions. `fileSize`: bytes in which the tables it names must lie. */
export function* readHeader(storage: Storage, fileSize = storage.size): Io<Header> {
  const start = yield* readBytes(storage, 0, Math.min(512, storage.size));
  // The cluster size decides how far extensions may reach; a nonsensical one is named by parseHeader.
  const clusterBits = start.length >= 24 ? Math.min(21, new DataView(start.buffer).getUint32(20)) : 9;
  const length = Math.min(2 ** Math.max(9, clusterBits), storage.size);
  return parseHeader(length > start.length ? yield* readBytes(storage, 0, length) : start, fileSize);
}

/** The error for a bitmap that does not exist. */
export const noBitmap = (name: string): DiskError =>
  new DiskError('not-found', `${FORMAT}: Dirty bitmap '${name}' not found`, { format: FORMAT, field: 'bitmap' });

/** The tables that opening an image reads. */
export interface Tables {
  readonly l1: Uint8Array;
  readonly reftable: Uint8Array;
  /** The reason why the refcount table cannot be read, if there is one; `reftable` is empty then. */
  readonly reftableFault?: DiskError;
  readonly snapshots: SnapshotTable;
  readonly bitmaps: FileBitmaps;
}

/** Reads the tables a header names, except the snapshot table and those of bitmaps. */
export function* readTables(storage: Storage, header: Header): Io<Tables> {
  const damage = reftableFault(header, storage.size);
  return {
    l1: yield* readL1Table(storage, header),
    reftable: yield* readBytes(storage, header.reftableOffset, damage ? 0 : header.reftableClusters * 2 ** header.clusterBits),
    ...(damage ? { reftableFault: damage } : {}),
    snapshots: NO_SNAPSHOTS,
    bitmaps: NO_BITMAPS,
  };
}

/** How many entries of the L1 table can be read: all, unless the table is in the header or the file was cut off in it. */
export const l1EntriesIn = ({ l1Offset, l1Size }: Pick<Header, 'l1Offset' | 'l1Size'>, fileSize: number): number =>
  l1Offset === 0 ? 0 : Math.max(0, Math.min(l1Size, Math.floor((fileSize - l1Offset) / 8)));

/** Bytes of the L1 table, zeros past the end of the file. */
function* readL1Table(storage: Storage, { l1Offset, l1Size }: Header): Io<Uint8Array> {
  const l1 = new Uint8Array(l1Size * 8);
  yield* storage.read(l1Offset, l1.subarray(0, l1EntriesIn({ l1Offset, l1Size }, storage.size) * 8));
  return l1;
}

/** The error for an L1 entry past the end of the file: its table is lost, and so are the guest's bytes there. */
export const lostL1Entry = ({ l1Offset }: Header, index: number): DiskError =>
  corrupt(
    FORMAT,
    `entry ${index} of the L1 table at 0x${l1Offset.toString(16)} ${l1Offset === 0 ? 'is the header' : 'lies past the end of the file'}`,
    {
      field: 'l1_table_offset',
      offset: l1Offset + index * 8,
    },
  );

/** The reason why the refcount table that a header names cannot be read, if there is one. */
export function reftableFault({ reftableOffset, reftableClusters, clusterBits }: Header, fileSize: number): DiskError | undefined {
  const bad = (what: string) => corrupt(FORMAT, what, { field: 'refcount_table_offset', offset: FIELD.reftableOffset });
  const length = reftableClusters * 2 ** clusterBits;
  const place = `refcount_table_offset is 0x${reftableOffset.toString(16)}`;
  if (reftableClusters === 0 || length > MAX_REFTABLE_BYTES)
    return corrupt(FORMAT, `refcount_table_clusters is ${reftableClusters}`, { field: 'refcount_table_clusters', offset: FIELD.reftableClusters });
  if (reftableOffset === 0) return bad('refcount_table_offset is 0');
  if (reftableOffset % 2 ** clusterBits !== 0) return bad(`${place}, not on a cluster`);
  if (reftableOffset + length > roundUp(fileSize, 2 ** clusterBits)) return bad(`${place}: the table ends past the end of the file`);
  return undefined;
}

/** A snapshot as the user of the image sees it; `presentSize`: the disk's present size, used if the entry does not state its own. */
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
