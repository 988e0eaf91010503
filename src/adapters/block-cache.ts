/**
 * Blocks of a disk in memory, for an emulator that asks in small pieces and must be answered at once: reads with read-ahead and
 * shared loads, writes that stay here until `WriteBack` takes them.
 *
 * - A read sees every write made before it, saved or not. It is answered inside the call if all its bytes are in memory.
 * - A block that was written before it was loaded holds the written bytes; a load fills only the rest.
 * - Bytes that are not saved never leave: `dirty` were written since the last save began, `saving` are part of a save
 *   that has not reached its flush. Everything else is forgotten, least recently used first, above the capacity.
 * - A load that fails leaves its reads waiting; `retry` loads again.
 * - Memory is used again: in a browser, bytes that were never touched before take ten times as long to fill as others.
 */
import { isZero } from '../base/bytes.ts';
import type { KeptBytes } from '../base/keepers.ts';
import { Lru } from '../base/lru.ts';
import type { ByteRange } from '../base/ranges.ts';
import { ReadersInOrder } from '../base/readers-in-order.ts';
import { Block } from './block.ts';

/** Reads disk bytes into `into`. A promise if it waits; a synchronous answer otherwise. Throws or rejects on failure. */
export type LoadBytes = (offset: number, into: Uint8Array) => Promise<unknown> | undefined;

export interface BlockCacheOptions {
  /** Bytes that the emulator may address. */
  readonly size: number;
  /** Bytes of the disk; bytes between it and `size` read as zero and are never saved. */
  readonly diskSize: number;
  readonly blockSize: number;
  /** Bytes of blocks to keep. Unsaved ones may exceed it. */
  readonly capacity: number;
  /** Bytes to load beyond a sequential read, at most. */
  readonly readAhead: number;
  /** The whole image in one piece: blocks are views of it and are never forgotten. */
  readonly whole?: ArrayBuffer;
  readonly load: LoadBytes;
  readonly onLoadError: (error: unknown, range: { offset: number; length: number }) => void;
}

const NONE: readonly number[] = [];
/** The most bytes that one load requests from the disk. */
const LOAD_LIMIT = 1024 * 1024;
/** Loads ahead of a reader that keeps on reading are of this size, so that it uses one while others are under way. */
const AHEAD_PIECE = LOAD_LIMIT / 2;
/** Bytes of forgotten blocks, and of loads that have ended, that are kept for new ones. */
const SPARE = 2 * LOAD_LIMIT;

interface Piece {
  readonly index: number;
  /** Within the block. */
  readonly start: number;
  readonly end: number;
  /** Within the request. */
  readonly at: number;
}

export class BlockCache {
  readonly #options: BlockCacheOptions;
  #blocks: Lru<number, Block>;
  /** Blocks with `dirty` or `saving` bytes. */
  readonly #unsaved = new Set<Block>();
  readonly #readers: ReadersInOrder;
  /** Memory of forgotten blocks. */
  readonly #spareBlocks: Uint8Array[] = [];
  /** Memory of loads that have ended, `LOAD_LIMIT` bytes each. */
  readonly #spareLoads: Uint8Array[] = [];
  /** The memory in which the latest answer from more than one block was put together. */
  #spareRoom: Uint8Array | undefined;
  /** The block that was used last. */
  #recent: Block | undefined;
  /** Answers whose users read them directly in their blocks. */
  #lent = 0;

  constructor(options: BlockCacheOptions) {
    this.#options = options;
    this.#blocks = this.#newMap();
    this.#readers = new ReadersInOrder({ limit: options.whole ? 0 : options.readAhead, piece: AHEAD_PIECE });
  }

  /** Bytes in blocks that hold something unsaved: these cannot be forgotten. */
  get unsavedMemory(): number {
    return this.#unsaved.size * this.#options.blockSize;
  }

  /** Bytes written and not known to be durable. */
  get dirtyBytes(): number {
    let total = 0;
    for (const { dirty, saving } of this.#unsaved) {
      total += dirty.length;
      for (const range of saving) for (const { start, end } of dirty.gaps(range.start, range.end)) total += end - start;
    }
    return total;
  }

