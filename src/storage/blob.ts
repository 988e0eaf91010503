/**
 * A `Blob` or `File` of the browser, read-only: a disk image the user picked, or a file somebody else may be writing. Asynchronous,
 * and a read costs about a millisecond whatever its length, so small reads go through a few cached, aligned pieces.
 */
import { DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import { Lru } from '../base/lru.ts';
import { KiB } from '../base/units.ts';
import { browserError, changed } from './browser-errors.ts';
import { requireWritable, type Storage, type StorageExtent } from './storage.ts';

const PIECE = 256 * KiB;
const PIECES_KEPT = 16;

export interface BlobStorageOptions {
  /** For messages; default: the file's name. */
  readonly name?: string;
  /** See `Storage.identity`. */
  readonly identity?: string;
  /**
   * For a file that somebody else may be writing: tells whether it is still what it was. Asked after every fetch, so that nothing
   * read while it was changing is ever returned; reads throw `in-use` once it says no.
   */
  readonly unchanged?: () => Promise<boolean>;
}

/** A read-only storage over a `Blob` or `File`. Reads throw `in-use` if the file was changed or removed since it was picked. */
export function blobStorage(blob: Blob, options: BlobStorageOptions = {}): BlobStorage {
  return new BlobStorage(blob, options);
}

/** See `blobStorage`. */
export class BlobStorage implements Storage {
  readonly name: string;
  readonly identity?: string;
  readonly size: number;
  readonly readOnly = true;
  readonly synchronous = false;
  readonly #blob: Blob;
  readonly #unchanged: BlobStorageOptions['unchanged'];
  /** Pieces read or being read, by index. */
  readonly #pieces = new Lru<number, Promise<Uint8Array>>(PIECES_KEPT);
  #open = true;

  constructor(blob: Blob, { name, identity, unchanged }: BlobStorageOptions) {
    this.name = name ?? ('name' in blob && typeof blob.name === 'string' ? blob.name : 'blob');
    if (identity !== undefined) this.identity = identity;
    this.size = blob.size;
    this.#blob = blob;
    this.#unchanged = unchanged;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    if (!this.#open) throw new DiskError('io', `${this.name} is closed`);
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    if (length < into.length) into.fill(0, length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const index = Math.floor(at / PIECE);
      const within = at - index * PIECE;
      if (within === 0 && length - done >= PIECE) {
        const whole = length - done - ((length - done) % PIECE);
        into.set(yield* wait(this.#fetch(at, whole)), done);
        done += whole;
      } else {
        const piece = yield* wait(this.#piece(index));
        const part = piece.subarray(within, within + length - done);
        into.set(part, done);
        done += part.length;
      }
    }
  }

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

  *close(): Io<void> {
    this.#open = false;
    this.#pieces.clear();
  }

  #piece(index: number): Promise<Uint8Array> {
    const known = this.#pieces.get(index);
    if (known) return known;
    const start = index * PIECE;
    const piece = this.#fetch(start, Math.min(PIECE, this.size - start));
    // A failure is told to those who wait, and not kept.
    piece.catch(() => this.#pieces.delete(index));
    this.#pieces.set(index, piece);
    if (this.#pieces.size > PIECES_KEPT) {
      const victim = this.#pieces.victim(() => true);
      if (victim) this.#pieces.delete(victim[0]);
    }
    return piece;
  }

  async #fetch(offset: number, length: number): Promise<Uint8Array> {
    let buffer: ArrayBuffer;
    try {
      buffer = await this.#blob.slice(offset, offset + length).arrayBuffer();
      if (this.#unchanged && !(await this.#unchanged())) throw changed(this.name);
    } catch (error) {
      throw browserError(this.name, error);
    }
    if (buffer.byteLength !== length)
      throw new DiskError('io', `${this.name}: the browser gave ${buffer.byteLength} of ${length} bytes: the file was changed, pick it again`, {
        offset,
      });
    return new Uint8Array(buffer);
  }
}
