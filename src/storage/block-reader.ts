/**
 * Blocks of an asynchronous storage, on their way into memory: blocks read lately are kept, a block that was requested is shared by all requests that
 * want it, and blocks are read ahead of readers in order.
 *
 * A request to IndexedDB, or for a part of a file, takes half a millisecond and more, most of it waiting. So blocks are requested in batches, and a reader
 * in order has several batches under way while it uses the blocks that came before.
 *
 * Long requests, such as those of jobs that read a whole file, do not displace the blocks that others use: blocks that they bring are kept apart and for a
 * short while, until a short request wants one.
 *
 * A block that is changed while it is being loaded is forgotten by `forget`: requests that already wait for it get the old contents (they overlap the change),
 * but no later request does, and the old contents are not kept.
 */
import { type Io, wait } from '../base/io.ts';
import { Lru } from '../base/lru.ts';
import { ReadersInOrder } from '../base/readers-in-order.ts';

/** The blocks of a batch, by index. Every block that was requested is there. */
export type Batch<B> = Promise<ReadonlyMap<number, B>>;

/** The limits, in blocks, and the function that fetches. */
export interface BlockReaderOptions<B> {
  /** Blocks that are not in use but kept. */
  readonly kept: number;
  /** Blocks requested at a time at most. */
  readonly batch: number;
  /** Blocks read ahead at most. */
  readonly ahead: number;
  /** Requests blocks, in order but not always neighbours. */
  readonly fetch: (indices: readonly number[]) => Batch<B>;
}

/** Keeps blocks, shares them and reads ahead; see the top of this file. */
export class BlockReader<B> {
  readonly #options: BlockReaderOptions<B>;
  readonly #clean: Lru<number, B>;
  /** Blocks that long requests brought. */
  readonly #passing: Lru<number, B>;
  /** Blocks of the shortest request that is long. */
  readonly #long: number;
  readonly #loading = new Map<number, Batch<B>>();
  readonly #readers: ReadersInOrder;

  constructor(options: BlockReaderOptions<B>) {
    this.#options = options;
    this.#clean = new Lru(options.kept);
    this.#passing = new Lru(options.ahead + 2 * options.batch);
    this.#long = Math.max(3, options.batch / 4);
    // A reader in small steps reads a block several times, and two neighbours may be chance.
    this.#readers = new ReadersInOrder({ back: 1, limit: options.ahead, piece: options.batch, chance: 1 });
  }

  /** Blocks [first, last], waiting for those that are not in memory. `known` has newer ones, and `end` is the end of the storage; both as indices. */
  *read(first: number, last: number, end: number, known: (index: number) => B | undefined = (index) => this.get(index)): Io<B[]> {
    const blocks: (B | undefined)[] = [];
    const wanted: number[] = [];
    const passing = last - first >= this.#long;
    for (let index = first; index <= last; index++) {
      const block = known(index);
      if (!passing) this.#stay(index);
      blocks.push(block);
      if (block === undefined) wanted.push(index);
    }
    const missing = wanted.slice();
    const ahead = this.#readers.ahead(this.#readers.note(first, last + 1), end);
    for (let index = ahead?.start ?? 0; index < (ahead?.end ?? 0); index++) if (known(index) === undefined) wanted.push(index);
    const batches = this.#ask(wanted, passing);
    let loaded: { readonly batch: Batch<B>; readonly blocks: ReadonlyMap<number, B> } | undefined;
    for (const [i, index] of missing.entries()) {
      const batch = batches[i] as Batch<B>;
      if (loaded?.batch !== batch) loaded = { batch, blocks: yield* wait(batch) };
      blocks[index - first] = loaded.blocks.get(index);
    }
    return blocks as B[];
  }

  /** The block, if it is in memory. */
  get(index: number): B | undefined {
    return this.#clean.get(index) ?? this.#passing.peek(index);
  }

  /** Keeps a block that was not loaded but equals the one in IndexedDB. */
  keep(index: number, block: B): void {
    this.#passing.delete(index);
    hold(this.#clean, index, block);
  }

  /** A short request wants the block. */
  #stay(index: number): void {
    const block = this.#passing.peek(index);
    if (block !== undefined) this.keep(index, block);
  }

  /** Blocks [from, to) are about to change: copies here or under way become old. */
  forget(from: number, to: number): void {
    for (const blocks of [this.#clean, this.#passing, this.#loading]) {
      if (to - from === 1) blocks.delete(from);
      else for (const [index] of blocks) if (index >= from && index < to) blocks.delete(index);
    }
  }

  clear(): void {
    this.#clean.clear();
    this.#passing.clear();
    this.#loading.clear();
  }

  /**
   * Requests blocks that are not in memory, in order, and returns the batch that each comes in. A batch that fails rejects, and the next request that wants its
   * blocks fetches them again; a rejection need not be handled.
   */
  #ask(indices: readonly number[], passing: boolean): Batch<B>[] {
    const fresh = indices.filter((index) => !this.#loading.has(index));
    const { batch } = this.#options;
    for (let at = 0; at < fresh.length; at += batch) this.#load(fresh.slice(at, at + batch), passing);
    return indices.map((index) => this.#loading.get(index) as Batch<B>);
  }

  #load(indices: readonly number[], passing: boolean): void {
    const batch = this.#options.fetch(indices);
    for (const index of indices) this.#loading.set(index, batch);
    const settle = (loaded?: ReadonlyMap<number, B>) => {
      for (const index of indices) {
        if (this.#loading.get(index) !== batch) continue;
        this.#loading.delete(index);
        const block = loaded?.get(index);
        if (block === undefined) continue;
        if (passing) hold(this.#passing, index, block);
        else this.keep(index, block);
      }
    };
    batch.then(settle, () => settle());
  }
}

/** Adds a block; the least recently used one makes room. */
function hold<B>(blocks: Lru<number, B>, index: number, block: B): void {
  blocks.set(index, block);
  if (blocks.size <= blocks.capacity) return;
  const victim = blocks.victim(() => true);
  if (victim) blocks.delete(victim[0]);
}
