/**
 * Changing many reference counts and tables at once, all or nothing. Snapshots must change counts, copied flags, L1 and the
 * snapshot table together; qcow2 has no journal, but header fields in one sector name all of these tables. So every table that
 * changes is written as a new one in unused space, and one write of those header fields switches over.
 *
 * Crash argument. Before the switch nothing on disk points at the new tables: a cut leaves the old image (the space taken for them
 * may be counted: leaks). The switch is one write within the first sector, behind a barrier after everything it names. After it the
 * new image is complete; the replaced tables are still counted (leaks) until they are freed like any other cluster.
 */
import { divideUp, setU64be, view } from '../../base/bytes.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes } from '../../storage/storage.ts';
import type { Table } from '../../tables/table-cache.ts';
import { TableWalk } from '../../tables/table-walk.ts';
import { fatal } from './fatal.ts';
import { FORMAT, type SwitchFields } from './layout.ts';
import type { SnapshotTable } from './layout-snapshots.ts';
import { entryOffset, getRefcount, setRefcount } from './layout-tables.ts';
import type { Metadata } from './metadata.ts';

export class TableSwitch {
  readonly #meta: Metadata;
  /** By refcount block index: the amounts by which each count is to be raised. */
  readonly #deltas = new Map<number, Int32Array>();
  /** Clusters taken for the new tables; given back if the switch does not happen. */
  readonly #taken: [number, number][] = [];
  /** Clusters of replaced tables; freed after the switch. */
  readonly #replaced: [number, number][] = [];

  /** The caller holds `Metadata.lock` and has flushed. */
  constructor(meta: Metadata) {
    this.#meta = meta;
  }

  /** Notes that every cluster touched by a range gains (or loses) `delta` references. */
  count(offset: number, length: number, delta: number): void {
    const { clusterSize, refcounts } = this.#meta;
    const last = Math.floor((offset + length - 1) / clusterSize);
    for (let cluster = Math.floor(offset / clusterSize); cluster <= last; cluster++) {
      const index = Math.floor(cluster / refcounts.blockEntries);
      let deltas = this.#deltas.get(index);
      if (!deltas) {
        deltas = new Int32Array(refcounts.blockEntries);
        this.#deltas.set(index, deltas);
      }
      const within = cluster % refcounts.blockEntries;
      deltas[within] = (deltas[within] as number) + delta;
    }
  }

  /** The count the cluster at `offset` will have. */
  *refcount(offset: number): Io<number> {
    const { clusterSize, refcounts } = this.#meta;
    const cluster = Math.floor(offset / clusterSize);
    const delta = this.#deltas.get(Math.floor(cluster / refcounts.blockEntries))?.[cluster % refcounts.blockEntries] ?? 0;
    return (yield* refcounts.get(cluster)) + delta;
  }

  /** Adds `delta` references to everything that an L1 table leads to: its L2 tables, their clusters, compressed bytes. */
  *countTree(l1: Uint8Array, delta: number): Io<void> {
    const { clusterSize, l2 } = this.#meta;
    const entries = view(l1);
    const offsets: number[] = [];
    for (let at = 0; at < l1.length; at += 8) offsets.push(entryOffset(entries.getUint32(at), entries.getUint32(at + 4)));
    const named = offsets.filter((offset) => offset !== 0);
    const walk = new TableWalk(l2, named, (step) => step());
    try {
      for (const [at, offset] of named.entries()) {
        this.#countInFile(offset, clusterSize, delta);
        this.#countTable((yield* walk.table(at)).data, delta);
      }
    } finally {
      walk.end();
    }
  }

  /** The bytes of an L2 table in the file, as a private copy. */
  *readTable(offset: number): Io<Uint8Array> {
    const resident = this.#meta.l2.get(offset);
    if (resident) return resident.bytes.slice();
    const checked = yield* this.#meta.l2.load(offset);
    return checked.bytes.slice();
  }

  /** Writes a new table in unused space and returns its host offset. */
  *place(bytes: Uint8Array): Io<number> {
    const { clusterSize, refcounts, storage } = this.#meta;
    const clusters = divideUp(bytes.length, clusterSize);
    const offset = yield* refcounts.allocate(clusters);
    this.#taken.push([offset, clusters * clusterSize]);
    yield* this.#meta.requireNoMetadata(offset, clusters * clusterSize);
    yield* storage.write(offset, bytes);
    return offset;
  }

  /** Notes the clusters of a table that the switch replaces. */
  replace(offset: number, length: number): void {
    if (length > 0) this.#replaced.push([offset, length]);
  }

