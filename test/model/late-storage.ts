/** A storage whose every call waits a turn: what IndexedDB and workers are like, without a browser. */
import { type Io, wait } from '../../src/base/io.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import type { StorageExtent } from '../../src/storage/storage.ts';

export class LateStorage extends FilterStorage {
  override get synchronous(): boolean {
    return false;
  }

  override *read(offset: number, into: Uint8Array): Io<void> {
    yield* later();
    yield* super.read(offset, into);
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* later();
    yield* super.write(offset, bytes);
  }

  override *zero(offset: number, length: number): Io<void> {
    yield* later();
    yield* super.zero(offset, length);
  }

  override *discard(offset: number, length: number): Io<void> {
    yield* later();
    yield* super.discard(offset, length);
  }

  override *truncate(size: number): Io<void> {
    yield* later();
    yield* super.truncate(size);
  }

  override *map(offset: number, length: number): Io<StorageExtent> {
    yield* later();
    return yield* super.map(offset, length);
  }

  override *barrier(): Io<void> {
    yield* later();
    yield* super.barrier();
  }

  override *flush(): Io<void> {
    yield* later();
    yield* super.flush();
  }
}

const later = (): Io<void> => wait(Promise.resolve());
