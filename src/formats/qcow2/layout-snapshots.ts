/**
 * qcow2's snapshot table on disk (docs/interop/qcow2 in QEMU's tree). Pure: bytes in, values out. A damaged table is read as far as
 * possible: each damage is a `SnapshotFault`, and `SnapshotTable.mended` is the table that a repair writes in its place.
 */
import { roundUp, setU64be, TWO_32, text, utf8, view } from '../../base/bytes.ts';
import { type Header, l1EntriesFor, MAX_L1_BYTES, MAX_SNAPSHOTS, SATURATED, saturatedU64 } from './layout.ts';

/** Bytes of extra data a snapshot may carry; QEMU's limit. */
const MAX_SNAPSHOT_EXTRA = 1024;
/** QEMU reads no snapshot table larger than this. */
export const MAX_SNAPSHOT_TABLE_BYTES = 64 * 1024 * 1024;
/** Extra data that version 3 demands: the 64-bit size of the machine state and the disk's size. */
const EXTRA_V3 = 16;
/** Bytes of an entry before its extra data. */
const FIXED = 40;
/** Bytes of the longest entry that QEMU reads: extra data, and an id and a name of 64 KiB. */
export const MAX_ENTRY_BYTES = 256 * 1024;

/** A snapshot table entry. Numbers that are too large (`SATURATED`) are kept as they are in `fixed` and `extra`. */
export interface SnapshotEntry {
  readonly l1Offset: number;
  readonly l1Size: number;
  readonly id: string;
  readonly name: string;
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  readonly vmClockNanoseconds: number;
  readonly vmStateSize: number;
  /** Absent in a version 2 table without extra data: the disk had its present size. */
  readonly diskSize: number | undefined;
  readonly icount: number | undefined;
  /** The extra data as read, so that parts with unknown meaning survive a rewrite. */
  readonly extra: Uint8Array;
  /** Id and name as bytes, for those that are not UTF-8; absent in an entry that was made or renamed here. */
  readonly bytes?: { readonly id: Uint8Array; readonly name: Uint8Array };
  /** The entry's first 40 bytes as read; absent in an entry that was made here. */
  readonly fixed?: Uint8Array;
}

/** A fault of the snapshot table. */
export interface SnapshotFault {
  /** A check's line for it, in QEMU's words where QEMU has some. */
  readonly found: string;
  /** The line of a check that repairs it. */
  readonly repaired: string;
  /** The number of corruptions that it counts as. */
  readonly count: number;
  /** Nothing is lost, and the image can be written all the same. */
  readonly harmless?: boolean;
}

/** A snapshot table as far as it can be read. */
export interface SnapshotTable {
  readonly entries: readonly SnapshotEntry[];
  readonly faults: readonly SnapshotFault[];
  /** Bytes that the entries take in the file. */
  readonly length: number;
  /** The entries that a repair leaves: the readable part of each. */
  readonly mended: readonly SnapshotEntry[];
}

/** A table of these entries, without faults. */
export const soundSnapshots = (entries: readonly SnapshotEntry[]): SnapshotTable => ({
  entries,
  faults: [],
  length: entriesLength(entries),
  mended: entries,
});

/** The image that the table belongs to. */
export interface SnapshotPlace {
  readonly header: Header;
  /** Bytes of the file. */
  readonly fileSize: number;
}

/** Reads one table, entry by entry; the caller has its bytes. */
export class SnapshotTableReader {
  readonly #place: SnapshotPlace;
  readonly #faults: SnapshotFault[] = [];
  readonly #entries: SnapshotEntry[] = [];
  readonly #mended: SnapshotEntry[] = [];
  /** Byte of the table at which the next entry begins. */
  at = 0;
  #length = 0;
  #done = false;
  readonly #count: number;

  constructor(place: SnapshotPlace) {
    const { snapshotCount } = place.header;
    this.#place = place;
    this.#count = Math.min(snapshotCount, MAX_SNAPSHOTS);
    if (snapshotCount > MAX_SNAPSHOTS) {
      const over = snapshotCount - MAX_SNAPSHOTS;
      this.#fault('ERROR snapshot table too large', `Discarding ${over} overhanging snapshots`, over);
    }
  }

  /** No entry can be read any more, or none is left. */
  get done(): boolean {
    return this.#done || this.#entries.length >= this.#count;
  }

  get table(): SnapshotTable {
    return {
      entries: this.#entries,
      faults: this.#faults,
      length: this.#length,
      mended: this.#mended,
    };
  }

  /** Gives up the entries that were not read. `why`: the reason, in words. */
  lose(why: string): void {
    const index = this.#entries.length;
    const count = this.#count - index;
    this.#done = true;
    const which = count === 1 ? `entry ${index} cannot` : `entries ${index} to ${this.#count - 1} cannot`;
    const what = `snapshot table ${which} be read: ${why}`;
    this.#fault(`ERROR ${what}`, `Discarding ${count} ${count === 1 ? 'snapshot' : 'snapshots'}: ${what}`, count);
  }

