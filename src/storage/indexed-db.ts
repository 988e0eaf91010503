/**
 * An image in IndexedDB, for browsers and threads without OPFS handles (see indexed-db-blocks.ts for how it lies there).
 * Asynchronous. Changes stay in memory until `flush` writes all of them, with the header, in ONE strict transaction:
 *
 * - a flush is all or nothing, so after a cut the image is as some flush left it, and `barrier` has nothing to do;
 * - past 32 MiB of changes a write commits early: still everything up to then at once, so the state found later is a
 *   prefix of the writes, which `barrier` allows;
 * - what a flush takes is sealed (as in tables/write-order.ts) by setting all changes aside at once, since a transaction is of all of them or none;
 * - a transaction that failed (no space, connection lost) leaves the changes in memory: the same flush can succeed later;
 * - one writer at a time: opening for writing takes a Web Lock (image-lock.ts), and its holder is told at once if `takeOver` takes it away;
 * - the writer also puts a token into the header, and every transaction checks it: a writer whose image was taken over while it slept, was
 *   deleted, or went with the site's data, is `lost` and can never write again. It reads the bytes in memory, and the stored ones as long as
 *   they are as it left them. On insecure pages there are no Web Locks, and the token is the only guard: every opening for writing takes the image;
 * - changes that are not committed in the last turn of a page are kept aside for the next writer (indexed-db-last.ts);
 * - a read-only opening sees one state: once a writer has committed another, its reads throw `in-use`.
 */

import { promisifyRequest } from 'idb-keyval';
import { check, TEXT } from '../base/arguments.ts';
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync, wait } from '../base/io.ts';
import { Mutex } from '../base/locks.ts';
import { Loss, type LostListener } from '../base/loss.ts';
import { onPageEnd } from '../base/page-end.ts';
import { MiB } from '../base/units.ts';
import { type Block, BlockChanges, ZERO } from './block-changes.ts';
import { BlockReader } from './block-reader.ts';
import { browserError, changed } from './browser-errors.ts';
import { type HeldLock, writerLock } from './image-lock.ts';
import { allBlocks, BLOCK, blockRange, blockStore, DATABASE, type Header, putChanges, requireHeader } from './indexed-db-blocks.ts';
import { LastWordsStore } from './indexed-db-last.ts';
import { INDEXED_DB_OPTIONS, type IndexedDbStorageOptions, openForWriting } from './indexed-db-opening.ts';
import type { KeyStore } from './key-store.ts';
import { requireWritable, type Storage, type StorageExtent } from './storage.ts';

/** Blocks changed in memory, beyond which a write commits early (32 MiB). */
const DIRTY_LIMIT = (32 * MiB) / BLOCK;
/** Cleared ranges in memory, beyond which a change commits early. */
const HOLES_LIMIT = 256;
/** Unchanged blocks kept for reading (16 MiB). */
const CLEAN_LIMIT = (16 * MiB) / BLOCK;
/** Blocks asked for in one transaction (512 KiB). */
const BATCH = MiB / 2 / BLOCK;
/** Blocks read or written in one step (2 MiB). */
const STEP = (2 * MiB) / BLOCK;
/** Blocks or keys looked at by one `map`. */
const KEYS_PER_MAP = 1024;

/** The reasons why a writer loses its image. */
const TAKEN = 'was taken over by another writer while it was open';
const REMOVED = 'was deleted while it was open, by somebody or with the data of the site';

/**
 * Opens an image in IndexedDB. Throws `locked` if another writer has it open, unless this is `readOnly` or to `takeOver`; `not-found`,
 * `refused` if it exists and must not, `no-space`, `unsupported` if it was written by a newer version or the browser has no IndexedDB here.
 */
export async function indexedDbStorage(name: string, options: IndexedDbStorageOptions = {}): Promise<IndexedDbStorage> {
  check('indexedDbStorage', 'name', name, TEXT);
  check('indexedDbStorage', 'options', options, INDEXED_DB_OPTIONS);
  if (typeof indexedDB === 'undefined' || !indexedDB) throw new DiskError('unsupported', `${name}: there is no IndexedDB here`);
  const { database = DATABASE, readOnly = false, mend = true } = options;
  const lock = readOnly ? undefined : await writerLock(database, name, options);
  let storage: IndexedDbStorage | undefined;
  const store = blockStore(database, () => storage?.look());
  const words = readOnly || !mend ? undefined : new LastWordsStore(database);
  try {
    const header = readOnly
      ? requireHeader(name, await store.use('readonly', (blocks) => promisifyRequest<Header | undefined>(blocks.get([name]))))
      : await openForWriting(store, words, name, options);
    storage = new IndexedDbStorage(name, store, header, { readOnly, lock, words });
    return storage;
  } catch (error) {
    store.close();
    words?.close();
    await lock?.release();
    throw browserError(name, error);
  }
}

