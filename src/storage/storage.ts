/**
 * `Storage`: the one interface of everything that holds bytes: a file, an IndexedDB store, memory, a window, a cache, a
 * fault injector, and the guest bytes of an opened disk. Layers implement it with another storage below them.
 *
 * Contract, kept by the suite in test/storage/contract.ts:
 * - Offsets and lengths are bytes, any alignment (unless `requestAlignment` says otherwise), always in the order (offset, length). Beyond
 *   2^53-1 is an assertion.
 * - `read` fills all of `into`. Bytes at or past `size` read as zero; there are no short reads.
 * - `write` writes all of `bytes` or throws. Writing past `size` grows the storage (a storage of fixed size, such as an opened
 *   disk, throws `out-of-bounds` instead); a gap that is skipped reads as zero.
 *   `bytes` is copied or written before the coroutine returns: the caller may reuse it then, not earlier.
 * - A read sees every write that returned before it started.
 * - Nothing is durable until `flush` returns; then every change that returned before `flush` started is.
 * - `barrier` orders without waiting for durability: after a power cut no write made after it is found unless all those
 *   made before it are. Where the platform has nothing cheaper, `barrier` is `flush`.
 * - A failed `write` may have written any part of its range, nothing else. A failed `flush` says nothing about what is
 *   durable; the caller must not treat the next success as covering it.
 * - `zero` makes a range read as zero, `discard` says its contents no longer matter (the range may read as before or as zero);
 *   neither changes `size`.
 * - `close` flushes a writable storage, releases what it holds, and may be called twice.
 * - Where others can remove the bytes or take them over, the storage can become `lost`: from when it is noticed every change, `flush` and `close`
 *   of a writable storage throws so, for good; `read` goes on as far as the bytes can still be had, and all it returns is of one state.
 */
import { BYTES, FLAG, type Kind, type Members, objectWith } from '../base/arguments.ts';
import type { DebugHook } from '../base/debug-events.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { Keepers } from '../base/keepers.ts';
import type { LostListener } from '../base/loss.ts';
import type { Permissions } from '../base/permissions.ts';

/** A run of bytes in one state, as `Storage.map` reports it. */
export interface StorageExtent {
  /** Bytes, from the offset asked for; at least 1. */
  readonly length: number;
  /** True if the run is known to read as zero. */
  readonly zero: boolean;
}

