/**
 * Another version of the format. Version 3 demands more of the snapshot table than version 2 has; version 2 has no clusters that read as
 * zero without being written, so such clusters are replaced first, in the disk and in its snapshots.
 *
 * Crash argument. Nothing that prepares the change alters the contents of the image in its present version. The disk's own zero clusters
 * change like any write: zeros are written (over bytes that no entry shows, or to new space) before the entry that shows them. The
 * snapshots' tables are made anew and switched to at once (table-switch.ts). Last, one write of the first sector changes the version (header.ts).
 */
import { view } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { writeZeroes } from '../../storage/storage.ts';
import { replaceEntry } from './allocate.ts';
import { rewriteHeader } from './header.ts';
import { FORMAT, HEADER_LENGTH_V2, HEADER_LENGTH_V3, INCOMPATIBLE } from './layout.ts';
import { completeSnapshot, type SnapshotEntry } from './layout-snapshots.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, entryOffset, putEntry, ZERO_LOW } from './layout-tables.ts';
import type { Metadata } from './metadata.ts';
import { changeAtOnce, loadSnapshotL1, refreshed, switchTables } from './snapshots.ts';
import type { TableSwitch } from './table-switch.ts';

type OnProgress = (done: number, total: number) => void;

const MAX_U32 = 2 ** 32 - 1;

/** From version 2 to 3. The caller holds `Metadata.lock`. */
export function* upgrade(meta: Metadata): Io<void> {
  const completed = meta.snapshots.map((entry) => completeSnapshot(entry, meta.header.size));
  if (completed.some((entry, index) => entry !== meta.snapshots[index])) {
    yield* changeAtOnce(meta, function* (tableSwitch) {
      yield* switchTables(meta, tableSwitch, { l1: meta.l1.copy(), snapshots: completed });
    });
  }
  yield* rewriteHeader(meta, { version: 3, headerLength: HEADER_LENGTH_V3 });
}

/**
 * From version 3 to 2. Throws `refused` where the image has features that version 2 cannot store; the disk reads the same then, but may already have
 * given up zero clusters. The caller holds `Metadata.lock`.
 */
export function* downgrade(meta: Metadata, { hasBacking, onProgress }: { hasBacking: boolean; onProgress: OnProgress }): Io<void> {
  const { header } = meta;
  const refuse = (message: string, field: string): never => {
    throw new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
  };
  if (header.refcountOrder !== 4) refuse('compat=0.10 requires refcount_bits=16', 'refcount_bits');
  if (header.incompatible & INCOMPATIBLE.dataFile) refuse('Cannot downgrade an image with a data file', 'data_file');
  if (meta.snapshots.some(({ vmStateSize, diskSize }) => vmStateSize > MAX_U32 || (diskSize ?? header.size) !== header.size))
    refuse('Internal snapshots prevent downgrade of image', 'snapshot');
  const left = header.incompatible & ~(INCOMPATIBLE.compressionType | INCOMPATIBLE.dirty);
  if (left !== 0) refuse(`Cannot downgrade an image with incompatible features 0x${left.toString(16)} set`, 'incompatible_features');
  if (header.incompatible & INCOMPATIBLE.compressionType && (yield* hasCompressed(meta)))
    refuse('Cannot downgrade an image with zstd compression type and existing compressed clusters', 'compression_type');
  yield* meta.flushCounts();
  yield* meta.setFeatures({ compatible: 0, autoclear: 0 });
  yield* expandDisk(meta, hasBacking, onProgress);
  yield* expandSnapshots(meta, hasBacking);
  yield* rewriteHeader(meta, { version: 2, headerLength: HEADER_LENGTH_V2, incompatible: 0, compressionType: 0 });
}

/** Offsets of the L2 tables of an L1 table. */
function l2Offsets(l1: Uint8Array): number[] {
  const entries = view(l1);
  return Array.from({ length: l1.length / 8 }, (_, i) => entryOffset(entries.getUint32(i * 8), entries.getUint32(i * 8 + 4)));
}

function* hasCompressed(meta: Metadata): Io<boolean> {
  const tables = yield* snapshotTables(meta);
  for (const offset of l2Offsets(meta.l1.copy())) tables.set(offset, 1);
  for (const offset of tables.keys()) {
    if (offset === 0) continue;
    const { data } = yield* meta.l2.load(offset);
    for (let i = 0; i < meta.l2Entries; i++) if ((data.getUint32(i * 8) & COMPRESSED_HIGH) !== 0) return true;
  }
  return false;
}

/** The L2 tables of the snapshots, and how many snapshots use each. */
function* snapshotTables(meta: Metadata): Io<Map<number, number>> {
  const users = new Map<number, number>();
  for (const entry of meta.snapshots)
    for (const offset of l2Offsets(yield* loadSnapshotL1(meta, entry, 0))) if (offset !== 0) users.set(offset, (users.get(offset) ?? 0) + 1);
  return users;
}

