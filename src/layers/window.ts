/** A stretch of another storage, only to be read: a file inside an archive. Closing it leaves the storage below open. */
import type { Io } from '../base/io.ts';
import { requireWritable, type Storage, type StorageExtent } from '../storage/storage.ts';

/** Bytes that are only read. */
export abstract class ReadStorage implements Storage {
  readonly readOnly = true;
  abstract readonly name: string;
  abstract readonly size: number;
  abstract readonly synchronous: boolean;

  abstract read(offset: number, into: Uint8Array): Io<void>;

  *write(): Io<void> {
    requireWritable(this);
  }

  *zero(): Io<void> {
    requireWritable(this);
  }

  *discard(): Io<void> {
    requireWritable(this);
  }

  *truncate(): Io<void> {
    requireWritable(this);
  }

  *map(_offset: number, length: number): Io<StorageExtent> {
    return { length, zero: false };
  }

  *barrier(): Io<void> {}
  *flush(): Io<void> {}
  *close(): Io<void> {}
}

/** See the top of this file. */
export class WindowStorage extends ReadStorage {
  readonly name: string;
  readonly size: number;
  readonly #next: Storage;
  readonly #offset: number;

  /** The window's bytes must lie inside the storage. */
  constructor(next: Storage, { name, offset, length }: { readonly name: string; readonly offset: number; readonly length: number }) {
    super();
    this.name = name;
    this.size = length;
    this.#next = next;
    this.#offset = offset;
  }

  get synchronous(): boolean {
    return this.#next.synchronous;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    const inside = Math.max(0, Math.min(into.length, this.size - offset));
    if (inside > 0) yield* this.#next.read(this.#offset + offset, into.subarray(0, inside));
    if (inside < into.length) into.fill(0, inside);
  }
}

/** Storages one after another, as one that is only read. Closing it leaves them open. */
export class RowStorage extends ReadStorage {
  readonly name: string;
  readonly size: number;
  readonly #row: readonly { readonly storage: Storage; readonly start: number }[];

  constructor(name: string, storages: readonly Storage[]) {
    super();
    this.name = name;
    let start = 0;
    this.#row = storages.map((storage) => {
      const place = { storage, start };
      start += storage.size;
      return place;
    });
    this.size = start;
  }

  get synchronous(): boolean {
    return this.#row.every(({ storage }) => storage.synchronous);
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    into.fill(0);
    for (const { storage, start } of this.#row) {
      const from = Math.max(offset, start);
      const to = Math.min(offset + into.length, start + storage.size);
      if (from < to) yield* storage.read(from - start, into.subarray(from - offset, to - offset));
    }
  }
}
