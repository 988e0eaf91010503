/**
 * The medium in a drive: a disk on either side of the worker, with its verbs as coroutines. A `Disk` of this thread runs without a promise
 * where its storage does; any other disk is called by promises. The drive checks bounds.
 */
import { type Io, wait } from '../base/io.ts';
import { SECTOR } from '../base/units.ts';
import type { AsyncDisk } from '../disk/async-disk.ts';
import { Disk } from '../disk/disk.ts';
import type { Secret, SecretCallback } from '../disk/secrets.ts';
import { RequestAligner } from '../layers/align.ts';

/** A disk that a drive takes. The hooks are for media that can change by themselves; image files have none of them. */
export interface Medium
  extends Pick<
      AsyncDisk,
      'size' | 'format' | 'readOnly' | 'synchronous' | 'info' | 'close' | 'read' | 'write' | 'zero' | 'discard' | 'flush' | 'resize'
    >,
    Partial<Pick<AsyncDisk, 'keepers' | 'onLost' | 'map' | 'snapshots' | 'bitmaps' | 'writeVmState' | 'clearVmState'>> {
  /** Bytes: all requests must begin and end at multiples of it. Missing for image files, which take any. */
  readonly requestAlignment?: number;
  /** See `Disk.hasZeroInit`; missing: no. */
  readonly hasZeroInit?: boolean;
  /** Whether a medium is really inserted in the device behind it. */
  isInserted?(): boolean;
  /** Whether the medium was exchanged since the last call. */
  mediaChanged?(): boolean;
  /** The guest moves the tray. */
  moveTray?(open: boolean): void;
  /** The guest locks or frees the tray. */
  lock?(locked: boolean): void;
  /** Keys of encrypted images; see `Disk`. */
  readonly encrypted?: boolean;
  /** Images whose passphrase is missing; see `Disk.missingKeys`. */
  readonly missingKeys?: readonly string[];
  /** The image to ask a person about; see `Disk.encryptedFile`. */
  readonly encryptedFile?: string | undefined;
  /** Takes a passphrase for them; see `Disk.setKey`. */
  setKey?(secret: Secret | SecretCallback): Promise<void>;
  /** See `Disk.writeCompressed`. */
  writeCompressed?(offset: number, bytes: Uint8Array): Promise<void>;
  /** See `Disk.layout`. */
  readonly layout?: { readonly clusterSize: number; readonly vmStateOffset: number };
}

/** The verbs of a medium, under `yield*`. Meanings and errors are `AsyncDisk`'s. */
export interface MediumIo {
  read(offset: number, into: Uint8Array): Io<void>;
  write(offset: number, bytes: Uint8Array): Io<void>;
  zero(offset: number, length: number, options: { unmap: boolean }): Io<void>;
  discard(offset: number, length: number): Io<void>;
  /** Flushes the bytes that have reached the medium: the drive drains the keepers. */
  flush(): Io<void>;
  resize(size: number): Io<void>;
}

/** The coroutines of a medium. The medium gets whole blocks only if it asks for them, or if the drive's blocks are larger than a sector. */
export function mediumIo(medium: Medium, blockSize: number): MediumIo {
  const io = medium instanceof Disk ? diskIo(medium) : new AskedMedium(medium);
  const unit = Math.max(medium.requestAlignment ?? 1, blockSize > SECTOR ? blockSize : 1);
  return unit > 1 ? alignedIo(io, medium, unit) : io;
}

function alignedIo(io: MediumIo, medium: Medium, unit: number): MediumIo {
  const target = {
    get size() {
      return medium.size;
    },
    read: io.read.bind(io),
    write: io.write.bind(io),
    *zero(offset: number, length: number, { unmap = false }: { unmap?: boolean } = {}): Io<void> {
      yield* io.zero(offset, length, { unmap });
    },
    discard: io.discard.bind(io),
  };
  const aligner = new RequestAligner(target, unit, { fixedSize: true });
  return {
    read: (offset, into) => aligner.read(offset, into),
    write: (offset, bytes) => aligner.write(offset, bytes),
    zero: (offset, length, options) => aligner.zero(offset, length, options),
    discard: (offset, length) => aligner.discard(offset, length),
    flush: () => io.flush(),
    resize: (size) => aligner.alone(0, Number.MAX_SAFE_INTEGER, true, () => io.resize(size)),
  };
}

function diskIo({ node }: Disk): MediumIo {
  return {
    read: (offset, into) => node.read(offset, into),
    write: (offset, bytes) => node.write(offset, bytes),
    zero: (offset, length, options) => node.zero(offset, length, options),
    discard: (offset, length) => node.discard(offset, length),
    flush: () => node.flush(),
    resize: (size) => node.truncate(size),
  };
}

/** A medium that is called by promises. */
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
    yield* wait(this.#medium.flush({ below: true }));
  }

  *resize(size: number): Io<void> {
    yield* wait(this.#medium.resize(size));
  }
}