/** Bytes with an address. See the contract at the top of this file. */
export interface Storage {
  /** For messages: a file name, a store name. Never parsed. */
  readonly name: string;
  /** Equal for two storages over the same bytes, however they were opened; absent if nothing else can open them. */
  readonly identity?: string;
  /** Bytes; changes with writes past the end and `truncate`. */
  readonly size: number;
  /** When the bytes changed last, in milliseconds since 1970, as it was when the storage was opened; absent where nothing tells. */
  readonly modified?: number | undefined;
  /** True if every change is refused, with `read-only`. */
  readonly readOnly: boolean;
  /** True if no verb ever waits, so that `runSync` works. */
  readonly synchronous: boolean;
  /** Bytes, a power of two: all requests begin and end at its multiples (`layers/align.ts` takes others). Missing where any alignment will do. */
  readonly requestAlignment?: number | undefined;
  /**
   * True if the gap that a write past the end skips costs no space, and no reader can tell the gap from zeros that were written. Files that other programs
   * see are different: QEMU takes an image whose file has many holes for a preallocated one.
   */
  readonly sparse?: boolean;
  /** True if `map` has to read the bytes it describes: a caller that reads them next, and looks for zeros itself, need not call `map`. */
  readonly mapReads?: boolean;
  /** Fills `into` with the bytes from `offset` on; zeros past the end. */
  read(offset: number, into: Uint8Array): Io<void>;
  /** Writes `bytes` at `offset`, growing the storage if they end past it. */
  write(offset: number, bytes: Uint8Array): Io<void>;
  /** With `unmap` the space is given back where that can be done; layers pass the option on to the storage that can do it. */
  zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void>;
  /** The contents of the range no longer matter: it reads as before or as zero. */
  discard(offset: number, length: number): Io<void>;
  /** Sets `size`; growth reads as zero. */
  truncate(size: number): Io<void>;
  /** The state at `offset` and how far it reaches, at most `length`; "not zero" where the storage cannot tell. May read the bytes it describes. */
  map(offset: number, length: number): Io<StorageExtent>;
  /** Is told that a caller asks for the state of a range without using `map`; may throw. Missing where the storage has no use for it. */
  statusAsked?(offset: number, length: number): void;
  /** After a power cut no write made from now on is found unless all writes made before are. */
  barrier(): Io<void>;
  /** Makes every change durable that returned before. */
  flush(): Io<void>;
  /** Flushes, and releases everything held. May be called twice. */
  close(): Io<void>;
  /** Releases everything held without the flush: changes that no flush has covered are given up. Missing where `close` never needs space. */
  abandon?(): void;
  /**
   * Throws `lost` if the bytes of the last flush are no longer there. May wait even where the storage is synchronous: not to be called under `runSync`,
   * and not needed there, as the next change throws. Missing where no loss can go unnoticed.
   */
  confirm?(): Io<void>;
  /** Calls back once the storage is `lost`, with the error that every later change throws. Returns a function that stops it. Missing if it cannot be lost. */
  onLost?(listener: LostListener): () => void;
  /**
   * Of a storage that is `lost`: whether changes and flushes are accepted all the same, though nothing makes them durable. So an image can be put
   * together from the bytes in memory, and copied.
   */
  salvage?(allowed: boolean): void;
  /** Whether writes may use the room that is kept free for changes that must succeed on a full disk. Missing where no room is kept. */
  spendReserve?(allowed: boolean): void;
  /** The budget that copies of these bytes, kept above, are charged to until `close`. Missing where nothing is counted. */
  readonly memory?: MemoryBudget | undefined;
  /** The list in which a layer above that holds back writes registers itself. Missing where there is no such list. */
  readonly keepers?: Keepers | undefined;
  /** Is told of each step that the image in this storage is about to take; undefined unless the image is debugged. Layers do not pass it on. */
  readonly debugEvent?: DebugHook | undefined;
  /**
   * Announces which permissions the image above takes from now on, and which it shares meanwhile. Throws `locked` if they conflict with those of others, and
   * then nothing changes. Missing where there are no others, or none that could be told.
   */
  permit?(permissions: Permissions): Io<void>;
  /** Bytes the storage really occupies, where that differs from `size`. */
  allocatedSize?(): Io<number>;
}

/** A bounded memory that several caches share. */
export interface MemoryBudget {
  /** Notes that a cache keeps so many bytes more, or fewer if negative. Never refuses: the other caches then keep less. */
  charge(bytes: number): void;
}

/** Options shared by the storage constructors. */
export interface StorageOptions {
  /** Refuses every change; default false. */
  readonly readOnly?: boolean;
}

export const STORAGE_OPTIONS: Members<StorageOptions> = { readOnly: FLAG };

/** Anything with the verbs. */
export const STORAGE: Kind = objectWith('a Storage, such as memoryStorage()', ['size', 'read', 'write'], (value) => {
  if (typeof value === 'string') return 'opfsStorage(path), indexedDbStorage(name) and nodeFileStorage(path) open one by its name';
  if (typeof Blob !== 'undefined' && value instanceof Blob) return 'blobStorage(blob) makes one';
  return BYTES.fits(value) ? 'memoryStorage(bytes) makes one' : undefined;
});

const ZERO_CHUNK = 256 * 1024;
const zeroes = new Uint8Array(ZERO_CHUNK);

/** `zero` for a storage that has nothing better: writes buffers of zeros, growing the storage if the range ends past it. */
export function* writeZeroes(storage: Pick<Storage, 'write'>, offset: number, length: number): Io<void> {
  for (let done = 0; done < length; done += ZERO_CHUNK) {
    yield* storage.write(offset + done, zeroes.subarray(0, Math.min(ZERO_CHUNK, length - done)));
  }
}

/** Reads `length` bytes into a new array. */
export function* readBytes(storage: Storage, offset: number, length: number): Io<Uint8Array<ArrayBuffer>> {
  const into = new Uint8Array(length);
  yield* storage.read(offset, into);
  return into;
}

/** Refuses a change to a read-only storage. */
export function requireWritable(storage: Storage): void {
  if (storage.readOnly) throw new DiskError('read-only', `${storage.name} is open read-only`);
}

/** Closes all of them, also after one that fails. The first failure is thrown then. */
export function* closeAll(storages: readonly Pick<Storage, 'close'>[]): Io<void> {
  let failure: { error: unknown } | undefined;
  for (const storage of storages) {
    try {
      yield* storage.close();
    } catch (error) {
      failure ??= { error };
    }
  }
  if (failure) throw failure.error;
}
