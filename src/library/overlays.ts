/**
 * Images of the library that lie over others of it. An overlay that is made here names the image below by its id, and so does its record; an image that was
 * brought in together with the image below keeps the name, or the id of its contents, that it has for that one, and the record has it too. An image with others over it is
 * not changed: it can be opened for writing and deleted only when no image lies over it any more. While an overlay is open, the images below
 * it are also locked, shared, so that no tab begins to write to one of them between one look at the list and the next.
 *
 * A record may name too much: the image itself is changed first, and a tab may end in between. The next opening of the image corrects the record.
 */
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import { SECTOR } from '../base/units.ts';
import type { OpenOptions } from '../disk/chain.ts';
import type { Disk } from '../disk/disk.ts';
import { MAX_CHAIN_DEPTH } from '../disk/named-files.ts';
import { createDisk } from '../disk/open.ts';
import { reopenBacking } from '../disk/reopen.ts';
import { OVERLAY_FORMAT } from '../formats/roles.ts';
import { type CommitOptions, commit } from '../jobs/commit.ts';
import { type StreamOptions, stream } from '../jobs/stream.ts';
import type { HeldLock } from '../storage/image-lock.ts';
import type { Storage } from '../storage/storage.ts';
import type { Catalogue } from './catalogue.ts';
import { formatOf, isEncrypted } from './image-formats.ts';
import type { ImagePlace } from './image-place.ts';
import { type BackingName, bytesOf, type ImageRecord, type MadeImage } from './image-record.ts';

/** The library's services to chains. */
export interface ChainKeeper {
  readonly catalogue: Catalogue;
  place(record: ImageRecord): ImagePlace;
  lock(record: ImageRecord, mode: LockMode): Promise<HeldLock>;
}

/** Throws `in-use` if other images lie over one, other than `except`. */
export async function requireNothingOver({ id, name }: ImageRecord, catalogue: Catalogue, except?: string): Promise<void> {
  const over = (await catalogue.all()).find(({ backing, state, id: other }) => backing === id && state !== 'deleting' && other !== except);
  if (over)
    throw new DiskError('in-use', `"${over.name}" lies over "${name}", which has to stay as it is: delete "${over.name}", or make it stand alone`, {
      field: 'backing_file',
    });
}

/** Throws `unsupported` for an image that is encrypted. */
export function requirePlain(record: ImageRecord): void {
  if (isEncrypted(record))
    throw new DiskError('unsupported', `"${record.name}" is encrypted, and what is written over it would not be`, { field: 'encrypt.format' });
}

/** The part of an image's record that tells what lies below it. */
export type Over = Pick<ImageRecord, 'backing' | 'backingName'>;

/** True if two names, of the same image above, mean the same image below. */
function isCalled(known: BackingName | undefined, wanted: BackingName): boolean {
  if (!known) return false;
  return (known.name !== '' && known.name === wanted.name) || (known.identity !== undefined && known.identity === wanted.identity);
}

/** The images below an image. */
export class Chain {
  readonly #keeper: ChainKeeper;
  #top: Over;
  #below: readonly ImageRecord[];
  readonly #locks = new Map<string, HeldLock>();

  private constructor(keeper: ChainKeeper, top: Over, below: readonly ImageRecord[]) {
    this.#keeper = keeper;
    this.#top = top;
    this.#below = below;
  }

  /** Finds the images in the list. Throws `not-found` if one is gone. */
  static async of(record: Over, keeper: ChainKeeper): Promise<Chain> {
    const below: ImageRecord[] = [];
    for (let { backing } = record; backing !== undefined && below.length < MAX_CHAIN_DEPTH; ) {
      const next = await keeper.catalogue.ready(backing);
      below.push(next);
      backing = next.backing;
    }
    return new Chain(keeper, record, below);
  }

  get empty(): boolean {
    return this.#below.length === 0;
  }

  /** True if it holds a lock on this image. */
  holds(id: string): boolean {
    return this.#locks.has(id);
  }

