/**
 * Named images kept in this browser: the list of them, opening, making, importing, exporting and deleting. Runs in the worker (OPFS
 * handles exist only there); in another thread only IndexedDB images can be opened.
 *
 * - An opening for writing holds the Web Lock `tabdisk:image:<id>` from before the first read until the image is closed. An image whose
 *   changes are thrown away, or that is exported, is only read: for that the lock is shared.
 * - Read-only opening takes no lock and sees one state of the image; its reads throw once the image has changed.
 * - Operations that free space or save data (flush, close, discard, delete) may use a reserve, so that they work on a full disk (reserve.ts).
 * - An image appears in the list when it is complete. Half-made leftovers of a tab that died are swept when a library is opened.
 */
import { callBack } from '../base/callbacks.ts';
import { DiskError } from '../base/errors.ts';
import type { JobOptions } from '../base/job.ts';
import { randomUuid } from '../base/uuid.ts';
import type { OpenOptions } from '../disk/chain.ts';
import { openDisk } from '../disk/open.ts';
import { OVERLAY_FORMAT } from '../formats/roles.ts';
import type { CommitOptions } from '../jobs/commit.ts';
import type { StreamOptions } from '../jobs/stream.ts';
import { cacheFlags } from '../node/cache-mode.ts';
import { type HeldLock, heldLocks, imageLockName, takeLock } from '../storage/image-lock.ts';
import { mendIndexedDb } from '../storage/indexed-db-renewal.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { Storage } from '../storage/storage.ts';
import { Catalogue } from './catalogue.ts';
import { compactImage } from './compact.ts';
import { creatableFormat, makeImage } from './create.ts';
import type {
  Compacted,
  CompactImageOptions,
  CreateImageOptions,
  ExportedImage,
  ExportOptions,
  ImageEntry,
  ImportedImage,
  ImportOptions,
  LibraryOptions,
  OpenImageOptions,
  OverlayOptions,
  StorageReport,
} from './entries.ts';
import { type ExportSource, exportImage } from './export.ts';
import { capabilitiesOf, formatOf, isEncrypted } from './image-formats.ts';
import type { ImagePlace } from './image-place.ts';
import { bytesOf, type ImageRecord, type MadeImage, ownerOf, type Place } from './image-record.ts';
import type { ImageWish } from './import.ts';
import { importFile } from './import-file.ts';
import type { UnwrapKeeper } from './import-keeper.ts';
import { Notes } from './list-copy.ts';
import { lookAgain, OpenImage } from './open-image.ts';
import { Chain, type Over, requireNothingOver, requirePlain } from './overlays.ts';
import { availablePlaces, requirePlace } from './places.ts';
import { indexedDbRecords, noteRecords } from './records.ts';
import { Reserve } from './reserve.ts';
import { newScratch, type Scratch, scratchStorage, scratchTime } from './scratch.ts';
import { storageReport } from './storage-report.ts';
import { sweep } from './sweep.ts';
import { Tabs } from './tabs.ts';

export type * from './entries.ts';
export type { FormatFacts } from './image-formats.ts';
export type { OpenImage } from './open-image.ts';

/** Milliseconds to wait for an image that is in use: a page that was reloaded lets go a little late. */
const PATIENCE = 1000;
/** The images of this browser. Every call rejects with a `DiskError`. */
export class Library {
  readonly #name: string;
  readonly #catalogue: Catalogue;
  readonly #places: Map<Place, ImagePlace>;
  readonly #tabs: Tabs;
  readonly #reserve: Reserve;
  readonly #listeners = new Set<() => void>();
  readonly #releaseListeners = new Set<(id: string) => void>();
  /** Images open for writing through this library. */
  readonly #open = new Map<string, OpenImage>();
  /** The images below each of them. */
  readonly #chains = new Map<OpenImage, Chain>();
  readonly #keeper: UnwrapKeeper;
  readonly #compressor: LibraryOptions['compressor'];
  /** Images open here whose changes are thrown away. */
  readonly #temporary = new Set<OpenImage>();

