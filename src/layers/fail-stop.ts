/**
 * After a flush or barrier has failed nobody knows what the platform dropped, and the next flush may succeed without having written it.
 * So this layer, below every writable image, refuses all changes from then on with the first error: the image must be opened again,
 * from what is durable. Running out of space is different: nothing was dropped, and the same flush can succeed later.
 */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { Storage, StorageExtent } from '../storage/storage.ts';

/** Passes everything on until a flush fails. */
export class FailStopStorage implements Storage {
  readonly #next: Storage;
  #failed: DiskError | undefined;

  constructor(next: Storage) {
    this.#next = next;
  }

  get name(): string {
    return this.#next.name;
  }

  get size(): number {
    return this.#next.size;
  }

  get readOnly(): boolean {
    return this.#next.readOnly;
  }

  get synchronous(): boolean {
    return this.#next.synchronous;
  }

  read(offset: number, into: Uint8Array): Io<void> {
    return this.#next.read(offset, into);
  }

  write(offset: number, bytes: Uint8Array): Io<void> {
    this.#requireSound();
    return this.#next.write(offset, bytes);
  }

  zero(offset: number, length: number): Io<void> {
    this.#requireSound();
    return this.#next.zero(offset, length);
  }

  discard(offset: number, length: number): Io<void> {
    this.#requireSound();
    return this.#next.discard(offset, length);
  }

  truncate(size: number): Io<void> {
    this.#requireSound();
    return this.#next.truncate(size);
  }

  map(offset: number, length: number): Io<StorageExtent> {
    return this.#next.map(offset, length);
  }

  *barrier(): Io<void> {
    yield* this.#watch(() => this.#next.barrier());
  }

  *flush(): Io<void> {
    yield* this.#watch(() => this.#next.flush());
  }

  close(): Io<void> {
    return this.#next.close();
  }

  *allocatedSize(): Io<number> {
    return this.#next.allocatedSize ? yield* this.#next.allocatedSize() : this.#next.size;
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
