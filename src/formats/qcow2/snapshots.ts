/**
 * Internal snapshots. A snapshot is a copy of the L1 table; its L2 tables and clusters are shared and counted once more, and
 * the active tables lose their copied flags, so that the next write goes elsewhere. Every change is one switch (table-switch.ts has the
 * crash argument): a cut leaves the snapshot table, the active tables and the counts all as before or all as after.
 */
import { utf8, view } from '../../base/bytes.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { ImageDriver, SnapshotInfo } from '../driver.ts';
import type { DirtyRuns, SnapshotMoment, SnapshotTools } from '../tools.ts';
import { snapshotInfo } from './file-tables.ts';
import { FORMAT, l1EntriesFor, MAX_SNAPSHOTS } from './layout.ts';
import { encodeSnapshotExtra, encodeSnapshots, nextId, type SnapshotEntry, soundSnapshots } from './layout-snapshots.ts';
import { COPIED_HIGH, entryOffset, putEntry } from './layout-tables.ts';
import type { Metadata } from './metadata.ts';
import { SnapshotChanges } from './snapshot-changes.ts';
import { readL1, TableSwitch } from './table-switch.ts';

const NAME_LIMIT = 65535;

export class Qcow2Snapshots implements Required<SnapshotTools> {
  readonly #meta: Metadata;
  readonly #open: (view: Metadata) => Io<ImageDriver>;
  readonly #hasBitmaps: () => boolean;

  /** `hasBitmaps`: a bitmap could not record the changes of applying a snapshot. */
  constructor(meta: Metadata, open: (view: Metadata) => Io<ImageDriver>, hasBitmaps: () => boolean) {
    this.#meta = meta;
    this.#hasBitmaps = hasBitmaps;
    this.#open = open;
  }