  /** Opens the library of this origin and sweeps the half-made leftovers of tabs that died. */
  static async open({ name = 'tabdisk', compressor, memoryIfBlocked = false }: LibraryOptions = {}): Promise<Library> {
    const places = await availablePlaces(name, { memoryIfBlocked });
    if (places.size === 0) throw new DiskError('unsupported', 'This browser lets the page keep no data: neither OPFS nor IndexedDB works here');
    const library = new Library(name, places, compressor);
    const inUse = await heldLocks();
    if (places.has('indexeddb'))
      await mendIndexedDb({
        database: name,
        inUse: (id) => inUse.has(library.#lockName(id)),
        hasRoom: (bytes) => library.#reserve.hasRoom(bytes),
      });
    const unreadable = new Set(await library.#catalogue.restore());
    await sweep(library.#catalogue, [...places.values()], {
      lockName: (id) => library.#lockName(id),
      // If IndexedDB is blocked, the list there may have images that no note has.
      spared: (id) => unreadable.has(id) || (!places.has('indexeddb') && scratchTime(id) === undefined),
    });
    return library;
  }

  private constructor(name: string, places: Map<Place, ImagePlace>, compressor: LibraryOptions['compressor']) {
    this.#compressor = compressor;
    this.#name = name;
    this.#places = places;
    const [opfs, indexedDb] = [places.has('opfs'), places.has('indexeddb')];
    const notes = new Notes(`${name}-notes`, { opfs });
    this.#catalogue = new Catalogue(indexedDb ? indexedDbRecords(`${name}-library`, notes, () => this.#listLost()) : noteRecords(notes), notes);
    this.#reserve = new Reserve(name, { opfs, indexedDb });
    this.#keeper = {
      catalogue: this.#catalogue,
      place: (record) => this.#place(record.place),
      lock: (record, mode) => this.#lock(record, mode),
      choose: (place) => this.#choose(place),
      make: (wish, fill) => this.#make(wish, fill),
      scratch: (place) => this.#scratch(this.#place(place)),
      list: () => this.list(),
      delete: (id) => this.delete(id),
    };
    this.#tabs = new Tabs(`${name}-library`, { changed: () => this.#tellListeners(), asked: (id) => this.#asked(id) });
  }

