/**
 * Saving what an emulator wrote: when, in which pieces, and what happens when it fails.
 *
 * - A save writes everything unsaved in merged runs and flushes the disk; only then does the cache let go of it. It runs when the
 *   guest has been idle for a second, five seconds after the first unsaved write at the latest, when the page is hidden
 *   or left, when half of the allowed memory is unsaved, and when `save` asks.
 * - Above the allowed memory, `admit` makes writers wait until a save has made room.
 * - After a failure nothing is lost: what was written counts as unsaved, even if only the flush failed. `save` tries again, and so does
 *   a timer. The error is reported when it is new, not at each attempt of the timer.
 */
import { asDiskError, type DiskError } from '../base/errors.ts';
import type { ByteRange } from '../base/ranges.ts';
import type { DiskIo } from '../disk/async-disk.ts';
import type { BlockCache } from './block-cache.ts';

/** A disk in this thread that never waits. */
export interface SyncDisk {
  readSync(offset: number, lengthOrInto: number | Uint8Array): Uint8Array;
  writeSync(offset: number, bytes: Uint8Array): void;
  flushSync(): void;
}

/** The disk's synchronous face, if it has one that works. */
export function syncFace(disk: DiskIo): SyncDisk | undefined {
  const face = disk as DiskIo & Partial<SyncDisk>;
  return disk.synchronous && face.readSync && face.writeSync && face.flushSync ? (disk as DiskIo & SyncDisk) : undefined;
}

export interface WriteBackOptions {
  readonly cache: BlockCache;
  /** The disk to save to; asked for at each save. */
  readonly disk: () => DiskIo;
  /** Milliseconds without a write after which to save. */
  readonly idle: number;
  /** Milliseconds after the first unsaved write by which to save. */
  readonly latest: number;
  /** Bytes of memory that unsaved blocks may take. */
  readonly limit: number;
  readonly onError: (error: DiskError) => void;
  readonly onSaved: (bytes: number) => void;
}

/** Bytes of one write to the disk, at most. */
const RUN_LIMIT = 1024 * 1024;
/** Writes to the disk under way at a time. */
const IN_FLIGHT = 4;

export class WriteBack {
  readonly #options: WriteBackOptions;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;
  #latestTimer: ReturnType<typeof setTimeout> | undefined;
  /** The save under way. */
  #saving: Promise<void> | undefined;
  /** The save that starts when that one ends; those who ask meanwhile share it. */
  #next: Promise<void> | undefined;
  /** Sends the rest of the save under way at once. */
  #hurry: (() => void) | undefined;
  #failure: DiskError | undefined;
  readonly #waiting: (() => void)[] = [];

  constructor(options: WriteBackOptions) {
    this.#options = options;
  }

  /** Why the latest save failed; `undefined` if it did not. */
  get failure(): DiskError | undefined {
    return this.#failure;
  }

  get busy(): boolean {
    return this.#saving !== undefined;
  }

  /** Notes that the cache took a write; calls `done` at once, or when unsaved data no longer exceeds its memory. */
  admit(done: () => void): void {
    const { cache, limit } = this.#options;
    this.#schedule();
    if (!this.#failure && cache.unsavedMemory > limit / 2) this.#start();
    // A synchronous disk has saved by now.
    if (cache.unsavedMemory <= limit) done();
    else this.#waiting.push(done);
  }

  /** Saves everything that was written before this call. Resolves when it is durable; rejects with why it is not. */
  save(): Promise<void> {
    if (!this.#saving) return this.#run(false);
    // The save under way may have passed by the latest writes.
    this.#next ??= this.#saving
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.#saving ?? this.#run(false);
      });
    return this.#next;
  }

