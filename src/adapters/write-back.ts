/**
 * Saving an emulator's writes: when, in which pieces, and the handling of failures.
 *
 * - A save writes everything unsaved in merged runs and flushes the disk; only then does the cache let go of it. It begins a moment after the first
 *   unsaved write, so that a page that is reloaded or closed has little to lose, when half of the allowed memory is unsaved, when the page is hidden
 *   or left, and when `save` asks. Where saves take long the next one waits several times as long, so that a guest that keeps on writing is not held up.
 * - Above the allowed memory, `admit` makes writers wait until a save has made room.
 * - A save seals ranges, not copies as tables/write-order.ts does: a byte written during a save may reach the disk with it, and is saved again by the next.
 * - After a failure nothing is lost: all written bytes count as unsaved, even if only the flush failed. `save` tries again, and so does
 *   a timer. The error is reported when it is new, not at each attempt of the timer.
 */
import { asDiskError, type DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import type { ByteRange } from '../base/ranges.ts';
import type { DiskIo, FlushOptions } from '../disk/async-disk.ts';
import type { BlockCache } from './block-cache.ts';

/** A disk in this thread that never waits. */
export interface SyncDisk {
  readSync(offset: number, lengthOrInto: number | Uint8Array): Uint8Array;
  writeSync(offset: number, bytes: Uint8Array): void;
  flushSync(options?: FlushOptions): void;
}

/** The disk's synchronous verbs, if it has some that work. */
export function syncFace(disk: DiskIo): SyncDisk | undefined {
  const face = disk as DiskIo & Partial<SyncDisk>;
  return disk.synchronous && face.readSync && face.writeSync && face.flushSync ? (disk as DiskIo & SyncDisk) : undefined;
}

export interface WriteBackOptions {
  readonly cache: BlockCache;
  /** The disk to save to; called at each save. */
  readonly disk: () => DiskIo;
  /** Milliseconds after a write at which to save. */
  readonly delay: number;
  /** Milliseconds after a save that failed at which to try again. */
  readonly retry: number;
  /** Bytes of memory that unsaved blocks may take. */
  readonly limit: number;
  readonly onError: (error: DiskError) => void;
  readonly onSaved: (bytes: number) => void;
}

/** Bytes of one write to the disk, at most. */
const RUN_LIMIT = 1024 * 1024;
/** Writes to the disk under way at a time. */
const IN_FLIGHT = 4;
/** After a save the next one begins no sooner than so many times the length of that save. */
const REST = 4;
/** Milliseconds between two saves at most, however long they take. */
const LONGEST_REST = 5000;
/** For the flush of the disk itself: the bytes kept above it are those being saved. */
const BELOW: FlushOptions = { below: true };

export class WriteBack {
  readonly #options: WriteBackOptions;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Milliseconds that the latest save took. */
  #took = 0;
  /** Settles when saves may begin again; see `hold`. */
  #held: Promise<void> | undefined;
  /** The save under way. */
  #saving: Promise<void> | undefined;
  /** The save that starts when that one ends; callers that ask meanwhile share it. */
  #next: Promise<void> | undefined;
  /** Sends the rest of the save under way at once. */
  #hurry: (() => void) | undefined;
  #failure: DiskError | undefined;
  /** The reason why there is no disk to save to. */
  #stopped: DiskError | undefined;
  readonly #waiting: (() => void)[] = [];

  constructor(options: WriteBackOptions) {
    this.#options = options;
  }

  /** The reason of the latest save's failure; `undefined` if it succeeded. */
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
    if (this.#stopped) return done();
    if (!this.#failure && cache.unsavedMemory > limit / 2) this.#start();
    // A synchronous disk has saved by now.
    if (cache.unsavedMemory <= limit) done();
    else this.#waiting.push(done);
  }

  /** Saves everything that was written before this call. Resolves when it is durable; rejects with the reason if that fails. */
  save(): Promise<void> {
    return this.#begin() ?? Promise.resolve();
  }

  /** The same if something is unsaved, and without a promise where the disk does not wait. */
  *drain(): Io<void> {
    if (!this.#saving && this.#options.cache.unsavedMemory === 0) return;
    const waiting = this.#begin();
    if (waiting) yield* wait(waiting);
  }

  #begin(): Promise<void> | undefined {
    if (this.#stopped) return this.#options.cache.unsavedMemory > 0 ? Promise.reject(this.#stopped) : undefined;
    if (this.#held) return this.#held.then(() => this.save());
    if (!this.#saving) return this.#run(false);
    // The save under way may not include the latest writes.
    this.#next ??= this.#saving
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.#begin();
      });
    return this.#next;
  }

  /** Ends the save under way and begins none until the returned function is called. */
  *hold(): Io<() => void> {
    let end = (): void => undefined;
    const before = this.#held;
    this.#held = new Promise((resolve) => {
      end = resolve;
    });
    const held = this.#held;
    yield* wait(Promise.resolve(before));
    while (this.#saving) yield* wait(this.#saving.catch(() => undefined));
    return () => {
      if (this.#held === held) this.#held = undefined;
      end();
      if (this.#options.cache.unsavedMemory > 0) this.#schedule();
    };
  }

  /**
   * Saves with everything sent at once: the page may end before the answers. Bytes written since the save under way began are sent as well, and
   * count as unsaved until a save has ended for them; the disk keeps the order where they overlap. Errors are reported, not thrown.
   */
  saveUrgently(): void {
    const { cache, disk } = this.#options;
    if (this.#held || this.#stopped || cache.unsavedMemory === 0) return;
    if (!this.#saving) {
      this.#run(true)?.catch(() => undefined);
      return;
    }
    this.#hurry?.();
    const below = disk();
    const late = cache.dirtyRuns(RUN_LIMIT);
    for (const run of late) below.write(run.start, cache.gather(run)).catch(() => undefined);
    if (late.length > 0) below.flush(BELOW).catch(() => undefined);
    this.save().catch(() => undefined);
  }

  /** Resolves when no save is under way. */
  async settled(): Promise<void> {
    while (this.#saving || this.#next) await (this.#next ?? this.#saving)?.catch(() => undefined);
  }

  /** Forgets that a save failed, lets waiting writers go on, and stops the timer: nothing is unsaved any more. */
  reset(): void {
    this.#failure = undefined;
    this.#stopTimer();
    this.#release();
  }

  /** There is no disk to save to any more: writers do not wait, and saving fails. Unsaved bytes stay unsaved. */
  stop(reason: DiskError): void {
    this.#stopped = reason;
    this.#stopTimer();
    this.#release();
  }

  /** There is a disk again. */
  go(): void {
    this.#stopped = undefined;
  }

  #schedule(): void {
    const { delay, retry } = this.#options;
    if (this.#saving || this.#held || this.#stopped) return;
    const rest = this.#failure ? retry : Math.max(delay, Math.min(REST * this.#took, LONGEST_REST));
    this.#timer ??= setTimeout(() => this.#start(), rest);
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Begins a save unless one is under way. A failure is reported, not thrown. */
  #start(): void {
    if (this.#saving || this.#held || this.#stopped) return;
    this.#run(false)?.catch(() => undefined);
  }

  /** `undefined` if it has ended, as with a disk that never waits. */
  #run(urgent: boolean): Promise<void> | undefined {
    this.#stopTimer();
    const { cache } = this.#options;
    const disk = this.#options.disk();
    const runs = cache.beginSave(RUN_LIMIT);
    const begun = performance.now();
    const sync = syncFace(disk);
    if (sync) {
      try {
        for (const run of runs) sync.writeSync(run.start, cache.gather(run));
        sync.flushSync(BELOW);
        this.#succeed(runs, begun);
        return undefined;
      } catch (error) {
        // "Would wait": another request of this thread holds the range. The promise form waits for it.
        if (asDiskError(error, '').kind !== 'would-wait') return Promise.reject(this.#fail(error));
      }
    }
    this.#saving = this.#write(disk, runs, urgent).then(
      () => {
        this.#saving = undefined;
        this.#succeed(runs, begun);
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
      // A worker serves messages in order, so this flush comes after those writes even if no code receives the answers.
      requests.push(disk.flush(BELOW).catch(failed));
    };
    for (let count = 0; count < IN_FLIGHT; count++) requests.push(writer());
    if (urgent) this.#hurry();
    // All writes have ended before anything is written again: an old write must not overwrite a newer one.
    for (const request of requests) await request;
    this.#hurry = undefined;
    if (failure) throw failure.error;
    await disk.flush(BELOW);
  }

  #succeed(runs: readonly ByteRange[], begun: number): void {
    const { cache, limit } = this.#options;
    this.#failure = undefined;
    this.#took = performance.now() - begun;
    cache.endSave(true);
    if (cache.unsavedMemory <= limit) this.#release();
    else this.#start();
    // Bytes were written meanwhile.
    if (cache.unsavedMemory > 0) this.#schedule();
    this.#options.onSaved(runs.reduce((sum, { start, end }) => sum + end - start, 0));
  }

  #fail(error: unknown): DiskError {
    const { cache, onError } = this.#options;
    this.#stopTimer();
    cache.endSave(false);
    const failure = asDiskError(error, 'The disk cannot be saved');
    const known = this.#failure?.kind === failure.kind;
    this.#failure = failure;
    if (cache.unsavedMemory > 0) this.#schedule();
    if (!known) onError(failure);
    return failure;
  }

  #release(): void {
    for (const done of this.#waiting.splice(0)) done();
  }
}
