/**
 * A file in the origin private file system, through a synchronous access handle: dedicated workers only. Synchronous. Bytes for which
 * `write` has returned are in the operating system's hands (they survive the worker and the browser); `flush` makes them durable.
 * The handle is exclusive: no other tab or worker can open the file for writing meanwhile, and an open of ours that finds
 * it taken is retried for two seconds, because browsers release the handles of a page that was closed or reloaded late.
 * OPFS has no holes to punch: `discard` does nothing, and quota counts the file's logical size.
 *
 * A file that the browser removes while it is open (the user clears the site's data) is noticed after a flush, within a second of a write, and
 * before it is closed (opfs-presence.ts). It is `lost` then; its bytes can still be read. A thread that never returns to its event loop cannot
 * notice the loss, so threads must return to it. Under `runSync` a file is closed a moment after `close` returns, since looking takes that long;
 * opening it anew in the same thread waits for that.
 *
 * With `reserve`, a write that makes the file grow must leave room to grow further, or it is refused with `no-space`; only after
 * `spendReserve` may writes use that room. So the tables of earlier writes can follow them on a full disk. The room
 * is reserved by making the file longer and shorter again: Chromium goes on counting the longest size that a handle has seen, and it
 * grants room in powers of two up to 128 MiB, then 128 MiB at a time, so a large file that reached its limit could not grow by one
 * table even after that much was freed. Where browsers do not count so, this does nothing. A worker that is killed in between
 * leaves the file longer, with zeros: for formats in which the end of the file has no meaning.
 */
import { COUNT, check, oneOf, optionsOf, TEXT } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { finished, type Io, mayWait, runAsync, wait } from '../base/io.ts';
import { Loss, type LostListener } from '../base/loss.ts';
import { MiB } from '../base/units.ts';
import { attempt, browserError } from './browser-errors.ts';
import { FilePresence } from './opfs-presence.ts';
import { requireWritable, STORAGE_OPTIONS, type Storage, type StorageExtent, type StorageOptions, writeZeroes } from './storage.ts';

/** The options of `opfsStorage`, besides the path. */
export interface OpfsStorageOptions extends StorageOptions {
  /** `must-not-exist` makes a new file, `truncate` empties one; default: the file must be there. */
  readonly create?: 'must-not-exist' | 'truncate' | 'if-missing';
  /** Bytes of room that growing writes leave (see above); default 0. */
  readonly reserve?: number;
}

const OPTIONS = optionsOf<OpfsStorageOptions>({ ...STORAGE_OPTIONS, create: oneOf('must-not-exist', 'truncate', 'if-missing'), reserve: COUNT });

/** The handle that workers have and TypeScript's DOM library does not describe. Some calls returned promises in browsers of 2022; those are not supported. */
export interface SyncAccessHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

type SyncFileHandle = FileSystemFileHandle & {
  createSyncAccessHandle(options?: { mode: 'readwrite' | 'read-only' }): Promise<SyncAccessHandle>;
};

/** Bytes requested at a time beyond those needed, so that not every write has to request. */
const AHEAD = MiB;
/** Pauses between attempts to get a handle that is taken, in milliseconds; some two seconds in all. */
const RETRY_PAUSES = [20, 40, 80, 160, 300, 600, 800];
/** Pauses between attempts to remove a file: a holder in another thread that has closed it lets go a moment later. */
const DELETE_PAUSES = [20, 40, 80, 160];

/** True if this thread can open `opfsStorage`, as far as one can tell without opening a file. */
export const opfsAvailable = (): boolean =>
  typeof FileSystemFileHandle !== 'undefined' && 'createSyncAccessHandle' in FileSystemFileHandle.prototype && !!navigator.storage?.getDirectory;

const PROBE = 'tabdisk probe';

/**
 * Whether this thread can open `opfsStorage`, found out with a file that is removed again: the functions may exist and refuse to work, in private
 * windows of some browsers, and in WebKitGTK, where handles are not made at all.
 */
export async function opfsWorks(): Promise<boolean> {
  if (!opfsAvailable()) return false;
  try {
    await navigator.storage.getDirectory();
  } catch {
    return false;
  }
  try {
    const storage = await opfsStorage(PROBE, { create: 'if-missing' });
    await runAsync(storage.close());
  } catch (error) {
    // Another tab may have the file open, or the disk be full: that says nothing about the images that are kept there.
    return !(error instanceof DiskError && error.kind === 'unsupported');
  } finally {
    await deleteOpfsFile(PROBE).catch(() => undefined);
  }
  return true;
}

