/**
 * Grows a file ahead of the writes that reach its end, after QEMU's preallocate filter, so that a growing image changes the file's size
 * rarely. Growth that was not needed is cut off again at close.
 *
 * After a power cut the file may be longer than its data, by zeros that nothing refers to: a leak at worst, in a format that counts its
 * clusters. A raw image would show the zeros as a longer disk, as with QEMU's filter.
 */
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { Mutex } from '../base/locks.ts';
import type { Storage, StorageExtent } from '../storage/storage.ts';
import { FilterStorage } from './filter.ts';

/** How far to grow. Bytes. */
export interface PreallocateOptions {
  /** The file's new end is a multiple of this. */
  readonly align: number;
  /** Room behind the write that reached the end. */
  readonly size: number;
}

export class PreallocateStorage extends FilterStorage {
  readonly #options: PreallocateOptions;
  readonly #growing = new Mutex();
  /** The end of the data, if the file goes on behind it. */
  #dataEnd: number | undefined;

  constructor(next: Storage, options: PreallocateOptions) {
    super(next);
    this.#options = options;
  }

  override get size(): number {
    return this.#dataEnd ?? this.next.size;
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    const end = bytes.length === 0 ? 0 : offset + bytes.length;
    if (end > this.next.size) yield* this.#growing.run(() => this.#grow(end));
    yield* super.write(offset, bytes);
    if (this.#dataEnd !== undefined) this.#dataEnd = Math.max(end, this.#dataEnd);
  }

  override *zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    const inside = Math.max(0, Math.min(length, this.size - offset));
    yield* super.zero(offset, inside, options);
  }

  override *truncate(size: number): Io<void> {
    yield* super.truncate(size);
    this.#dataEnd = undefined;
  }

  override *map(offset: number, length: number): Io<StorageExtent> {
    return yield* super.map(offset, Math.min(length, Math.max(1, this.size - offset)));
  }

  override *close(): Io<void> {
    const end = this.#dataEnd;
    try {
      if (end !== undefined) yield* this.truncate(end);
    } finally {
      yield* super.close();
    }
  }

  /** Makes room for data up to `end`. If there is none, the write itself fails. */
  *#grow(end: number): Io<void> {
    if (end <= this.next.size) return;
    this.#dataEnd ??= this.next.size;
    try {
      yield* super.truncate(roundUp(end + this.#options.size, this.#options.align));
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind !== 'no-space') throw error;
    }
  }
}
