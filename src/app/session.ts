/**
 * The chosen image as the panels use it. Reading needs no lock: the image is opened read-only. Changes open it for writing just as
 * long as they take, and a running machine holds it for writing until it stops; so other tabs are kept out no longer
 * than needed. Steps take turns: no panel ever uses a disk that is being closed.
 *
 * An encrypted image is opened many times, so its password stays here, in memory, until the user makes the page forget it or the page ends. It is
 * written nowhere.
 */
import { type DirtyBitmap, DiskError, type Engine, type ImageEntry, type OpenImageOptions, type RemoteDisk } from '../index.ts';
import { Signal } from './dom.ts';
import { isAbort, isKeyProblem } from './words.ts';

/** How an image is opened for writing: a guest that makes a file system writes mostly zeros. */
const WRITING: OpenImageOptions = { detectZeroes: 'unmap' };

/** Milliseconds between attempts to read an image that another tab saves at the same time; two seconds in all. */
const LOOK_AGAIN_PAUSES = [20, 50, 100, 250, 500, 1000];

/** True if a read-only view was overtaken by a writer. Other errors of kind `in-use` (by a job, by images above) name the user. */
const isOvertaken = (error: unknown): boolean => error instanceof DiskError && error.kind === 'in-use' && error.field === undefined;

/** Asks for an image's password until `attempt` accepts one. Resolves also if the user cancels, or `left` is aborted. */
export type AskPassword = (entry: ImageEntry, attempt: (password: string) => Promise<void>, left: AbortSignal) => Promise<void>;

/** The chosen image, shared by the panels. Steps take turns. */
export class ImageSession {
  readonly #engine: Engine;
  readonly #ask: AskPassword;
  readonly #lost: (session: ImageSession) => void;
  #entry: ImageEntry;
  #password: string | undefined;
  /** The user was asked for the password and gave none: reading does not ask again. */
  #declined = false;
  /** Aborted, and made anew, when the image is left: a question for its password is closed then. */
  #leaving = new AbortController();
  #disk: RemoteDisk | undefined;
  #writable = false;
  #holders = 0;
  /** Disks of this tab whose changes are thrown away. */
  #temporary = 0;
  #turn: Promise<unknown> = Promise.resolve();
  /** The bytes or the facts changed: panels read them again. */
  readonly changed = new Signal<void>();
  /** The image is no longer open here. */
  readonly closed = new Signal<void>();
  /** The chunks that a machine has written since it was started on the image, while it runs. */
  tracked: DirtyBitmap | undefined;

  constructor(engine: Engine, entry: ImageEntry, ask: AskPassword, lost: (session: ImageSession) => void) {
    this.#engine = engine;
    this.#entry = entry;
    this.#ask = ask;
    this.#lost = lost;
  }

  get entry(): ImageEntry {
    return this.#entry;
  }

  /** The library's newer facts about the same image. */
  update(entry: ImageEntry): void {
    this.#entry = entry;
  }

  /** True while this tab has the image open for writing. */
  get ours(): boolean {
    return this.#writable;
  }

  /** True while a machine of this tab runs on the image. */
  get held(): boolean {
    return this.#holders > 0 || this.#temporary > 0;
  }

  /** True if the image cannot be read before the user gives its password. */
  get locked(): boolean {
    return this.#declined && this.#password === undefined;
  }

  /** True while the password of an encrypted image is known. */
  get unlocked(): boolean {
    return this.#password !== undefined;
  }

  /** The password, asked for if it is not known; undefined if the image has none. Throws if the user cancels. */
  async password(): Promise<string | undefined> {
    this.#declined = false;
    await this.use(async () => undefined);
    return this.#password;
  }

  /** The password of an image that was just made with it. */
  remember(password: string): void {
    this.#password = password;
  }

  /** Opens the image for reading, and asks for the password once more. */
  async unlock(): Promise<void> {
    await this.password().catch((error) => {
      if (!isKeyProblem(error) && !isAbort(error)) throw error;
    });
    this.changed.emit();
  }