/**
 * Opens a file of the origin private file system; `path` is relative to its root and may name directories ("disks/a.img"),
 * which are made if `create` allows. Throws `locked` if the file is open elsewhere, `not-found`, `refused` if it exists and must not,
 * `unsupported` outside a dedicated worker and where the browser keeps no files (private windows).
 */
export async function opfsStorage(path: string, options: OpfsStorageOptions = {}): Promise<OpfsStorage> {
  check('opfsStorage', 'path', path, TEXT);
  check('opfsStorage', 'options', options, OPTIONS);
  const { readOnly = false, create, reserve = 0 } = options;
  if (!opfsAvailable())
    throw new DiskError('unsupported', `${path}: files of the origin private file system can be opened in a dedicated worker only`);
  try {
    await closing.get(identityOf(path));
    const file = await fileHandle(path, create);
    const handle = await openHandle(file as SyncFileHandle, readOnly);
    if (create === 'truncate') attempt(path, () => handle.truncate(0));
    return new OpfsStorage(path, handle, { file, readOnly, reserve });
  } catch (error) {
    throw browserError(path, error);
  }
}

/** Removes a file; nothing happens if it is not there. Throws `locked` while it is open. */
export async function deleteOpfsFile(path: string): Promise<void> {
  const names = split(path);
  const last = names.pop() as string;
  await closing.get(identityOf(path));
  try {
    const parent = await directory(names, false);
    await whileTaken(DELETE_PAUSES, () => parent.removeEntry(last));
  } catch (error) {
    const failure = browserError(path, error);
    if (failure.kind !== 'not-found') throw failure;
  }
}

/**
 * The file as it is now, for reading while it may be open elsewhere. Chromium makes it unreadable once the file changes;
 * other browsers may show the new bytes. Throws `not-found`.
 */
export const opfsFile = async (path: string): Promise<File> => (await opfsView(path)).file;

/** As `opfsFile`, with a function that tells later whether the file has changed since, which is quicker than opening it again. Rejects in the same cases. */
export async function opfsView(path: string): Promise<{ file: File; unchanged: () => Promise<boolean> }> {
  try {
    const handle = await fileHandle(path, undefined);
    const file = await handle.getFile();
    const unchanged = async () => {
      const now = await handle.getFile();
      return now.lastModified === file.lastModified && now.size === file.size;
    };
    return { file, unchanged };
  } catch (error) {
    throw browserError(path, error);
  }
}

/** Names of the files in a directory, of the outermost one if the path is empty; none if there is no such directory. */
export async function opfsFileNames(path: string): Promise<string[]> {
  const names: string[] = [];
  try {
    const found = await directory(path === '' ? [] : split(path), false);
    for await (const [name, handle] of found as unknown as AsyncIterable<[string, FileSystemHandle]>) if (handle.kind === 'file') names.push(name);
  } catch (error) {
    const failure = browserError(path, error);
    if (failure.kind !== 'not-found') throw failure;
  }
  return names;
}

/** The parts of a path; refuses a path that would leave the directory or names nothing. */
function split(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '');
  if (names.length === 0 || names.some((name) => name === '.' || name === '..'))
    throw new DiskError('refused', `"${path}" is not a path in the origin private file system`, { field: 'path' });
  return names;
}

/** Files for which `close` has returned, by identity, until their handles are closed. */
const closing = new Map<string, Promise<void>>();

/** Empty files that this thread made to close others that were gone (`OpfsStorage.#letGo`), by identity. */
const placeholders = new Set<string>();

const identityOf = (path: string): string => `opfs:${split(path).join('/')}`;

async function directory(names: readonly string[], create: boolean): Promise<FileSystemDirectoryHandle> {
  let at = await navigator.storage.getDirectory();
  for (const name of names) at = await at.getDirectoryHandle(name, { create });
  return at;
}

async function fileHandle(path: string, create: OpfsStorageOptions['create']): Promise<FileSystemFileHandle> {
  const names = split(path);
  const last = names.pop() as string;
  const parent = await directory(names, create !== undefined);
  if (create === 'must-not-exist' && (await exists(parent, last))) throw new DiskError('refused', `${path} exists already`);
  return parent.getFileHandle(last, { create: create !== undefined });
}

async function exists(parent: FileSystemDirectoryHandle, name: string): Promise<boolean> {
  try {
    await parent.getFileHandle(name);
    return true;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotFoundError') return false;
    throw error;
  }
}

