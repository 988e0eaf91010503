/**
 * Copies bytes that are read from a backing file into the image itself, after QEMU's copy-on-read: after one read through this layer the image
 * does not need the backing file for these bytes. The image itself copies (`copyUp` of node/node.ts), so that no write comes in between.
 */
import type { Io } from '../base/io.ts';
import { type Permissions, WRITE_UNCHANGED } from '../base/permissions.ts';
import type { Storage, StorageExtent } from '../storage/storage.ts';
import { FilterStorage } from './filter.ts';

/** An image that can copy bytes of its backing file into itself. */
export interface CopyingStorage extends Storage {
  /** Copies the units that a range touches into the image; units that the image has already do not change. */
  copyUp(offset: number, length: number): Io<void>;
}

export class CopyOnReadStorage extends FilterStorage {
  declare readonly next: CopyingStorage;

  constructor(next: CopyingStorage) {
    super(next);
  }

  override *permit({ take, share }: Permissions): Io<void> {
    yield* super.permit({ take: take | WRITE_UNCHANGED, share });
  }

  override *read(offset: number, into: Uint8Array): Io<void> {
    yield* this.next.copyUp(offset, into.length);
    yield* super.read(offset, into);
  }

  /** Never tells of zeros: a reader would skip the read, and these bytes are to be copied too. */
  override *map(_offset: number, length: number): Io<StorageExtent> {
    return { length, zero: false };
  }
}