/** Entries of an L2 table that read as zero by their flag. */
function zeroEntries(meta: Metadata, table: DataView): number[] {
  const found: number[] = [];
  for (let i = 0; i < meta.l2Entries; i++)
    if ((table.getUint32(i * 8 + 4) & ZERO_LOW) !== 0 && (table.getUint32(i * 8) & COMPRESSED_HIGH) === 0) found.push(i);
  return found;
}

/**
 * Removes zero clusters from the disk's own tables. A cluster with its own place is filled with zeros and keeps it; one without needs a place only over a
 * backing file.
 */
function* expandDisk(meta: Metadata, hasBacking: boolean, onProgress: OnProgress): Io<void> {
  const { clusterSize, storage } = meta;
  for (let l1Index = 0; l1Index < meta.l1.size; l1Index++) {
    onProgress(l1Index, meta.l1.size);
    if (meta.l1.offset(l1Index) === 0) continue;
    const zeroes = zeroEntries(meta, (yield* meta.loadL2(l1Index)).data);
    for (const index of zeroes) {
      yield* meta.makeRoom();
      const table = yield* meta.l2ForWrite(l1Index);
      const high = table.data.getUint32(index * 8);
      const own = (high & COPIED_HIGH) !== 0 ? entryOffset(high, table.data.getUint32(index * 8 + 4)) : 0;
      if (own !== 0) {
        yield* meta.requireWritable(own, clusterSize, l1Index * meta.l2Coverage + index * clusterSize);
        yield* writeZeroes(storage, own, clusterSize);
      }
      const offset = own === 0 && hasBacking ? yield* newZeroes(meta) : own;
      replaceEntry(meta, table, index, { offset, copied: offset !== 0, allocated: offset === 0 ? 0 : 1, zero: 0 });
    }
  }
  yield* meta.flush();
}

/** A new cluster full of zeros. */
function* newZeroes(meta: Metadata): Io<number> {
  const offset = yield* meta.refcounts.allocate(1);
  try {
    yield* meta.requireNoMetadata(offset, meta.clusterSize);
    yield* writeZeroes(meta.storage, offset, meta.clusterSize);
    return offset;
  } catch (error) {
    yield* meta.refcounts.release(offset, meta.clusterSize);
    throw error;
  }
}

/** The same for the snapshots, all at once. Tables that they share stay shared. */
function* expandSnapshots(meta: Metadata, hasBacking: boolean): Io<void> {
  const users = yield* snapshotTables(meta);
  const due: number[] = [];
  for (const offset of users.keys()) if (zeroEntries(meta, (yield* meta.l2.load(offset)).data).length > 0) due.push(offset);
  if (due.length === 0) return;
  yield* changeAtOnce(meta, function* (tableSwitch) {
    const moved = new Map<number, number>();
    for (const offset of due) moved.set(offset, yield* expandTable(meta, tableSwitch, { offset, users: users.get(offset) as number, hasBacking }));
    const snapshots: SnapshotEntry[] = [];
    for (const entry of meta.snapshots) snapshots.push(yield* moveTables(tableSwitch, entry, yield* loadSnapshotL1(meta, entry, 0), moved));
    // A cluster that a snapshot gave up may now belong to the disk alone.
    const l1 = yield* refreshed(meta, tableSwitch, meta.l1.copy(), 1);
    yield* switchTables(meta, tableSwitch, { l1, snapshots });
  });
}

/** Writes an L2 table of `users` snapshots anew, without zero clusters; returns its place. The disk itself does not use it. */
function* expandTable(
  meta: Metadata,
  tableSwitch: TableSwitch,
  { offset, users, hasBacking }: { offset: number; users: number; hasBacking: boolean },
): Io<number> {
  const { clusterSize } = meta;
  const bytes = yield* tableSwitch.readTable(offset);
  const table = view(bytes);
  for (const index of zeroEntries(meta, table)) {
    const old = entryOffset(table.getUint32(index * 8), table.getUint32(index * 8 + 4));
    if (old !== 0) tableSwitch.count(old, clusterSize, -users);
    const place = hasBacking ? yield* tableSwitch.place(new Uint8Array(clusterSize)) : 0;
    // `place` counted it once.
    if (place !== 0) tableSwitch.count(place, clusterSize, users - 1);
    putEntry(table, index, place, false);
  }
  const to = yield* tableSwitch.place(bytes);
  tableSwitch.count(to, clusterSize, users - 1);
  tableSwitch.count(offset, clusterSize, -users);
  return to;
}

/** A snapshot with an L1 table that points at the new tables; its own table stays if nothing moved. */
function* moveTables(tableSwitch: TableSwitch, entry: SnapshotEntry, l1: Uint8Array, moved: ReadonlyMap<number, number>): Io<SnapshotEntry> {
  const entries = view(l1);
  let changed = false;
  for (const [i, offset] of l2Offsets(l1).entries()) {
    const to = moved.get(offset);
    if (to === undefined) continue;
    putEntry(entries, i, to, false);
    changed = true;
  }
  if (!changed) return entry;
  tableSwitch.replace(entry.l1Offset, entry.l1Size * 8);
  return { ...entry, l1Offset: yield* tableSwitch.place(l1) };
}