  /** Forgets the password. Not while a machine runs on the image. */
  async lock(): Promise<void> {
    await this.#inTurn(async () => {
      if (this.held) return;
      await this.#close();
      this.#password = undefined;
      this.#declined = true;
    });
    this.changed.emit();
  }

  /** True if another tab writes to it, as far as is known. */
  get elsewhere(): boolean {
    return this.#entry.inUse && !this.#writable && this.#temporary === 0;
  }

  /**
   * Reads: `work` gets the disk as it is open, read-only if necessary. It may run several times: a read-only view becomes stale when another tab saves, and
   * the session waits a moment for a tab that saves during the reading. Throws `in-use` if that tab never stops saving.
   */
  use<T>(work: (disk: RemoteDisk) => Promise<T>): Promise<T> {
    return this.#inTurn(async (left) => {
      const pauses = [...LOOK_AGAIN_PAUSES];
      for (;;) {
        const fresh = this.#disk === undefined;
        try {
          return await work(await this.#open({ readOnly: true }, left));
        } catch (error) {
          const pause = fresh ? pauses.shift() : 0;
          if (this.#writable || isAbort(error) || pause === undefined || (fresh && !isOvertaken(error))) throw error;
          await this.#close();
          await new Promise((resolve) => setTimeout(resolve, pause));
        }
      }
    });
  }

  /** Changes: `work` gets the disk open for writing. Throws `locked` if another tab has it. */
  change<T>(work: (disk: RemoteDisk) => Promise<T>): Promise<T> {
    return this.#change(work, WRITING);
  }

  /** As `change`, for a repair: also of an image too damaged to be opened for writing. */
  repair<T>(work: (disk: RemoteDisk) => Promise<T>): Promise<T> {
    return this.#change(work, { repair: true });
  }

  async #change<T>(work: (disk: RemoteDisk) => Promise<T>, options: OpenImageOptions): Promise<T> {
    this.#declined = false;
    const result = await this.#inTurn(async (left) => {
      const disk = await this.#open(options, left);
      try {
        return await work(disk);
      } finally {
        if (this.#holders === 0) await this.#close();
      }
    });
    this.changed.emit();
    return result;
  }

  /** Opens for writing and stays so until `release`. Throws `locked` if another tab has it. */
  async hold(): Promise<RemoteDisk> {
    this.#declined = false;
    const disk = await this.#inTurn(async (left) => {
      const opened = await this.#open(WRITING, left);
      this.#holders++;
      return opened;
    });
    this.changed.emit();
    return disk;
  }

  /** A handle of its own, which the caller closes; for a CD, which is never written. */
  openReadOnly(): Promise<RemoteDisk> {
    this.#declined = false;
    return this.#unlocking({ readOnly: true }, this.#leaving.signal);
  }

  /** A handle of its own, for `closeTemporary`: its writes are thrown away then. The image cannot be changed meanwhile. */
  async openTemporary(): Promise<RemoteDisk> {
    const { place, encrypted } = this.#entry;
    this.#declined = false;
    // Otherwise the changes of an encrypted image would be stored unencrypted.
    const disk = await this.#unlocking({ snapshot: encrypted ? 'memory' : place, detectZeroes: 'unmap' }, this.#leaving.signal);
    this.#temporary++;
    this.changed.emit();
    return disk;
  }

  async closeTemporary(disk: RemoteDisk): Promise<void> {
    try {
      await disk.close();
    } finally {
      this.#temporary--;
      this.changed.emit();
    }
  }

  /** Opens a held image anew, after a failure that its disk does not recover from. Throws `no-space` if there still is none. */
  reopen(): Promise<RemoteDisk> {
    return this.#inTurn(async (left) => {
      await this.#close().catch((error) => {
        if (this.#disk !== undefined) throw error;
      });
      return this.#open(WRITING, left);
    });
  }

  /** The caller has saved, or given up saving: if there is no space to flush, the rest is given up too. */
  async release(): Promise<void> {
    await this.#inTurn(async () => {
      this.#holders--;
      if (this.#holders > 0) return;
      await this.#close().catch(async (error) => {
        if (this.#disk === undefined) throw error;
        await this.#disk.close({ discard: true });
        await this.#close();
      });
    });
    this.changed.emit();
  }

  /** Forgets bytes that were read, so that the next reading sees the state that another tab saved. */
  async refresh(): Promise<void> {
    await this.#inTurn(async () => {
      if (this.#holders === 0) await this.#close();
    });
    this.changed.emit();
  }

  /** Closes, unless a machine still runs on it. A question for the password is closed, and asked again when the image is next read. */
  close(): Promise<void> {
    this.#leaving.abort();
    this.#leaving = new AbortController();
    return this.#inTurn(async () => {
      if (this.#holders === 0) await this.#close();
    });
  }

  async #open(options: OpenImageOptions, left: AbortSignal): Promise<RemoteDisk> {
    const writable = options.readOnly !== true;
    if (this.#disk !== undefined && (this.#writable || !writable)) return this.#disk;
    await this.#close();
    this.#disk = await this.#unlocking(options, left);
    this.#writable = writable;
    this.#disk.onLost(() => this.#lost(this));
    return this.#disk;
  }

  /** Opens the image, with its password if it has one. Throws `aborted` if the user is asked for it and does not give it, later `refused`. */
  async #unlocking(options: OpenImageOptions, left: AbortSignal): Promise<RemoteDisk> {
    const { id } = this.#entry;
    try {
      return await this.#engine.open(id, this.#password === undefined ? options : { ...options, secret: this.#password });
    } catch (error) {
      if (!isKeyProblem(error)) throw error;
      let opened: RemoteDisk | undefined;
      const attempt = async (password: string): Promise<void> => {
        opened = await this.#engine.open(id, { ...options, secret: password });
        this.#password = password;
      };
      const asking = !this.#declined;
      if (asking) await this.#ask(this.#entry, attempt, left);
      this.#declined = opened === undefined && !left.aborted;
      if (opened !== undefined) return opened;
      const message = `${this.#entry.name} is encrypted: it opens with its password`;
      throw new DiskError(asking ? 'aborted' : 'refused', message, { field: 'key-secret', cause: error });
    }
  }

  async #close(): Promise<void> {
    try {
      await this.#disk?.close();
    } catch (error) {
      // Without space to flush, or without a storage to flush to, the engine keeps the disk open with its unsaved bytes: so does this session.
      if (error instanceof DiskError && (error.kind === 'no-space' || error.kind === 'lost')) throw error;
      this.#forget();
      throw error;
    }
    this.#forget();
  }

  #forget(): void {
    if (this.#disk === undefined) return;
    this.#disk = undefined;
    this.#writable = false;
    this.closed.emit();
  }

  /** `step` gets the signal that is aborted if the image is left from now on, also before its turn. */
  #inTurn<T>(step: (left: AbortSignal) => Promise<T>): Promise<T> {
    const { signal } = this.#leaving;
    const result = this.#turn.then(() => step(signal));
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** One session per image, for as long as anything uses it. */
export class Sessions {
  readonly #engine: Engine;
  readonly #ask: AskPassword;
  readonly #lost: (session: ImageSession) => void;
  /** One of the images changed, as far as this tab knows. */
  readonly changed = new Signal<void>();
  readonly #open = new Map<string, ImageSession>();

  /** `lost` is called when the browser has removed an image that is open here. */
  constructor(engine: Engine, ask: AskPassword, lost: (session: ImageSession) => void) {
    this.#engine = engine;
    this.#ask = ask;
    this.#lost = lost;
  }

  of(entry: ImageEntry): ImageSession {
    const known = this.#open.get(entry.id);
    if (known !== undefined) {
      known.update(entry);
      return known;
    }
    const made = new ImageSession(this.#engine, entry, this.#ask, this.#lost);
    made.changed.listen(() => this.changed.emit());
    this.#open.set(entry.id, made);
    return made;
  }

  /** Gives the library's newer facts to the sessions; sessions of images that are gone are forgotten. */
  update(entries: readonly ImageEntry[]): void {
    for (const [id, session] of this.#open) {
      const entry = entries.find((candidate) => candidate.id === id);
      if (entry !== undefined) session.update(entry);
      else this.#open.delete(id);
    }
  }
}
