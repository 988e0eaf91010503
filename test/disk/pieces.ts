/**
 * A format for tests that uses all that a driver may ask of other files: the image is a text that names extents, each of which has one piece of the disk, and a
 * parent, by several names and an id. A piece without an extent is the parent's. Its images are made as VMDK's and VHD's are.
 */
import { DiskError } from '../../src/base/errors.ts';
import type { Io } from '../../src/base/io.ts';
import type { CreateParameters, FormatDescriptor, OpenParameters } from '../../src/formats/descriptor.ts';
import type { BelowReference, Extent, FormatInfo, ImageDriver, Placement } from '../../src/formats/driver.ts';
import { NO_CAPABILITIES } from '../../src/formats/recognised.ts';
import { readBytes, type Storage } from '../../src/storage/storage.ts';

export const PIECE = 4096;
const MAGIC = '{"pieces":';

/** The text of an image. */
export interface Pieces {
  /** Names of the extents; null: the piece is the parent's. */
  readonly pieces: readonly (string | null)[];
  readonly id?: string;
  readonly parent?: BelowReference;
}

export const textOf = (image: Pieces): Uint8Array<ArrayBuffer> => new TextEncoder().encode(JSON.stringify(image));

class PiecesImage implements ImageDriver {
  readonly format = 'pieces';
  readonly clusterSize = 0;
  readonly storage: Storage;
  readonly files: readonly Storage[];
  readonly image: Pieces;
  readonly #extents: readonly (Storage | undefined)[];

  constructor(storage: Storage, image: Pieces, extents: readonly (Storage | undefined)[]) {
    this.storage = storage;
    this.image = image;
    this.#extents = extents;
    this.files = extents.filter((one) => one !== undefined);
  }

  get size(): number {
    return this.#extents.length * PIECE;
  }

  get backing(): BelowReference | undefined {
    return this.image.parent;
  }

  requireBelow(below: ImageDriver): void {
    const wanted = this.image.parent?.identity;
    if (wanted !== undefined && below.size > this.size) throw new DiskError('unsupported', 'pieces: a longer image is never below');
    if (wanted !== undefined && !(below instanceof PiecesImage && below.image.id === wanted))
      throw new DiskError('refused', `pieces: ${below.storage.name} is not the image ${wanted}`, { field: 'id' });
  }

  look(offset: number, length: number): Extent {
    const storage = this.#extents[Math.floor(offset / PIECE)];
    const hostOffset = offset % PIECE;
    const inside = Math.min(length, PIECE - hostOffset);
    return storage ? { kind: 'data', length: inside, storage, hostOffset } : { kind: 'backing', length: inside };
  }

  place(offset: number, length: number): Placement {
    const extent = this.look(offset, length);
    if (extent.kind !== 'data') throw new DiskError('unsupported', 'pieces: the parent is not written');
    return extent;
  }

  info(): FormatInfo {
    return {};
  }

  *flush(): Io<void> {
    for (const file of this.files) yield* file.flush();
  }

  *close(): Io<void> {
    for (const file of this.files) if (!file.readOnly) yield* file.flush();
  }
}

function* open(storage: Storage, { openFile }: OpenParameters): Io<PiecesImage> {
  const image = JSON.parse(new TextDecoder().decode(yield* readBytes(storage, 0, storage.size))) as Pieces;
  const extents: (Storage | undefined)[] = [];
  for (const name of image.pieces) extents.push(name === null ? undefined : yield* openFile?.({ kind: 'extent', name }) ?? none());
  return new PiecesImage(storage, image, extents);
}

function* create(storage: Storage, { size, options, makeFile }: CreateParameters): Io<void> {
  const names = String(options.names).split(',');
  for (const name of names) {
    const extent = yield* makeFile?.({ kind: 'extent', name }) ?? none();
    yield* extent.truncate(size / names.length);
    yield* extent.flush();
  }
  yield* storage.write(0, textOf({ pieces: names }));
  yield* storage.flush();
}

function none(): never {
  throw new Error('no door');
}

export const pieces: FormatDescriptor = {
  name: 'pieces',
  aliases: [],
  title: 'a text and its pieces',
  extensions: [],
  probe: (head) => (new TextDecoder().decode(head).startsWith(MAGIC) ? 100 : 0),
  capabilities: { ...NO_CAPABILITIES, read: true, write: true, create: true, backing: true },
  createOptions: [{ name: 'names', kind: 'text', help: 'names of the extents' }],
  limits: [],
  open,
  create,
};
