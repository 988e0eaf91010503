/**
 * A disk as a file of fixed size that never waits: what emulators that cannot wait have in common (emscripten-file.ts, worker-disk.ts, file-handles.ts).
 * Reads that pass the end are short, and so are writes. Writes reach the disk, or the cache over it, in the call; a timer flushes them.
 *
 * Crash argument. This adds no order of its own: between two flushes nothing is promised, and the disk's format keeps the image whole at any cut. A
 * flush covers every write that returned before it. A flush that failed is tried again by the timer, and by the next `sync`, together with all that was written
 * since: the cache still has the bytes, and without a cache they lie where the disk put them. An emulator that never gives its thread back keeps timers
 * from running: a request that comes when the flush is overdue does it.
 */
import { check, FLAG, FUNCTION, NUMBER, objectWith, optionsOf, SIZE } from '../base/arguments.ts';
import { callBack } from '../base/callbacks.ts';
import { asDiskError, DiskError } from '../base/errors.ts';
import { finished, type Io, runSync } from '../base/io.ts';
import type { Keepers } from '../base/keepers.ts';
import { unheard } from '../base/listeners.ts';
import type { LostListener } from '../base/loss.ts';
import { MiB } from '../base/units.ts';
import type { FlushOptions } from '../disk/async-disk.ts';
import { CacheStorage } from '../layers/cache.ts';
import { CacheMemory } from '../layers/cache-lines.ts';
import { type Storage, type StorageExtent, writeZeroes } from '../storage/storage.ts';

/** A disk that answers at once: a `Disk` over storage that never waits, such as OPFS in this worker, or a `SharedDisk` of the engine's. */
export interface WaitlessDisk {
  /** For messages. */
  readonly name?: string;
  /** Bytes. */
  readonly size: number;
  /** True if every change is refused. */
  readonly readOnly: boolean;
  /** True: a disk that has to wait is refused. */
  readonly synchronous: boolean;
  /** Code that holds bytes above the disk; see `Disk.keepers`. */
  readonly keepers?: Keepers | undefined;
  /** Fills `into`. */
  readSync(offset: number, into: Uint8Array): unknown;
  /** Writes bytes. */
  writeSync(offset: number, bytes: Uint8Array): void;
  /** Returns when every earlier write is durable. */
  flushSync(options?: FlushOptions): void;
  /** Calls back if the disk is lost. */
  onLost?(listener: LostListener): () => void;
}

/** How a disk is made into a file. */
export interface DiskFileOptions {
  /** Refuses every change; default: as the disk does. */
  readonly readOnly?: boolean;
  /** Bytes of memory for a cache between the emulator and the disk, of which at least 2 MiB are used; 0 for none. Default 8 MiB. */
  readonly cache?: number;
  /** Milliseconds after the last write at which it is flushed, and ten times as long for a guest that goes on writing; default 200. */
  readonly flushIdle?: number;
  /** Is told of requests and flushes that failed, once for each kind until a flush succeeds. Default: the console is told. */
  readonly onError?: (error: DiskError) => void;
}

const OPTIONS = optionsOf<DiskFileOptions>({ readOnly: FLAG, cache: SIZE, flushIdle: NUMBER, onError: FUNCTION });
const CLOSE = optionsOf<{ discard?: boolean }>({ discard: FLAG });
const DISK = objectWith('an open disk that answers at once: a Disk, or a SharedDisk', ['size', 'readSync', 'writeSync', 'flushSync']);
const BYTES_AT_LEAST = 2 * MiB;
/** Times `flushIdle` after which a flush no longer waits for a pause. */
const OVERDUE = 10;

/** See the top of this file. */
export class DiskFile {
  /** Bytes. */
  readonly size: number;
  /** True if every change is refused. */
  readonly readOnly: boolean;
  readonly #storage: Storage;
  readonly #flushIdle: number;
  readonly #onError: (error: DiskError) => void;
  readonly #leave: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When a flush no longer waits for a pause, in milliseconds; undefined if every write is flushed. */
  #due: number | undefined;
  #lastWrite = 0;
  /** Kinds of failures that were told. */
  readonly #told = new Set<string>();
  #closed = false;

  /** `where` names the caller's function in messages. Throws `refused` for a disk that would have to wait. */
  constructor(where: string, disk: WaitlessDisk, options: DiskFileOptions = {}) {
    check(where, 'disk', disk, DISK);
    check(where, 'options', options, OPTIONS);
    if (!disk.synchronous)
      throw new DiskError('refused', `${where}: disk must be one that never waits: a Disk over opfsStorage in this worker, or a SharedDisk`, {
        field: 'disk',
      });
    const { readOnly = false, cache = 4 * BYTES_AT_LEAST, flushIdle = 200, onError } = options;
    const own = new Below(disk);
    this.#storage = cache === 0 ? own : new CacheStorage(own, { memory: new CacheMemory(cache) });
    this.size = disk.size;
    this.readOnly = readOnly || disk.readOnly;
    this.#flushIdle = flushIdle;
    this.#onError = onError ?? (({ message }) => unheard(message));
    this.#leave = disk.onLost?.((error) => this.#tell(error)) ?? (() => undefined);
  }

  /** For messages. */
  get name(): string {
    return this.#storage.name;
  }

  /** Whether a write is not flushed. */
  get unsaved(): boolean {
    return this.#due !== undefined;
  }

