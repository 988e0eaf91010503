/**
 * Blocks of a disk in memory, for an emulator that asks in small pieces and must be answered at once: reads with read-ahead and
 * shared loads, writes that stay here until `WriteBack` takes them.
 *
 * - A read sees every write made before it, saved or not. It is answered inside the call if all its bytes are here.
 * - A block that was written before it was loaded holds what was written; a load fills only the rest.
 * - Bytes that are not saved never leave: `dirty` were written since the last save began, `saving` are part of a save
 *   that has not reached its flush. Everything else is forgotten, least recently used first, above the capacity.
 * - A load that fails leaves its reads waiting; `retry` loads again.
 */
import { isZero } from '../base/bytes.ts';
import { Lru } from '../base/lru.ts';
import { type ByteRange, RangeSet } from '../base/ranges.ts';

/** Reads disk bytes into `into`. A promise if it waits; a synchronous answer otherwise. Throws or rejects on failure. */
export type LoadBytes = (offset: number, into: Uint8Array) => Promise<unknown> | undefined;

export interface BlockCacheOptions {
  /** Bytes that the emulator may address. */
  readonly size: number;
  /** Bytes of the disk; what lies between it and `size` reads as zero and is never saved. */
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

/** The most that one load asks of the disk. */
const LOAD_LIMIT = 1024 * 1024;
/** Sequential readers that are told apart. */
const STREAMS = 4;

class Block {
  readonly index: number;
  readonly bytes: Uint8Array;
  /** All bytes are valid. Until then `written` are. */
  loaded = false;
  /** Settles, never rejects, when the load under way ends. */
  loading: Promise<void> | undefined;
  /** Why the latest load failed. */
  failure: { readonly error: unknown } | undefined;
  /** Asked for since it was last looked at for forgetting. */
  used = false;
  /** Written past the end of the disk: those bytes exist nowhere else. */
  pinned = false;
  readonly written = new RangeSet();
  readonly dirty = new RangeSet();
  readonly saving = new RangeSet();
  /** Called once, when all bytes are valid. */
  waiters: (() => void)[] = [];

  constructor(index: number, bytes: Uint8Array) {
    this.index = index;
    this.bytes = bytes;
  }

  get unsaved(): boolean {
    return !this.dirty.empty || !this.saving.empty;
  }

  get mayGo(): boolean {
    return !this.unsaved && !this.loading && !this.pinned && this.waiters.length === 0;
  }

  has(start: number, end: number): boolean {
    return this.loaded || this.written.covers(start, end);
  }

  /** Takes what the disk holds, except where something newer was written. */
  fill(bytes: Uint8Array): void {
    for (const { start, end } of this.written.gaps(0, this.bytes.length)) this.bytes.set(bytes.subarray(start, end), start);
    this.complete();
  }

  complete(): void {
    this.loaded = true;
    this.written.clear();
    const { waiters } = this;
    this.waiters = [];
    for (const waiter of waiters) waiter();
  }
}

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
  /** Of the latest readers: where each would go on, and the bytes that it has read in sequence. */
  readonly #nexts = new Float64Array(STREAMS).fill(-1);
  readonly #sequences = new Float64Array(STREAMS);
  #stream = 0;
  /** The block that was asked for last. */
  #recent: Block | undefined;

  constructor(options: BlockCacheOptions) {
    this.#options = options;
    this.#blocks = this.#newMap();
  }

  /** Bytes in blocks that hold something unsaved: what cannot be forgotten. */
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
   * The bytes, if all of them are here and in one block; valid until the next call. This is what a guest waits for most often: nothing is
   * made for it but the view.
   */
  here(offset: number, length: number): Uint8Array | undefined {
    const { blockSize } = this.#options;
    const index = Math.floor(offset / blockSize);
    const start = offset - index * blockSize;
    const end = start + length;
    const block = this.#recent?.index === index ? this.#recent : this.#blocks.peek(index);
    if (block === undefined || end > block.bytes.length || !(block.loaded || block.has(start, end))) return undefined;
    block.used = true;
    this.#recent = block;
    const ahead = this.#observe(offset, length);
    if (ahead > 0) this.#prefetch(index, ahead);
    return block.bytes.subarray(start, end);
  }