  /** Throws `refused` if a count would not fit; nothing was changed then. */
  *requireFits(): Io<void> {
    const { refcounts } = this.#meta;
    for (const [index, deltas] of this.#deltas) {
      const block = yield* refcounts.loadBlock(index);
      for (let i = 0; i < deltas.length; i++) {
        const delta = deltas[i] as number;
        if (delta <= 0) continue;
        const count = (block ? getRefcount(block.data, i, this.#meta.header.refcountOrder) : 0) + delta;
        if (count > refcounts.max)
          throw new DiskError('refused', `${FORMAT}: a cluster would have ${count} references, more than refcount_bits allows (${refcounts.max})`, {
            format: FORMAT,
            field: 'refcount_bits',
          });
      }
    }
  }

  /** Writes the new refcount blocks and table, switches, and frees the replaced tables. */
  *commit(change: Partial<SwitchFields>, tables: { l1?: Uint8Array; snapshots?: SnapshotTable }): Io<void> {
    const meta = this.#meta;
    const counted = this.#deltas.size > 0 ? yield* this.#placeRefcounts() : undefined;
    // `switchOver` writes raised counts in blocks that stay, in place: those counts are for the new tables.
    yield* this.switchOver(() => meta.switchTo({ ...change, ...counted?.change }, { ...tables, ...(counted ? { reftable: counted.reftable } : {}) }));
  }

  /** Runs a switch to the placed tables, durable when it returns, and frees the replaced ones. For changes to no counts except those of `place`. */
  *switchOver(body: () => Io<void>): Io<void> {
    const meta = this.#meta;
    yield* meta.refcounts.write();
    yield* body();
    for (const [offset, length] of this.#replaced) meta.refcounts.free(offset, length);
    try {
      yield* meta.flush();
    } catch {
      // The change is durable; an error here would make the caller repeat it. Clusters that could not be freed wait for the next flush, which
      // reports its own failure.
    }
  }

  /** Gives the space taken back; for a change that failed before the switch. */
  *abandon(): Io<void> {
    for (const [offset, length] of this.#taken) yield* this.#meta.refcounts.release(offset, length);
  }

  *#placeRefcounts(): Io<{ change: Partial<SwitchFields>; reftable: Uint8Array }> {
    const { refcounts, header, clusterSize } = this.#meta;
    // All space is taken first: taking it changes counts, and the new blocks must have those too.
    const places = new Map<number, number>();
    for (const index of this.#deltas.keys()) {
      yield* this.#block(index);
      places.set(index, yield* this.#take(1));
    }
    // Taking space for the table may itself make the table grow, so that it needs more.
    let length = refcounts.table.entries * 8;
    let reftableOffset = yield* this.#take(length / clusterSize);
    while (refcounts.table.entries * 8 > length) {
      this.#taken.pop();
      yield* refcounts.release(reftableOffset, length);
      length = refcounts.table.entries * 8;
      reftableOffset = yield* this.#take(length / clusterSize);
    }
    const reftable = refcounts.table.copy();
    for (const [index, offset] of places) {
      yield* this.#writeBlock(index, offset);
      this.replace(refcounts.table.blockOffset(index), clusterSize);
      setU64be(view(reftable), index * 8, offset);
    }
    if (this.#meta.debug) yield* this.#meta.debug('reftable_update');
    yield* this.#meta.storage.write(reftableOffset, reftable);
    this.replace(refcounts.table.offset, reftable.length);
    return { change: { reftableOffset, reftableClusters: reftable.length / 2 ** header.clusterBits }, reftable };
  }

  *#take(clusters: number): Io<number> {
    const { clusterSize, refcounts } = this.#meta;
    const offset = yield* refcounts.allocate(clusters);
    this.#taken.push([offset, clusters * clusterSize]);
    return offset;
  }

  /** Refcount block `index`, which counts clusters in use and so must be there. */
  *#block(index: number): Io<Table> {
    const block = yield* this.#meta.refcounts.loadBlock(index);
    if (!block) throw corrupt(FORMAT, `clusters in use have no refcount block ${index}: check and repair the image`, { field: 'refcount_table' });
    return block;
  }

  /** A copy of a refcount block with its counts changed. */
  *#writeBlock(index: number, offset: number): Io<void> {
    const { header, storage } = this.#meta;
    const bytes = (yield* this.#block(index)).bytes.slice();
    const data = view(bytes);
    const deltas = this.#deltas.get(index) as Int32Array;
    // A block of large clusters counts millions of them.
    for (let i = 0; i < deltas.length; i++) {
      const delta = deltas[i] as number;
      if (delta === 0) continue;
      // A count that is too low already (a damaged image) stops at 0: a check reports it.
      const count = Math.max(0, getRefcount(data, i, header.refcountOrder) + delta);
      setRefcount(data, i, header.refcountOrder, count);
    }
    if (this.#meta.debug) yield* this.#meta.debug('refblock_update');
    yield* storage.write(offset, bytes);
  }

  /** Counts the clusters of a table in the file, which a damaged image may place anywhere. */
  #countInFile(offset: number, length: number, delta: number): void {
    const { clusterSize, storage } = this.#meta;
    // The last cluster of the file may be cut off, and a compressed cluster counts whole sectors.
    if (offset + length >= storage.size + clusterSize)
      throw corrupt(FORMAT, `a table refers to 0x${offset.toString(16)}, past the end of the file: check the image`, { field: 'L2 entry', offset });
    this.count(offset, length, delta);
  }

  #countTable(table: DataView, delta: number): void {
    if (this.#meta.external) return;
    const { clusterSize, clusterBits, l2Entries, shape } = this.#meta;
    for (let i = 0; i < l2Entries; i++) {
      if (shape.compressed(table, i)) {
        const { hostOffset, length } = shape.compressedAt(table, i, clusterBits);
        this.#countInFile(hostOffset, length, delta);
      } else {
        const offset = shape.offset(table, i);
        if (offset % clusterSize !== 0)
          throw fatal(`L2 entry ${i} ${shape.fault(table, i, clusterSize)}: check the image`, { field: 'L2 entry', offset });
        if (offset !== 0) this.#countInFile(offset, clusterSize, delta);
      }
    }
  }
}

/** An L1 table as stored in the file. */
export function* readL1(meta: Metadata, { l1Offset, l1Size }: { l1Offset: number; l1Size: number }): Io<Uint8Array> {
  return yield* readBytes(meta.storage, l1Offset, l1Size * 8);
}
