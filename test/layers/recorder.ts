/**
 * A storage that keeps a log of every change before it passes it on: writes with their bytes, truncations, barriers and flushes. From the log tests
 * rebuild the states that a power cut could have left; users can see the changes that an emulator makes to its disk. Several recorders may share one log,
 * which then has the changes to all of their storages in the order in which they were made.
 */
import type { Io } from '../../src/base/io.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import type { Storage } from '../../src/storage/storage.ts';

/** One change, to the storage of this name. Offsets and sizes are bytes. `flush` and `barrier` are logged when they have returned. */
export type LogEntry = { readonly file: string } & (
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly size: number }
  | { readonly kind: 'barrier' }
  | { readonly kind: 'flush' }
);

/** Records the changes that it passes on to `next`. A range zeroed or discarded is logged as a write of zeros. */
export class RecorderStorage extends FilterStorage {
  readonly log: LogEntry[];

  constructor(next: Storage, log: LogEntry[] = []) {
    super(next);
    this.log = log;
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    this.log.push({ file: this.name, kind: 'write', offset, bytes: bytes.slice() });
    yield* super.write(offset, bytes);
  }

  override *zero(offset: number, length: number): Io<void> {
    yield* this.write(offset, new Uint8Array(length));
  }

  override *discard(offset: number, length: number): Io<void> {
    const inside = Math.min(length, this.size - offset);
    if (inside > 0) yield* this.write(offset, new Uint8Array(inside));
  }

  override *truncate(size: number): Io<void> {
    this.log.push({ file: this.name, kind: 'truncate', size });
    yield* super.truncate(size);
  }

  override *barrier(): Io<void> {
    yield* super.barrier();
    this.log.push({ file: this.name, kind: 'barrier' });
  }

  override *flush(): Io<void> {
    yield* super.flush();
    this.log.push({ file: this.name, kind: 'flush' });
  }
}