  /** All images, by name. */
  async list(): Promise<ImageEntry[]> {
    const [records, held] = await Promise.all([this.#catalogue.all(), heldLocks()]);
    // An image that is open here is listed as long as it is open, even if the list has lost it.
    const missing = [...this.#open.values()].map(({ record }) => record).filter(({ id }) => !records.some((one) => one.id === id));
    const ready = [...records, ...missing].filter(({ state }) => state === 'ready');
    const entries = await Promise.all(ready.map((record) => this.#entry(record, held)));
    return entries.sort((a, b) => a.name.localeCompare(b.name));
  }

  /** Makes an empty image. Throws `refused` for a name that is taken, for bad sizes and for options that its format does not have, `no-space`. */
  async create(options: CreateImageOptions<string>): Promise<ImageEntry> {
    const record = { name: options.name, format: creatableFormat(options), place: this.#choose(options.place) };
    return this.#make(record, (storage) => makeImage(storage, options));
  }

  /**
   * Makes an overlay over an image: it reads as the image does and takes all changes; from then on the image is not changed. Throws `locked`
   * if the image is open for writing, `unsupported` if it is encrypted, `refused` for a name that is taken, `no-space`.
   */
  async overlay(id: string, { name, place }: OverlayOptions): Promise<ImageEntry> {
    const base = await this.#catalogue.ready(id);
    requirePlain(base);
    const record = { name, format: OVERLAY_FORMAT, place: this.#choose(place ?? base.place), backing: id };
    const chain = await Chain.of(record, this.#keeper);
    await chain.hold();
    try {
      return await this.#make(record, (storage) => chain.makeOverlay(storage));
    } finally {
      await chain.release();
    }
  }

  /** Copies a file in, or the disks inside, and opens each once. Throws as `recognise` and `unwrap` do, `corrupt` naming the field, `no-space`, `aborted`. */
  import(file: Blob, options: ImportOptions & JobOptions): Promise<ImportedImage> {
    return importFile(file, options, this.#keeper);
  }

  /**
   * The image as a file. The image is locked until the stream ends or is cancelled; one that is open for writing here is
   * copied first, with its guest held for that time. An image that is open here and lost is put together from the bytes that can still be read: throws
   * `lost` if some are missing, unless `salvage`. Throws `locked` if another tab has it.
   */
  async export(id: string, options: ExportOptions & JobOptions): Promise<ExportedImage> {
    const open = this.#open.get(id);
    // After the site was cleared the list may be gone before the image's own loss is noticed.
    if (open && !open.lost && !(await this.#catalogue.find(id))) await open.look();
    const lost = open?.lost !== undefined;
    const record = lost ? open.record : await this.#catalogue.ready(id);
    const place = this.#place(record.place);
    const chain = (lost && this.#chains.get(open)) || (await Chain.of(record, this.#keeper));
    const below = chain.resolve(open ? 'still' : 'view');
    const source: ExportSource = open
      ? { record, ...below, open: open.disk, lost }
      : { record, ...below, lock: await this.#lock(record, 'shared'), storage: () => place.open(bytesOf(record), { readOnly: true }) };
    return exportImage(source, { ...options, compressor: this.#compressor }, () => this.#scratch(place));
  }

  /** Throws `refused` if the name is taken. Works while the image is open in any tab. */
  async rename(id: string, name: string): Promise<ImageEntry> {
    const record = { ...(await this.#catalogue.ready(id)), name };
    await this.#catalogue.put(record);
    this.#announce();
    return this.#entry(record, await heldLocks());
  }

  /** Removes an image for good. Throws `locked` while it is open for writing, `in-use` if others lie over it. */
  async delete(id: string): Promise<void> {
    const record = await this.#catalogue.ready(id);
    await requireNothingOver(record, this.#catalogue);
    const lock = await this.#lock(record);
    try {
      await requireNothingOver(record, this.#catalogue);
      await this.#reserve.spend(async () => this.#discard((await this.#catalogue.find(id)) ?? record));
    } finally {
      await lock.release();
      this.#announce();
    }
  }

  /**
   * Writes an image anew without the space that it does not need. Throws as `compact`, `locked` if it is in use, also below an overlay, `no-space`; it is as before then.
   */
  async compact(id: string, options: CompactImageOptions & JobOptions = {}): Promise<Compacted> {
    try {
      await this.#reserve.fill();
      return await compactImage(await this.#catalogue.ready(id), this.#keeper, { ...options, spend: (work) => this.#reserve.spend(work) });
    } finally {
      this.#announce();
    }
  }

  /**
   * Opens an image. Throws `locked` if it is open for writing, and `in-use` if others lie over it, unless `readOnly`; `refused` if it is encrypted
   * and the passphrase is missing.
   */
  async openImage(id: string, { readOnly = false, snapshot, ...options }: OpenImageOptions = {}): Promise<OpenImage> {
    const record = await this.#catalogue.ready(id);
    const { format } = record;
    const place = this.#place(record.place);
    const chain = await Chain.of(record, this.#keeper);
    const opening: OpenOptions = { format, readOnly, ...options };
    if (snapshot && !readOnly) return this.#openTemporary(record, snapshot, { ...opening, ...chain.resolve('view') });
    if (readOnly) {
      const view = await place.view(bytesOf(record));
      return new OpenImage(record, await openDisk(view, { ...opening, ...chain.resolve('view') }), view, {
        spend: (work) => work(),
        closed: async () => undefined,
      });
    }
    await requireNothingOver(record, this.#catalogue);
    const lock = await this.#lock(record);
    try {
      await requireNothingOver(record, this.#catalogue);
      await chain.hold();
      await this.#reserve.fill();
      // Opening an image that was not closed properly may write.
      const { disk, storage } = await this.#reserve.spend(async () => {
        const opened = await place.open(bytesOf(await this.#catalogue.ready(id)), {
          readOnly,
          grows: formatOf(record).slack ?? false,
          direct: cacheFlags(options.cache).direct,
        });
        return { disk: await openDisk(opened, { ...opening, ...chain.resolve('still') }), storage: opened };
      });
      const image = new OpenImage(record, disk, storage, {
        spend: (work) => this.#reserve.spend(work),
        closed: async (size, changed) => {
          await chain.release();
          this.#chains.delete(image);
          await this.#closed(image, lock, size, changed);
        },
      });
      this.#open.set(id, image);
      this.#chains.set(image, chain);
      disk.onLost(() => this.#announce());
      if (!chain.empty) await this.#noteBacking(id, chain.noted(disk));
      this.#announce();
      return image;
    } catch (error) {
      await chain.release();
      await lock.release();
      throw error;
    }
  }

  /**
   * Copies the contents of an overlay that is open here into the image below it, and empties the overlay; the guest goes on. Throws `in-use` if other images
   * lie over that one too, `locked` if it is in use, `refused` if the overlay has snapshots, and as `commit` does.
   */
  async commit(image: OpenImage, options: CommitOptions): Promise<void> {
    await image.runJob(options, (job) => this.#chainOf(image).commit(image.id, image.disk, { ...options, ...job }));
    this.#announce();
  }

  /** Copies up the contents of the images below into an overlay that is open here; the guest goes on. Throws as `stream` does. */
  async stream(image: OpenImage, options: StreamOptions): Promise<void> {
    await image.runJob(options, async (job) => this.#noteBacking(image.id, await this.#chainOf(image).stream(image.disk, { ...options, ...job })));
    this.#announce();
  }

  #chainOf(image: OpenImage): Chain {
    const chain = this.#chains.get(image);
    if (!chain) throw new DiskError('read-only', 'A job on an image takes one that is open for writing, and whose changes are kept');
    return chain;
  }

  /** Notes which image lies below, as the image itself names it. */
  async #noteBacking(id: string, below: Over): Promise<void> {
    if ((await this.#catalogue.find(id))?.backing !== below.backing) await this.#reserve.spend(() => this.#catalogue.change(id, below));
  }

  /** Opens an image whose changes are thrown away. The lock keeps others from changing the bytes below; any number of openings can share it. */
  async #openTemporary(record: ImageRecord, where: Place, opening: OpenOptions): Promise<OpenImage> {
    const { id } = record;
    const lock = await this.#lock(record, 'shared');
    try {
      const storage = await this.#place(record.place).still(bytesOf(await this.#catalogue.ready(id)));
      const overlay = where === 'memory' ? memoryStorage({ name: 'temporary changes' }) : this.#scratch(this.#place(where)).then(scratchStorage);
      const disk = await openDisk(storage, { ...opening, snapshot: overlay });
      if (disk.encrypted && where !== 'memory') {
        await disk.close();
        throw new DiskError('refused', `"${record.name}" is encrypted, and its temporary changes would not be: keep them in memory`, {
          field: 'snapshot',
        });
      }
      const image = new OpenImage(record, disk, await overlay, {
        spend: (work) => work(),
        closed: async () => {
          this.#temporary.delete(image);
          await lock.release();
          this.#announce();
        },
      });
      this.#temporary.add(image);
      this.#announce();
      return image;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  #scratch(place: ImagePlace): Promise<Scratch> {
    return newScratch(place, (id) => this.#lockName(id));
  }

  /** Notes a new guest-visible size (after a resize or a snapshot was applied). */
  async noteSize(id: string, size: number): Promise<void> {
    if (!this.#open.has(id)) return;
    await this.#reserve.spend(() => this.#catalogue.change(id, { size, changed: Date.now() }));
    this.#announce();
  }

  /**
   * Asks the tabs that have an image open for writing, this one or another, to close it. Only they can close it. Resolves to true
   * when they were told (or none has it), to false if there is no answer: an export under way, a tab that the browser has frozen.
   */
  async requestRelease(id: string): Promise<boolean> {
    await this.#catalogue.ready(id);
    const here = this.#asked(id);
    if (this.#open.has(id) || !(await heldLocks()).has(this.#lockName(id))) return true;
    // Several tabs may have it at a time.
    return (await this.#tabs.ask(id)) || here;
  }

  /** Calls back with the id of an image that is open for writing here and that another tab asks for. Returns a function that stops it. */
  onReleaseRequest(listener: (id: string) => void): () => void {
    this.#releaseListeners.add(listener);
    return () => this.#releaseListeners.delete(listener);
  }

  async storage(): Promise<StorageReport> {
    return storageReport([...this.#places.keys()], { short: this.#reserve.short, tabsHear: this.#tabs.heard });
  }

  /** Calls back after any change to the list, made here or in another tab. Returns a function that stops it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Closes every image that is open for writing, then the library. The first failure is thrown after all were tried. */
  async close(): Promise<void> {
    const closing = await Promise.allSettled([...this.#open.values(), ...this.#temporary].map((image) => image.close()));
    const failed = closing.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    this.#tabs.close();
    this.#catalogue.close();
  }

  /** Makes an image that appears in the list when `fill` is done with its storage (and has closed it). */
  async #make(wish: ImageWish, fill: (storage: Storage) => Promise<MadeImage>): Promise<ImageEntry> {
    const now = Date.now();
    const record: ImageRecord = { ...wish, id: randomUuid(), size: 0, created: now, changed: now, state: 'making' };
    const lock = await this.#lock(record);
    try {
      await this.#reserve.fill();
      await this.#catalogue.put(record);
      try {
        const storage = await this.#place(record.place).create(record.id);
        const made = await fill(storage);
        const ready: ImageRecord = { ...record, ...made, state: 'ready' };
        await this.#catalogue.change(record.id, ready);
        return await this.#entry(ready, new Set());
      } catch (error) {
        // The caller gets the first error; leftovers are swept later.
        await this.#discard(record).catch(() => undefined);
        throw error;
      }
    } finally {
      await lock.release();
      this.#announce();
    }
  }

  /** Removes an image's bytes and its record, in an order that a sweep can finish. The lock is held. */
  async #discard(record: ImageRecord): Promise<void> {
    try {
      if (record.state === 'ready') await this.#catalogue.change(record.id, { state: 'deleting' });
    } catch (error) {
      // If there is no space even for that, deleting is needed all the more.
      if (!(error instanceof DiskError) || error.kind !== 'no-space') throw error;
    }
    await this.#place(record.place).remove(bytesOf(record));
    await this.#catalogue.remove(record.id);
  }

  async #closed({ id, record, lost }: OpenImage, lock: HeldLock, size: number, changed: boolean): Promise<void> {
    this.#open.delete(id);
    try {
      // The list was cleared, but not the image: its lock kept others from deleting it. If its name is taken by now, the second copy brings it back.
      if (!lost && !(await this.#catalogue.find(id))) await this.#catalogue.put(record).catch(() => undefined);
      if (changed) await this.#reserve.spend(() => this.#catalogue.change(id, { size, changed: Date.now() }));
    } catch (error) {
      // The image itself is whole and closed; only its time of change is missing in the list.
      if (!(error instanceof DiskError) || error.kind !== 'no-space') throw error;
    } finally {
      await lock.release();
      this.#announce();
    }
  }

  async #lock({ id, name }: ImageRecord, mode: LockMode = 'exclusive'): Promise<HeldLock> {
    if (this.#open.has(id)) throw new DiskError('locked', `"${name}" is open for writing already, in this tab`);
    if (mode === 'exclusive' && this.#isTemporary(id))
      throw new DiskError('locked', `"${name}" is open in this tab, with its changes thrown away: close it first`);
    const lock = await takeLock(this.#lockName(id), PATIENCE, mode);
    if (!lock) throw new DiskError('locked', `"${name}" is in use, in another tab or by an export: close it there, ask for it, or open it read-only`);
    return lock;
  }

  readonly #lockName = (id: string): string => imageLockName(this.#name, ownerOf(id));

  #choose(wanted: Place | undefined): Place {
    const place = wanted ?? ([...this.#places.keys()][0] as Place);
    this.#place(place);
    return place;
  }

  #place(place: Place): ImagePlace {
    return requirePlace(this.#places, place);
  }

  async #entry({ state: _, backingName: __, ...record }: ImageRecord, held: ReadonlySet<string>): Promise<ImageEntry> {
    const storedSize = (await this.#places.get(record.place)?.storedSize(bytesOf(record))) ?? 0;
    const lost = this.#open.get(record.id)?.lost ? { lost: true as const } : {};
    const capabilities = capabilitiesOf(record.format);
    return {
      ...record,
      ...lost,
      capabilities,
      encrypted: isEncrypted(record),
      storedSize,
      inUse: held.has(this.#lockName(record.id)) && !this.#isBelow(record.id),
    };
  }

  #announce(): void {
    this.#tabs.announce();
    this.#tellListeners();
  }

  /** Whether the image is open for writing here; if so, its users are told that another tab asks for it. */
  #asked(id: string): boolean {
    if (!this.#open.has(id) && !this.#isTemporary(id)) return false;
    for (const listener of [...this.#releaseListeners]) callBack(listener, id);
    return true;
  }

  /** Whether an overlay that is open here lies over it: then no other tab can be writing to it. */
  #isBelow(id: string): boolean {
    return [...this.#chains.values()].some((chain) => chain.holds(id));
  }

  /** The browser has ended the connection to the list, and may have cleared everything. The list is made anew from its second copy, as far as that is there. */
  async #listLost(): Promise<void> {
    this.#reserve.forget();
    this.#announce();
    await lookAgain(() => this.#open.values());
    await this.#catalogue.restore().catch(() => undefined);
    this.#announce();
  }

  #isTemporary(id: string): boolean {
    return [...this.#temporary].some((image) => image.id === id);
  }

  #tellListeners(): void {
    for (const listener of [...this.#listeners]) callBack(listener);
  }
}