  *create({ name, date, vmStateSize = 0, vmClockNanoseconds = 0, icount = 0 }: SnapshotMoment & { name: string; date: Date }): Io<SnapshotInfo> {
    const meta = this.#meta;
    requireName(name);
    if (meta.snapshots.length >= MAX_SNAPSHOTS)
      throw new DiskError('refused', `${FORMAT}: an image has at most ${MAX_SNAPSHOTS} snapshots`, { format: FORMAT, field: 'nb_snapshots' });
    return yield* this.#change(function* (tableSwitch) {
      // Only the snapshot gets the machine's state: the active tables would have to copy it at the next one.
      const kept = vmStateSize > 0 ? l1EntriesFor(meta.header.size, meta.header) * 8 : meta.l1.size * 8;
      const active = meta.l1.copy();
      const state = active.slice(kept);
      active.fill(0, kept);
      yield* tableSwitch.countTree(active, 1);
      yield* tableSwitch.requireFits();
      // The active L1 and the snapshot's are both written anew, with the same entries.
      const l1 = yield* refreshed(meta, tableSwitch, active, 2);
      const stored = l1.slice();
      stored.set(state, kept);
      const milliseconds = date.getTime();
      const entry: SnapshotEntry = {
        l1Offset: l1.length > 0 ? yield* tableSwitch.place(stored) : 0,
        l1Size: meta.l1.size,
        id: nextId(meta.snapshots),
        name,
        dateSeconds: Math.floor(milliseconds / 1000),
        dateNanoseconds: (milliseconds % 1000) * 1_000_000,
        vmClockNanoseconds,
        vmStateSize,
        diskSize: meta.header.size,
        icount,
        extra: encodeSnapshotExtra(vmStateSize, meta.header.size, icount),
      };
      yield* switchTables(meta, tableSwitch, { l1, snapshots: [...meta.snapshots, entry] });
      return snapshotInfo(entry, meta.header.size);
    });
  }

  *apply(id: string): Io<void> {
    const meta = this.#meta;
    const entry = this.#entry(id);
    if (this.#hasBitmaps()) throw new DiskError('refused', `${FORMAT}: Device has active dirty bitmaps`, { format: FORMAT, field: 'bitmap' });
    yield* this.#change(function* (tableSwitch) {
      const size = entry.diskSize ?? meta.header.size;
      const stored = yield* loadSnapshotL1(meta, entry, size);
      yield* tableSwitch.countTree(stored, 1);
      yield* tableSwitch.countTree(meta.l1.copy(), -1);
      yield* tableSwitch.requireFits();
      const l1 = yield* refreshed(meta, tableSwitch, stored, 1);
      yield* switchTables(meta, tableSwitch, { l1, size });
    });
  }

  *delete(id: string): Io<void> {
    const meta = this.#meta;
    const entry = this.#entry(id);
    yield* this.#change(function* (tableSwitch) {
      const stored = yield* loadSnapshotL1(meta, entry, 0);
      yield* tableSwitch.countTree(stored, -1);
      tableSwitch.replace(entry.l1Offset, entry.l1Size * 8);
      const l1 = yield* refreshed(meta, tableSwitch, meta.l1.copy(), 1);
      yield* switchTables(meta, tableSwitch, { l1, snapshots: meta.snapshots.filter((other) => other !== entry) });
    });
  }

  *rename(id: string, name: string): Io<void> {
    const meta = this.#meta;
    const entry = this.#entry(id);
    requireName(name);
    yield* this.#change(function* (tableSwitch) {
      const snapshots = meta.snapshots.map((other) => (other === entry ? renamed(entry, name) : other));
      yield* switchTables(meta, tableSwitch, { l1: meta.l1.copy(), snapshots });
    });
  }

  *view(id: string): Io<ImageDriver> {
    return yield* this.#open(yield* this.#tables(id));
  }

  *changes(id: string): Io<DirtyRuns> {
    return new SnapshotChanges(this.#meta, yield* this.#tables(id), this.#meta.header.backingName !== undefined);
  }

  *#tables(id: string): Io<Metadata> {
    const entry = this.#entry(id);
    const meta = this.#meta;
    const size = entry.diskSize ?? meta.header.size;
    const l1 = yield* loadSnapshotL1(meta, entry, size);
    return meta.viewOf({ size, l1, l1Offset: entry.l1Offset });
  }

  #entry(id: string): SnapshotEntry {
    const entry = this.#meta.snapshots.find((snapshot) => snapshot.id === id);
    if (!entry) throw new DiskError('not-found', `${FORMAT}: there is no snapshot with id ${id}`, { format: FORMAT, field: 'snapshot' });
    return entry;
  }

  *#change<T>(body: (tableSwitch: TableSwitch) => Io<T>): Io<T> {
    if (this.#meta.external) throw unsupported(FORMAT, 'an image with an external data file cannot have snapshots', { field: 'data_file' });
    const meta = this.#meta;
    return yield* meta.guarded(() => meta.lock.run(() => changeAtOnce(meta, body)));
  }
}

/** The entry with another name; an id that is not UTF-8 stays as it is. */
const renamed = (entry: SnapshotEntry, name: string): SnapshotEntry => ({
  ...entry,
  name,
  ...(entry.bytes ? { bytes: { id: entry.bytes.id, name: utf8(name) } } : {}),
});

function requireName(name: string): void {
  if (new TextEncoder().encode(name).length > NAME_LIMIT)
    throw new DiskError('refused', `${FORMAT}: a snapshot name has at most ${NAME_LIMIT} bytes`, { format: FORMAT, field: 'name' });
}

/** Runs a change after everything before it is in the file; gives its space back if it fails. The caller holds `Metadata.lock`. */
export function* changeAtOnce<T>(meta: Metadata, body: (tableSwitch: TableSwitch) => Io<T>): Io<T> {
  meta.requireSound();
  yield* meta.flush();
  const tableSwitch = new TableSwitch(meta);
  const before = meta.header;
  try {
    return yield* body(tableSwitch);
  } catch (error) {
    if (meta.header === before) yield* tableSwitch.abandon();
    throw error;
  }
}