  /** Reads the entry at `at`. `bytes` are the table's, up to the end of the file or past the end of this entry. */
  read(bytes: Uint8Array): void {
    const index = this.#entries.length;
    const { at } = this;
    if (at + FIXED > bytes.length) return this.lose('past the end of the file');
    const data = view(bytes);
    const fixed = bytes.slice(at, at + FIXED);
    if (fixed.every((byte) => byte === 0)) return this.lose('there is nothing');
    const extraLength = data.getUint32(at + 36);
    const idAt = at + FIXED + extraLength;
    const nameAt = idAt + data.getUint16(at + 12);
    const end = nameAt + data.getUint16(at + 14);
    if (end > MAX_SNAPSHOT_TABLE_BYTES || idAt > bytes.length) return this.lose('longer than the file or than a table may be');
    const extra = bytes.slice(at + FIXED, Math.min(idAt, at + FIXED + MAX_SNAPSHOT_EXTRA));
    const parsed = parseEntry(fixed, extra, { id: bytes.slice(idAt, nameAt), name: bytes.slice(nameAt, end) });
    const entry = end > bytes.length ? cutNames(parsed) : parsed;
    this.#entries.push(entry);
    this.#length = Math.min(end, bytes.length);
    this.at = roundUp(end, 8);
    let mended = entry;
    if (extraLength > MAX_SNAPSHOT_EXTRA) {
      const what = `much extra metadata in snapshot table entry ${index}`;
      this.#fault(`ERROR failed to read the snapshot table: Too ${what}`, `Discarding too ${what} (${extraLength} > ${MAX_SNAPSHOT_EXTRA})`);
    }
    if (end > bytes.length) {
      const what = `snapshot table entry ${index} ends past the end of the file`;
      this.#fault(`ERROR ${what}`, `Repairing ${what}`);
      if (entry.id === '') mended = { ...entry, id: nextId(this.#mended) };
    }
    if (this.#place.header.version >= 3 && extra.length < EXTRA_V3) {
      const what = `snapshot table entry ${index} is incomplete`;
      this.#fault(`ERROR ${what}`, `Repairing ${what}`, 1, true);
      mended = completeSnapshot(mended, this.#place.header.size);
    }
    this.#mended.push(this.#withTable(mended));
  }

  #fault(found: string, repaired: string, count = 1, harmless = false): void {
    this.#faults.push({ found, repaired, count, ...(harmless ? { harmless } : {}) });
  }

  /** Checks the place of the L1 table. A snapshot loses a table that cannot be read, but keeps its name. */
  #withTable(entry: SnapshotEntry): SnapshotEntry {
    const fault = l1Fault(entry, this.#place);
    const { diskSize } = entry;
    const short = diskSize !== undefined && entry.l1Size < l1EntriesFor(diskSize, this.#place.header);
    const recovered = fault !== undefined || short ? this.#recovered(entry) : undefined;
    if (fault === undefined && !recovered) return entry;
    const what = `snapshot ${entry.id} (${entry.name}) ${fault ?? `l1_size=0x${entry.l1Size.toString(16)}: L1 table is too small for its disk`}`;
    this.#fault(`ERROR ${what}`, recovered ? `Repairing ${what}` : `Discarding the L1 table of ${what}`);
    return recovered ?? { ...entry, l1Offset: 0, l1Size: 0 };
  }

  /** The entry with another size of the L1 table, which must reach over the disk and the machine's state, if the table can be read then. */
  #recovered(entry: SnapshotEntry): SnapshotEntry | undefined {
    const { header } = this.#place;
    const disk = l1EntriesFor(entry.diskSize ?? header.size, header);
    const sizes = entry.l1Offset === 0 ? [] : [disk + l1EntriesFor(entry.vmStateSize, header), disk];
    return sizes.map((l1Size) => ({ ...entry, l1Size })).find((other) => l1Fault(other, this.#place) === undefined);
  }
}

/** The fault of the place or the size of a snapshot's L1 table. */
export function l1Fault({ l1Offset, l1Size }: Pick<SnapshotEntry, 'l1Offset' | 'l1Size'>, { header, fileSize }: SnapshotPlace): string | undefined {
  if (l1Offset % 2 ** header.clusterBits !== 0)
    return `l1_offset=0x${l1Offset.toString(16)}: L1 table is not cluster aligned; snapshot table entry corrupted`;
  if (l1Size * 8 > MAX_L1_BYTES) return `l1_size=0x${l1Size.toString(16)}: L1 table is too large; snapshot table entry corrupted`;
  if (l1Size > 0 && l1Offset === 0) return 'l1_offset=0x0: L1 table is the header; snapshot table entry corrupted';
  if (l1Size > 0 && l1Offset + l1Size * 8 > fileSize)
    return `l1_offset=0x${l1Offset.toString(16)} l1_size=0x${l1Size.toString(16)}: L1 table ends past the end of the file`;
  return undefined;
}

function parseEntry(fixed: Uint8Array, extra: Uint8Array, bytes: { id: Uint8Array; name: Uint8Array }): SnapshotEntry {
  const data = view(fixed);
  const more = view(extra);
  const has = (length: number) => extra.length >= length;
  // All ones means "not recorded".
  const noIcount = !has(24) || (more.getUint32(16) === 0xffff_ffff && more.getUint32(20) === 0xffff_ffff);
  return {
    l1Offset: saturatedU64(data, 0),
    l1Size: data.getUint32(8),
    id: text(bytes.id),
    name: text(bytes.name),
    dateSeconds: data.getUint32(16),
    dateNanoseconds: data.getUint32(20),
    vmClockNanoseconds: saturatedU64(data, 24),
    vmStateSize: has(8) ? saturatedU64(more, 0) : data.getUint32(32),
    diskSize: has(16) ? saturatedU64(more, 8) : undefined,
    icount: noIcount ? undefined : saturatedU64(more, 16),
    extra,
    bytes,
    fixed,
  };
}

/** The entry without the bytes that follow a NUL in id and name: they come from past the end of the file. */
function cutNames({ bytes: _, ...entry }: SnapshotEntry): SnapshotEntry {
  const cut = (value: string) => value.replace(/\0.*/s, '');
  return { ...entry, id: cut(entry.id), name: cut(entry.name) };
}

/** The id that a new snapshot gets: one more than the highest. */
export const nextId = (entries: readonly SnapshotEntry[]): string =>
  String(1 + entries.reduce((most, { id }) => Math.max(most, Number.parseInt(id, 10) || 0), 0));

/** The entry with the extra data that version 3 demands; `size`: the disk's, used if the entry does not state its own. */
export function completeSnapshot(entry: SnapshotEntry, size: number): SnapshotEntry {
  if (entry.extra.length >= EXTRA_V3) return entry;
  const diskSize = entry.diskSize ?? size;
  return { ...entry, diskSize, extra: encodeSnapshotExtra(entry.vmStateSize, diskSize) };
}

/** The whole table; entries start at multiples of 8, nothing follows the last. */
export function encodeSnapshots(entries: readonly SnapshotEntry[]): Uint8Array {
  const table = new Uint8Array(entriesLength(entries));
  let at = 0;
  for (const entry of entries) {
    at = roundUp(at, 8);
    at += encodeEntry(entry, table.subarray(at));
  }
  return table;
}

const entriesLength = (entries: readonly SnapshotEntry[]): number =>
  entries.reduce((sum, { extra, id, name, bytes }) => {
    const names = bytes ? bytes.id.length + bytes.name.length : utf8(id).length + utf8(name).length;
    return roundUp(sum, 8) + FIXED + extra.length + names;
  }, 0);

/** Writes an entry; returns its bytes. */
function encodeEntry(entry: SnapshotEntry, into: Uint8Array): number {
  const { id, name } = entry.bytes ?? { id: utf8(entry.id), name: utf8(entry.name) };
  if (entry.fixed) into.set(entry.fixed);
  const data = view(into);
  // A number that was too large stays as it was read.
  const put = (at: number, value: number) => {
    if (!entry.fixed || value < SATURATED) setU64be(data, at, value);
  };
  put(0, entry.l1Offset);
  data.setUint32(8, entry.l1Size);
  data.setUint16(12, id.length);
  data.setUint16(14, name.length);
  data.setUint32(16, entry.dateSeconds);
  data.setUint32(20, entry.dateNanoseconds);
  put(24, entry.vmClockNanoseconds);
  // The 32-bit field is 0 if the size does not fit; the extra data has it whole.
  data.setUint32(32, entry.vmStateSize >= TWO_32 ? 0 : entry.vmStateSize);
  data.setUint32(36, entry.extra.length);
  into.set(entry.extra, FIXED);
  into.set(id, FIXED + entry.extra.length);
  into.set(name, FIXED + entry.extra.length + id.length);
  return FIXED + entry.extra.length + id.length + name.length;
}

/** Extra data as QEMU 7.2 writes it: 64-bit VM state size, disk size, instruction count. */
export function encodeSnapshotExtra(vmStateSize: number, diskSize: number, icount = 0): Uint8Array {
  const extra = new Uint8Array(24);
  const data = view(extra);
  setU64be(data, 0, vmStateSize);
  setU64be(data, 8, diskSize);
  setU64be(data, 16, icount);
  return extra;
}
