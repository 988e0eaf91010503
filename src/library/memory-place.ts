/** Images in memory, for windows in which the browser keeps nothing: they end with the engine. */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { FilterStorage } from '../layers/filter.ts';
import { changed } from '../storage/browser-errors.ts';
import { type MemoryStorage, memoryStorage } from '../storage/memory.ts';
import type { ImagePlace } from './image-place.ts';

interface KeptImage {
  readonly storage: MemoryStorage;
  /** Counts writes. */
  changes: number;
}

/** A new place, without images. */
export function memoryPlace(): ImagePlace {
  const images = new Map<string, KeptImage>();
  const find = (id: string): KeptImage => {
    const found = images.get(id);
    if (!found) throw new DiskError('not-found', `${id}: there is no such image in memory`);
    return found;
  };
  return {
    async create(id) {
      if (images.has(id)) throw new DiskError('refused', `${id} exists already`);
      const image = { storage: memoryStorage({ name: id }), changes: 0 };
      images.set(id, image);
      return new Writer(image);
    },
    open: async (id, { readOnly }) => (readOnly ? new View(find(id)) : new Writer(find(id))),
    view: async (id) => new View(find(id)),
    still: async (id) => new View(find(id)),
    async remove(id) {
      images.delete(id);
    },
    storedSize: async (id) => {
      const image = images.get(id);
      return image ? image.storage.storedSize : 0;
    },
    ids: async () => [...images.keys()],
  };
}

/** Counts changes. */
class Writer extends FilterStorage {
  readonly #image: KeptImage;

  constructor(image: KeptImage) {
    super(image.storage);
    this.#image = image;
  }

  override write(offset: number, bytes: Uint8Array): Io<void> {
    this.#image.changes++;
    return super.write(offset, bytes);
  }

  override zero(offset: number, length: number): Io<void> {
    this.#image.changes++;
    return super.zero(offset, length);
  }

  override discard(offset: number, length: number): Io<void> {
    this.#image.changes++;
    return super.discard(offset, length);
  }

  override truncate(size: number): Io<void> {
    this.#image.changes++;
    return super.truncate(size);
  }
}

/** One state of an image: reads fail once the image has changed. */
class View extends FilterStorage {
  readonly #image: KeptImage;
  readonly #changes: number;

  constructor(image: KeptImage) {
    super(image.storage);
    this.#image = image;
    this.#changes = image.changes;
  }

  override get readOnly(): boolean {
    return true;
  }

  override *read(offset: number, into: Uint8Array): Io<void> {
    if (this.#image.changes !== this.#changes) throw changed(this.name);
    yield* super.read(offset, into);
  }
}