  /**
   * Calls `done` once with `length` bytes, which are only valid during the call: at once if they are here, else when they have been
   * loaded. Bytes past the end are zero. Returns whether it was at once without a load.
   */
  read(offset: number, length: number, done: (bytes: Uint8Array) => void): boolean {
    const pieces = this.#pieces(offset, length);
    const ahead = this.#observe(offset, length);
    const out = new Uint8Array(length);
    const missing = pieces.filter((piece) => !this.#copyIfThere(piece, out));
    if (missing.length === 0) {
      done(out);
      const last = pieces.at(-1);
      if (last) this.#prefetch(last.index, ahead);
      return true;
    }
    let left = missing.length;
    for (const piece of missing) {
      const block = this.#block(piece.index);
      block.waiters.push(() => {
        out.set(block.bytes.subarray(piece.start, piece.end), piece.at);
        left--;
        if (left === 0) done(out);
      });
    }
    const aheadBlocks = Math.ceil(ahead / this.#options.blockSize);
    this.#loadMissing(
      missing.map(({ index }) => index),
      aheadBlocks,
    );
    return false;
  }

  /** The bytes if all of them are here, without counting as a read. */
  peek(offset: number, length: number): Uint8Array | undefined {
    const out = new Uint8Array(length);
    return this.#pieces(offset, length).every((piece) => this.#copyIfThere(piece, out)) ? out : undefined;
  }

  /** Takes a copy of the bytes, unsaved. What reaches past `size` is ignored. */
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

  /**
   * Begins a save: everything unsaved, as disk ranges in order, merged across blocks and at most `limit` bytes each. Whole blocks of zeros are
   * merged with each other only: a disk that looks out for zeros sees them as the guest wrote them.
   */
  beginSave(limit: number): ByteRange[] {
    const runs: { start: number; end: number; zero: boolean }[] = [];
    for (const block of [...this.#unsaved].sort((a, b) => a.index - b.index)) {
      const base = block.index * this.#options.blockSize;
      for (const { start, end } of block.dirty) {
        block.saving.add(start, end);
        const last = runs.at(-1);
        const zero = end - start === block.bytes.length && isZero(block.bytes);
        if (last?.end === base + start && last.zero === zero && base + end - last.start <= limit) last.end = base + end;
        else runs.push({ start: base + start, end: base + end, zero });
      }
      block.dirty.clear();
    }
    return runs;
  }

  /** The bytes of a range that `beginSave` returned, as they are now. */
  gather({ start, end }: ByteRange): Uint8Array {
    const out = new Uint8Array(end - start);
    for (const piece of this.#pieces(start, end - start)) this.#copyIfThere(piece, out);
    return out;
  }

  /** Ends a save. After a failure all that it was to save is unsaved still: nobody knows how much of it arrived. */
  endSave(durable: boolean): void {
    for (const block of [...this.#unsaved]) {
      if (!durable) for (const { start, end } of block.saving) block.dirty.add(start, end);
      block.saving.clear();
      if (!block.unsaved) this.#unsaved.delete(block);
    }
    this.#trim();
  }

  /** Loads again what reads wait for after a failure. */
  retry(): void {
    const waiting: number[] = [];
    for (const [index, block] of this.#blocks) if (block.waiters.length > 0 && !block.loading) waiting.push(index);
    this.#loadMissing(
      waiting.sort((a, b) => a - b),
      0,
    );
  }

  /** Answers the reads that wait after a failed load with zeros where nothing is known. Those blocks are not kept. */
  giveUp(): void {
    for (const [index, block] of [...this.#blocks]) {
      if (block.waiters.length === 0 || block.loading) continue;
      const { waiters } = block;
      block.waiters = [];
      for (const waiter of waiters) waiter();
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
      // Waiters copy from the old block's bytes: let the new one fill them first.
      const { waiters } = block;
      block.waiters = [];
      const fresh = this.#block(index);
      fresh.waiters.push(() => {
        block.bytes.set(fresh.bytes);
        for (const waiter of waiters) waiter();
      });
      waiting.push(index);
    }
    this.#loadMissing(
      waiting.sort((a, b) => a - b),
      0,
    );
  }

  /** Makes sure that a range is here. `undefined` if it is, or came without waiting. Throws or rejects if it cannot be loaded. */
  preload(offset: number, length: number): Promise<void> | undefined {
    const indices = this.#pieces(offset, length).map(({ index }) => index);
    this.#loadMissing(indices, 0);
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

  /** Where a request lies in blocks; what is past the end is left out. */
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

  /** The block, made if need be. */
  #block(index: number): Block {
    const known = this.#blocks.get(index);
    if (known) return known;
    const { blockSize, size, whole } = this.#options;
    const base = index * blockSize;
    const length = Math.min(blockSize, size - base);
    const block = new Block(index, whole ? new Uint8Array(whole, base, length) : new Uint8Array(length));
    this.#blocks.set(index, block);
    return block;
  }

  /** Loads the blocks named, in order, with neighbours in one request, and `ahead` blocks after the last. */
  #loadMissing(indices: readonly number[], ahead: number): void {
    const { blockSize, size } = this.#options;
    const blocks = Math.ceil(size / blockSize);
    const most = Math.max(1, Math.floor(LOAD_LIMIT / blockSize));
    const last = indices.at(-1);
    const wanted = [...indices];
    if (last !== undefined) for (let index = last + 1; index <= last + ahead && index < blocks; index++) wanted.push(index);
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
    const into = new Uint8Array(length);
    const onDisk = Math.max(0, Math.min(length, diskSize - offset));
    const filled = () => {
      // Dropped in the meantime: these bytes are of the past.
      if (this.#blocks !== map) return;
      for (const block of run) {
        block.loading = undefined;
        const at = (block.index - first.index) * blockSize;
        if (!block.loaded) block.fill(into.subarray(at, at + block.bytes.length));
      }
      this.#trim();
    };
    const failed = (error: unknown) => {
      if (this.#blocks !== map) return;
      for (const block of run) {
        block.loading = undefined;
        block.failure = { error };
      }
      // Read-ahead may fail silently: whoever needs those bytes asks again.
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

  /** Notes a read; returns how many bytes past it are likely to be wanted. */
  #observe(offset: number, length: number): number {
    const nexts = this.#nexts;
    let stream = 0;
    while (stream < STREAMS && nexts[stream] !== offset) stream++;
    const known = stream < STREAMS;
    // A new reader takes the place of another than the latest.
    if (!known) stream = (this.#stream + 1) % STREAMS;
    this.#stream = stream;
    nexts[stream] = offset + length;
    const sequence = known ? (this.#sequences[stream] as number) + length : 0;
    this.#sequences[stream] = sequence;
    return Math.min(sequence * 2, this.#options.readAhead);
  }

  /** Keeps a sequential reader supplied: loads the next blocks before it reaches the end of those that are here. */
  #prefetch(lastIndex: number, ahead: number): void {
    const { blockSize, size, whole } = this.#options;
    if (ahead === 0 || whole) return;
    const window = Math.ceil(ahead / blockSize);
    const blocks = Math.ceil(size / blockSize);
    // Only when half of the window is used up, so that loads are large.
    const probe = lastIndex + Math.max(1, Math.floor(window / 2));
    if (probe >= blocks) return;
    const known = this.#blocks.peek(probe);
    if (known?.loaded || known?.loading) return;
    const wanted: number[] = [];
    for (let index = lastIndex + 1; index <= lastIndex + window && index < blocks; index++) wanted.push(index);
    this.#loadMissing(wanted, 0);
  }

  /** Forgets blocks above the capacity. */
  #trim(): void {
    while (this.#blocks.size > this.#blocks.capacity) {
      const victim = this.#blocks.victim((block) => block.mayGo);
      if (!victim) return;
      const [index, block] = victim;
      this.#blocks.delete(index);
      if (block.used) {
        block.used = false;
        this.#blocks.set(index, block);
      } else if (this.#recent === block) this.#recent = undefined;
    }
  }
}
