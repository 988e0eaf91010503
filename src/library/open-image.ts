/** An image of the library that is open: its disk, the operations that may use the reserve, and the work at closing. */
import { DiskError, type ErrorKind } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import type { JobOptions } from '../base/job.ts';
import type { Disk } from '../disk/disk.ts';
import { closeAll, type Storage } from '../storage/storage.ts';
import type { ImageRecord } from './image-record.ts';

/** The library's services to an image that is open. */
export interface ImageKeeper {
  /** Runs an operation that must work on a full disk and may be run twice (reserve.ts). */
  spend<T>(work: () => Promise<T>): Promise<T>;
  /** Gives the lock back. */
  closed(size: number, changed: boolean): Promise<void>;
}

/** Milliseconds between looks for images that are open, when the browser may have cleared everything. */
const LOOK_PAUSES = [0, 300, 1000, 2000];

/** Looks several times whether images that are open are still there: their files may go a moment after the list. */
export async function lookAgain(open: () => Iterable<OpenImage>): Promise<void> {
  for (const pause of LOOK_PAUSES) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    await Promise.all([...open()].map((image) => image.look()));
  }
}

/** Failures of the flush before closing that leave an image open: the changes are only in memory. */
const STAYS_OPEN: ReadonlySet<ErrorKind> = new Set(['no-space', 'lost']);

/** An open image: use its `disk`, but flush and close the image, not the disk. */
export class OpenImage {
  readonly id: string;
  /** The record when the image was opened: it is used if the image is lost. */
  readonly record: ImageRecord;
  readonly disk: Disk;
  readonly #storage: Storage;
  readonly #keeper: ImageKeeper;
  #lost: DiskError | undefined;
  #changed = false;
  #over = false;
  #closing: Promise<void> = Promise.resolve();
  #job: { readonly stop: AbortController; readonly over: Promise<unknown> } | undefined;

  /** @internal Use `Library.openImage`. `storage` is the one that the disk was opened on. */
  constructor(record: ImageRecord, disk: Disk, storage: Storage, keeper: ImageKeeper) {
    this.id = record.id;
    this.record = record;
    disk.onLost((error) => {
      this.#lost = error;
    });
    this.disk = disk;
    this.#storage = storage;
    this.#keeper = keeper;
  }

  /** The reason why nothing more can be saved in it, if the browser removed it while it was open. It can still be exported, until it is closed. */
  get lost(): DiskError | undefined {
    return this.#lost;
  }

  /** Checks whether the image is still there. Never rejects. */
  async look(): Promise<void> {
    if (this.#storage.confirm) await runAsync(this.#storage.confirm()).catch(() => undefined);
  }

  /** Remembers that the guest has changed something, for the list's "changed" time. */
  noteChange(): void {
    this.#changed = true;
  }

  /** Resolves when all earlier writes are durable. Works on a full disk as far as the reserve reaches. */
  async flush(): Promise<void> {
    if (!this.disk.readOnly) await this.spend(() => this.disk.flush());
  }

  /** Runs a change that frees space, and so must work on a full disk, for example a discard. It may be run twice. */
  spend<T>(work: () => Promise<T>): Promise<T> {
    let first = true;
    return this.#keeper.spend(async () => {
      if (first) {
        first = false;
        return work();
      }
      this.#storage.spendReserve?.(true);
      return work().finally(() => this.#storage.spendReserve?.(false));
    });
  }

  /** Runs a job on the disk; one at a time. Closing the image cancels it first. Throws `in-use` while there is one. */
  async runJob<T>({ signal, ...options }: JobOptions, work: (options: JobOptions) => Promise<T>): Promise<T> {
    if (this.#job) throw new DiskError('in-use', 'The image is in use by a job: wait until it ends, or cancel it', { field: 'job' });
    this.#changed = true;
    const stop = new AbortController();
    const running = work({ ...options, signal: signal ? AbortSignal.any([signal, stop.signal]) : stop.signal });
    this.#job = { stop, over: running.catch(() => undefined) };
    try {
      return await running;
    } finally {
      this.#job = undefined;
    }
  }

  /**
   * Flushes, closes and unlocks. If there is no space to flush, or the image is lost, everything stays open and locked: make space and close
   * again, or export it, and close with `discard`, which gives up changes that no flush has covered. After any other failure the image is
   * unlocked all the same, and the failure thrown.
   */
  close({ discard = false } = {}): Promise<void> {
    this.#closing = this.#closing.catch(() => undefined).then(() => this.#close(discard));
    return this.#closing;
  }

  async #close(discard: boolean): Promise<void> {
    if (this.#over) return;
    this.#job?.stop.abort();
    await this.#job?.over;
    const { size } = this.disk;
    let failure: { error: unknown } | undefined;
    let flushed = false;
    try {
      if (discard) await this.#abandon();
      else {
        // Before the disk is closed: a closed disk could not flush again when there is space.
        await this.flush();
        flushed = true;
        // The disk's work at closing may need space too.
        this.#storage.spendReserve?.(true);
        await this.disk.close();
      }
    } catch (error) {
      if (!flushed && error instanceof DiskError && STAYS_OPEN.has(error.kind)) throw error;
      failure = { error };
      await this.#abandon().catch(() => undefined);
    }
    this.#over = true;
    await this.#keeper.closed(size, this.#changed);
    if (failure) throw failure.error;
  }

  /** Closes as if the tab had ended: the image is in a state that a cut may leave, and never damaged. */
  async #abandon(): Promise<void> {
    this.disk.keepers.gone(new DiskError('lost', `${this.disk.node.name} was closed, and what no flush had covered given up`));
    this.#storage.abandon?.();
    await runAsync(closeAll([this.#storage, ...(this.disk.node.backing ? [this.disk.node.backing] : [])]));
  }
}