export type { IndexedDbStorageOptions } from './indexed-db-opening.ts';

/** See the top of this file. */
export class IndexedDbStorage implements Storage {
  readonly name: string;
  readonly identity: string;
  readonly readOnly: boolean;
  readonly synchronous = false;
  readonly sparse = true;
  readonly #store: KeyStore;
  /** The header as last committed, or as found when a read-only image was opened. */
  #header: Header;
  #size: number;
  /** The changes since the last commit began. */
  #changes = new BlockChanges();
  /** The changes in a transaction that has not completed. */
  #committing: BlockChanges | undefined;
  /** The blocks that have not changed since the last commit. */
  readonly #reader = new BlockReader<Block>({ kept: CLEAN_LIMIT, batch: BATCH, ahead: 3 * BATCH, fetch: (indices) => this.#fetch(indices) });
  /** One change at a time: a block that is changed in part is loaded first, and no other change may touch it meanwhile. */
  readonly #changing = new Mutex();
  readonly #commits = new Mutex();
  readonly #lock: HeldLock | undefined;
  readonly #loss = new Loss();
  #unlocked: Promise<void> = Promise.resolve();
  /** Changes are accepted although none of them can be saved. */
  #salvaging = false;
  /** The reason why the stored bytes are no longer as we left them, and only those in memory can be read. */
  #unreadable: DiskError | undefined;
  #open = true;
  readonly #words: LastWordsStore | undefined;
  /** Generations that the next commit leaves out. */
  #skipped = 0;
  readonly #stopListening: () => void;

