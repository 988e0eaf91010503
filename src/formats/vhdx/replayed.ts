/** A storage as it will be when a log was replayed, for reading: the storage below stays as it is. */
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage, StorageExtent } from '../../storage/storage.ts';
import { PAGE, type Range } from './layout.ts';
import type { Replay } from './log.ts';

/** See the top of this file. */
export class ReplayedStorage implements Storage {
  readonly readOnly = true;
  readonly size: number;
  readonly #next: Storage;
  readonly #zeros: Range[] = [];
  /** What overlays the zeros too. */
  readonly #pages = new Map<number, Uint8Array>();

  constructor(next: Storage, { changes, fileSize }: Replay) {
    this.#next = next;
    this.size = fileSize;
    for (const change of changes) {
      if ('bytes' in change) {
        this.#pages.set(change.offset, change.bytes);
        continue;
      }
      const end = change.offset + change.zeros;
      this.#zeros.push({ start: change.offset, end });
      for (const offset of this.#pages.keys()) if (offset >= change.offset && offset < end) this.#pages.delete(offset);
    }
  }

  get name(): string {
    return this.#next.name;
  }

  get synchronous(): boolean {
    return this.#next.synchronous;
  }

  get requestAlignment(): number | undefined {
    return this.#next.requestAlignment;
  }

  get debugEvent(): Storage['debugEvent'] {
    return this.#next.debugEvent;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    yield* this.#next.read(offset, into);
    for (const { start, end } of this.#zeros) into.fill(0, Math.max(0, start - offset), Math.max(0, end - offset));
    for (let at = offset - (offset % PAGE); at < offset + into.length; at += PAGE) {
      const page = this.#pages.get(at);
      const from = Math.max(0, offset - at);
      if (page) into.set(page.subarray(from, Math.min(PAGE, offset + into.length - at)), at + from - offset);
    }
  }

  *map(_: number, length: number): Io<StorageExtent> {
    return { length, zero: false };
  }

  write(): Io<void> {
    return this.#refuse();
  }

  zero(): Io<void> {
    return this.#refuse();
  }

  discard(): Io<void> {
    return this.#refuse();
  }

  truncate(): Io<void> {
    return this.#refuse();
  }

  *barrier(): Io<void> {}

  *flush(): Io<void> {}

  *close(): Io<void> {}

  *#refuse(): Io<void> {
    throw new DiskError('read-only', `${this.name} is open read-only`);
  }
}