  /** Locks them, shared. Throws `locked` if one is open for writing. */
  async hold(): Promise<void> {
    try {
      for (const record of this.#below) this.#locks.set(record.id, await this.#keeper.lock(record, 'shared'));
    } catch (error) {
      await this.release();
      throw error;
    }
  }

  /** Unlocks them: all, or those that are above `base`, an image's id, and no longer needed. */
  async release(base?: string): Promise<void> {
    for (const { id } of this.#below) {
      if (id === base) return;
      const lock = this.#locks.get(id);
      this.#locks.delete(id);
      await lock?.release();
    }
  }

  /**
   * A function that opens them, and nothing else: locked, or each in one state as it is now. No function if there are none. What an image says of the
   * contents of the one below is looked at when it comes in: later that one changes by a commit only.
   */
  resolve(how: 'still' | 'view'): Pick<OpenOptions, 'resolve' | 'changedParent'> {
    if (this.empty) return {};
    return {
      changedParent: true,
      resolve: async ({ name, identity, from }) => {
        const record = this.#find({ name, ...(identity === undefined ? {} : { identity }) });
        if (!record) throw new DiskError('refused', `${from} names ${JSON.stringify(name)}, which is not the image that the list has below it`);
        const now = await this.#now(record);
        return { storage: await this.#keeper.place(now)[how](bytesOf(now)), format: now.format };
      },
    };
  }

  /** The image below that another one of the chain means. */
  #find(wanted: BackingName): ImageRecord | undefined {
    const over = [this.#top, ...this.#below];
    return this.#below.find(({ id }, index) => id === wanted.name || isCalled(over[index]?.backingName, wanted));
  }

  /** What the record of the disk's image has to say of the image below, as the image itself tells. */
  noted({ node }: Disk): Over {
    const wanted = node.driver.backing;
    const record = wanted && this.#find(wanted);
    if (!wanted || !record) return { backing: undefined, backingName: undefined };
    const { name, identity } = wanted;
    return { backing: record.id, backingName: name === record.id ? undefined : { name, ...(identity === undefined ? {} : { identity }) } };
  }

  /** A record as it is now: its bytes may have been replaced since the chain was looked up. */
  async #now(record: ImageRecord): Promise<ImageRecord> {
    return (await this.#keeper.catalogue.find(record.id)) ?? record;
  }

  /** Makes an empty image over them in a new storage, which it closes. */
  async makeOverlay(storage: Storage): Promise<MadeImage> {
    const [base] = this.#below as readonly [ImageRecord];
    const backing = { name: base.id, format: base.format };
    const disk = await createDisk(storage, { format: OVERLAY_FORMAT, size: roundUp(base.size, SECTOR), backing, ...this.resolve('still') });
    const { size } = disk;
    await disk.close();
    return { size, encrypted: false };
  }

  /** See `commit`; the backing file is locked alone meanwhile, and opened for writing. Throws `in-use` if other images lie over it as well. */
  async commit(id: string, disk: Disk, options: CommitOptions): Promise<void> {
    const [base] = this.#below;
    if (!base) throw new DiskError('refused', 'The image does not have a backing file', { field: 'backing_file' });
    if ((await disk.snapshots.list()).length > 0)
      throw new DiskError('refused', 'The image has snapshots, which show its backing file too: delete them first', { field: 'snapshots' });
    await requireNothingOver(base, this.#keeper.catalogue, id);
    await this.#relock(base, 'exclusive', 'shared');
    try {
      await runAsync(reopenBacking(disk.node, false, (readOnly) => this.#open(base, readOnly)));
      try {
        await commit(disk, options);
      } finally {
        const size = disk.node.backing?.size ?? base.size;
        await runAsync(reopenBacking(disk.node, true, (readOnly) => this.#open(base, readOnly)));
        await this.#keeper.catalogue.change(base.id, { size, changed: Date.now() });
      }
    } finally {
      await this.#relock(base, 'shared', 'shared');
    }
  }

  /** See `stream`. Resolves to what the record has to say of the image that is below now. */
  async stream(disk: Disk, options: StreamOptions): Promise<Over> {
    const base = options.base === undefined ? undefined : this.#below[options.base - 1];
    await stream(disk, base ? { ...options, backingFile: { name: base.id, format: base.format } } : options);
    this.#top = this.noted(disk);
    await this.release(base?.id);
    this.#below = base ? this.#below.slice(this.#below.indexOf(base)) : [];
    return this.#top;
  }

  async #open(record: ImageRecord, readOnly: boolean): Promise<Storage> {
    const place = this.#keeper.place(record);
    const bytes = bytesOf(await this.#now(record));
    return readOnly ? place.still(bytes) : place.open(bytes, { readOnly, grows: formatOf(record).slack ?? false });
  }

  /** Takes another lock in place of the one that is held; takes `orElse` if that fails. No tab can write in between: this overlay is on the list. */
  async #relock(record: ImageRecord, mode: LockMode, orElse: LockMode): Promise<void> {
    await this.#locks.get(record.id)?.release();
    this.#locks.delete(record.id);
    try {
      this.#locks.set(record.id, await this.#keeper.lock(record, mode));
    } catch (error) {
      if (mode !== orElse) this.#locks.set(record.id, await this.#keeper.lock(record, orElse));
      throw error;
    }
  }
}
