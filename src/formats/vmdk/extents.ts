/** The parts of a disk: each maps bytes from its own beginning on. A flat one has its bytes in their order in a file, one of zeros has none. */
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { Extent, Placement } from '../driver.ts';
import { FORMAT, type Shape } from './layout.ts';

/** A growth that nothing shows yet. */
export interface Growth {
  /** Makes all of it durable, and then the new size. */
  show(): Io<void>;
  /** Forgets it. */
  back(): void;
}

/** How a part lies on its disk. */
export interface PartOptions {
  /** Bytes of the disk that are taken of the extent. */
  readonly size: number;
  /** See `DiskPart.kind`. */
  readonly kind: string;
  /** Bytes of the disk before the part. */
  readonly start: number;
  readonly readOnly: boolean;
}

/** Offsets count from the beginning of the part, and requests lie inside it. Otherwise as in `ImageDriver`, whose members these are. */
export interface DiskPart {
  /** Bytes. */
  readonly size: number;
  /** The file; none for zeros. */
  readonly storage?: Storage;
  /** `SPARSE`, or what the descriptor's line says. */
  readonly kind: string;
  /** Bytes that are allocated as one; 0: nothing is allocated. */
  readonly grainSize: number;
  readonly compressed: boolean;
  /** Why the part can only be read. */
  readonly fixed?: string | undefined;
  /** Of a part with tables, or one that lacks its own. */
  readonly shape?: Shape;
  look(offset: number, length: number): Extent | undefined;
  load?(offset: number): Io<void>;
  /** The bytes of a fresh placement count from the beginning of the disk. */
  place(offset: number, length: number): Placement | undefined;
  prepare?(offset: number): Io<void>;
  /** `over`: the image has one below. */
  zero(offset: number, length: number, options: { unmap: boolean; over: boolean }): Io<number>;
  /** Gives whole grains back. Absent: nothing can be given back. */
  discard?(offset: number, length: number, options: { over: boolean }): Io<void>;
  decode?(offset: number, into: Uint8Array): Io<void>;
  writeCompressed?(offset: number, bytes: Uint8Array): Io<void>;
  /** Called when all has been written, of a part that is written in order. */
  finish?(): Io<void>;
  /** Makes the part larger. Requests reach all of it at once; other programs do when it is shown. */
  grow?(size: number): Io<Growth>;
  /** Gives up all that the part holds; a cut leaves some of it. Durable when it returns. */
  makeEmpty?(): Io<void>;
  flush(): Io<void>;
}

/** Bytes in their order in a file, from `start` on. */
export class FlatPart implements DiskPart {
  readonly grainSize = 0;
  readonly compressed = false;
  readonly kind: string;
  size: number;
  readonly storage: Storage;
  readonly #start: number;

  constructor(storage: Storage, { size, start, kind }: { size: number; start: number; kind: string }) {
    this.storage = storage;
    this.size = size;
    this.#start = start;
    this.kind = kind;
    if (start + size > storage.size)
      throw new DiskError('corrupt', `${FORMAT}: ${storage.name} should have ${start + size} bytes, it has ${storage.size}`, {
        format: FORMAT,
        field: 'extent',
      });
  }

  look(offset: number, length: number): Extent & { kind: 'data' } {
    return { kind: 'data', length, storage: this.storage, hostOffset: this.#start + offset };
  }

  place(offset: number, length: number): Placement {
    return this.look(offset, length);
  }

  *zero(offset: number, length: number, { unmap }: { unmap: boolean }): Io<number> {
    yield* this.storage.zero(this.#start + offset, length, { unmap });
    return length;
  }

  /** A file that is longer than the descriptor states is none the worse for it: so it grows first. */
  *grow(size: number): Io<Growth> {
    const { storage, size: old } = this;
    const end = this.#start + size;
    const behind = Math.min(end, storage.size) - this.#start - old;
    if (behind > 0) yield* storage.zero(this.#start + old, behind);
    if (storage.size < end) yield* storage.truncate(end);
    this.size = size;
    return {
      show: () => this.flush(),
      back: () => {
        this.size = old;
      },
    };
  }

  *flush(): Io<void> {
    yield* this.storage.flush();
  }
}

/** Zeros without a file. */
export class ZeroPart implements DiskPart {
  readonly grainSize = 0;
  readonly compressed = false;
  readonly kind = 'ZERO';
  readonly fixed = 'an extent of zeros has no file';
  readonly size: number;

  constructor(size: number) {
    this.size = size;
  }

  look(_: number, length: number): Extent {
    return { kind: 'zero', length };
  }

  place(): never {
    throw unsupported(FORMAT, `the disk cannot be written there: ${this.fixed}`, { field: 'extent' });
  }

  *zero(_: number, length: number): Io<number> {
    return length;
  }

  *flush(): Io<void> {}
}

/** A part whose file is left closed: its facts are known, and nothing else. */
export class ClosedPart implements DiskPart {
  readonly grainSize = 0;
  readonly compressed = false;
  readonly fixed = 'an extent is closed';
  readonly kind: string;
  readonly size: number;

  constructor({ kind, size }: { kind: string; size: number }) {
    this.kind = kind;
    this.size = size;
  }

  look(): undefined {
    return undefined;
  }

  *load(): Io<void> {
    throw new DiskError('refused', `${FORMAT}: the extents were left closed (noData)`, { format: FORMAT, field: 'extent' });
  }

  place(): undefined {
    return undefined;
  }

  *zero(): Io<number> {
    return 0;
  }

  *flush(): Io<void> {}
}
