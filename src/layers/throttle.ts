/**
 * A storage that is no faster than its throttle group allows, after QEMU's throttle filter: for testing an emulator with a slow disk, or to
 * keep one disk from slowing down the others. Reads, writes, zeros and discards count; `flush` does not wait.
 */
import { check, objectWith } from '../base/arguments.ts';
import type { Io } from '../base/io.ts';
import { STORAGE, type Storage } from '../storage/storage.ts';
import { FilterStorage } from './filter.ts';
import type { ThrottleGroup } from './throttle-group.ts';

/** Passes everything on to `next` when the group lets it. */
export class ThrottleStorage extends FilterStorage {
  /** The limits, which other storages and drives may share. */
  readonly group: ThrottleGroup;

  constructor(next: Storage, group: ThrottleGroup) {
    check('ThrottleStorage', 'next', next, STORAGE);
    check('ThrottleStorage', 'group', group, objectWith('a ThrottleGroup', ['limits', 'admit']));
    super(next);
    this.group = group;
  }

  override get synchronous(): boolean {
    return this.next.synchronous && !this.group.limiting;
  }

  override *read(offset: number, into: Uint8Array): Io<void> {
    yield* this.group.admit(this, 'read', into.length);
    yield* super.read(offset, into);
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* this.group.admit(this, 'write', bytes.length);
    yield* super.write(offset, bytes);
  }

  override *zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    yield* this.group.admit(this, 'write', length);
    yield* super.zero(offset, length, options);
  }

  override *discard(offset: number, length: number): Io<void> {
    yield* this.group.admit(this, 'write', length);
    yield* super.discard(offset, length);
  }

  /** Waiting requests start at once. */
  override *close(): Io<void> {
    this.group.letGo(this);
    yield* super.close();
  }
}
