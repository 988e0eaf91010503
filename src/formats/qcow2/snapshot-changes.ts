/**
 * The differences between the disk and a snapshot, from the image itself: clusters that the two map differently. A cluster that both map to the
 * same place has two references and so is never written in place; a cluster that was written since the snapshot was taken is in another place now. So
 * no tracking is needed, a revert counts as no change, and bytes that were written over with the same bytes count as changed.
 */
import type { Io } from '../../base/io.ts';
import { TablesInOrder } from '../../tables/table-walk.ts';
import type { DirtyRun, DirtyRuns } from '../tools.ts';
import type { Metadata } from './metadata.ts';

/** Clusters in one state, up to the end of an L2 table at most. */
interface Stretch {
  readonly changed: boolean;
  readonly end: number;
}

export class SnapshotChanges implements DirtyRuns {
  readonly #now: Metadata;
  readonly #before: Metadata;
  readonly #hasBacking: boolean;
  /** The tables of both, read in order. */
  readonly #inOrder: readonly (readonly [Metadata, TablesInOrder])[];

  /** `before` must not be deleted while this is in use. With a backing file, clusters that neither image holds may read as anything. */
  constructor(now: Metadata, before: Metadata, hasBacking: boolean) {
    this.#now = now;
    this.#before = before;
    this.#hasBacking = hasBacking;
    this.#inOrder = [now, before].map((meta) => [meta, new TablesInOrder(meta.l2, (step) => now.lock.run(step))]);
  }

  get size(): number {
    return this.#now.header.size;
  }

  /** Runs end with the range of an L2 table at the latest, so two may touch. Reads the tables as they are at each call. */
  *next(from: number): Io<DirtyRun | undefined> {
    for (let at = from; at < this.size; ) {
      const { changed, end } = yield* this.#stretch(at);
      const last = Math.min(end, this.size);
      if (changed && last > at) return { start: at, length: last - at };
      at = end;
    }
    return undefined;
  }

  *#stretch(offset: number): Io<Stretch> {
    const now = this.#now;
    const l1Index = Math.floor(offset / now.l2Coverage);
    for (const [meta, tables] of this.#inOrder) yield* tables.reach(l1Index, meta.l1.size, (index) => this.#differing(meta, index));
    return yield* now.guarded(() => now.lock.run(() => this.#compare(offset)));
  }

  /** Place of an L2 table, 0 if both images share it: then it is not read. */
  #differing(meta: Metadata, l1Index: number): number {
    const place = l2Offset(meta, l1Index);
    return place === l2Offset(meta === this.#now ? this.#before : this.#now, l1Index) ? 0 : place;
  }

  /** The caller holds the lock: nothing changes between the two tables. */
  *#compare(offset: number): Io<Stretch> {
    const { clusterSize, l2Coverage, l2Entries } = this.#now;
    const l1Index = Math.floor(offset / l2Coverage);
    const start = l1Index * l2Coverage;
    const end = start + l2Coverage;
    const [place, oldPlace] = [l2Offset(this.#now, l1Index), l2Offset(this.#before, l1Index)];
    // Past the snapshot's end it had no bytes, whatever a shared table has there.
    const ended = this.#before.header.size;
    const shared = end <= ended || this.size <= ended;
    if (place === oldPlace && (shared || (place === 0 && !this.#hasBacking))) return { changed: false, end };
    const now = place === 0 ? undefined : (yield* this.#now.loadL2(l1Index)).data;
    const old = oldPlace === 0 ? undefined : (yield* this.#before.loadL2(l1Index)).data;
    const changedAt = (index: number): boolean => {
      const from = start + index * clusterSize;
      const known = from < ended && !this.#alike(index, now, old);
      return known || (!shared && from + clusterSize > ended && !this.#readsZero(index, now));
    };
    const first = Math.floor((offset - start) / clusterSize);
    const changed = changedAt(first);
    let index = first + 1;
    while (index < l2Entries && changedAt(index) === changed) index++;
    return { changed, end: start + index * clusterSize };
  }

  /** A cluster that both images have, by its entries in their L2 tables. */
  #alike(index: number, now: DataView | undefined, old: DataView | undefined): boolean {
    const { shape } = this.#now;
    if (now && old && shape.same(now, old, index)) return true;
    if ((now && shape.holdsData(now, index)) || (old && shape.holdsData(old, index))) return false;
    const zero = (table: DataView | undefined) => (table ? shape.zero(table, index) : 0);
    return !this.#hasBacking || zero(now) === zero(old);
  }

  /** A cluster that is known to read as zero by its entry alone. */
  #readsZero(index: number, now: DataView | undefined): boolean {
    const { shape } = this.#now;
    if (now && shape.holdsData(now, index)) return false;
    return !this.#hasBacking || (now !== undefined && shape.zero(now, index) === shape.all);
  }
}

const l2Offset = (meta: Metadata, l1Index: number): number => (l1Index < meta.l1.size ? meta.l1.offset(l1Index) : 0);