  /** Saves with everything sent at once: the page may not live to see the answers. Errors are reported, not thrown. */
  saveUrgently(): void {
    if (this.#saving) {
      this.#hurry?.();
      this.save().catch(() => undefined);
    } else if (this.#options.cache.unsavedMemory > 0) this.#run(true).catch(() => undefined);
  }

  /** Resolves when no save is under way. */
  async settled(): Promise<void> {
    while (this.#saving || this.#next) await (this.#next ?? this.#saving)?.catch(() => undefined);
  }

  /** Forgets that a save failed, lets waiting writers go on, and stops the timers: nothing is unsaved any more. */
  reset(): void {
    this.#failure = undefined;
    this.#stopTimers();
    this.#release();
  }

  #schedule(): void {
    const { idle, latest } = this.#options;
    this.#latestTimer ??= setTimeout(() => this.#due(), latest);
    // After a failure the next attempt takes its time.
    if (this.#failure) return;
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => this.#due(), idle);
  }

  /** The time for a save has come. One that is under way schedules the next when it ends. */
  #due(): void {
    this.#stopTimers();
    this.#start();
  }

  #stopTimers(): void {
    clearTimeout(this.#idleTimer);
    clearTimeout(this.#latestTimer);
    this.#idleTimer = undefined;
    this.#latestTimer = undefined;
  }

  /** Begins a save unless one is under way. A failure is reported, not thrown. */
  #start(): void {
    if (!this.#saving) this.#run(false).catch(() => undefined);
  }

  #run(urgent: boolean): Promise<void> {
    this.#stopTimers();
    const { cache } = this.#options;
    const disk = this.#options.disk();
    const runs = cache.beginSave(RUN_LIMIT);
    const sync = syncFace(disk);
    if (sync) {
      try {
        for (const run of runs) sync.writeSync(run.start, cache.gather(run));
        sync.flushSync();
        this.#succeed(runs);
        return Promise.resolve();
      } catch (error) {
        // "Would wait": another request of this thread holds the range. The promise form waits for it.
        if (asDiskError(error, '').kind !== 'would-wait') return Promise.reject(this.#fail(error));
      }
    }
    this.#saving = this.#write(disk, runs, urgent).then(
      () => {
        this.#saving = undefined;
        this.#succeed(runs);
      },
      (error) => {
        this.#saving = undefined;
        throw this.#fail(error);
      },
    );
    return this.#saving;
  }

  async #write(disk: DiskIo, runs: readonly ByteRange[], urgent: boolean): Promise<void> {
    const queue = runs.values();
    const requests: Promise<void>[] = [];
    let failure: { error: unknown } | undefined;
    const failed = (error: unknown) => {
      failure ??= { error };
    };
    const writer = async () => {
      for (const run of queue) {
        if (failure) return;
        await disk.write(run.start, this.#options.cache.gather(run)).catch(failed);
      }
    };
    this.#hurry = () => {
      for (let count = 0; count < runs.length; count++) requests.push(writer());
      // A worker serves messages in order, so this flush comes after those writes even if nobody hears the answers.
      requests.push(disk.flush().catch(failed));
    };
    for (let count = 0; count < IN_FLIGHT; count++) requests.push(writer());
    if (urgent) this.#hurry();
    // Every writer has ended before anything is written again: an old write must not land on a newer one.
    for (const request of requests) await request;
    this.#hurry = undefined;
    if (failure) throw failure.error;
    await disk.flush();
  }

  #succeed(runs: readonly ByteRange[]): void {
    const { cache, limit } = this.#options;
    this.#failure = undefined;
    cache.endSave(true);
    if (cache.unsavedMemory <= limit) this.#release();
    else this.#start();
    // Written meanwhile, and its time came before this save had ended.
    if (cache.unsavedMemory > 0 && !this.#saving && this.#latestTimer === undefined) this.#schedule();
    this.#options.onSaved(runs.reduce((sum, { start, end }) => sum + end - start, 0));
  }

  #fail(error: unknown): DiskError {
    const { cache, latest, onError } = this.#options;
    this.#stopTimers();
    cache.endSave(false);
    const failure = asDiskError(error, 'The disk cannot be saved');
    const known = this.#failure?.kind === failure.kind;
    this.#failure = failure;
    if (cache.unsavedMemory > 0) this.#latestTimer = setTimeout(() => this.#due(), latest);
    if (!known) onError(failure);
    return failure;
  }

  #release(): void {
    for (const done of this.#waiting.splice(0)) done();
  }
}
