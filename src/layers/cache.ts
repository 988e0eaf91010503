/**
 * A write-back block cache over a storage: bytes read or written lately are answered from memory inside the call; changes are kept until
 * `flush` or `barrier` (or until half of the memory is unsaved) and then written in order of their offsets, neighbours in one call; for a
 * reader in order, or in steps of one size, the cache reads ahead. Requests of 128 KiB and more bypass the cache: one call serves them well.
 *
 * Crash argument. A storage may write changes that no flush or barrier has covered in any order, or not at all (storage.ts), and this
 * layer does exactly that. `flush` and `barrier` first write every change that returned before them, then pass on: all of it is below
 * when the platform's own flush begins. If two changed runs are close together, the bytes in between are written again as they are; a cut
 * may leave them as they were. Growth reaches the storage below at once, in steps, so that accepted changes have their room: a full
 * disk refuses the write, not the flush. After a cut the file may therefore be longer, by zeros that nothing refers to (as layers/preallocate.ts).
 *
 * A failed write below keeps its changes here, to be written by the next flush. What a flush takes when it begins is sealed by marks on the pages (`Line.saving`,
 * cleared by a change) and not by copies as in tables/write-order.ts, since any state between is right for a storage's next flush. Every request to the storage below holds the same lock, so that
 * requests over asynchronous storage do not overtake each other; requests that memory can answer do not wait for it.
 */
