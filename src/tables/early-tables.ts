/**
 * Tables read before they are looked at: in the order of the file, neighbours in one request, since over a storage that waits a request costs as much as the
 * bytes of a hundred tables. A caller that needs no order gets each table as it is read (`scan`). For a caller with an order of its own the tables are kept
 * until it reaches them (`read`), each without the zeros around its entries: an image with clusters all over its file has few entries in each table, and
 * then all of its tables are kept at once and the file is read once.
 *
 * The tables here are as in the file: a table that is loaded or changed must be forgotten here.
 */
import { divideUp, roundDown, roundUp, view } from '../base/bytes.ts';
import { type Io, together } from '../base/io.ts';
import { giveWay } from '../base/job.ts';
import { KiB, MiB } from '../base/units.ts';
import type { Storage } from '../storage/storage.ts';

/** Runs a step that reads tables in, while no table may change. */
export type Locked = <T>(step: () => Io<T>) => Io<T>;

/** How tables are read early. */
export interface EarlyReading {
  /** How requests are made. */
  readonly locked: Locked;
  /** Called between requests with the part of the tables, 0 to 1, that was read. Default: other requests for bytes come first. */
  readonly step?: (part: number) => Io<void>;
}

/** A caller that looks at tables as they are read. */
export interface Scan extends EarlyReading {
  /** Gets the entries from the first that is not zero to the last that is not zero. */
  readonly look: (offset: number, entries: DataView) => void;
  readonly step: (part: number) => Io<void>;
}

/** The tables of one request, and the beginning and end of its bytes. */
interface Span {
  readonly start: number;
  end: number;
  readonly offsets: number[];
}

/** Gets the bytes of a request; they change once it has returned. */
type Take = (span: Span, bytes: Uint8Array) => void;

/** A table that is kept: `bytes` are those from its byte `from` on, up to the last that is not zero. */
interface Kept {
  readonly from: number;
  readonly bytes: Uint8Array;
}

/** Tables this far apart are read in one request, with the bytes between them: over a storage that waits, a request costs as much as so many bytes. */
const GAP_WAITING = 256 * KiB;
const GAP = 8 * KiB;
/** The most bytes of one request, and of several at the same time. */
const SPAN_LIMIT = MiB;
/** Requests at the same time. */
const SPANS_TOGETHER = 32;
/** Bytes of the largest entry: the kept part of a table begins and ends with whole entries. */
const ENTRY = 16;
/** Bytes that a table costs in memory besides its own. */
const OVERHEAD = 192;

/** See the constructor. */
interface EarlyOptions {
  readonly tableSize: number;
  readonly budget: number;
  readonly resident: (offset: number) => boolean;
  readonly onChange: () => void;
}

/** See the top of this file. */
export class EarlyTables {
  readonly #storage: Storage;
  readonly #tableSize: number;
  readonly #budget: number;
  readonly #resident: (offset: number) => boolean;
  readonly #onChange: () => void;
  readonly #kept = new Map<number, Kept>();
  #bytes = 0;
  /** The last table that `peek` returned. */
  #shown: { readonly kept: Kept; readonly data: DataView } | undefined;
  /** Mean bytes that a table took, of the tables that were read last. */
  #each: number;

  /**
   * `budget`: bytes that are kept at most. `resident` tells whether a table is in memory elsewhere, where it may be newer: such a table is not kept here.
   * `onChange` is called after a request, when the number of kept bytes may have changed.
   */
  constructor(storage: Storage, { tableSize, budget, resident, onChange }: EarlyOptions) {
    this.#storage = storage;
    this.#tableSize = tableSize;
    this.#budget = budget;
    this.#resident = resident;
    this.#onChange = onChange;
    this.#each = tableSize + OVERHEAD;
  }

