/**
 * A storage in memory, in chunks that exist only where bytes were written: a sparse 1 TiB file takes only the memory of its chunks. It is
 * "durable" at once, so `flush` and `barrier` do nothing. Used for scratch images, temporary overlays and tests.
 */
import { BYTES, check, either, optionsOf, TEXT } from '../base/arguments.ts';
import { isZero } from '../base/bytes.ts';
import type { Io } from '../base/io.ts';
import { requireWritable, STORAGE_OPTIONS, type Storage, type StorageExtent, type StorageOptions } from './storage.ts';

const CHUNK = 64 * 1024;

/** The options of `memoryStorage`, which also takes bytes alone. */
export interface MemoryStorageOptions extends StorageOptions {
  /** For messages. */
  readonly name?: string;
  /** Initial contents; copied. */
  readonly bytes?: Uint8Array;
}

const OPTIONS = either(optionsOf<MemoryStorageOptions>({ ...STORAGE_OPTIONS, name: TEXT, bytes: BYTES }), BYTES);

/** A storage in memory, empty or with these bytes, which are copied. Synchronous. */
export function memoryStorage(options: MemoryStorageOptions | Uint8Array = {}): MemoryStorage {
  check('memoryStorage', 'options', options, OPTIONS);
  return new MemoryStorage(BYTES.fits(options) ? { bytes: options as Uint8Array } : (options as MemoryStorageOptions));
}

/** Bytes in memory, sparse. */
export class MemoryStorage implements Storage {
  readonly name: string;
  readonly readOnly: boolean;
  readonly synchronous = true;
  readonly sparse = true;
  readonly #chunks = new Map<number, Uint8Array>();
  #size = 0;

  constructor({ name = 'memory', bytes, readOnly = false }: MemoryStorageOptions) {
    this.name = name;
    this.readOnly = readOnly;
    if (bytes) this.#put(0, bytes);
  }

  get size(): number {
    return this.#size;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    for (let done = 0; done < into.length; ) {
      const { index, within, length } = chunkAt(offset + done, into.length - done);
      const chunk = this.#chunks.get(index);
      if (chunk) into.set(chunk.subarray(within, within + length), done);
      else into.fill(0, done, done + length);
      done += length;
    }
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    requireWritable(this);
    this.#put(offset, bytes);
  }

  *zero(offset: number, length: number): Io<void> {
    requireWritable(this);
    this.#clear(offset, Math.min(length, this.#size - offset));
  }

  *discard(offset: number, length: number): Io<void> {
    requireWritable(this);
    this.#clear(offset, Math.min(length, this.#size - offset));
  }

  *truncate(size: number): Io<void> {
    requireWritable(this);
    // Whole chunks, so that none is left behind the end.
    if (size < this.#size) this.#clear(size, Math.ceil(this.#size / CHUNK) * CHUNK - size);
    this.#size = size;
  }

  *map(offset: number, length: number): Io<StorageExtent> {
    const zeroAt = (at: number) => !this.#chunks.has(Math.floor(at / CHUNK));
    const zero = zeroAt(offset);
    let end = (Math.floor(offset / CHUNK) + 1) * CHUNK;
    while (end < offset + length && zeroAt(end) === zero) end += CHUNK;
    return { length: Math.min(end - offset, length), zero };
  }

  *barrier(): Io<void> {}
  *flush(): Io<void> {}
  *close(): Io<void> {}

  *allocatedSize(): Io<number> {
    return this.storedSize;
  }

  /** Bytes of memory that it takes. */
  get storedSize(): number {
    return this.#chunks.size * CHUNK;
  }

  /** A copy of the whole contents. */
  bytes(): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.#size);
    for (const [index, chunk] of this.#chunks) all.set(chunk.subarray(0, Math.min(CHUNK, this.#size - index * CHUNK)), index * CHUNK);
    return all;
  }

  #put(offset: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    for (let done = 0; done < bytes.length; ) {
      const { index, within, length } = chunkAt(offset + done, bytes.length - done);
      const part = bytes.subarray(done, done + length);
      let chunk = this.#chunks.get(index);
      if (!chunk && !isZero(part)) {
        chunk = new Uint8Array(CHUNK);
        this.#chunks.set(index, chunk);
      }
      chunk?.set(part, within);
      done += length;
    }
    this.#size = Math.max(this.#size, offset + bytes.length);
  }

  #clear(offset: number, length: number): void {
    if (length / CHUNK > this.#chunks.size) {
      // The range has many more chunks than exist: visit those that exist.
      for (const [index, chunk] of this.#chunks) {
        const from = Math.max(0, offset - index * CHUNK);
        const to = Math.min(CHUNK, offset + length - index * CHUNK);
        if (from === 0 && to === CHUNK) this.#chunks.delete(index);
        else if (from < to) chunk.fill(0, from, to);
      }
      return;
    }
    for (let done = 0; done < length; ) {
      const { index, within, length: part } = chunkAt(offset + done, length - done);
      if (part === CHUNK) this.#chunks.delete(index);
      else this.#chunks.get(index)?.fill(0, within, within + part);
      done += part;
    }
  }
}

/** The chunk that holds `offset`, the place in it, and how much of `length` it holds. */
function chunkAt(offset: number, length: number): { index: number; within: number; length: number } {
  const index = Math.floor(offset / CHUNK);
  const within = offset - index * CHUNK;
  return { index, within, length: Math.min(length, CHUNK - within) };
}
