/**
 * A storage with nothing behind it, after QEMU's null-co: writes vanish, reads are zeros. For measuring the layers above it. QEMU does not
 * define the result of a read unless `read-zeroes` is on; here it is zeros either way. Its size is fixed.
 */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { requireWritable, type Storage, type StorageExtent } from '../storage/storage.ts';

export class NullStorage implements Storage {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly synchronous: boolean;
  readonly #pause: () => Io<void>;

  /** `pause` runs in every request, to simulate a slow storage. */
  constructor(name: string, size: number, { readOnly = false, pause }: { readOnly?: boolean; pause?: () => Io<void> } = {}) {
    this.name = name;
    this.size = size;
    this.readOnly = readOnly;
    this.synchronous = pause === undefined;
    this.#pause = pause ?? function* () {};
  }

  *read(_offset: number, into: Uint8Array): Io<void> {
    yield* this.#pause();
    into.fill(0);
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* this.#change(offset, bytes.length);
  }

  *zero(offset: number, length: number): Io<void> {
    yield* this.#change(offset, length);
  }

  *discard(): Io<void> {
    requireWritable(this);
  }

  *truncate(size: number): Io<void> {
    if (size !== this.size) throw new DiskError('unsupported', `${this.name}: its size is fixed at ${this.size} bytes`, { field: 'size' });
  }

  *map(_offset: number, length: number): Io<StorageExtent> {
    return { length, zero: true };
  }

  *barrier(): Io<void> {}

  *flush(): Io<void> {
    yield* this.#pause();
  }

  *close(): Io<void> {}

  *allocatedSize(): Io<number> {
    return 0;
  }

  *#change(offset: number, length: number): Io<void> {
    requireWritable(this);
    if (offset + length > this.size)
      throw new DiskError('out-of-bounds', `${this.name}: ${length} bytes at ${offset} reach past the end (${this.size})`, { offset });
    yield* this.#pause();
  }
}
