/**
 * The order in which the changed tables of an image reach its file.
 *
 * Crash argument. A flush writes in the stages that the driver names, with a barrier before each but the first. The driver arranges its stages so that the bytes
 * of a stage refer only to what an earlier stage wrote, or to guest data that was handed to the storage before; and a stage takes away only what
 * no byte refers to after the stage before it. So a cut after any write leaves every reference on something durable; the price is at worst space
 * that nothing refers to. A stage with nothing to write needs no barrier.
 *
 * A flush writes the changes that existed when it began (`Sealed`). Changes come while it waits, too, from writes of a guest that end then; their data
 * may have come after a barrier, so only the next flush writes them. A flush that fails leaves its changes to the next one.
 *
 * `point` writes the bytes that switch from old tables to new ones. If that fails, the file may hold either state, and no further change would suit
 * both: then the image changes no more (`requireSound`).
 */
import type { DebugHook } from '../base/debug-events.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { Mutex } from '../base/locks.ts';
import type { Storage } from '../storage/storage.ts';

/** Changes in memory, of which a flush writes what it finds when it begins. */
export interface Sealed {
  /** Takes the changes up to now. */
  seal(): void;
  /** The flush is over. Unless what it wrote is durable, the changes that were taken wait for the next flush, as any change: also those that were written. */
  unseal(durable: boolean): void;
}

/** What a flush writes between two barriers. */
export interface Stage {
  /** False: nothing is to be written. Asked when the stages before were written. */
  pending(): boolean;
  /** Writes what is sealed. */
  write(): Io<void>;
}

/** See the top of this file. */
export class WriteOrder {
  readonly #storage: Storage;
  readonly #format: string;
  readonly #changes: readonly Sealed[];
  readonly #stages: readonly Stage[];
  /** Held by the driver while it flushes. */
  readonly lock = new Mutex();
  #failed: DiskError | undefined;

  /** `format`: its name, for errors. */
  constructor(storage: Storage, { format, changes, stages }: { format: string; changes: readonly Sealed[]; stages: readonly Stage[] }) {
    this.#storage = storage;
    this.#format = format;
    this.#changes = changes;
    this.#stages = stages;
  }

  /** Writes all changes and makes them durable. The caller holds `lock`. `told` is called before everything is made durable. */
  *flush(told?: DebugHook): Io<void> {
    this.requireSound();
    for (const changes of this.#changes) changes.seal();
    let durable = false;
    try {
      for (const [index, stage] of this.#stages.entries()) {
        if (!stage.pending()) continue;
        if (index > 0) yield* this.#storage.barrier();
        yield* stage.write();
      }
      if (told) yield* told('flush_to_disk');
      yield* this.#storage.flush();
      durable = true;
    } finally {
      for (const changes of this.#changes) changes.unseal(durable);
    }
  }

  /** Writes bytes that point at tables which are durable already; durable when it returns. */
  *point(offset: number, bytes: Uint8Array): Io<void> {
    try {
      yield* this.#storage.write(offset, bytes);
      yield* this.#storage.flush();
    } catch (cause) {
      this.fail(
        new DiskError('io', `${this.#storage.name}: switching tables failed; open the image again to go on`, { format: this.#format, cause }),
      );
      throw cause;
    }
  }

  /** Lets no change of the image reach the file any more. Returns false if that was so before. */
  fail(error: DiskError): boolean {
    if (this.#failed) return false;
    this.#failed = error;
    return true;
  }

  /** False if `requireSound` throws. */
  get sound(): boolean {
    return this.#failed === undefined;
  }

  /** Throws the error that `fail` was told. */
  requireSound(): void {
    if (this.#failed) throw this.#failed;
  }
}
