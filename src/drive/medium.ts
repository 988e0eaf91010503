/**
 * What lies in a drive: a disk on either side of the worker, with its verbs as coroutines. A `Disk` of this thread runs without a promise
 * where its storage does; any other disk is asked by promises. Bounds are the drive's to check.
 */
import { type Io, wait } from '../base/io.ts';
import type { AsyncDisk } from '../disk/async-disk.ts';
import { Disk } from '../disk/disk.ts';

/** A disk that a drive takes. The hooks are for media with a life of their own; image files have none of them. */
export interface Medium extends Pick<AsyncDisk, 'size' | 'format' | 'readOnly' | 'synchronous' | 'info' | 'close' | MediumVerb> {
  /** Whether there is really something in the drive behind it. */
  isInserted?(): boolean;
  /** Whether it was exchanged since it was asked last. */
  mediaChanged?(): boolean;
  /** The guest moves the tray. */
  moveTray?(open: boolean): void;
  /** The guest locks or frees the tray. */
  lock?(locked: boolean): void;
}

type MediumVerb = 'read' | 'write' | 'zero' | 'discard' | 'flush' | 'resize';

/** The verbs of a medium, under `yield*`. Meanings and errors are `AsyncDisk`'s. */
export interface MediumIo {
  read(offset: number, into: Uint8Array): Io<void>;
  write(offset: number, bytes: Uint8Array): Io<void>;
  zero(offset: number, length: number, options: { unmap: boolean }): Io<void>;
  discard(offset: number, length: number): Io<void>;
  flush(): Io<void>;
  resize(size: number): Io<void>;
}

/** The coroutines of a medium. */
export function mediumIo(medium: Medium): MediumIo {
  if (!(medium instanceof Disk)) return new AskedMedium(medium);
  const { node } = medium;
  return {
    read: (offset, into) => node.read(offset, into),
    write: (offset, bytes) => node.write(offset, bytes),
    zero: (offset, length, options) => node.zero(offset, length, options),
    discard: (offset, length) => node.discard(offset, length),
    flush: () => node.flush(),
    resize: (size) => node.truncate(size),
  };
}

/** A medium that is asked by promises. */
class AskedMedium implements MediumIo {
  readonly #medium: Medium;

  constructor(medium: Medium) {
    this.#medium = medium;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    yield* wait(this.#medium.read(offset, into));
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* wait(this.#medium.write(offset, bytes));
  }

  *zero(offset: number, length: number, options: { unmap: boolean }): Io<void> {
    yield* wait(this.#medium.zero(offset, length, options));
  }

  *discard(offset: number, length: number): Io<void> {
    yield* wait(this.#medium.discard(offset, length));
  }

  *flush(): Io<void> {
    yield* wait(this.#medium.flush());
  }

  *resize(size: number): Io<void> {
    yield* wait(this.#medium.resize(size));
  }
}
