/**
 * The places of the metadata in use, so that no write goes over it. A damaged or hostile image may point a data cluster at an L1 table, or two
 * tables at one cluster; such an image can be read and checked, but not written. QEMU makes the same check before each write (its
 * "cached" set: header, active L1 and L2, refcount table and blocks, snapshot table and the snapshots' L1; not the snapshots' L2).
 */
import { corrupt } from '../../base/errors.ts';
import type { FileBitmaps } from './file-tables.ts';
import { FORMAT, type Header } from './layout.ts';
import type { SnapshotTable } from './layout-snapshots.ts';

/** The places of an image's tables. */
interface Places {
  readonly header: Header;
  readonly clusterSize: number;
  readonly encryption: { readonly place?: { readonly offset: number; readonly length: number } | undefined } | undefined;
  readonly snapshotTable: SnapshotTable;
  readonly bitmaps: FileBitmaps;
  readonly refcounts: { blockOffsets(): Iterable<number> };
  readonly l1: { readonly size: number; offset(index: number): number };
}

/** The places of metadata. Throws `corrupt` if tables overlap. */
export function mapOverlaps(places: Places): OverlapMap {
  const { header, clusterSize, encryption, snapshotTable, l1 } = places;
  const map = new OverlapMap(clusterSize);
  map.add('header', 0, clusterSize);
  map.add('refcount table', header.reftableOffset, header.reftableClusters * clusterSize);
  map.add('L1 table', header.l1Offset, header.l1Size * 8);
  if (encryption?.place) map.add('encryption header', encryption.place.offset, encryption.place.length);
  map.add('snapshot table', header.snapshotsOffset, snapshotTable.length);
  for (const snapshot of snapshotTable.entries) map.add('snapshot L1 table', snapshot.l1Offset, snapshot.l1Size * 8);
  const { directory, entries } = places.bitmaps;
  if (directory) map.add('bitmap directory', directory.offset, directory.length);
  for (const { tableOffset, tableSize } of entries) map.add('bitmap table', tableOffset, tableSize * 8);
  for (const offset of places.refcounts.blockOffsets()) map.add('refcount block', offset, clusterSize);
  for (let i = 0; i < l1.size; i++) if (l1.offset(i) !== 0) map.add('L2 table', l1.offset(i), clusterSize);
  return map;
}

export class OverlapMap {
  readonly #clusterSize: number;
  /** By cluster index: tables of one cluster, of which there may be very many. */
  readonly #tables = new Map<number, string>();
  readonly #ranges: { readonly start: number; readonly end: number; readonly what: string }[] = [];

  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
  }

  /** Adds a table; throws `corrupt`, naming both, if another one is there already. An empty table is left out. */
  add(what: string, offset: number, length: number): void {
    if (length === 0) return;
    const there = this.find(offset, length);
    if (there !== undefined)
      throw corrupt(FORMAT, `${what} at 0x${offset.toString(16)} lies over the ${there}: the image can only be read`, { field: what, offset });
    if (length <= this.#clusterSize && offset % this.#clusterSize === 0) this.#tables.set(offset / this.#clusterSize, what);
    else this.#ranges.push({ start: offset, end: offset + length, what });
  }

  /** Forgets a table of one cluster. */
  remove(offset: number): void {
    this.#tables.delete(offset / this.#clusterSize);
  }

  /** The name of the metadata in a range, if there is any. */
  find(offset: number, length: number): string | undefined {
    const end = offset + length;
    for (const range of this.#ranges) if (range.start < end && offset < range.end) return range.what;
    for (let index = Math.floor(offset / this.#clusterSize); index * this.#clusterSize < end; index++) {
      const what = this.#tables.get(index);
      if (what !== undefined) return what;
    }
    return undefined;
  }
}
