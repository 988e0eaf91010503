/**
 * Whether an image's file was cut short: whether its header and tables name places beyond the file's end. Nothing here changes or
 * repairs anything; structures that cannot be read or make no sense are left to `check`.
 *
 * The proof is a table, or guest data, that lies past the end. A reference count of a cluster past the end proves nothing, since a power cut
 * may leave such (a leak), but without one no entry of a sound image points there: so L2 tables are read only where counts give a reason, and
 * no more of them than a bound.
 */
import { view } from '../../base/bytes.ts';
import type { Io } from '../../base/io.ts';
import { MiB, SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { readSnapshots } from './file-snapshots.ts';
import { type Header, hasDataFile, hasSubclusters, INCOMPATIBLE, MAX_REFTABLE_BYTES } from './layout.ts';
import { EntryShape } from './layout-l2.ts';
import { entryOffset } from './layout-tables.ts';

/** Bytes of L1 and L2 tables that are read at most. */
const MOST_TABLES = 64 * MiB;

/** The missing part of a file. */
export interface CutShort {
  /** Bytes that the file should have, as far as was checked. */
  readonly needed: number;
  /** Guest data, or tables that lead to some, are missing: not reference counts alone. */
  readonly contents: boolean;
}

/** The missing part of an image's file; undefined if none is known. */
export function* cutShort(storage: Storage, header: Header): Io<CutShort | undefined> {
  const look = new Look(storage, header);
  const counted = yield* look.counts();
  // Counts that may be too low; or a file that ends where a sound file may end only after a compressed cluster, or after a part of a cluster.
  const odd = storage.size % (hasSubclusters(header) ? 2 ** header.clusterBits : SECTOR) !== 0;
  const unsure = (header.incompatible & INCOMPATIBLE.dirty) !== 0 || odd;
  yield* look.contents(counted || unsure);
  return look.found();
}

class Look {
  readonly #storage: Storage;
  readonly #header: Header;
  readonly #clusterSize: number;
  /** Bytes of a file as long as the refcount table can count. A place further away is not missing, but damage. */
  #limit: number;
  #needed = 0;
  /** The end of the last cluster that is counted as used. */
  #counted = 0;
  #contents = false;
  #budget = MOST_TABLES;

  constructor(storage: Storage, header: Header) {
    this.#storage = storage;
    this.#header = header;
    this.#clusterSize = 2 ** header.clusterBits;
    this.#limit = ((header.reftableClusters * this.#clusterSize) / 8) * this.#blockCoverage;
  }

  /** Bytes of the file that a refcount block counts. */
  get #blockCoverage(): number {
    return ((this.#clusterSize * 8) >> this.#header.refcountOrder) * this.#clusterSize;
  }

  found(): CutShort | undefined {
    return this.#needed > this.#storage.size ? { needed: this.#needed, contents: this.#contents } : undefined;
  }

  /** Reads the refcount structure. True if it counts clusters past the end of the file, or is not in the file itself. */
  *counts(): Io<boolean> {
    const { reftableOffset, reftableClusters } = this.#header;
    const length = reftableClusters * this.#clusterSize;
    if (length === 0 || length > MAX_REFTABLE_BYTES || !this.#whole(reftableOffset, length, false)) return true;
    const table = view(yield* readBytes(this.#storage, reftableOffset, length));
    let last = -1;
    for (let i = 0; i < length / 8; i++) if (offsetAt(table, i) !== 0) last = i;
    this.#limit = Math.min(this.#limit, (last + 1) * this.#blockCoverage);
    yield* this.#findCounted(last, offsetAt(table, Math.max(0, last)));
    let missing = false;
    for (let i = 0; i <= last; i++) if (!this.#whole(offsetAt(table, i), this.#clusterSize, false)) missing = true;
    return missing || this.#counted >= this.#storage.size + this.#clusterSize;
  }

  /** Finds the last cluster that the last refcount block, number `index` at `offset`, counts as used. */
  *#findCounted(index: number, offset: number): Io<void> {
    if (index < 0 || offset + this.#clusterSize > this.#storage.size) return;
    const block = yield* readBytes(this.#storage, offset, this.#clusterSize);
    let end = block.length;
    while (end > 0 && block[end - 1] === 0) end--;
    this.#counted = index * this.#blockCoverage + Math.ceil((end * 8) / 2 ** this.#header.refcountOrder) * this.#clusterSize;
  }

  /** Reads the tables that lead to guest data; `closely`: the L2 tables, too. */
  *contents(closely: boolean): Io<void> {
    const { l1Offset, l1Size, snapshotCount, snapshotsOffset } = this.#header;
    const seen = new Set<number>();
    yield* this.#tree(l1Offset, l1Size, { closely, seen });
    if (snapshotCount === 0 || !this.#whole(snapshotsOffset, snapshotCount * 40)) return;
    const { entries } = yield* readSnapshots(this.#storage, this.#header);
    for (const entry of entries) yield* this.#tree(entry.l1Offset, entry.l1Size, { closely, seen });
  }

  *#tree(l1Offset: number, l1Size: number, { closely, seen }: { closely: boolean; seen: Set<number> }): Io<void> {
    if (l1Offset % this.#clusterSize !== 0 || !this.#whole(l1Offset, l1Size * 8)) return;
    const l1 = yield* this.#table(l1Offset, l1Size * 8);
    for (let i = 0; l1 && i < l1Size; i++) {
      const offset = offsetAt(l1, i);
      if (offset === 0 || offset % this.#clusterSize !== 0 || seen.has(offset)) continue;
      seen.add(offset);
      if (this.#whole(offset, this.#clusterSize) && closely) yield* this.#entries(offset);
    }
  }

  /** Checks where the entries of an L2 table point. */
  *#entries(l2Offset: number): Io<void> {
    if (hasDataFile(this.#header)) return;
    const { clusterBits } = this.#header;
    const shape = new EntryShape(hasSubclusters(this.#header), false);
    const table = yield* this.#table(l2Offset, this.#clusterSize);
    const { size } = this.#storage;
    for (let i = 0; table && i < this.#clusterSize / shape.bytes; i++) {
      if (!shape.holdsData(table, i)) continue;
      const { hostOffset, length, unit } = shape.compressed(table, i)
        ? { ...shape.compressedAt(table, i, clusterBits), unit: SECTOR }
        : this.#plain(shape, table, i);
      const end = hostOffset + length;
      // The last sector that a descriptor counts has at least one byte in use. The end of a cluster may be absent, from a whole sector on.
      const least = unit > SECTOR && size % SECTOR !== 0 ? end - 1 : end - unit;
      if (least >= size) this.#note(end, true);
    }
  }

  /** The place of the bytes of a cluster that are in use, and how many of them may be absent at most. */
  #plain(shape: EntryShape, table: DataView, index: number): { hostOffset: number; length: number; unit: number } {
    const unit = this.#clusterSize / shape.subclusters;
    return { hostOffset: shape.offset(table, index), length: (32 - Math.clz32(shape.allocated(table, index))) * unit, unit };
  }

  *#table(offset: number, length: number): Io<DataView | undefined> {
    if (length > this.#budget) return undefined;
    this.#budget -= length;
    return view(yield* readBytes(this.#storage, offset, length));
  }

  /** True if the file has all of a table. Otherwise notes the end that the file should have. */
  #whole(offset: number, length: number, contents = true): boolean {
    if (offset + length <= this.#storage.size) return true;
    // If the tables that lead to guest data are lost, counts show how far the file went.
    this.#note(Math.max(offset + length, contents ? this.#counted : 0), contents);
    return false;
  }

  #note(end: number, contents: boolean): void {
    if (end > this.#limit) return;
    this.#needed = Math.max(this.#needed, end);
    this.#contents ||= contents;
  }
}

const offsetAt = (table: DataView, index: number): number => entryOffset(table.getUint32(index * 8), table.getUint32(index * 8 + 4));
