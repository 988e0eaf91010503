/**
 * A storage that keeps a log of every change before it passes it on: writes with their bytes, truncations, barriers and flushes. Tests
 * rebuild from it what a power cut could have left; users can see what an emulator does to its disk.
 */
import type { Io } from '../base/io.ts';
import type { Storage, StorageExtent } from '../storage/storage.ts';

/** One change. Offsets and sizes are bytes. `flush` and `barrier` are logged when they have returned. */
export type LogEntry =
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly size: number }
  | { readonly kind: 'barrier' }
  | { readonly kind: 'flush' };

/** Records what goes through it to `next`. A range zeroed or discarded is logged as a write of zeros. */
export class RecorderStorage implements Storage {
  readonly log: LogEntry[] = [];
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

  get synchronous(): boolean {
    return this.#next.synchronous;
  }

  read(offset: number, into: Uint8Array): Io<void> {
    return this.#next.read(offset, into);
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    this.log.push({ kind: 'write', offset, bytes: bytes.slice() });
    yield* this.#next.write(offset, bytes);
  }

  *zero(offset: number, length: number): Io<void> {
    yield* this.write(offset, new Uint8Array(length));
  }

  *discard(offset: number, length: number): Io<void> {
    const inside = Math.min(length, this.size - offset);
    if (inside > 0) yield* this.write(offset, new Uint8Array(inside));
  }

  *truncate(size: number): Io<void> {
    this.log.push({ kind: 'truncate', size });
    yield* this.#next.truncate(size);
  }

  map(offset: number, length: number): Io<StorageExtent> {
    return this.#next.map(offset, length);
  }

  *barrier(): Io<void> {
    yield* this.#next.barrier();
    this.log.push({ kind: 'barrier' });
  }

  *flush(): Io<void> {
    yield* this.#next.flush();
    this.log.push({ kind: 'flush' });
  }

  close(): Io<void> {
    return this.#next.close();
  }
}