  /** @internal Use `indexedDbStorage`. */
  constructor(
    name: string,
    store: KeyStore,
    header: Header,
    { readOnly, lock, words }: { readOnly: boolean; lock: HeldLock | undefined; words: LastWordsStore | undefined },
  ) {
    this.#lock = lock;
    void lock?.stolen.then(() => this.#lose(TAKEN));
    this.name = name;
    this.identity = `indexeddb:${store.database}:${name}`;
    this.readOnly = readOnly;
    this.#store = store;
    this.#header = header;
    this.#size = header.size;
    this.#words = words;
    this.#stopListening = words ? onPageEnd((ends) => this.#pageEnds(words, ends)) : () => undefined;
  }

  get size(): number {
    return this.#size;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    this.#requireOpen();
    const length = Math.max(0, Math.min(into.length, this.#size - offset));
    if (length < into.length) into.fill(0, length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const first = Math.floor(at / BLOCK);
      const last = Math.min(first + STEP - 1, Math.floor((offset + length - 1) / BLOCK));
      const blocks = yield* this.#get(first, last);
      const end = Math.min(offset + length, (last + 1) * BLOCK);
      for (let position = at; position < end; ) {
        const index = Math.floor(position / BLOCK);
        const within = position - index * BLOCK;
        const part = Math.min(BLOCK - within, end - position);
        const block = blocks[index - first] as Block;
        const target = position - offset;
        if (block === ZERO) into.fill(0, target, target + part);
        else into.set(block.subarray(within, within + part), target);
        position += part;
      }
      done = end - offset;
    }
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    this.#requireChangeable();
    if (bytes.length === 0) return;
    yield* this.#changing.run(() => this.#write(offset, bytes));
  }

  *zero(offset: number, length: number): Io<void> {
    this.#requireChangeable();
    yield* this.#changing.run(() => this.#zero(offset, length));
  }

  *discard(offset: number, length: number): Io<void> {
    this.#requireChangeable();
    yield* this.#changing.run(() => this.#discard(offset, length));
  }

  *truncate(size: number): Io<void> {
    this.#requireChangeable();
    yield* this.#changing.run(() => this.#truncate(size));
  }

  *map(offset: number, length: number): Io<StorageExtent> {
    this.#requireOpen();
    const first = Math.floor(offset / BLOCK);
    const last = Math.floor((offset + length - 1) / BLOCK);
    const known = this.#known(first);
    const { zero, next } = known === undefined ? yield* wait(this.#mapStored(first, last)) : this.#mapKnown(first, last, known);
    return { length: Math.min(length, next * BLOCK - offset), zero };
  }

  /** Nothing to do: a commit holds everything before it. */
  *barrier(): Io<void> {}

  *flush(): Io<void> {
    if (this.readOnly) return;
    this.#requireChangeable();
    yield* this.#commit();
  }

  /** Flushes and lets go. If there is no space for that, the storage stays open: make space and close again. A lost storage lets go and throws `lost`. */
  *close(): Io<void> {
    if (!this.#open) return void (yield* wait(this.#unlocked));
    if (!this.readOnly && !this.#loss.error) {
      try {
        yield* this.#commit();
        // This mark is for indexed-db-renewal.ts, which does its work without need if this fails.
        yield* wait(this.#use('readwrite', async (blocks) => void blocks.put({ ...this.#header, open: false }, [this.name])).catch(() => undefined));
      } catch (error) {
        if (!this.#loss.error) throw error;
      }
    }
    this.abandon();
    yield* wait(this.#unlocked);
    if (!this.readOnly && this.#loss.error) throw this.#loss.error;
  }

  /** Gives up the changes that are only in memory. A commit under way still ends, with success or not, before another writer can have the image. */
  abandon(): void {
    this.#open = false;
    this.#changes = new BlockChanges();
    this.#reader.clear();
    this.#stopListening();
    this.#words?.close();
    this.#unlocked = runAsync(this.#commits.run(() => this.#unlock()));
  }

  /** Ends the connection first: the transactions it has begun come before those of the next writer. */
  *#unlock(): Io<void> {
    this.#store.close();
    if (this.#lock) yield* wait(this.#lock.release());
  }

  onLost(listener: LostListener): () => void {
    return this.#loss.listen(listener);
  }

  salvage(allowed: boolean): void {
    this.#salvaging = allowed && this.#loss.error !== undefined;
  }

  /** @internal The connection was ended from outside: looks whether the image is still there. */
  look(): void {
    if (this.#open && !this.readOnly) this.#use('readonly', (blocks) => promisifyRequest(blocks.count([this.name]))).catch(() => undefined);
  }

  *allocatedSize(): Io<number> {
    return (yield* wait(this.#use('readonly', (blocks) => promisifyRequest(blocks.count(allBlocks(this.name)))))) * BLOCK;
  }

  /** The block, if it need not be fetched. */
  #known(index: number): Block | undefined {
    return this.#changes.get(index) ?? this.#committing?.get(index) ?? this.#reader.get(index);
  }

  /** Blocks [first, last]. */
  *#get(first: number, last: number): Io<Block[]> {
    return yield* this.#reader.read(first, last, Math.ceil(this.#size / BLOCK), (index) => this.#known(index));
  }

  /**
   * One get for each block, in one transaction. `getAll` over a range of keys takes longer from some 512 KiB on, because no part of its answer arrives before
   * all of it does. It also needs the keys to tell which blocks are missing.
   */
  async #fetch(indices: readonly number[]): Promise<Map<number, Block>> {
    const values = await this.#use('readonly', (blocks) =>
      Promise.all(indices.map((index) => promisifyRequest<unknown>(blocks.get([this.name, index])))),
    );
    const loaded = new Map<number, Block>();
    for (const [i, index] of indices.entries()) {
      const value = values[i];
      if (value !== undefined && !(value instanceof Uint8Array && value.length === BLOCK))
        throw new DiskError('corrupt', `${this.name}: block ${index} in IndexedDB is not ${BLOCK} bytes`, { field: 'block', offset: index * BLOCK });
      loaded.set(index, value ?? ZERO);
    }
    return loaded;
  }

  *#write(offset: number, bytes: Uint8Array): Io<void> {
    for (let done = 0; done < bytes.length; ) {
      yield* this.#makeRoom();
      const at = offset + done;
      const end = Math.min(offset + bytes.length, (Math.floor(at / BLOCK) + STEP) * BLOCK);
      yield* this.#writeStep(at, bytes.subarray(done, end - offset));
      this.#size = Math.max(this.#size, end);
      done = end - offset;
    }
  }

  /** Commits early if too much has changed. Called before a change is made, so that a full disk cannot fill the memory too. */
  *#makeRoom(): Io<void> {
    if (this.#changes.blocks.size >= DIRTY_LIMIT || this.#changes.holes.length >= HOLES_LIMIT) yield* this.#commit();
  }

  *#writeStep(offset: number, bytes: Uint8Array): Io<void> {
    const end = offset + bytes.length;
    const first = Math.floor(offset / BLOCK);
    const last = Math.floor((end - 1) / BLOCK);
    // Only the first and the last block can be changed in part.
    const old = new Map<number, Block>();
    for (const index of new Set([first, last])) if (index * BLOCK < offset || (index + 1) * BLOCK > end) old.set(index, yield* this.#old(index));
    for (let index = first; index <= last; index++) {
      const start = Math.max(offset, index * BLOCK);
      const stop = Math.min(end, (index + 1) * BLOCK);
      this.#own(index, old.get(index) ?? ZERO).set(bytes.subarray(start - offset, stop - offset), start - index * BLOCK);
    }
  }

  /** The contents of a block that will be changed in part. */
  *#old(index: number): Io<Block> {
    if (index * BLOCK >= this.#size) return ZERO;
    return (yield* this.#get(index, index))[0] as Block;
  }

  /** The block's bytes, for changing: made ours alone, with the contents of `old`. */
  #own(index: number, old: Block): Uint8Array {
    const ours = this.#changes.blocks.get(index);
    if (ours !== undefined && ours !== ZERO) return ours;
    const bytes = old === ZERO ? new Uint8Array(BLOCK) : old.slice();
    this.#reader.forget(index, index + 1);
    this.#changes.blocks.set(index, bytes);
    return bytes;
  }

  *#zero(offset: number, length: number): Io<void> {
    yield* this.#makeRoom();
    const end = Math.min(offset + length, this.#size);
    const firstWhole = Math.ceil(offset / BLOCK);
    // Bytes past the end are zero, so the end of the image counts as a whole block.
    const endWhole = end === this.#size ? Math.ceil(end / BLOCK) : Math.floor(end / BLOCK);
    if (firstWhole > endWhole) yield* this.#zeroPart(offset, end);
    else {
      yield* this.#zeroPart(offset, Math.min(end, firstWhole * BLOCK));
      this.#clear(firstWhole, endWhole);
      yield* this.#zeroPart(Math.max(offset, endWhole * BLOCK), end);
    }
  }

  /** Zeros inside one block. */
  *#zeroPart(from: number, to: number): Io<void> {
    if (from >= to || from >= this.#size) return;
    const index = Math.floor(from / BLOCK);
    const old = yield* this.#old(index);
    if (old !== ZERO) this.#own(index, old).fill(0, from - index * BLOCK, to - index * BLOCK);
  }

  #clear(from: number, to: number): void {
    this.#changes.clear(from, to);
    this.#reader.forget(from, to);
  }

  *#discard(offset: number, length: number): Io<void> {
    yield* this.#makeRoom();
    const end = Math.min(offset + length, this.#size);
    this.#clear(Math.ceil(offset / BLOCK), end === this.#size ? Math.ceil(end / BLOCK) : Math.floor(end / BLOCK));
  }

  *#truncate(size: number): Io<void> {
    if (size < this.#size) {
      // The bytes cut off must read as zero if the image grows again.
      yield* this.#zeroPart(size, Math.min(roundUp(size, BLOCK), this.#size));
      this.#clear(Math.ceil(size / BLOCK), Number.POSITIVE_INFINITY);
    }
    this.#size = size;
  }

  #mapKnown(first: number, last: number, known: Block): { zero: boolean; next: number } {
    const zero = known === ZERO;
    let next = first + 1;
    for (; next <= last && next - first < KEYS_PER_MAP; next++) {
      const block = this.#known(next);
      if (block === undefined || (block === ZERO) !== zero) break;
    }
    return { zero, next };
  }

  /** A run of blocks that begins with one that is not in memory: looks up which keys exist. */
  async #mapStored(first: number, last: number): Promise<{ zero: boolean; next: number }> {
    const range = blockRange(this.name, first, last);
    const keys = await this.#use('readonly', (blocks) => promisifyRequest(blocks.getAllKeys(range, KEYS_PER_MAP)));
    const present = keys.map((key) => (key as [string, number])[1]);
    const zero = present[0] !== first;
    let next = zero ? (present[0] ?? last + 1) : first + 1;
    if (!zero) while (present[next - first] === next) next++;
    // Blocks changed in memory have a state of their own.
    for (const changes of [this.#changes, this.#committing]) {
      for (const index of changes?.blocks.keys() ?? []) if (index > first && index < next) next = index;
      for (const { from } of changes?.holes ?? []) if (from > first && from < next) next = from;
    }
    return { zero, next };
  }

  /** Writes all changes in one transaction, after any commit that is under way. */
  *#commit(): Io<void> {
    yield* this.#commits.run(() => this.#commitChanges());
  }

  *#commitChanges(): Io<void> {
    if (this.#salvaging) return;
    const size = this.#size;
    if (this.#changes.empty && size === this.#header.size) return;
    const committing = this.#changes;
    this.#committing = committing;
    this.#changes = new BlockChanges();
    try {
      this.#header = yield* wait(this.#use('readwrite', (blocks) => this.#put(blocks, committing, size)));
    } catch (error) {
      this.#changes.addOlder(committing);
      this.#committing = undefined;
      throw error;
    }
    this.#committing = undefined;
    this.#skipped = 0;
    for (const [index, block] of committing.blocks) if (this.#changes.get(index) === undefined) this.#reader.keep(index, block);
  }

  /** Sends all changes that are not known to be committed, whether a commit is under way or not. They also stay in memory: the page may come back. */
  #pageEnds(words: LastWordsStore, ends: boolean): void {
    if (this.#loss.error) return;
    if (!ends) return void words.forget(this.name, this.#header.writer).catch(() => undefined);
    const all = new BlockChanges();
    for (const changes of [this.#changes, this.#committing]) if (changes) all.addOlder(changes);
    words.say(this.name, { ...this.#header, size: this.#size }, all).catch(() => undefined);
    // If the page goes on for a moment, a later commit is newer than the last words: its generation must be one after which they are not taken in.
    this.#skipped = 1;
  }

  /** Puts changes and a new header. Runs inside the transaction that has checked our token. */
  async #put(blocks: IDBObjectStore, changes: BlockChanges, size: number): Promise<Header> {
    putChanges(blocks, this.name, changes);
    const header = { ...this.#header, size, generation: this.#header.generation + 1 + this.#skipped };
    blocks.put(header, [this.name]);
    blocks.transaction.commit?.();
    return header;
  }

  /** A transaction that first makes sure that the image is still ours (or still in the state we read). */
  async #use<T>(mode: IDBTransactionMode, body: (blocks: IDBObjectStore) => PromiseLike<T>): Promise<T> {
    if (this.#unreadable) throw this.#unreadable;
    try {
      return await this.#store.use(mode, async (blocks) => {
        const header = promisifyRequest<Header | undefined>(blocks.get([this.name]));
        if (mode === 'readonly') {
          // Both requests are made at once; the value is returned only after the header was checked.
          const [found, value] = await Promise.all([header, body(blocks)]);
          this.#requireUnchanged(found);
          return value;
        }
        this.#requireOurs(await header);
        return body(blocks);
      });
    } catch (error) {
      throw browserError(this.name, error);
    }
  }

  #requireOurs(header: Header | undefined): void {
    if (header?.writer !== this.#header.writer) throw this.#lose(header ? TAKEN : REMOVED);
  }

  /** The stored bytes must be as we left them, or found them. For an image that is taken over this holds until the next writer's first commit. */
  #requireUnchanged(header: Header | undefined): void {
    const same = header?.generation === this.#header.generation;
    if (!this.readOnly && header?.writer !== this.#header.writer) this.#lose(header ? TAKEN : REMOVED);
    if (same) return;
    this.#unreadable = this.#loss.error ?? changed(this.name);
    throw this.#unreadable;
  }

  #lose(how: string): DiskError {
    return this.#loss.happened(
      new DiskError(
        'lost',
        `${this.name} ${how}; nothing more can be saved in it here. What can still be read, first of all what was not saved yet, can be copied elsewhere before you close it`,
      ),
    );
  }

  #requireOpen(): void {
    if (!this.#open) throw new DiskError('io', `${this.name} is closed`);
  }

  #requireChangeable(): void {
    this.#requireOpen();
    requireWritable(this);
    if (this.#loss.error && !this.#salvaging) throw this.#loss.error;
  }
}
