/**
 * `v86Disk`: a disk as v86 takes it for `hda`, `hdb`, `cdrom`, `fda` and `fdb`. Types are structural; v86 is not imported. v86 cannot
 * receive an error, so nothing here throws at it: reads that fail wait, writes that cannot be saved stay in memory, and the page
 * gets events (`on`) so that it can stop the emulator and ask the user.
 *
 * The disk below knows the adapter as a keeper (base/keepers.ts): its snapshots, exports and so on have everything that the guest wrote before them, and a
 * revert makes the adapter forget its bytes. With the emulator's state, disks and memory are restored together: v86-snapshot.ts.
 */

import { check, FLAG, objectWith, oneOf, optionsOf, TEXT } from '../base/arguments.ts';
import { asyncDispose } from '../base/dispose.ts';
import { asDiskError, DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import type { Keeper } from '../base/keepers.ts';
import { Listeners, unheard } from '../base/listeners.ts';
import { KiB, MiB } from '../base/units.ts';
import type { DiskIo } from '../disk/async-disk.ts';
import { floppyBoot } from '../drive/floppy-boot.ts';
import { BlockCache } from './block-cache.ts';
import { PageExit } from './page-exit.ts';
import { preloads, v86ByteLength, v86FloppyWarning } from './v86-size.ts';
import { V86_DISK_OPTIONS, type V86DiskEvent, type V86DiskOptions, type V86DiskStatistics } from './v86-types.ts';
import { syncFace, WriteBack } from './write-back.ts';

const DISK_IO = objectWith('an open disk or drive', ['size', 'readOnly', 'read', 'write', 'flush']);
const RESUME = optionsOf<{ unreadable?: 'retry' | 'zero'; disk?: DiskIo }>({ unreadable: oneOf('retry', 'zero'), disk: DISK_IO });
const INVALIDATE = optionsOf<{ discard?: boolean; generation?: string }>({ discard: FLAG, generation: TEXT });
const CLOSE = optionsOf<{ discard?: boolean }>({ discard: FLAG });

const PRELOAD_STEP = 4 * MiB;
const READ_RETRY = 1000;

/** A disk for `new V86({ hda })`. The caller keeps the disk: close this first, then the disk. Throws `unsupported` for a size that v86 cannot attach. */
export function v86Disk(disk: DiskIo, options: V86DiskOptions = {}): V86Disk {
  return new V86Disk(disk, options);
}

/** The functions that v86 calls, by v86's names; below them, those that the page calls. */
export class V86Disk {
  /** Bytes that v86 sees: the disk's, rounded up to sectors or to a floppy format. */
  readonly byteLength: number;
  /**
   * The whole image, if it was preloaded; only for reading. Undefined otherwise, which the type leaves out: v86's own types know images with a buffer
   * or an address only, and so `new V86({ hda })` takes the disk as it is.
   */
  declare readonly buffer: ArrayBuffer;
  /** Set by v86. */
  onload: ((event: { buffer?: ArrayBuffer }) => void) | undefined;
  /** Set by v86, if ever. */
  onprogress: ((event: { loaded: number; total: number; lengthComputable: boolean }) => void) | undefined;
  /** The whole image as a file; only present if it was preloaded, as v86's own page expects. */
  readonly get_as_file: ((name: string) => File) | undefined;

  readonly #options: V86DiskOptions;
  readonly #diskSize: number;
  readonly #temporary: boolean;
  readonly #cache: BlockCache;
  readonly #writeBack: WriteBack;
  readonly #listeners = new Listeners<V86DiskEvent>();
  readonly #exit: PageExit;
  #disk: DiskIo;
  /** Removes this from the keepers of the disk, and from the listeners to its loss. */
  #whole: ArrayBuffer | undefined;
  #leaveDisk = (): void => undefined;
  /** The reason why nothing can be saved any more. */
  #gone: DiskError | undefined;
  /** The loss that was reported. */
  #lossTold: DiskError | undefined;
  /** The failure of a read that the guest waits for. */
  #readFailure: DiskError | undefined;
  #generation: string;
  /** Writes since the contents had the name `#generation`. */
  #changes = 0;
  #closed = false;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #reads = 0;
  #readBytes = 0;
  #hits = 0;
  #writes = 0;
  #writtenBytes = 0;
  #saves = 0;
  #savedBytes = 0;
  /** Each answers a read that the guest waits for with zeros. */
  readonly #waitingReads = new Set<() => void>();
  /** Callers that wait until no read waits. */
  #idle: { readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = [];

  /** Use `v86Disk`. */
  constructor(disk: DiskIo, options: V86DiskOptions = {}) {
    check('v86Disk', 'disk', disk, DISK_IO);
    check('v86Disk', 'options', options, V86_DISK_OPTIONS);
    const { kind = 'hd', cacheSize = 32 * MiB, blockSize = 32 * KiB, readAhead = 2 * MiB } = options;
    if (blockSize === 0 || blockSize % 512 !== 0)
      throw new DiskError('refused', 'v86Disk: blockSize must be a multiple of 512', { field: 'blockSize' });
    this.#options = options;
    this.#disk = disk;
    this.byteLength = v86ByteLength(kind, disk.size, options.bootSector && floppyBoot(options.bootSector));
    this.#diskSize = disk.size;
    this.#temporary = options.temporary ?? disk.readOnly;
    this.#generation = options.generation ?? newGeneration();
    const whole = preloads(disk, options) ? new ArrayBuffer(this.byteLength) : undefined;
    this.#whole = whole;
    (this as { buffer: ArrayBuffer | undefined }).buffer = whole;
    this.get_as_file = whole && ((name) => new File([whole], name));
    this.#cache = new BlockCache({
      size: this.byteLength,
      // A floppy may have more tracks than v86 reaches.
      diskSize: Math.min(disk.size, this.byteLength),
      blockSize,
      capacity: cacheSize,
      // The read-ahead must not fill a small cache by itself.
      readAhead: Math.min(readAhead, cacheSize / 4),
      ...(whole ? { whole } : {}),
      load: (offset, into) => this.#load(offset, into),
      onLoadError: (error, { offset }) => this.#readFailed(error, offset),
    });
    this.#writeBack = new WriteBack({
      cache: this.#cache,
      disk: () => this.#disk,
      delay: options.saveDelay ?? 20,
      retry: options.saveRetry ?? 5000,
      limit: options.unsavedLimit ?? cacheSize / 2,
      onError: (error) => this.#saveFailed(error),
      onSaved: (bytes) => this.#saved(bytes),
    });
    this.#exit = new PageExit({
      save: () => this.#writeBack.saveUrgently(),
      warn: () => (options.warnBeforeUnload ?? true) && this.#hasUnsaved(),
    });
    this.#attach();
  }

  /** For a floppy that was loaded: what differs between its boot sector and what v86 takes it for, in words for people. */
  get geometryWarning(): string | undefined {
    if (this.#options.kind !== 'floppy' || !this.#whole) return undefined;
    return v86FloppyWarning(this.byteLength, this.#diskSize, floppyBoot(new Uint8Array(this.#whole)));
  }

  /** Calls back after each event. Returns a function that stops it. */
  on(listener: (event: V86DiskEvent) => void): () => void {
    return this.#listeners.on(listener);
  }

  /** Loads the bytes that v86 wants at once, then calls `onload`: v86 hangs without it, so a failure is reported and `onload` called all the same. */
  load(): void | Promise<void> {
    const loaded = () => this.onload?.({});
    try {
      const waiting = this.#prepare();
      if (waiting) return waiting.catch((error) => this.#readFailed(error, 0)).then(loaded);
    } catch (error) {
      this.#readFailed(error, 0);
    }
    loaded();
  }

  /** Calls `fn` once with `length` bytes at `start`, before returning if they are in memory. v86 may use them until `fn` returns. */
  get(start: number, length: number, fn: (bytes: Uint8Array) => void, options?: { signal?: AbortSignal }): void {
    this.#reads++;
    this.#readBytes += length;
    if (!this.#cache.here(start, length, fn)) return this.#getLater(start, length, fn, options);
    this.#hits++;
    this.#options.onActivity?.({ operation: 'read', bytes: length, hit: true });
  }

  /** Reads that need more than one block in memory. */
  #getLater(start: number, length: number, fn: (bytes: Uint8Array) => void, options?: { signal?: AbortSignal }): void {
    const zeros = () => answer(new Uint8Array(length));
    this.#waitingReads.add(zeros);
    const answer = (bytes: Uint8Array) => {
      if (!this.#waitingReads.delete(zeros)) return;
      fn(bytes);
      if (this.#waitingReads.size > 0) return;
      this.#readFailure = undefined;
      for (const { resolve } of this.#idle.splice(0)) resolve();
    };
    const hit = this.#cache.read(start, length, answer);
    if (hit) this.#hits++;
    // The drive was reset: v86 ignores the bytes, but needs the call. Not while v86 is still working through its requests.
    if (this.#waitingReads.has(zeros)) options?.signal?.addEventListener('abort', () => queueMicrotask(zeros), { once: true });
    this.#options.onActivity?.({ operation: 'read', bytes: length, hit });
  }

  /** As `get`: bytes that were read stay in memory anyway. v86 reads the first sector of hard disks this way before it starts. */
  get_and_cache(start: number, length: number, fn: (bytes: Uint8Array) => void, options?: { signal?: AbortSignal }): void {
    this.get(start, length, fn, options);
  }

  /** The bytes if they are in memory. v86 takes the partition table this way when a hard disk is attached. */
  get_from_cache(start: number, length: number): Uint8Array | undefined {
    return this.#cache.peek(start, length);
  }

  /** Takes a copy of `bytes`. Reads see it at once; `fn` is called at once, or when unsaved data no longer fills its memory. */
  set(start: number, bytes: Uint8Array, fn: () => void): void {
    this.#writes++;
    this.#writtenBytes += bytes.length;
    this.#changes++;
    this.#cache.write(start, bytes, { keepOnly: this.#temporary });
    if (this.#temporary) fn();
    else {
      this.#exit.guard(true);
      this.#writeBack.admit(fn);
      if (this.#gone) this.#tellLost();
    }
    this.#options.onActivity?.({ operation: 'write', bytes: bytes.length });
  }

  /** The whole image if it was preloaded, else undefined. */
  get_buffer(fn: (buffer?: ArrayBuffer) => void): void {
    if (this.#whole) fn(this.#whole);
    else fn();
  }

  /** Names of the disk and of its contents; the disk itself keeps the bytes. */
  get_state(): [imageId: string, generation: string] {
    return [this.#options.imageId ?? '', this.generation];
  }

  /** Compares the names with the present disk; a difference goes to `onStateMismatch`. */
  set_state(state: readonly unknown[] | null): void {
    if (state === null) return;
    const present = this.get_state();
    const [imageId, generation] = Array.isArray(state) ? state : [];
    const readable = typeof imageId === 'string' && typeof generation === 'string';
    if (readable && imageId === present[0] && generation === present[1]) return;
    const what = !readable ? 'unreadable' : imageId !== present[0] ? 'image' : 'generation';
    this.#options.onStateMismatch?.({ what, saved: state, present });
  }

  /** The name of the present contents; changes with every write. Set it after taking or applying a snapshot. */
  get generation(): string {
    return this.#changes === 0 ? this.#generation : `${this.#generation}+${this.#changes}`;
  }

  set generation(name: string) {
    this.#generation = name;
    this.#changes = 0;
  }

  /** Requests since the disk was attached, and the bytes in memory. */
  get statistics(): V86DiskStatistics {
    return {
      reads: this.#reads,
      readBytes: this.#readBytes,
      hits: this.#hits,
      writes: this.#writes,
      writtenBytes: this.#writtenBytes,
      dirtyBytes: this.#cache.dirtyBytes,
      saves: this.#saves,
      savedBytes: this.#savedBytes,
      waitingReads: this.#waitingReads.size,
      saving: this.#writeBack.busy,
      failure: this.#writeBack.failure,
    };
  }

  /** Does before `new V86` the work of `load`, so that a failure can still be shown: rejects with it. */
  async prepare(): Promise<void> {
    await this.#prepare();
  }

  /** "Save now": resolves when everything the guest has written is durable; rejects with the reason if that fails (the bytes stay in memory). */
  async save(): Promise<void> {
    if (!this.#temporary) await this.#writeBack.save();
    else if (this.#changes > 0) throw new DiskError('read-only', 'This disk keeps its changes in memory only: they cannot be saved');
  }

  /**
   * Goes on after an error: repeats reads that failed (or answers them with zeros, if the user prefers to lose those bytes), then saves.
   * `disk` is the same image opened again, for errors after which a disk refuses to write. Rejects as `save` does.
   */
  async resume(options: { unreadable?: 'retry' | 'zero'; disk?: DiskIo } = {}): Promise<void> {
    check('v86Disk.resume', 'options', options, RESUME);
    const { unreadable = 'retry', disk } = options;
    if (disk) {
      this.#requireSize(disk);
      this.#disk = disk;
    }
    this.#attach();
    this.#readFailure = undefined;
    if (unreadable === 'zero') this.#cache.giveUp();
    else this.#cache.retry();
    if (this.#cache.dirtyBytes > 0) await this.#writeBack.save();
  }

  /**
   * Forgets all bytes in memory: the disk has other contents now. Throws `in-use` if something is unsaved, unless `discard` is set
   * (a save under way ends first, and may have written a part), and `refused` if the disk has another size.
   */
  async invalidate(options: { discard?: boolean; generation?: string } = {}): Promise<void> {
    check('v86Disk.invalidate', 'options', options, INVALIDATE);
    const { discard = false, generation = newGeneration() } = options;
    if (!discard && this.#hasUnsaved())
      throw new DiskError('in-use', `${this.#cache.dirtyBytes} bytes that the guest wrote are not saved: save them, or discard them`);
    this.#requireSize(this.#disk);
    await this.#writeBack.settled();
    this.#forget();
    this.generation = generation;
    await this.#prepare();
  }

  #forget(): void {
    this.#cache.drop();
    this.#writeBack.reset();
    this.#exit.guard(false);
  }

  /**
   * For a stopped emulator whose state is about to be saved: resolves when the guest waits for no read and everything it wrote is durable. Rejects as
   * `save` does, or with the failure of a read.
   */
  async settle(): Promise<void> {
    await this.save();
    if (this.#waitingReads.size > 0) await new Promise<void>((resolve, reject) => this.#idle.push({ resolve, reject }));
    // A read that was answered may have made the guest write.
    await this.save();
  }

  /**
   * For a stopped emulator whose disk is about to be reverted: gives up unsaved bytes (a save under way ends first) and answers the waiting reads
   * with zeros. Then revert the disk, and call `invalidate`.
   */
  async abandon(): Promise<void> {
    await this.#writeBack.settled();
    for (const zeros of [...this.#waitingReads]) zeros();
    this.#forget();
  }

  /** Saves and lets go of the page's events and timers. Rejects, and stays open, if saving fails; with `discard` nothing is saved. */
  async close(options: { discard?: boolean } = {}): Promise<void> {
    check('v86Disk.close', 'options', options, CLOSE);
    const { discard = false } = options;
    if (this.#closed) return;
    if (discard) await this.#writeBack.settled();
    else if (!this.#temporary) await this.#writeBack.save();
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    this.#leaveDisk();
    this.#writeBack.reset();
    this.#exit.close();
    this.#gone ??= new DiskError('lost', 'The adapter is closed: what the guest writes now is not saved');
    this.#writeBack.stop(this.#gone);
  }

  /** As `close`, for `await using`. */
  [asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Registers with the disk. */
  #attach(): void {
    this.#leaveDisk();
    this.#gone = undefined;
    this.#writeBack.go();
    const leave = this.#disk.keepers?.attach(this.#keeper);
    const stop = this.#disk.onLost?.((error) => this.#lose(error));
    this.#leaveDisk = () => {
      leave?.();
      stop?.();
    };
  }

  readonly #keeper: Keeper = {
    drain: () => this.#drain(),
    hold: () => this.#hold(),
    unsaved: () => this.#cache.unsaved(),
    gone: (reason) => this.#lose(reason),
  };

  *#drain(): Io<void> {
    if (!this.#temporary) yield* this.#writeBack.drain();
  }

  *#hold(): Io<(changed: boolean) => Io<void>> {
    const release = yield* this.#writeBack.hold();
    return (changed) => this.#release(release, changed);
  }

  *#release(release: () => void, changed: boolean): Io<void> {
    if (changed) {
      this.#forget();
      this.generation = newGeneration();
    }
    release();
    if (!changed) return;
    try {
      this.#requireSize(this.#disk);
      const waiting = this.#prepare();
      if (waiting) yield* wait(waiting);
    } catch (error) {
      // The disk was reverted all the same; the guest requests the unreadable bytes again.
      this.#readFailed(error, 0);
    }
  }

  #hasUnsaved(): boolean {
    return this.#temporary ? this.#changes > 0 : this.#cache.dirtyBytes > 0;
  }

  #requireSize({ size }: DiskIo): void {
    if (size !== this.#diskSize)
      throw new DiskError('refused', `The disk had ${this.#diskSize} bytes when it was attached and has ${size} now: restart the emulator with it`, {
        field: 'size',
      });
  }

  /** Loads the whole image if it is to be preloaded, else the first sector: `undefined` if that needed no waiting. */
  #prepare(): Promise<void> | undefined {
    return this.#whole ? this.#preloadFrom(0) : this.#cache.preload(0, Math.min(512, this.byteLength));
  }

  #preloadFrom(start: number): Promise<void> | undefined {
    for (let offset = start; offset < this.byteLength; offset += PRELOAD_STEP) {
      const next = offset + PRELOAD_STEP;
      const waiting = this.#cache.preload(offset, Math.min(PRELOAD_STEP, this.byteLength - offset));
      if (waiting)
        return waiting.then(() => {
          this.#progress(next);
          return this.#preloadFrom(next);
        });
      this.#progress(next);
    }
    return undefined;
  }

  #progress(reached: number): void {
    const total = this.byteLength;
    const loaded = Math.min(reached, total);
    this.#options.onProgress?.(loaded, total);
    this.onprogress?.({ loaded, total, lengthComputable: true });
  }

  #load(offset: number, into: Uint8Array): Promise<unknown> | undefined {
    const sync = syncFace(this.#disk);
    if (!sync) return this.#disk.read(offset, into);
    try {
      sync.readSync(offset, into);
      return undefined;
    } catch (error) {
      if (asDiskError(error, '').kind !== 'would-wait') throw error;
      return this.#disk.read(offset, into);
    }
  }

  #readFailed(cause: unknown, offset: number): void {
    const error = asDiskError(cause, 'The disk cannot be read', { offset });
    for (const { reject } of this.#idle.splice(0)) reject(error);
    if (this.#closed) return;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#cache.retry(), READ_RETRY);
    if (this.#readFailure?.kind === error.kind) return;
    this.#readFailure = error;
    this.#tell({ type: 'error', operation: 'read', error });
  }

  #saveFailed(error: DiskError): void {
    if (error.kind === 'lost') this.#lose(error);
    else this.#tell({ type: 'error', operation: 'write', error });
  }

  /** The disk accepts nothing any more. */
  #lose(reason: DiskError): void {
    if (this.#gone) return;
    this.#gone = reason;
    if (this.#temporary) return;
    this.#writeBack.stop(reason);
    if (this.#cache.dirtyBytes > 0) this.#tellLost();
  }

  /** Reports the loss once, until there is a disk again. */
  #tellLost(): void {
    if (!this.#gone || this.#lossTold === this.#gone) return;
    this.#lossTold = this.#gone;
    this.#tell({ type: 'lost', bytes: this.#cache.dirtyBytes, error: this.#gone });
  }

  #saved(bytes: number): void {
    this.#saves++;
    this.#savedBytes += bytes;
    this.#options.onActivity?.({ operation: 'save', bytes });
    if (this.#cache.dirtyBytes > 0) return;
    this.#exit.guard(false);
    this.#tell({ type: 'saved', bytes });
  }

  #tell(event: V86DiskEvent): void {
    this.#listeners.emit(event);
    if (event.type === 'saved' || !this.#listeners.none) return;
    const { imageId = 'a disk' } = this.#options;
    const what =
      event.type === 'lost' ? `${event.bytes} bytes that the guest wrote to ${imageId} are lost` : `a ${event.operation} of ${imageId} failed`;
    unheard(`${what}: ${event.error.message} (v86Disk(…).on tells the page)`);
  }
}

/** A name for contents without one. */
export const newGeneration = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('');