/** The L1 table of a snapshot, checked to reach over `size` guest bytes. */
export function* loadSnapshotL1(meta: Metadata, entry: SnapshotEntry, size: number): Io<Uint8Array> {
  const field = 'snapshot l1_table_offset';
  if (entry.l1Offset % meta.clusterSize !== 0 || entry.l1Offset + entry.l1Size * 8 > meta.storage.size)
    throw corrupt(FORMAT, `the L1 table of snapshot ${JSON.stringify(entry.name)} does not lie in the file`, { field, offset: entry.l1Offset });
  if (entry.l1Size < l1EntriesFor(size, meta.header))
    throw corrupt(FORMAT, `the L1 table of snapshot ${JSON.stringify(entry.name)} is too small for its disk`, { field: 'snapshot l1_size' });
  return yield* readL1(meta, entry);
}

/**
 * An L1 table whose copied flags, and those of its L2 tables, match the future counts; to be written to `copies` places. A table
 * that must change for this is written anew for these copies only: other snapshots keep the old one.
 */
export function* refreshed(meta: Metadata, tableSwitch: TableSwitch, l1: Uint8Array, copies: 1 | 2): Io<Uint8Array> {
  const table = l1.slice();
  const entries = view(table);
  for (let i = 0; i < table.length / 8; i++) {
    const old = entryOffset(entries.getUint32(i * 8), entries.getUint32(i * 8 + 4));
    if (old === 0) continue;
    const references = yield* tableSwitch.refcount(old);
    const bytes = yield* tableSwitch.readTable(old);
    const changed = yield* refreshTable(meta, tableSwitch, view(bytes), references === 1);
    if (changed) {
      const offset = yield* tableSwitch.place(bytes);
      // `place` counted it once.
      tableSwitch.count(offset, meta.clusterSize, copies - 1);
      tableSwitch.count(old, meta.clusterSize, -copies);
      putEntry(entries, i, offset, copies === 1);
    } else putEntry(entries, i, old, references === 1);
  }
  return table;
}

/** Sets copied flags of L2 entries. A shared table has none: its clusters are counted once for each tree. */
function* refreshTable(meta: Metadata, tableSwitch: TableSwitch, table: DataView, own: boolean): Io<boolean> {
  let changed = false;
  for (let i = 0; i < meta.l2Entries; i++) {
    const high = meta.shape.high(table, i);
    const offset = meta.shape.offset(table, i);
    if (meta.shape.compressed(table, i) || offset === 0) continue;
    const copied = own && (yield* tableSwitch.refcount(offset)) === 1;
    const now = (copied ? high | COPIED_HIGH : high & ~COPIED_HIGH) >>> 0;
    if (now === high) continue;
    table.setUint32(i * meta.shape.bytes, now);
    changed = true;
  }
  return changed;
}

/** Places the new L1 table (and snapshot table, if there is one) and switches to them. */
export function* switchTables(
  meta: Metadata,
  tableSwitch: TableSwitch,
  to: { l1: Uint8Array; size?: number; snapshots?: readonly SnapshotEntry[] },
): Io<void> {
  const { header } = meta;
  const l1Offset = to.l1.length > 0 ? yield* tableSwitch.place(to.l1) : 0;
  tableSwitch.replace(header.l1Offset, header.l1Size * 8);
  let snapshotFields = {};
  if (to.snapshots) {
    const bytes = encodeSnapshots(to.snapshots);
    tableSwitch.replace(header.snapshotsOffset, meta.snapshotTable.length);
    snapshotFields = { snapshotCount: to.snapshots.length, snapshotsOffset: bytes.length > 0 ? yield* tableSwitch.place(bytes) : 0 };
  }
  const change = { l1Offset, l1Size: to.l1.length / 8, size: to.size ?? header.size, ...snapshotFields };
  yield* tableSwitch.commit(change, { l1: to.l1, ...(to.snapshots ? { snapshots: soundSnapshots(to.snapshots) } : {}) });
}
