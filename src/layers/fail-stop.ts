/**
 * After a flush or barrier has failed nobody knows what the platform dropped, and the next flush may succeed without having written it.
 * So this layer, below every writable image, refuses all changes from then on with the first error: the image must be opened again,
 * from what is durable. Running out of space is different: nothing was dropped, and the same flush can succeed later.
 */
import type { DebugHook } from '../base/debug-events.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { Storage } from '../storage/storage.ts';
import { FilterStorage } from './filter.ts';

/** Passes everything on until a flush fails. */
export class FailStopStorage extends FilterStorage {
  /** Nobody means this layer when they debug what lies below it. */
  readonly debugEvent: DebugHook | undefined;
  #failed: DiskError | undefined;

  constructor(next: Storage) {
    super(next);
    this.debugEvent = next.debugEvent;
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
      if (!(error instanceof DiskError) || (error.kind !== 'no-space' && error.kind !== 'would-wait'))
        this.#failed = new DiskError('io', `${this.name}: a flush failed, so what it had to write may be lost; open the image again to go on`, {
          cause: error,
        });
      throw error;
    }
  }

  #requireSound(): void {
    if (this.#failed) throw this.#failed;
  }
}
