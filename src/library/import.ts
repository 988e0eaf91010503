/**
 * Bringing an image in: its file byte for byte, opened once to check that it is whole; or a set of files, put together as a new image of one file, since an
 * image of the library is one file. An image over another one of the library comes in as it is too, and the list has what it calls that one.
 */
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import type { JobOptions } from '../base/job.ts';
import { SECTOR } from '../base/units.ts';
import type { OpenOptions } from '../disk/chain.ts';
import type { Disk } from '../disk/disk.ts';
import { createDisk, openDisk } from '../disk/open.ts';
import type { Resolve } from '../disk/reference.ts';
import { allFormats } from '../formats/all.ts';
import { findFormat } from '../formats/registry.ts';
import { OVERLAY_FORMAT } from '../formats/roles.ts';
import { convert } from '../jobs/convert.ts';
import { FilterStorage } from '../layers/filter.ts';
import { blobStorage } from '../storage/blob.ts';
import type { Storage } from '../storage/storage.ts';
import { copyBytes } from './copy.ts';
import type { ImageEntry, ImportOptions } from './entries.ts';
import type { ImageFormat, ImageRecord, MadeImage, Place } from './image-record.ts';
import { Chain, type ChainKeeper, requirePlain } from './overlays.ts';
import { belowOf, isBelow, partNamed, recognise } from './recognise.ts';

/** The facts about an image that is to be made. */
export type ImageWish = Pick<ImageRecord, 'name' | 'format' | 'place' | 'backing' | 'backingName'>;

/** The library's services to an import. */
export interface ImportKeeper extends ChainKeeper {
  /** The place that the caller wants, or the usual one. */
  choose(wanted: Place | undefined): Place;
  /** Makes an image that appears in the list when `fill` is done with its storage (and has closed it). */
  make(wish: ImageWish, fill: (storage: Storage) => Promise<MadeImage>): Promise<ImageEntry>;
}

/** See `Library.import`. */
export async function importImage(file: Blob, options: ImportOptions & JobOptions, keeper: ImportKeeper): Promise<ImageEntry> {
  const { name = 'disk', parts = [], backing } = options;
  const format = await recognise(file, options.format, { parts, hasBacking: backing !== undefined });
  const base = backing === undefined ? undefined : await keeper.catalogue.ready(backing);
  if (base) requirePlain(base);
  const below = base && { backing: base.id, backingName: await belowOf(file, format) };
  const wish: ImageWish = { name, format, place: keeper.choose(options.place ?? base?.place), ...below };
  const chain = await Chain.of(wish, keeper);
  await chain.hold();
  try {
    return await new Import(file, { ...options, format, parts }, chain, base).run(wish, keeper);
  } finally {
    await chain.release();
  }
}

/** An import whose image below, if there is one, is locked. */
class Import {
  readonly #file: Blob;
  readonly #options: ImportOptions & JobOptions & { readonly format: ImageFormat; readonly parts: readonly File[] };
  readonly #chain: Chain;
  readonly #base: ImageRecord | undefined;

  constructor(
    file: Blob,
    options: ImportOptions & JobOptions & { readonly format: ImageFormat; readonly parts: readonly File[] },
    chain: Chain,
    base: ImageRecord | undefined,
  ) {
    this.#file = file;
    this.#options = options;
    this.#chain = chain;
    this.#base = base;
  }

  async run(wish: ImageWish, keeper: ImportKeeper): Promise<ImageEntry> {
    if (await this.#needsNewFile()) return this.#putTogether(wish, keeper);
    return keeper.make(wish, async (storage) => {
      await copyIn(this.#file, storage, this.#options);
      return verify(storage, this.#opening);
    });
  }

  /** How the image is opened. What it states of the contents of the one below must be true, unless the caller does without. */
  get #opening(): OpenOptions {
    const { format, parts, changedParent = false } = this.#options;
    const { resolve: down } = this.#chain.resolve('still');
    const resolve: Resolve = (reference) => {
      const part = isBelow(reference) ? undefined : partNamed(parts, reference.name);
      if (part) return blobStorage(part);
      if (down) return down(reference);
      throw new DiskError('not-found', 'It did not come with the image');
    };
    return { format, readOnly: true, resolve, changedParent };
  }

  /** True for a set, and for an image that can only be read: a machine could not write to it. */
  async #needsNewFile(): Promise<boolean> {
    const { format, parts } = this.#options;
    const { capabilities, encryption } = findFormat(allFormats, format);
    if (parts.length > 0 || !capabilities.write) return true;
    // Every image of such formats can be written, and opening one for that takes a passphrase, or a long repair.
    if (encryption) return false;
    try {
      const disk = await openDisk(new Untouched(blobStorage(this.#file)), { ...this.#opening, readOnly: false });
      const { compressedOnly = false } = disk.node.driver;
      await disk.close().catch(() => undefined);
      return compressedOnly;
    } catch (error) {
      return error instanceof DiskError && error.kind === 'unsupported';
    }
  }

  /** A new image with the contents of a set of files: in its format if images of one file can be made in that. */
  async #putTogether({ backingName: _, ...wish }: ImageWish, keeper: ImportKeeper): Promise<ImageEntry> {
    const { capabilities } = findFormat(allFormats, wish.format);
    const own = capabilities.create && (!this.#base || (capabilities.backing && this.#base.format === wish.format));
    const format = own ? wish.format : OVERLAY_FORMAT;
    const source = await openDisk(blobStorage(this.#file), this.#opening);
    try {
      return await keeper.make({ ...wish, format }, (storage) => this.#fill(storage, source, format));
    } finally {
      await source.close();
    }
  }

  async #fill(storage: Storage, source: Disk, format: ImageFormat): Promise<MadeImage> {
    const base = this.#base;
    const { signal, control, onProgress } = this.#options;
    const over = base ? { backing: { name: base.id, format: base.format }, ...this.#chain.resolve('still') } : {};
    const target = await createDisk<string>(storage, { format, size: roundUp(source.size, SECTOR), ...over });
    try {
      const watched = { ...(signal ? { signal } : {}), ...(control ? { control } : {}), ...(onProgress ? { onProgress } : {}) };
      await convert(source, target, { ...watched, targetIsNew: true, topOnly: base !== undefined });
      return { size: target.size, encrypted: false };
    } finally {
      await target.close();
    }
  }
}

/** The file as if it could be written, to find out whether the format would. */
class Untouched extends FilterStorage {
  override get readOnly(): boolean {
    return false;
  }

  override *write(): Io<void> {
    throw new DiskError('read-only', `${this.name} is only looked at`);
  }

  override truncate(): Io<void> {
    return this.write();
  }
}

/** Copies a file into an empty storage and flushes it. On failure the storage is closed. */
async function copyIn(file: Blob, storage: Storage, job: JobOptions): Promise<void> {
  const source = blobStorage(file);
  try {
    await runAsync(copyBytes(source, storage, job));
  } catch (error) {
    await runAsync(storage.close()).catch(() => undefined);
    throw error;
  }
}

/** Opens a storage as an image to check that it can be opened (an encrypted one as far as possible without its passphrase) and closes it. */
export async function verify(storage: Storage, opening: OpenOptions): Promise<MadeImage> {
  const disk = await openDisk(storage, { ...opening, noData: true });
  const { size } = disk;
  const { encrypted = false } = await disk.info();
  await disk.close();
  return { size, encrypted };
}
