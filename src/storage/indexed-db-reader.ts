/**
 * Blocks of an image in IndexedDB on their way into memory: those read lately are kept, those that somebody has asked for are shared by all who
 * want them, and readers in order are read ahead of.
 *
 * A request to IndexedDB takes half a millisecond and costs most of it in waiting, not in work. So blocks are asked for in batches, each a
 * transaction of its own with one get a block, and a reader in order has up to three batches under way while it uses what came before.
 * `getAll` over a range of keys was measured too: it takes longer than the same gets from some 512 KiB on, because nothing of its answer
 * arrives before all of it does, and keys would have to be asked for beside it where blocks are missing.
 *
 * A block that is changed while it is being loaded is forgotten by `forget`: who waits for it already gets the old contents (those requests overlap),
 * but nobody later, and they are not kept.
 */
import { Lru } from '../base/lru.ts';
import { MiB } from '../base/units.ts';
import { type Block, ZERO } from './block-changes.ts';
import { BLOCK } from './indexed-db-blocks.ts';

/** Unchanged blocks kept for reading (16 MiB). */
const CLEAN_LIMIT = (16 * MiB) / BLOCK;
/** Blocks asked for in one transaction at most (512 KiB). */
const BATCH = MiB / 2 / BLOCK;
/** Blocks read ahead at most (1.5 MiB). */
const AHEAD_LIMIT = 3 * BATCH;
/** Readers in order that are told apart. */
const STREAMS = 4;

/** What a batch brought, by index. Every block that was asked for is there. */
export type Batch = Promise<ReadonlyMap<number, Block>>;

/** Fetches blocks, in one transaction; what is absent is zero. */
export type FetchBlocks = (indices: readonly number[]) => Batch;

/** A reader in order. */
interface Stream {
  /** The last block it read. */
  last: number;
  /** How many blocks it is read ahead of. */
  ahead: number;
  /** The last block that was asked for on its account. */
  asked: number;
}

/** Keeps, shares and reads ahead; see the top of this file. */
export class BlockReader {
  readonly #fetch: FetchBlocks;
  readonly #clean = new Lru<number, Block>(CLEAN_LIMIT);
  readonly #loading = new Map<number, Batch>();
  readonly #streams: Stream[] = [];

  constructor(fetch: FetchBlocks) {
    this.#fetch = fetch;
  }

  /** The block, if it is in memory. */
  get(index: number): Block | undefined {
    return this.#clean.get(index);
  }

  /**
   * Asks for blocks that are not in memory, in order, and returns the batch that each comes in. A batch that fails rejects, and its blocks are asked
   * for anew by the next who wants them; nobody has to listen.
   */
  ask(indices: readonly number[]): Batch[] {
    const fresh = indices.filter((index) => !this.#loading.has(index));
    for (let at = 0; at < fresh.length; at += BATCH) this.#load(fresh.slice(at, at + BATCH));
    return indices.map((index) => this.#loading.get(index) as Batch);
  }

  /** Notes that blocks [first, last] are read. Returns which ones to read ahead, none of them past `end`: [from, to). */
  ahead(first: number, last: number, end: number): { from: number; to: number } {
    const known = this.#streams.findIndex((stream) => first === stream.last || first === stream.last + 1);
    const [stream = { last, ahead: 0, asked: last }] = known < 0 ? [] : this.#streams.splice(known, 1);
    this.#streams.push(stream);
    if (this.#streams.length > STREAMS) this.#streams.shift();
    // Who reads a block bit by bit goes on in order too, but no faster.
    if (last > stream.last) stream.ahead = Math.min(AHEAD_LIMIT, 2 * Math.max(last - stream.last, stream.ahead));
    stream.last = Math.max(stream.last, last);
    const from = Math.max(last, stream.asked) + 1;
    const to = Math.min(last + stream.ahead + 1, end);
    // In large pieces only, and early enough for the last one to arrive before the reader does.
    if (to - from < Math.min(BATCH, Math.ceil(stream.ahead / 2), end - from)) return { from, to: from };
    stream.asked = to - 1;
    return { from, to };
  }

  /** Keeps a block that was not loaded but is what IndexedDB holds. */
  keep(index: number, block: Block): void {
    this.#clean.set(index, block);
    if (this.#clean.size <= CLEAN_LIMIT) return;
    const victim = this.#clean.victim(() => true);
    if (victim) this.#clean.delete(victim[0]);
  }

  /** Blocks [from, to) are about to change: what is here or under way is of the past. */
  forget(from: number, to: number): void {
    for (const blocks of [this.#clean, this.#loading]) {
      if (to - from === 1) blocks.delete(from);
      else for (const [index] of blocks) if (index >= from && index < to) blocks.delete(index);
    }
  }

  clear(): void {
    this.#clean.clear();
    this.#loading.clear();
  }

  #load(indices: readonly number[]): void {
    const batch = this.#fetch(indices);
    for (const index of indices) this.#loading.set(index, batch);
    const settle = (loaded?: ReadonlyMap<number, Block>) => {
      for (const index of indices) {
        if (this.#loading.get(index) !== batch) continue;
        this.#loading.delete(index);
        if (loaded) this.keep(index, loaded.get(index) ?? ZERO);
      }
    };
    batch.then(settle, () => settle());
  }
}