  /** Bytes in memory. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many tables can be kept at a time, estimated from the tables that were read last. */
  get depth(): number {
    return Math.max(4, Math.floor(this.#budget / this.#each));
  }

  has(offset: number): boolean {
    return this.#kept.has(offset);
  }

  /** The bytes of a whole table, which the caller may change. */
  get(offset: number): Uint8Array | undefined {
    const kept = this.#kept.get(offset);
    if (!kept) return undefined;
    const table = new Uint8Array(this.#tableSize);
    table.set(kept.bytes, kept.from);
    return table;
  }

  /** A whole table; the next call of `peek` overwrites it. */
  peek(offset: number): DataView | undefined {
    const kept = this.#kept.get(offset);
    if (!kept) return undefined;
    if (this.#shown?.kept !== kept) {
      const data = this.#shown?.data ?? view(new Uint8Array(this.#tableSize));
      const bytes = new Uint8Array(data.buffer);
      const { from = 0, bytes: before = bytes } = this.#shown?.kept ?? {};
      bytes.fill(0, from, from + before.length);
      bytes.set(kept.bytes, kept.from);
      this.#shown = { kept, data };
    }
    return this.#shown.data;
  }

  forget(offset: number): void {
    const kept = this.#kept.get(offset);
    if (!kept) return;
    this.#kept.delete(offset);
    this.#bytes -= kept.bytes.length + OVERHEAD;
  }

  clear(): void {
    this.#kept.clear();
    this.#bytes = 0;
  }

  /**
   * Reads the tables at `offsets`, which are valid places, and keeps them. Returns for how many of them, counted from the first, there was room.
   * Tables that cannot be read are left out; if `step` throws, the tables read by then are kept.
   */
  *read(offsets: readonly number[], { locked, step }: EarlyReading): Io<number> {
    let reach = offsets.length;
    const places = new Map(offsets.map((offset, at) => [offset, at]));
    const wanted = (offset: number) => (places.get(offset) as number) < reach;
    const before = this.#bytes;
    const requests = new Requests(this.#storage, (span, bytes) => this.#keep(span, bytes));
    const due = offsets.filter((offset) => !this.has(offset) && !this.#resident(offset)).sort((a, b) => a - b);
    let done = 0;
    for (const spans of this.#batches(due, wanted)) {
      const begun = performance.now();
      yield* requests.make(spans, locked);
      // The tables that the caller needs last would take the room of the others.
      while (this.#bytes - before > this.#budget && reach > 1) {
        reach = divideUp(reach, 2);
        for (const [offset, at] of places) if (at >= reach) this.forget(offset);
      }
      this.#onChange();
      for (const span of spans) done += span.offsets.length;
      if (step) yield* step(done / due.length);
      else yield* giveWay(begun);
    }
    if (reach > 0) this.#each = Math.max(OVERHEAD, (this.#bytes - before) / reach);
    return reach;
  }

  /** Reads the tables at `offsets`, which are valid places, and shows each; those that cannot be read are left out. */
  *scan(offsets: readonly number[], { locked, look, step }: Scan): Io<void> {
    let done = 0;
    const requests = new Requests(this.#storage, ({ start, offsets: inside }, bytes) => {
      for (const offset of inside) look(offset, view(this.#entriesOf(bytes, offset - start).bytes));
    });
    for (const spans of this.#batches(
      offsets.toSorted((a, b) => a - b),
      () => true,
    )) {
      yield* requests.make(spans, locked);
      for (const span of spans) done += span.offsets.length;
      yield* step(done / offsets.length);
    }
  }

  #keep({ start, offsets }: Span, bytes: Uint8Array): void {
    const found = offsets.map((offset) => this.#entriesOf(bytes, offset - start));
    // Together in one piece, without the bytes around them.
    const pack = new Uint8Array(found.reduce((all, kept) => all + kept.bytes.length, 0));
    let end = 0;
    for (const [i, kept] of found.entries()) {
      const offset = offsets[i] as number;
      pack.set(kept.bytes, end);
      this.forget(offset);
      end += kept.bytes.length;
      if (this.#resident(offset)) continue;
      this.#kept.set(offset, { from: kept.from, bytes: pack.subarray(end - kept.bytes.length, end) });
      this.#bytes += kept.bytes.length + OVERHEAD;
    }
  }

  /** The part of the table at byte `start` from its first to its last entry that is not zero, in whole entries. */
  #entriesOf(bytes: Uint8Array, start: number): Kept {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset + start, this.#tableSize / 4);
    let [from, to] = [0, words.length];
    while (from < to && words[from] === 0) from++;
    while (to > from && words[to - 1] === 0) to--;
    [from, to] = [roundDown(from * 4, ENTRY), roundUp(to * 4, ENTRY)];
    return { from, bytes: bytes.subarray(start + from, start + to) };
  }

  /** Requests for tables in the order of the file, if they are still `wanted`; each batch is made at the same time. */
  *#batches(offsets: readonly number[], wanted: (offset: number) => boolean): Generator<Span[]> {
    const gap = this.#storage.synchronous ? GAP : GAP_WAITING;
    let batch: Span[] = [];
    for (const offset of offsets) {
      if (!wanted(offset)) continue;
      const last = batch.at(-1);
      const end = offset + this.#tableSize;
      if (last && offset === last.offsets.at(-1)) continue;
      if (last && offset - last.end <= gap && end - last.start <= SPAN_LIMIT) {
        last.end = end;
        last.offsets.push(offset);
        continue;
      }
      if (last && (batch.length === SPANS_TOGETHER || bytesOf(batch) >= SPAN_LIMIT)) {
        yield batch;
        batch = [];
      }
      batch.push({ start: offset, end, offsets: [offset] });
    }
    if (batch.length > 0) yield batch;
  }
}

const bytesOf = (spans: readonly Span[]): number => spans.reduce((all, { start, end }) => all + end - start, 0);

/** Requests for spans; those that fail bring nothing. All requests read into the same memory. */
class Requests {
  readonly #storage: Storage;
  readonly #take: Take;
  #memory = new Uint8Array(0);

  constructor(storage: Storage, take: Take) {
    this.#storage = storage;
    this.#take = take;
  }

  /** Makes requests at the same time. */
  *make(spans: readonly Span[], locked: Locked): Io<void> {
    const length = bytesOf(spans);
    if (length > this.#memory.length) this.#memory = new Uint8Array(length);
    let at = 0;
    const ios = spans.map((span) => {
      const bytes = this.#memory.subarray(at, at + span.end - span.start);
      at += bytes.length;
      return () => this.#read(span, bytes);
    });
    yield* locked(() => together(ios.map((io) => io())));
  }

  *#read(span: Span, bytes: Uint8Array): Io<void> {
    try {
      yield* this.#storage.read(span.start, bytes);
    } catch {
      return;
    }
    this.#take(span, bytes);
  }
}