  /** Fills `into` from `position` on, up to the end of the disk. Returns how many bytes there were. */
  read(position: number, into: Uint8Array): number {
    const length = this.#inside(position, into.length);
    if (length > 0) this.#run(() => this.#storage.read(position, length === into.length ? into : into.subarray(0, length)));
    this.#flushOverdue();
    return length;
  }

  /** Writes up to the end of the disk. Returns how many bytes that were. Throws `no-space` at the end, `read-only`. */
  write(position: number, bytes: Uint8Array): number {
    const length = this.#inside(position, bytes.length);
    if (this.readOnly) throw new DiskError('read-only', `${this.name} is open read-only`);
    if (bytes.length === 0) return 0;
    if (length === 0) throw new DiskError('no-space', `The disk ends at ${this.size} bytes`, { offset: position });
    // A write that fails may have changed a part: that is flushed too.
    this.#noteWrite();
    this.#run(() => this.#storage.write(position, length === bytes.length ? bytes : bytes.subarray(0, length)));
    this.#flushOverdue();
    return length;
  }

  /** Makes durable what was written. Throws the reason if that fails, and `onError` is told; everything stays unsaved then. */
  sync(): void {
    this.#requireOpen();
    if (this.#due === undefined) return;
    clearTimeout(this.#timer);
    const retry = OVERDUE * this.#flushIdle;
    this.#due = performance.now() + retry;
    this.#timer = setTimeout(() => this.#idle(), retry);
    this.#run(() => this.#storage.flush());
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#due = undefined;
    this.#told.clear();
  }

  /** Flushes, and lets go of the disk, which stays open. Throws, and stays as it was, if that fails; with `discard` nothing is saved. May be called twice. */
  close(options: { readonly discard?: boolean } = {}): void {
    check('close', 'options', options, CLOSE);
    if (this.#closed) return;
    if (!options.discard) this.sync();
    clearTimeout(this.#timer);
    this.#closed = true;
    this.#due = undefined;
    this.#leave();
    if (options.discard) this.#storage.abandon?.();
    else this.#run(() => this.#storage.close());
  }

  #requireOpen(): void {
    if (this.#closed) throw new DiskError('io', `${this.name}: this file of the emulator's is closed`);
  }

  /** How many of so many bytes lie in front of the end. */
  #inside(position: number, length: number): number {
    this.#requireOpen();
    check(this.name, 'position', position, SIZE);
    return Math.max(0, Math.min(length, this.size - position));
  }

  #noteWrite(): void {
    this.#lastWrite = performance.now();
    this.#due ??= this.#lastWrite + OVERDUE * this.#flushIdle;
    this.#timer ??= setTimeout(() => this.#idle(), this.#flushIdle);
  }

  /** The timer's call: flushes after a pause in the writes, else waits for one. */
  #idle(): void {
    const now = performance.now();
    const rest = Math.min(this.#lastWrite + this.#flushIdle, this.#due ?? now) - now;
    if (rest > 1) this.#timer = setTimeout(() => this.#idle(), rest);
    else this.#trySync();
  }

  #flushOverdue(): void {
    if (this.#due !== undefined && performance.now() > this.#due) this.#trySync();
  }

  #trySync(): void {
    try {
      this.sync();
    } catch {
      // It was told, and the timer tries again.
    }
  }

  /** Verbs may do their work, and throw, when they are called. */
  #run(verb: () => Io<void>): void {
    try {
      runSync(verb());
    } catch (error) {
      throw this.#tell(asDiskError(error, `${this.name} failed`));
    }
  }

  #tell(error: DiskError): DiskError {
    if (!this.#told.has(error.kind)) {
      this.#told.add(error.kind);
      callBack(this.#onError, error);
    }
    return error;
  }
}

/**
 * The disk as a storage for the cache, by its verbs and not by its coroutines: it may belong to another copy of this package, loaded by another script, whose
 * coroutines another runner has to run. It stays open when the cache over it is closed.
 */
class Below implements Storage {
  readonly synchronous = true;
  readonly #disk: WaitlessDisk;

  constructor(disk: WaitlessDisk) {
    this.#disk = disk;
  }

  get name(): string {
    return this.#disk.name ?? 'the disk';
  }

  get size(): number {
    return this.#disk.size;
  }

  get readOnly(): boolean {
    return this.#disk.readOnly;
  }

  get keepers(): Keepers | undefined {
    return this.#disk.keepers;
  }

  /** Zeros past the end: the cache reads whole pages. */
  read(offset: number, into: Uint8Array): Io<void> {
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    if (length > 0) this.#disk.readSync(offset, length < into.length ? into.subarray(0, length) : into);
    into.fill(0, length);
    return finished;
  }

  write(offset: number, bytes: Uint8Array): Io<void> {
    this.#disk.writeSync(offset, bytes);
    return finished;
  }

  zero(offset: number, length: number): Io<void> {
    return writeZeroes(this, offset, length);
  }

  discard(): Io<void> {
    return finished;
  }

  truncate(): Io<void> {
    return finished;
  }

  *map(_offset: number, length: number): Io<StorageExtent> {
    return { length, zero: false };
  }

  barrier(): Io<void> {
    return this.flush();
  }

  flush(): Io<void> {
    this.#disk.flushSync({ below: true });
    return finished;
  }

  close(): Io<void> {
    return finished;
  }
}
