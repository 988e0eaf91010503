/**
 * After a flush or barrier has failed, it is unknown which changes the platform dropped, and the next flush may succeed without having written them.
 * So this layer, below every writable image, refuses all changes from then on with the first error: the image must be opened again,
 * from its durable state. Running out of space is different: nothing was dropped, and the same flush can succeed later. Changes to a lost storage are
 * refused too, before a cache in between takes them.
 */
import type { DebugHook } from '../base/debug-events.ts';
import { DiskError, type ErrorKind } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { Storage } from '../storage/storage.ts';
import { FilterStorage } from './filter.ts';

/** Failures of a flush that drop no changes; a lost storage reports its loss by itself from then on. */
const HARMLESS: ReadonlySet<ErrorKind> = new Set(['no-space', 'would-wait', 'lost']);

/** Passes everything on until a flush fails. */
export class FailStopStorage extends FilterStorage {
  /** Passed on: a debugger of the storage below is not meant for this layer. */
  readonly debugEvent: DebugHook | undefined;
  #failed: DiskError | undefined;
  #lost: DiskError | undefined;
  #refusing: DiskError | undefined;

  constructor(next: Storage) {
    super(next);
    this.debugEvent = next.debugEvent;
    next.onLost?.((error) => {
      this.#lost = error;
      this.#refusing ??= error;
    });
  }

  override salvage(allowed: boolean): void {
    super.salvage(allowed);
    this.#refusing = this.#failed ?? (allowed ? undefined : this.#lost);
  }

  override write(offset: number, bytes: Uint8Array): Io<void> {
    this.#requireSound();
    return super.write(offset, bytes);
  }

  override zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    this.#requireSound();
    return super.zero(offset, length, options);
  }

  override discard(offset: number, length: number): Io<void> {
    this.#requireSound();
    return super.discard(offset, length);
  }

  override truncate(size: number): Io<void> {
    this.#requireSound();
    return super.truncate(size);
  }

  override *barrier(): Io<void> {
    yield* this.#watch(() => super.barrier());
  }

  override *flush(): Io<void> {
    yield* this.#watch(() => super.flush());
  }

  *#watch(body: () => Io<void>): Io<void> {
    this.#requireSound();
    try {
      yield* body();
    } catch (error) {
      if (!(error instanceof DiskError) || !HARMLESS.has(error.kind))
        this.#refusing = this.#failed = new DiskError(
          'io',
          `${this.name}: a flush failed, so what it had to write may be lost; open the image again to go on`,
          {
            cause: error,
          },
        );
      throw error;
    }
  }

  #requireSound(): void {
    if (this.#refusing) throw this.#refusing;
  }
}
