/**
 * Copies what is read from a backing file into the image itself, after QEMU's copy-on-read: whoever reads an image through this layer once
 * needs the backing file no more for it. The copying is the image's own (`copyUp` of node/node.ts), so that no write comes in between.
 */
import type { Io } from '../base/io.ts';
import { type Permissions, WRITE_UNCHANGED } from '../base/permissions.ts';
import type { Storage, StorageExtent } from '../storage/storage.ts';
import { FilterStorage } from './filter.ts';

/** An image that can take what it shows of its backing file. */
export interface CopyingStorage extends Storage {
  /** Brings the units that a range touches into the image; nothing happens to those that are there. */
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

  /** Nobody may skip a read because it would give zeros: it is to be copied too. */
  override *map(_offset: number, length: number): Io<StorageExtent> {
    return { length, zero: false };
  }
}
