/** A storage whose every call waits a turn: what IndexedDB and workers are like, without a browser. */
import { type Io, wait } from '../../src/base/io.ts';
import type { Storage, StorageExtent } from '../../src/storage/storage.ts';

export class LateStorage implements Storage {
  readonly synchronous = false;
  readonly #next: Storage;

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

  *read(offset: number, into: Uint8Array): Io<void> {
    yield* this.#later();
    yield* this.#next.read(offset, into);
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* this.#later();
    yield* this.#next.write(offset, bytes);
  }

  *zero(offset: number, length: number): Io<void> {
    yield* this.#later();
    yield* this.#next.zero(offset, length);
  }

  *discard(offset: number, length: number): Io<void> {
    yield* this.#later();
    yield* this.#next.discard(offset, length);
  }

  *truncate(size: number): Io<void> {
    yield* this.#later();
    yield* this.#next.truncate(size);
  }

  *map(offset: number, length: number): Io<StorageExtent> {
    yield* this.#later();
    return yield* this.#next.map(offset, length);
  }

  *barrier(): Io<void> {
    yield* this.#later();
    yield* this.#next.barrier();
  }

  *flush(): Io<void> {
    yield* this.#later();
    yield* this.#next.flush();
  }

  *close(): Io<void> {
    yield* this.#next.close();
  }

  #later(): Io<void> {
    return wait(Promise.resolve());
  }
}