import { check, objectWith, optionsOf, SIZE } from '../base/arguments.ts';
import { roundDown, roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { finished, type Io, together } from '../base/io.ts';
import type { Keeper, KeptBytes } from '../base/keepers.ts';
import { Mutex } from '../base/locks.ts';
import type { ByteRange } from '../base/ranges.ts';
import { KiB, MiB } from '../base/units.ts';
import { type MemoryBudget, requireWritable, STORAGE, type Storage, type StorageExtent, writeZeroes } from '../storage/storage.ts';
import { CacheLines, CacheMemory, LINE, type Line, PAGE, pageBits } from './cache-lines.ts';
import { FilterStorage } from './filter.ts';
import { ReadAhead } from './read-ahead.ts';

/** The options of `CacheStorage`. */
export interface CacheOptions {
  /** A memory that other caches may share; default one of its own. */
  readonly memory?: CacheMemory;
  /** Bytes; the storage below grows in steps of this size, or of more if the storage is large already; default 1 MiB. */
  readonly growth?: number;
  /** Changed runs this close are written in one call, with the bytes between them; default 16 KiB, which costs less than a call. Bytes. */
  readonly mergeGap?: number;
}

/** Requests of this size and more bypass the cache. */
const LARGE = 128 * KiB;
/** The most that is copied together to be written in one call. */
const WRITE_LIMIT = MiB;
/** The least part of a run that is written without a copy if it is in one piece in memory: the extra call costs less than copying. */
const DIRECT_LEAST = 256 * KiB;
/** The storage below grows by this part of its size, if that is more than a step, up to the limit. */
const GROWTH_PART = 1 / 8;
const GROWTH_LIMIT = 32 * MiB;
const ALL_PAGES = pageBits(0, LINE / PAGE - 1);

const OPTIONS = optionsOf<CacheOptions>({ memory: objectWith('a CacheMemory', ['take', 'charge']), growth: SIZE, mergeGap: SIZE });

/** Answers from memory and writes merged; see the top of this file. */
export class CacheStorage extends FilterStorage {
  readonly #memory: CacheMemory;
  readonly #lines: CacheLines;
  readonly #mergeGap: number;
  readonly #growth: number;
  readonly #below = new Mutex();
  readonly #readers = new ReadAhead();
  readonly #leaveKeepers: (() => void) | undefined;
  #scratch = new Uint8Array(LARGE);
  /** The size as the layers above see it; the file below may be longer. */
  #size: number;
  #lastEnd = -1;

  constructor(next: Storage, options: CacheOptions = {}) {
    check('CacheStorage', 'next', next, STORAGE);
    check('CacheStorage', 'options', options, OPTIONS);
    const { memory = new CacheMemory(), mergeGap = 16 * KiB, growth = MiB } = options;
    super(next);
    this.#memory = memory;
    this.#lines = new CacheLines(memory);
    this.#growth = growth;
    this.#mergeGap = mergeGap;
    this.#size = next.size;
    this.#leaveKeepers = next.keepers?.attach(this.#keeper);
  }

  /** Known to the disk below, if there is one. */
  readonly #keeper: Keeper = {
    drain: () => this.#below.run(() => this.#save()),
    hold: () => this.#hold(),
    unsaved: () => this.#unsaved(),
    gone: () => undefined,
  };

  #unsaved(): KeptBytes[] {
    return this.#lines.changed().flatMap((line) =>
      pageRuns(line.dirty).map(([first, last]) => {
        const offset = line.index * LINE + first * PAGE;
        return { offset, bytes: line.bytes.slice(first * PAGE, Math.min((last + 1) * PAGE, this.#size - line.index * LINE)) };
      }),
    );
  }

  /** Requests that need the storage below wait meanwhile. The cache does not see contents that become new below. */
  *#hold(): Io<(changed: boolean) => Io<void>> {
    yield* this.#below.acquire();
    return (changed) => this.#letGo(changed);
  }

  *#letGo(changed: boolean): Io<void> {
    if (changed) {
      this.#lines.clear();
      this.#size = this.next.size;
    }
    this.#below.release();
  }

  override get size(): number {
    return this.#size;
  }

  /** Copies that others keep of the bytes take room from the lines: tables and data share the memory. */
  override get memory(): MemoryBudget {
    return this.#lines;
  }

  override read(offset: number, into: Uint8Array): Io<void> {
    return this.#readHere(offset, into) ? finished : this.#below.run(() => this.#readBelow(offset, into));
  }

  override write(offset: number, bytes: Uint8Array): Io<void> {
    return this.#writeHere(offset, bytes) ? finished : this.#below.run(() => this.#writeBelow(offset, bytes));
  }

  override *zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    requireWritable(this);
    const inside = Math.max(0, Math.min(length, this.#size - offset));
    if (inside < LARGE && !options?.unmap) yield* writeZeroes(this, offset, inside);
    else yield* this.#below.run(() => this.#replace(offset, inside, () => super.zero(offset, inside, options)));
  }

  override *discard(offset: number, length: number): Io<void> {
    requireWritable(this);
    const end = Math.min(offset + length, this.#size);
    const start = roundUp(offset, PAGE);
    const pages = (end === this.#size ? roundUp(end, PAGE) : roundDown(end, PAGE)) - start;
    if (pages > 0) yield* this.#below.run(() => this.#replace(start, pages, () => super.discard(start, Math.min(pages, end - start))));
  }

  override *truncate(size: number): Io<void> {
    requireWritable(this);
    yield* this.#below.run(() => this.#truncate(size));
  }

  override *map(offset: number, length: number): Io<StorageExtent> {
    if (this.#lines.changes) yield* this.#below.run(() => this.#save());
    return yield* super.map(offset, Math.min(length, Math.max(1, this.#size - offset)));
  }

  override *barrier(): Io<void> {
    yield* this.#below.run(() => this.#save());
    yield* super.barrier();
  }

  override *flush(): Io<void> {
    yield* this.#below.run(() => this.#save());
    yield* super.flush();
  }

  /** Stays open if unsaved changes cannot be written: `abandon` gives them up. Closes a storage that is lost; the storage below then throws `lost` again. */
  override *close(): Io<void> {
    try {
      yield* this.#below.run(() => this.#save());
      if (this.next.size > this.#size && !this.readOnly) yield* super.truncate(this.#size);
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind !== 'lost') throw error;
    }
    this.#lines.clear();
    this.#leaveKeepers?.();
    yield* super.close();
  }

  /** Forgets unsaved changes, and lets the storage below do the same. The caller closes afterwards. */
  abandon(): void {
    this.#lines.clear();
    this.#leaveKeepers?.();
    this.next.abandon?.();
  }

  /** Passed on to the storage below. */
  spendReserve(allowed: boolean): void {
    this.next.spendReserve?.(allowed);
  }

  /** Copies the bytes if all of them are in memory. Otherwise a part of `into` may be filled. */
  #readHere(offset: number, into: Uint8Array): boolean {
    const end = offset + into.length;
    if (end > this.#size) return false;
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / LINE);
      const line = this.#lines.get(index);
      const start = at - index * LINE;
      const stop = Math.min(LINE, end - index * LINE);
      if (!line || !hasAll(line, start, stop)) return false;
      into.set(new Uint8Array(line.bytes.buffer, line.bytes.byteOffset + start, stop - start), at - offset);
      // A reader in order passes each line once.
      if (at !== this.#lastEnd) line.visited = true;
      at += stop - start;
    }
    this.#lastEnd = end;
    return true;
  }

  *#readBelow(offset: number, into: Uint8Array): Io<void> {
    const length = Math.max(0, Math.min(into.length, this.#size - offset));
    into.fill(0, length);
    if (length === 0) return;
    if (length >= LARGE) return yield* this.#readPast(offset, into.subarray(0, length));
    const from = roundDown(offset, PAGE);
    const wanted = roundUp(offset + length, PAGE);
    const ahead = this.#readers.beyond(offset, wanted);
    const to = Math.max(wanted, Math.min(wanted + ahead, roundUp(this.#size, PAGE)));
    const loaded = this.#room(to - from);
    // If the storage below answers at once, reading separate places ahead costs as much as it saves.
    if (ahead === 0 && !this.synchronous) yield* this.#readPlaces(from, loaded, this.#readers.places(offset, length), length);
    else yield* super.read(from, loaded);
    this.#keep(from, loaded);
    into.set(loaded.subarray(offset - from, offset - from + length));
    this.#lastEnd = offset + length;
  }

  /** Reads pages, and at the same time the pages that the reader will want next. */
  *#readPlaces(from: number, into: Uint8Array, places: readonly number[], length: number): Io<void> {
    const found: [number, Uint8Array][] = [];
    const early = places
      .map((place) => [roundDown(place, PAGE), roundUp(place + length, PAGE)] as const)
      .filter(([start, end]) => end <= this.#size && !this.#allHere(start, end));
    yield* together([undefined, ...early].map((range) => (range ? this.#readEarly(...range, found) : super.read(from, into))));
    for (const [start, bytes] of found) this.#keep(start, bytes);
  }

  /** No caller has requested these bytes yet: if reading fails, a later request for them throws the reason. */
  *#readEarly(start: number, end: number, found: [number, Uint8Array][]): Io<void> {
    const bytes = new Uint8Array(end - start);
    try {
      yield* super.read(start, bytes);
      found.push([start, bytes]);
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
    }
  }

  /** A large request: reads from below, and copies newer bytes of the cache over the result. */
  *#readPast(offset: number, into: Uint8Array): Io<void> {
    yield* super.read(offset, into);
    this.#overlay(offset, into, 'dirty');
  }

  /** Copies the bytes of a range that are in memory over bytes from below. */
  #overlay(offset: number, bytes: Uint8Array, which: 'valid' | 'dirty'): void {
    this.#lines.each(offset, bytes.length, (line, start, end) => {
      if (line[which] === 0) return;
      for (const [first, last] of pageRuns(line[which])) {
        const [from, to] = [Math.max(start, first * PAGE), Math.min(end, (last + 1) * PAGE)];
        if (from < to) bytes.set(line.bytes.subarray(from, to), line.index * LINE + from - offset);
      }
    });
  }

  /** Keeps whole pages that were read, as far as there is room, and brings `loaded` up to date with newer bytes of the cache. */
  #keep(offset: number, loaded: Uint8Array): void {
    for (let at = 0; at < loaded.length; ) {
      const index = Math.floor((offset + at) / LINE);
      const start = offset + at - index * LINE;
      const length = Math.min(LINE - start, loaded.length - at);
      const line = this.#lines.take(index);
      if (line) {
        if (line.valid !== 0) this.#overlay(offset + at, loaded.subarray(at, at + length), 'valid');
        line.bytes.set(loaded.subarray(at, at + length), start);
        line.valid |= pageBits(start / PAGE, (start + length) / PAGE - 1);
      }
      at += length;
    }
  }

  /** Takes the bytes if that needs nothing from below: no growth beyond the size below, and no partly written page that is not in memory. */
  #writeHere(offset: number, bytes: Uint8Array): boolean {
    const end = offset + bytes.length;
    if (bytes.length >= LARGE || this.#memory.crowded || this.readOnly) return false;
    const grows = end > this.#size;
    // A request that holds the lock and may change the size comes first.
    if (grows && (bytes.length === 0 || end > this.next.size || this.#below.held)) return false;
    if (!this.#partsHere(offset, end) || !this.#put(offset, bytes)) return false;
    if (grows) this.#size = end;
    return true;
  }

  /** True if the first and the last page are in memory, where only a part of them is written. */
  #partsHere(offset: number, end: number): boolean {
    return (offset % PAGE === 0 || this.#pageHere(offset)) && (end % PAGE === 0 || this.#pageHere(end));
  }

  #pageHere(offset: number): boolean {
    const index = Math.floor(offset / LINE);
    const line = this.#lines.get(index);
    return line !== undefined && hasAll(line, offset - index * LINE, offset - index * LINE + 1);
  }

  /**
   * Writes into lines; false, after any part of it, if every line has changes, or if a page that is covered in part is not in memory any more: the lines that the
   * earlier parts needed may have been taken from it.
   */
  #put(offset: number, bytes: Uint8Array): boolean {
    const end = offset + bytes.length;
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / LINE);
      const start = at - index * LINE;
      const stop = Math.min(LINE, end - index * LINE);
      const line = this.#lines.take(index);
      if (!line || !edgesHere(line, start, stop)) return false;
      line.bytes.set(stop - start === bytes.length ? bytes : bytes.subarray(at - offset, at - offset + stop - start), start);
      this.#lines.soil(line, pageBits(Math.floor(start / PAGE), Math.floor((stop - 1) / PAGE)));
      at += stop - start;
    }
    return true;
  }

  *#writeBelow(offset: number, bytes: Uint8Array): Io<void> {
    requireWritable(this);
    const end = offset + bytes.length;
    if (bytes.length === 0) return;
    const before = this.#size;
    if (end > this.next.size) yield* this.#grow(end);
    this.#size = Math.max(before, end);
    if (bytes.length >= LARGE) return yield* this.#replace(offset, bytes.length, () => super.write(offset, bytes), bytes);
    if (this.#memory.crowded) yield* this.#save();
    // Again if other requests used the room meanwhile, which can happen if the storage below waits.
    while (!(this.#partsHere(offset, end) && this.#put(offset, bytes))) {
      if (!this.#memory.hasRoom) yield* this.#save();
      if (offset % PAGE !== 0) yield* this.#loadPage(roundDown(offset, PAGE), before);
      if (end % PAGE !== 0) yield* this.#loadPage(roundDown(end, PAGE), before);
    }
  }

  /** Makes sure that a page is in memory. Pages from the old end of the storage on need no loading. */
  *#loadPage(offset: number, end: number): Io<void> {
    if (this.#pageHere(offset)) return;
    const page = this.#room(PAGE);
    if (offset >= end) page.fill(0);
    else yield* super.read(offset, page);
    this.#keep(offset, page);
  }

  *#grow(end: number): Io<void> {
    const ahead = roundDown(Math.min(GROWTH_LIMIT, end * GROWTH_PART), this.#growth);
    try {
      yield* super.truncate(roundUp(end, this.#growth) + ahead);
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind !== 'no-space') throw error;
      yield* super.truncate(end);
    }
  }

  /** Changes a range below by `act`; its bytes in memory are forgotten, or become `bytes`. If that fails, changes stay and the rest is read again. */
  *#replace(offset: number, length: number, act: () => Io<void>, bytes?: Uint8Array): Io<void> {
    try {
      yield* act();
    } catch (error) {
      this.#lines.each(offset, length, (line) => this.#lines.forget(line, ALL_PAGES & ~line.dirty));
      throw error;
    }
    this.#lines.each(offset, length, (line, start, end) => {
      const [first, last] = [Math.ceil(start / PAGE), Math.floor(end / PAGE) - 1];
      if (first <= last) this.#lines.forget(line, pageBits(first, last));
      // Pages that are covered in part keep their other bytes.
      for (const page of new Set([Math.floor(start / PAGE), Math.floor((end - 1) / PAGE)])) {
        const [from, to] = [Math.max(start, page * PAGE), Math.min(end, (page + 1) * PAGE)];
        if (to - from === PAGE || from >= to) continue;
        const at = line.index * LINE + from - offset;
        if (bytes) line.bytes.set(bytes.subarray(at, at + to - from), from);
        else line.bytes.fill(0, from, to);
      }
    });
  }

  *#truncate(size: number): Io<void> {
    // Changes before an end inside a block could not be written later.
    if (size % (this.requestAlignment ?? 1) !== 0) yield* this.#save();
    yield* super.truncate(size);
    if (size < this.#size) {
      this.#lines.each(roundDown(size, PAGE), PAGE, (line, start, end) => {
        const kept = size - line.index * LINE;
        if (kept > start) line.bytes.fill(0, kept, end);
      });
      this.#lines.forgetFrom(roundUp(size, PAGE));
    }
    this.#size = size;
  }

  /** Writes all changes, in order. Changes whose write fails stay. */
  *#save(): Io<void> {
    if (!this.#lines.changes) return;
    const lines = this.#lines.changed();
    for (const line of lines) line.saving = line.dirty;
    for (const { start, end } of this.#runs(lines)) {
      for (let from = start; from < end; ) {
        const bytes = this.#asItLies(from, end) ?? (yield* this.#gathered(from, Math.min(end, from + WRITE_LIMIT)));
        const to = from + bytes.length;
        yield* super.write(from, bytes);
        this.#saved(from, to);
        from = to;
      }
    }
  }

  /** Notes that the storage below has a run as it was when its saving began, except pages that were changed since. */
  #saved(from: number, to: number): void {
    for (let at = from; at < to; ) {
      const index = Math.floor(at / LINE);
      const stop = Math.min(to, (index + 1) * LINE);
      const line = this.#lines.get(index);
      if (line) this.#lines.clean(line, line.saving & pageBits(Math.floor((at - index * LINE) / PAGE), Math.ceil((stop - index * LINE) / PAGE) - 1));
      at = stop;
    }
  }

  /**
   * The start of a run, or all of it, if it is in one piece in memory: no copy is needed then. Only if the storage below has written it when the
   * call returns, since the next change may come after that.
   */
  #asItLies(from: number, to: number): Uint8Array | undefined {
    if (!this.synchronous) return undefined;
    const index = Math.floor(from / LINE);
    const first = this.#lines.get(index);
    let last = first;
    let end = from;
    for (let line = first; line && last && end < to; line = this.#lines.get(Math.floor(end / LINE))) {
      const start = end - line.index * LINE;
      const stop = Math.min(LINE, to - line.index * LINE);
      if ((line !== first && !last.isBefore(line)) || !hasAll(line, start, stop)) break;
      last = line;
      end += stop - start;
    }
    if (!first || end === from || (end < to && end - from < DIRECT_LEAST)) return undefined;
    return new Uint8Array(first.bytes.buffer, first.bytes.byteOffset + from - index * LINE, end - from);
  }

  /** A run in one piece. Bytes between changes may have to be read; the rest is newer in memory. */
  *#gathered(from: number, to: number): Io<Uint8Array> {
    const bytes = this.#room(to - from);
    if (!this.#allHere(from, to)) yield* super.read(from, bytes);
    this.#overlay(from, bytes, 'valid');
    return bytes;
  }

  /** The runs to write, so that few calls are needed. */
  #runs(lines: readonly Line[]): ByteRange[] {
    const runs: { start: number; end: number }[] = [];
    for (const line of lines) {
      for (const [first, last] of pageRuns(line.dirty)) {
        const start = line.index * LINE + first * PAGE;
        const end = Math.min(line.index * LINE + (last + 1) * PAGE, this.#size);
        const run = runs[runs.length - 1];
        const gap = run ? start - run.end : Number.POSITIVE_INFINITY;
        if (run && gap <= this.#mergeGap) run.end = end;
        else runs.push({ start, end });
      }
    }
    return runs;
  }

  #allHere(from: number, to: number): boolean {
    for (let at = from; at < to; at += PAGE) if (!this.#pageHere(at)) return false;
    return true;
  }

  /** Memory for one request below, which the next one uses again. */
  #room(length: number): Uint8Array {
    if (this.#scratch.length < length) this.#scratch = new Uint8Array(roundUp(length, LARGE));
    return this.#scratch.subarray(0, length);
  }
}

/** Whether a line has the pages at both ends of a range, where the range covers only a part of them. */
function edgesHere(line: Line, start: number, stop: number): boolean {
  return (start % PAGE === 0 || hasAll(line, start, start + 1)) && (stop % PAGE === 0 || hasAll(line, stop - 1, stop));
}

/** Whether the pages with bytes [start, end) of a line are in memory. */
function hasAll(line: Line, start: number, end: number): boolean {
  const pages = pageBits(Math.floor(start / PAGE), Math.floor((end - 1) / PAGE));
  return (line.valid & pages) === pages;
}

/** The runs of pages in a set of bits, as first and last. */
function pageRuns(bits: number): [number, number][] {
  const runs: [number, number][] = [];
  for (let left = bits; left !== 0; ) {
    const first = lowestBit(left);
    const last = first + lowestBit(~(left >>> first)) - 1;
    runs.push([first, last]);
    left &= ~pageBits(first, last);
  }
  return runs;
}

const lowestBit = (bits: number): number => 31 - Math.clz32(bits & -bits);
