/**
 * Copied flags, which say that a cluster has one reference. While references are counted, the flags are noted by cluster (`CopiedFlags`), and compared with
 * the stored counts when these are read: where all agree, tables are read once. If one may differ, or another fault was found in the tables, they are
 * read a second time, in the order in which QEMU reports flags (`compareFlags`).
 */
import { view } from '../../base/bytes.ts';
import type { Io } from '../../base/io.ts';
import { readBytes } from '../../storage/storage.ts';
import type { Table } from '../../tables/table-cache.ts';
import { TableWalk } from '../../tables/table-walk.ts';
import { type CheckWork, l2Tables } from './check-pace.ts';
import { COPIED_HIGH } from './layout-tables.ts';
import type { Metadata } from './metadata.ts';

const CHUNK = 65536;
/** Bits of a cluster: an entry names it with the flag set; another names it without. */
const SET = 1;
const CLEAR = 2;

/** See the top of this file. */
export class CopiedFlags {
  readonly #chunks = new Map<number, Uint8Array>();
  #compared = false;
  #doubt = false;

  /** Every flag that was noted agrees with the stored counts, and nothing else makes a second look necessary. */
  get agree(): boolean {
    return this.#compared && !this.#doubt;
  }

  /** The noted flags are incomplete, or counts change. */
  doubt(): void {
    this.#doubt = true;
  }

  /** Entries name `clusters` from `first` on. */
  note(first: number, clusters: number, copied: boolean): void {
    const bit = copied ? SET : CLEAR;
    for (let cluster = first; cluster < first + clusters; cluster++) {
      const index = Math.floor(cluster / CHUNK);
      const chunk = this.#chunks.get(index) ?? this.#make(index);
      const within = cluster - index * CHUNK;
      chunk[within] = (chunk[within] as number) | bit;
    }
  }

  /** Compares the notes about clusters from `first` on with their stored counts. */
  compare(first: number, counts: Float64Array): void {
    for (let at = 0; at < counts.length; ) {
      const within = (first + at) % CHUNK;
      const end = Math.min(counts.length, at + CHUNK - within);
      const chunk = this.#chunks.get(Math.floor((first + at) / CHUNK));
      for (let i = at; chunk && i < end; i++) {
        const wrong = counts[i] === 1 ? CLEAR : SET;
        if (((chunk[within + i - at] as number) & wrong) !== 0) this.#doubt = true;
      }
      at = end;
    }
  }

  /** The stored counts of all clusters were compared. */
  end(): void {
    this.#compared = true;
  }

  #make(index: number): Uint8Array {
    const chunk = new Uint8Array(CHUNK);
    this.#chunks.set(index, chunk);
    return chunk;
  }
}

/** An L2 table; if `resident`, it stays in memory. */
export interface LookedAt {
  readonly data: DataView;
  readonly resident?: Table;
}

/** Table `at` of a walk, which is at `offset`. As in QEMU, a table that is not on a cluster is read too, but it is not kept. */
export function* lookAt({ storage, clusterSize }: Metadata, walk: TableWalk, at: number, offset: number): Io<LookedAt> {
  if (offset % clusterSize !== 0 && offset + clusterSize <= storage.size) return { data: view(yield* readBytes(storage, offset, clusterSize)) };
  const resident = yield* walk.table(at);
  return { data: resident.data, resident };
}

/** The findings of a check and its next steps, for its flags. */
export interface Counted {
  readonly work: CheckWork;
  readonly flags: CopiedFlags;
  /** The stored counts of clusters from `first` on, at most `most`; none if they cannot be read. */
  countsOf(first: number, most: number): Io<Float64Array>;
  /** Reports a flag that is wrong, and repaired if `repair`. */
  flag(message: string, repair: boolean): void;
}

/** Compares copied flags of the active tables with the stored counts, if the notes from counting do not answer that. */
export function* compareFlags(meta: Metadata, run: Counted, repair: boolean): Io<void> {
  if (!run.flags.agree) yield* new FlagWalk(meta, run, repair).go();
  if (repair) yield* meta.flush();
}

class FlagWalk {
  readonly #meta: Metadata;
  readonly #run: Counted;
  readonly #repair: boolean;

  constructor(meta: Metadata, run: Counted, repair: boolean) {
    this.#meta = meta;
    this.#run = run;
    this.#repair = repair;
  }

  *go(): Io<void> {
    const meta = this.#meta;
    const { locked, pace } = this.#run.work;
    const present = [...l2Tables(meta)].filter((index) => meta.l1.offset(index) + meta.clusterSize <= meta.storage.size);
    const walk = new TableWalk(
      meta.l2,
      present.map((index) => meta.l1.offset(index)),
      locked,
    );
    pace.begin(0);
    try {
      for (const [at, index] of present.entries()) {
        yield* pace.step(0);
        yield* this.#compareAt(walk, at, index);
      }
    } finally {
      walk.end();
    }
  }

  /** The same for L1 entry `index`, which is the one `at` of the walk. */
  *#compareAt(walk: TableWalk, at: number, index: number): Io<void> {
    const meta = this.#meta;
    const { offset, copied, high, low } = meta.l1.entry(index);
    const [count] = yield* this.#run.countsOf(Math.floor(offset / meta.clusterSize), 1);
    if (count === undefined) return;
    if ((count === 1) !== copied) {
      this.#run.flag(`OFLAG_COPIED L2 cluster: l1_index=${index} l1_entry=${hex64(high, low)} refcount=${count}`, this.#repair);
      if (this.#repair) meta.l1.put(index, offset, count === 1);
    }
    yield* this.#compareTable(yield* lookAt(meta, walk, at, offset));
  }

  *#compareTable(table: LookedAt): Io<void> {
    const { shape, l2Entries: end, clusterSize } = this.#meta;
    for (let index = 0; index < end; ) {
      const next = index + shape.run(table.data, { index, end, clusterSize });
      if (!shape.compressed(table.data, index) && shape.placed(table.data, index))
        for (let at = index; at < next; ) at += yield* this.#compareRun(table, at, next - at);
      index = next;
    }
  }

  /** The same for entries of a run; returns how many it has compared. */
  *#compareRun({ data, resident }: LookedAt, index: number, length: number): Io<number> {
    const { shape, external, clusterSize, l2 } = this.#meta;
    const copied = shape.copied(data, index);
    const first = Math.floor(shape.offset(data, index) / clusterSize);
    // Clusters in an external data file are not counted, and never shared.
    const counts = external ? new Float64Array(length).fill(1) : yield* this.#run.countsOf(first, length);
    for (let i = 0; i < counts.length; i++) {
      const count = counts[i] as number;
      if ((count === 1) === copied) continue;
      const mend = this.#repair && resident !== undefined;
      const high = shape.high(data, index + i);
      this.#run.flag(`OFLAG_COPIED data cluster: l2_entry=${hex64(high, shape.low(data, index + i))} refcount=${count}`, mend);
      if (!mend) continue;
      const at = (index + i) * shape.bytes;
      data.setUint32(at, (count === 1 ? high | COPIED_HIGH : high & ~COPIED_HIGH) >>> 0);
      l2.touch(resident, at, at + shape.bytes);
    }
    return counts.length || 1;
  }
}

/** Digits as QEMU shows them. */
export const hex = (value: number): string => value.toString(16);

/** The same of a number of 64 bits, by its halves. */
export const hex64 = (high: number, low: number): string => (high === 0 ? hex(low) : hex(high) + low.toString(16).padStart(8, '0'));