  /**
   * Calls `done` with the bytes, which are only valid during the call, if all of them are in memory and in one block; returns whether they were. A guest
   * waits for this most often: so only the view is made for it.
   */
  here(offset: number, length: number, done: (bytes: Uint8Array) => void): boolean {
    const { blockSize } = this.#options;
    const index = Math.floor(offset / blockSize);
    const start = offset - index * blockSize;
    const end = start + length;
    const block = this.#recent?.index === index ? this.#recent : this.#blocks.peek(index);
    if (block === undefined || end > block.bytes.length || !(block.loaded || block.has(start, end))) return false;
    block.used = true;
    this.#recent = block;
    this.#lent++;
    done(block.bytes.subarray(start, end));
    this.#lent--;
    const reader = this.#readers.note(offset, offset + length);
    if (this.#readers.advance(reader) !== 0) this.#readAhead(reader);
    return true;
  }

  /**
   * Calls `done` once with `length` bytes, which are only valid during the call: at once if they are in memory, else after they have been
   * loaded. Bytes past the end are zero. Returns whether it was called at once without a load.
   */
  read(offset: number, length: number, done: (bytes: Uint8Array) => void): boolean {
    const pieces = this.#pieces(offset, length);
    const reader = this.#readers.note(offset, offset + length);
    const room = this.#room(offset, length);
    const out = room.subarray(0, length);
    const answer = () => {
      done(out);
      if (room.length <= LOAD_LIMIT) this.#spareRoom = room;
    };
    const missing = pieces.filter((piece) => !this.#copyIfThere(piece, out));
    if (missing.length === 0) {
      answer();
      this.#readAhead(reader);
      return true;
    }
    let left = missing.length;
    for (const piece of missing) {
      const block = this.#block(piece.index);
      block.waiters.push(() => {
        out.set(block.bytes.subarray(piece.start, piece.end), piece.at);
        left--;
        if (left === 0) answer();
      });
    }
    // The bytes that were read ahead for it are not in memory any more.
    if (missing.some(({ index }) => !this.#blocks.peek(index)?.loading)) this.#readers.forget(reader);
    this.#readAhead(
      reader,
      missing.map(({ index }) => index),
    );
    return false;
  }

  /** Memory for an answer: that of the last answer, if it is not in use. Zeros where the disk ends before the answer does. */
  #room(offset: number, length: number): Uint8Array {
    const known = this.#spareRoom;
    this.#spareRoom = undefined;
    return known && known.length >= length && offset + length <= this.#options.size ? known : new Uint8Array(length);
  }

  /** The bytes if all of them are in memory, without counting as a read. */
  peek(offset: number, length: number): Uint8Array | undefined {
    const out = new Uint8Array(length);
    return this.#pieces(offset, length).every((piece) => this.#copyIfThere(piece, out)) ? out : undefined;
  }

  /** Takes a copy of the bytes, unsaved. Bytes past `size` are ignored. */
  write(offset: number, bytes: Uint8Array, { keepOnly = false } = {}): void {
    const { diskSize, blockSize } = this.#options;
    for (const { index, start, end, at } of this.#pieces(offset, bytes.length)) {
      const block = this.#block(index);
      block.bytes.set(bytes.subarray(at, at + end - start), start);
      const savable = Math.min(end, diskSize - index * blockSize);
      if (end > savable || keepOnly) block.pinned = true;
      if (!keepOnly && savable > start) {
        block.dirty.add(start, savable);
        this.#unsaved.add(block);
      }
      if (block.loaded) continue;
      block.written.add(start, end);
      if (block.written.covers(0, block.bytes.length)) block.complete();
    }
    this.#trim();
  }

  /** Begins a save: everything unsaved, as `dirtyRuns`. */
  beginSave(limit: number): ByteRange[] {
    const runs = this.dirtyRuns(limit);
    for (const block of this.#unsaved) {
      for (const { start, end } of block.dirty) block.saving.add(start, end);
      block.dirty.clear();
    }
    return runs;
  }

  /**
   * The bytes written since the last save began, as disk ranges in order, merged across blocks and at most `limit` bytes each. Whole blocks of zeros are
   * merged with each other only: a disk that looks for zeros sees them as the guest wrote them.
   */
  dirtyRuns(limit: number, rangesOf = ({ dirty }: Block) => dirty): ByteRange[] {
    const runs: { start: number; end: number; zero: boolean }[] = [];
    for (const block of [...this.#unsaved].sort((a, b) => a.index - b.index)) {
      const base = block.index * this.#options.blockSize;
      for (const { start, end } of rangesOf(block)) {
        const last = runs.at(-1);
        const zero = end - start === block.bytes.length && isZero(block.bytes);
        if (last?.end === base + start && last.zero === zero && base + end - last.start <= limit) last.end = base + end;
        else runs.push({ start: base + start, end: base + end, zero });
      }
    }
    return runs;
  }

  /** The present bytes of a range of `dirtyRuns`. */
  gather({ start, end }: ByteRange): Uint8Array {
    const out = new Uint8Array(end - start);
    for (const piece of this.#pieces(start, end - start)) this.#copyIfThere(piece, out);
    return out;
  }

  /** Copies of all bytes that are not known to be durable, in order. */
  unsaved(): KeptBytes[] {
    const runs = this.dirtyRuns(LOAD_LIMIT, ({ unsavedRanges }) => unsavedRanges);
    return runs.map((run) => ({ offset: run.start, bytes: this.gather(run) }));
  }

  /** Ends a save. After a failure all of its bytes still count as unsaved: it is unknown how many of them arrived. */
  endSave(durable: boolean): void {
    for (const block of [...this.#unsaved]) {
      if (!durable) for (const { start, end } of block.saving) block.dirty.add(start, end);
      block.saving.clear();
      if (!block.unsaved) this.#unsaved.delete(block);
    }
    this.#trim();
  }

  /** Loads again the blocks that reads wait for after a failure. */
  retry(): void {
    const waiting: number[] = [];
    for (const [index, block] of this.#blocks) if (block.waiters.length > 0 && !block.loading) waiting.push(index);
    this.#loadMissing(waiting.sort((a, b) => a - b));
  }

  /** Answers the reads that wait after a failed load, with zeros for unknown bytes. Those blocks are not kept. */
  giveUp(): void {
    for (const [index, block] of [...this.#blocks]) {
      if (block.waiters.length === 0 || block.loading) continue;
      block.giveUp();
      if (!block.mayGo || this.#options.whole) continue;
      this.#blocks.delete(index);
      if (this.#recent === block) this.#recent = undefined;
    }
  }

  /** Forgets everything, unsaved bytes included. Reads that wait are loaded anew. */
  drop(): void {
    const old = this.#blocks;
    this.#recent = undefined;
    this.#blocks = this.#newMap();
    this.#unsaved.clear();
    const waiting: number[] = [];
    for (const [index, block] of old) {
      if (block.waiters.length === 0) continue;
      // Waiting reads copy from the old block's bytes: the new block must fill these first.
      const { waiters } = block;
      block.waiters = [];
      const fresh = this.#block(index);
      fresh.waiters.push(() => {
        block.bytes.set(fresh.bytes);
        for (const waiter of waiters) waiter();
      });
      waiting.push(index);
    }
    this.#loadMissing(waiting.sort((a, b) => a - b));
  }

  /** Makes sure that a range is in memory. `undefined` if it is, or was loaded without waiting. Throws or rejects if it cannot be loaded. */
  preload(offset: number, length: number): Promise<void> | undefined {
    const indices = this.#pieces(offset, length).map(({ index }) => index);
    this.#loadMissing(indices);
    const blocks = indices.map((index) => this.#block(index));
    const check = () => {
      for (const { loaded, failure } of blocks) if (!loaded && failure) throw failure.error;
    };
    const waits = blocks.flatMap(({ loading }) => loading ?? []);
    if (waits.length > 0) return Promise.all(waits).then(check);
    check();
    return undefined;
  }

  #newMap(): Lru<number, Block> {
    const { capacity, blockSize, whole } = this.#options;
    return new Lru(whole ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor(capacity / blockSize)));
  }

  /** The parts of a request by blocks; bytes past the end are left out. */
  #pieces(offset: number, length: number): Piece[] {
    const { size, blockSize } = this.#options;
    const stop = Math.min(offset + length, size);
    const pieces: Piece[] = [];
    for (let at = offset; at < stop; ) {
      const index = Math.floor(at / blockSize);
      const end = Math.min((index + 1) * blockSize, stop);
      pieces.push({ index, start: at - index * blockSize, end: end - index * blockSize, at: at - offset });
      at = end;
    }
    return pieces;
  }

  #copyIfThere({ index, start, end, at }: Piece, out: Uint8Array): boolean {
    const block = this.#blocks.get(index);
    if (!block?.has(start, end)) return false;
    out.set(block.bytes.subarray(start, end), at);
    return true;
  }

  /** The block, made if needed. */
  #block(index: number): Block {
    const known = this.#blocks.get(index);
    if (known) return known;
    const { blockSize, size, whole } = this.#options;
    const base = index * blockSize;
    const length = Math.min(blockSize, size - base);
    const spare = length === blockSize ? this.#spareBlocks.pop() : undefined;
    const block = new Block(index, whole ? new Uint8Array(whole, base, length) : (spare ?? new Uint8Array(length)));
    this.#blocks.set(index, block);
    return block;
  }

  /** Loads the blocks named, in order, with neighbours in one request. */
  #loadMissing(wanted: readonly number[]): void {
    const most = Math.max(1, Math.floor(LOAD_LIMIT / this.#options.blockSize));
    let run: Block[] = [];
    const finish = () => {
      if (run.length > 0) this.#load(run);
      run = [];
    };
    for (const index of wanted) {
      const block = this.#block(index);
      if (block.loaded || block.loading) continue;
      const before = run.at(-1);
      if (before && (before.index + 1 !== index || run.length >= most)) finish();
      run.push(block);
    }
    finish();
    this.#trim();
  }

  /** One request to the disk, for neighbouring blocks. */
  #load(run: readonly Block[]): void {
    const { blockSize, diskSize, load, onLoadError } = this.#options;
    const [first] = run;
    if (!first) return;
    const map = this.#blocks;
    const offset = first.index * blockSize;
    const length = run.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const room = this.#spareLoads.pop() ?? new Uint8Array(LOAD_LIMIT);
    const into = length <= room.length ? room.subarray(0, length) : new Uint8Array(length);
    const onDisk = Math.max(0, Math.min(length, diskSize - offset));
    into.fill(0, onDisk);
    const over = () => {
      if (this.#spareLoads.length * LOAD_LIMIT < SPARE) this.#spareLoads.push(room);
    };
    const filled = () => {
      over();
      // The block was dropped meanwhile: these bytes are out of date.
      if (this.#blocks !== map) return;
      for (const block of run) {
        block.loading = undefined;
        const at = (block.index - first.index) * blockSize;
        if (!block.loaded) block.fill(into.subarray(at, at + block.bytes.length));
      }
      this.#trim();
    };
    const failed = (error: unknown) => {
      over();
      if (this.#blocks !== map) return;
      for (const block of run) {
        block.loading = undefined;
        block.failure = { error };
      }
      // Read-ahead may fail silently: a guest that needs those bytes requests them again.
      if (run.some(({ waiters }) => waiters.length > 0)) onLoadError(error, { offset, length });
      this.#trim();
    };
    for (const block of run) block.failure = undefined;
    let promise: Promise<unknown> | undefined;
    try {
      promise = onDisk > 0 ? load(offset, into.subarray(0, onDisk)) : undefined;
    } catch (error) {
      failed(error);
      return;
    }
    const settled = promise?.then(filled, failed);
    if (!settled) filled();
    else for (const block of run) block.loading = settled;
  }

  /** Loads missing blocks, and reads ahead of a reader in order. */
  #readAhead(reader: number, missing: readonly number[] = NONE): void {
    const { blockSize, size } = this.#options;
    const ahead = this.#readers.ahead(reader, size);
    if (!ahead) {
      if (missing.length > 0) this.#loadMissing(missing);
      return;
    }
    const wanted = [...missing];
    for (let index = Math.ceil(ahead.start / blockSize); index < Math.ceil(ahead.end / blockSize); index++) wanted.push(index);
    this.#loadMissing(wanted);
  }

  /** Forgets blocks above the capacity. */
  #trim(): void {
    const { blockSize } = this.#options;
    while (this.#blocks.size > this.#blocks.capacity) {
      const victim = this.#blocks.victim((block) => block.mayGo);
      if (!victim) return;
      const [index, block] = victim;
      this.#blocks.delete(index);
      if (block.used) {
        block.used = false;
        this.#blocks.set(index, block);
      } else if (this.#recent === block) this.#recent = undefined;
      else if (this.#lent === 0 && block.bytes.length === blockSize && this.#spareBlocks.length * blockSize < SPARE)
        this.#spareBlocks.push(block.bytes);
    }
  }
}