// Browsers without modes ignore the option and open for writing, which is stricter.
const openHandle = (file: SyncFileHandle, readOnly: boolean): Promise<SyncAccessHandle> =>
  whileTaken(RETRY_PAUSES, () => file.createSyncAccessHandle({ mode: readOnly ? 'read-only' : 'readwrite' }));

/** Tries again, after pauses in milliseconds, while the file is open elsewhere. */
async function whileTaken<T>(pauses: readonly number[], attempt: () => Promise<T>): Promise<T> {
  for (const pause of [...pauses, undefined]) {
    try {
      return await attempt();
    } catch (error) {
      if (pause === undefined || !(error instanceof DOMException) || error.name !== 'NoModificationAllowedError') throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
  throw new Error('unreachable');
}

/** An open file of the origin private file system; see the top of this file. */
export class OpfsStorage implements Storage {
  readonly name: string;
  readonly identity: string;
  readonly readOnly: boolean;
  readonly synchronous = true;
  readonly sparse = true;
  readonly #handle: SyncAccessHandle;
  readonly #reserve: number;
  readonly #presence: FilePresence;
  readonly #loss = new Loss();
  /** Changes are accepted although the file is gone. */
  #salvaging = false;
  #abandoned = false;
  #size: number;
  /** Counts changes of the file's length. */
  #lengths = 0;
  /** The longest size that the browser has granted. */
  #granted: number;
  #spending = false;
  #open = true;

  /** @internal Use `opfsStorage`. */
  constructor(
    path: string,
    handle: SyncAccessHandle,
    { file, readOnly, reserve }: { file: FileSystemFileHandle; readOnly: boolean; reserve: number },
  ) {
    this.name = path;
    this.identity = identityOf(path);
    this.readOnly = readOnly;
    this.#presence = new FilePresence(
      file,
      () => ({ size: this.#size, changes: this.#lengths }),
      () => this.#loss.happened(this.#missed()),
    );
    this.#handle = handle;
    this.#reserve = readOnly ? 0 : reserve;
    this.#size = attempt(path, () => handle.getSize());
    this.#granted = this.#size;
    // Reserves from the start if there is room; without room, a file that does not grow is still of use.
    this.#grant(this.#size);
  }

  get size(): number {
    return this.#size;
  }

  /** Reads in the call itself, as nothing has to be waited for: so a request needs no coroutine. `write` and `flush` do likewise. */
  read(offset: number, into: Uint8Array): Io<void> {
    if (!this.#open) throw new DiskError('io', `${this.name} is closed`);
    const length = Math.max(0, Math.min(into.length, this.#size - offset));
    let done = 0;
    try {
      while (done < length) {
        const count = this.#handle.read(done === 0 && length === into.length ? into : into.subarray(done, length), { at: offset + done });
        // The handle is exclusive: no other code can have cut the file.
        if (count === 0) throw new DiskError('io', `${this.name}: the file ends before byte ${offset + length}`, { offset: offset + done });
        done += count;
      }
    } catch (error) {
      throw browserError(this.name, error);
    }
    if (length < into.length) into.fill(0, length);
    return finished;
  }

  write(offset: number, bytes: Uint8Array): Io<void> {
    this.#requireChangeable();
    this.#presence.writing();
    const end = offset + bytes.length;
    this.#requireRoom(end);
    let done = 0;
    try {
      while (done < bytes.length) {
        const count = this.#handle.write(done === 0 ? bytes : bytes.subarray(done), { at: offset + done });
        if (count === 0)
          throw new DiskError(
            'no-space',
            `${this.name}: the browser took none of ${bytes.length - done} bytes: the disk is full or the site has no more space`,
            { offset },
          );
        done += count;
      }
    } catch (error) {
      // A write that failed half-way may have grown the file.
      this.#lengthIs(attempt(this.name, () => this.#handle.getSize()));
      throw browserError(this.name, error);
    }
    if (end > this.#size && bytes.length > 0) this.#lengthIs(end);
    return finished;
  }

  spendReserve(allowed: boolean): void {
    this.#spending = allowed;
  }

  /** Refuses a growth to `size` that would not leave the reserve. */
  #requireRoom(size: number): void {
    if (size > this.#size && !this.#spending && !this.#grant(size))
      throw new DiskError('no-space', `${this.name}: there is no room for more than the tables of what was written before`, { offset: this.#size });
  }

  /** Whether the file can grow to `size` and leave the reserve, or there is none to leave. */
  #grant(size: number): boolean {
    const needed = size + this.#reserve;
    if (this.#reserve === 0 || needed <= this.#granted) return true;
    this.#lengths++;
    for (const wanted of [needed + AHEAD, needed]) {
      try {
        this.#handle.truncate(wanted);
        this.#granted = this.#handle.getSize();
      } catch {
        // The browser refused: a smaller size may be granted.
      }
      attempt(this.name, () => this.#handle.truncate(this.#size));
      if (needed <= this.#granted) return true;
    }
    return false;
  }

  *zero(offset: number, length: number): Io<void> {
    this.#requireChangeable();
    yield* writeZeroes(this, offset, Math.max(0, Math.min(length, this.#size - offset)));
  }

  *discard(): Io<void> {
    this.#requireChangeable();
  }

  *truncate(size: number): Io<void> {
    this.#requireChangeable();
    this.#requireRoom(size);
    const now = attempt(this.name, () => {
      this.#handle.truncate(size);
      return this.#handle.getSize();
    });
    this.#lengthIs(now);
    // Chromium's private windows neither throw nor change the size when the space is not there.
    if (now !== size) throw new DiskError('no-space', `${this.name}: the browser did not set the size to ${size} bytes; it is ${now}`);
  }

  *map(_offset: number, length: number): Io<StorageExtent> {
    return { length, zero: false };
  }

  barrier(): Io<void> {
    if (!this.readOnly) this.#flush();
    return finished;
  }

  flush(): Io<void> {
    if (this.readOnly) return finished;
    // The look begins first: the browser answers while the flush is under way.
    this.#presence.flushing();
    this.#flush();
    return finished;
  }

  #flush(): void {
    this.#requireThere();
    attempt(this.name, () => this.#handle.flush());
  }

  *confirm(): Io<void> {
    yield* wait(this.#presence.recent());
    if (!this.readOnly) this.#requireThere();
  }

  onLost(listener: LostListener): () => void {
    return this.#loss.listen(listener);
  }

  /** The bytes of the file can be read as long as it is open. */
  salvage(allowed: boolean): void {
    this.#salvaging = allowed;
  }

  /** Gives up the bytes that no flush has covered: the caller closes afterwards, which does not fail then. */
  abandon(): void {
    this.#abandoned = true;
  }

  /** Lets go in any case. Throws `lost` if the file is gone and `abandon` was not called. */
  *close(): Io<void> {
    if (!this.#open) return;
    this.#open = false;
    try {
      if (!this.readOnly && !this.#loss.error && !this.#abandoned) attempt(this.name, () => this.#handle.flush());
    } finally {
      const over = this.#letGo().catch((error) => {
        // If the file is gone, the error below says so, and no other is thrown.
        if (!this.#loss.error) throw browserError(this.name, error);
      });
      const settled = over.catch(() => undefined).then(() => void (closing.get(this.identity) === settled && closing.delete(this.identity)));
      closing.set(this.identity, settled);
      if (mayWait()) yield* wait(over);
    }
    if (!this.readOnly) this.#requireThere();
  }

  /**
   * Closes the handle. If the file is gone, another file is first put in its place: the handle could not be closed otherwise, and the name and the space of
   * the file would stay taken as long as the thread lives. If that fails, the handle is left open.
   */
  async #letGo(): Promise<void> {
    await this.#presence.look();
    this.#presence.stop();
    if (!this.#loss.error) return attempt(this.name, () => this.#handle.close());
    const parent = await directory(split(this.name).slice(0, -1), true);
    const name = split(this.name).at(-1) as string;
    if (!(await exists(parent, name))) placeholders.add(this.identity);
    await parent.getFileHandle(name, { create: true });
    attempt(this.name, () => this.#handle.close());
    // The placeholder stays while others have the lost file open, until the last of them does this.
    if (placeholders.has(this.identity)) await parent.removeEntry(name);
    placeholders.delete(this.identity);
  }

  #lengthIs(size: number): void {
    this.#size = size;
    this.#lengths++;
  }

  #requireThere(): void {
    if (this.#loss.error && !this.#salvaging && !this.#abandoned) throw this.#loss.error;
  }

  #requireChangeable(): void {
    requireWritable(this);
    this.#requireThere();
  }

  #missed(): DiskError {
    return new DiskError(
      'lost',
      `${this.name}: the browser has removed this file while it was open, which it does when the site's data is cleared; nothing more can be saved in it. What it held can still be read: copy it elsewhere before you close it`,
    );
  }
}
