/**
 * A `Blob` or `File` of the browser, read-only: a disk image the user picked, or a file that another tab may be writing. Asynchronous,
 * and a read costs about a millisecond whatever its length, so all reads use a few cached, aligned pieces, and pieces are read ahead of a reader in order.
 */
import { check, FUNCTION, objectWith, optionsOf, TEXT } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { KiB } from '../base/units.ts';
import { BlockReader } from './block-reader.ts';
import { browserError, changed } from './browser-errors.ts';
import { requireWritable, type Storage, type StorageExtent } from './storage.ts';

const PIECE = 256 * KiB;
/** Pieces fetched in one request: a request costs as much as the bytes of a mebibyte. */
const BATCH = 4;
/** Pieces read ahead at most: other requests are under way while the reader uses one. */
const AHEAD = 3 * BATCH;
/** Pieces kept (8 MiB). */
const PIECES_KEPT = 32;

/** The options of `blobStorage`. */
export interface BlobStorageOptions {
  /** For messages; default: the file's name. */
  readonly name?: string;
  /** See `Storage.identity`. */
  readonly identity?: string;
  /**
   * For a file that another tab may be writing: tells whether the file is still the same. Called after every fetch, so that bytes
   * read during a change are never returned; reads throw `in-use` once it says no.
   */
  readonly unchanged?: () => Promise<boolean>;
}

const OPTIONS = optionsOf<BlobStorageOptions>({ name: TEXT, identity: TEXT, unchanged: FUNCTION });
const BLOB = objectWith('a Blob or File', ['size', 'slice', 'arrayBuffer']);

/** A read-only storage over a `Blob` or `File`. Reads throw `in-use` if the file was changed or removed since it was picked. */
export function blobStorage(blob: Blob, options: BlobStorageOptions = {}): BlobStorage {
  check('blobStorage', 'blob', blob, BLOB);
  check('blobStorage', 'options', options, OPTIONS);
  return new BlobStorage(blob, options);
}

/** See `blobStorage`. */
export class BlobStorage implements Storage {
  readonly name: string;
  readonly identity?: string;
  readonly size: number;
  readonly modified: number | undefined;
  readonly readOnly = true;
  readonly synchronous = false;
  readonly #blob: Blob;
  readonly #unchanged: BlobStorageOptions['unchanged'];
  readonly #pieces = new BlockReader<Uint8Array>({
    kept: PIECES_KEPT,
    batch: BATCH,
    ahead: AHEAD,
    fetch: (indices) => this.#fetchPieces(indices),
  });
  #open = true;

  constructor(blob: Blob, { name, identity, unchanged }: BlobStorageOptions) {
    this.name = name ?? ('name' in blob && typeof blob.name === 'string' ? blob.name : 'blob');
    if (identity !== undefined) this.identity = identity;
    this.size = blob.size;
    this.modified = 'lastModified' in blob && typeof blob.lastModified === 'number' ? blob.lastModified : undefined;
    this.#blob = blob;
    this.#unchanged = unchanged;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    if (!this.#open) throw new DiskError('io', `${this.name} is closed`);
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    if (length < into.length) into.fill(0, length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const first = Math.floor(at / PIECE);
      const last = Math.min(first + AHEAD - 1, Math.floor((offset + length - 1) / PIECE));
      for (const piece of yield* this.#pieces.read(first, last, Math.ceil(this.size / PIECE))) {
        const within = (offset + done) % PIECE;
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

  /** Neighbouring pieces are fetched together. */
  async #fetchPieces(indices: readonly number[]): Promise<Map<number, Uint8Array>> {
    const runs: number[][] = [];
    for (const index of indices) {
      const run = runs.at(-1);
      if (run?.at(-1) === index - 1) run.push(index);
      else runs.push([index]);
    }
    const pieces = new Map<number, Uint8Array>();
    const fetched = runs.map(async (run) => {
      const start = (run[0] as number) * PIECE;
      const bytes = await this.#fetch(start, Math.min(run.length * PIECE, this.size - start));
      for (const [i, index] of run.entries()) pieces.set(index, bytes.subarray(i * PIECE, (i + 1) * PIECE));
    });
    await Promise.all(fetched);
    return pieces;
  }

  async #fetch(offset: number, length: number): Promise<Uint8Array> {
    let buffer: ArrayBuffer;
    try {
      buffer = await this.#blob.slice(offset, offset + length).arrayBuffer();
      if (this.#unchanged && !(await this.#unchanged())) throw changed(this.name);
    } catch (error) {
      // Our code aborts no read: Firefox reports this of a file that has changed.
      throw error instanceof DOMException && error.name === 'AbortError' ? changed(this.name) : browserError(this.name, error);
    }
    if (buffer.byteLength !== length)
      throw new DiskError('io', `${this.name}: the browser gave ${buffer.byteLength} of ${length} bytes: the file was changed, pick it again`, {
        offset,
      });
    return new Uint8Array(buffer);
  }
}
