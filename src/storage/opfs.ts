/**
 * A file in the origin private file system, through a synchronous access handle: dedicated workers only. Synchronous. What
 * `write` returned for is in the operating system's hands (it survives the worker and the browser); `flush` asks for durability.
 * The handle is exclusive: no other tab or worker can open the file for writing meanwhile, and an open of ours that finds
 * it taken is retried for two seconds, because browsers release the handles of a page that was closed or reloaded late.
 * OPFS has no holes to punch: `discard` does nothing, and quota counts the file's logical size.
 *
 * With `reserve`, a write that makes the file grow must leave room to grow further, or it is refused with `no-space`; only after
 * `spendReserve` may writes use that room. So the tables of what was written before can follow it on a full disk. The room
 * is had by making the file longer and shorter again: Chromium goes on counting the longest that a handle has seen, and it
 * grants room in powers of two up to 128 MiB, then 128 MiB at a time, so a large file that reached its limit could not grow by one
 * table even after that much was freed. Where browsers do not count so, this does nothing. A worker that is killed in between
 * leaves the file longer, with zeros: for formats whose end of file means nothing.
 */
import { DiskError } from '../base/errors.ts';
import { finished, type Io, runAsync } from '../base/io.ts';
import { MiB } from '../base/units.ts';
import { attempt, browserError } from './browser-errors.ts';
import { requireWritable, type Storage, type StorageExtent, type StorageOptions, writeZeroes } from './storage.ts';

export interface OpfsStorageOptions extends StorageOptions {
  /** `must-not-exist` makes a new file, `truncate` empties one; default: the file must be there. */
  readonly create?: 'must-not-exist' | 'truncate' | 'if-missing';
  /** Bytes of room that growing writes leave (see above); default 0. */
  readonly reserve?: number;
}

/** What workers have and TypeScript's DOM library does not describe. Some calls returned promises in browsers of 2022; those are not supported. */
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

/** Bytes asked for at a time beyond what is needed, so that not every write asks. */
const AHEAD = MiB;
/** Pauses between attempts to get a handle that is taken, in milliseconds; some two seconds in all. */
const RETRY_PAUSES = [20, 40, 80, 160, 300, 600, 800];

/** True if this thread can open `opfsStorage` as far as one can tell without asking for a file. */
export const opfsAvailable = (): boolean =>
  typeof FileSystemFileHandle !== 'undefined' && 'createSyncAccessHandle' in FileSystemFileHandle.prototype && !!navigator.storage?.getDirectory;

const PROBE = 'tabdisk probe';

/**
 * Whether this thread can open `opfsStorage`, found out with a file that is removed again: the functions may be there and refuse to serve, in private
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
    // Another tab may be at the file, or the disk full: that says nothing of the images that are kept there.
    return !(error instanceof DiskError && error.kind === 'unsupported');
  } finally {
    await deleteOpfsFile(PROBE).catch(() => undefined);
  }
  return true;
}

/**
 * Opens a file of the origin private file system; `path` is relative to its root and may name directories ("disks/a.img"),
 * which are made if `create` allows. Throws `locked` if somebody has it, `not-found`, `refused` if it exists and must not,
 * `unsupported` outside a dedicated worker and where the browser keeps no files (private windows).
 */
export async function opfsStorage(path: string, options: OpfsStorageOptions = {}): Promise<OpfsStorage> {
  const { readOnly = false, create, reserve = 0 } = options;
  if (!opfsAvailable())
    throw new DiskError('unsupported', `${path}: files of the origin private file system can be opened in a dedicated worker only`);
  try {
    const file = await fileHandle(path, create);
    const handle = await openHandle(file as SyncFileHandle, readOnly);
    if (create === 'truncate') attempt(path, () => handle.truncate(0));
    return new OpfsStorage(path, handle, { readOnly, reserve });
  } catch (error) {
    throw browserError(path, error);
  }
}

/** Removes a file; nothing happens if it is not there. Throws `locked` while it is open. */
export async function deleteOpfsFile(path: string): Promise<void> {
  const names = split(path);
  const last = names.pop() as string;
  try {
    await (await directory(names, false)).removeEntry(last);
  } catch (error) {
    const failure = browserError(path, error);
    if (failure.kind !== 'not-found') throw failure;
  }
}

/**
 * The file as it is now, to be read while somebody else may have it open. Chromium makes it unreadable once the file changes;
 * other browsers may show the new bytes. Throws `not-found`.
 */
export const opfsFile = async (path: string): Promise<File> => (await opfsView(path)).file;

/** As `opfsFile`, with a way to tell later whether the file has been changed since, which is quicker than looking for it again. Rejects as that. */
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

/** Names of the files in a directory; empty if there is no such directory. */
export async function opfsFileNames(path: string): Promise<string[]> {
  const names: string[] = [];
  try {
    const found = await directory(split(path), false);
    for await (const [name, handle] of found as unknown as AsyncIterable<[string, FileSystemHandle]>) if (handle.kind === 'file') names.push(name);
  } catch (error) {
    const failure = browserError(path, error);
    if (failure.kind !== 'not-found') throw failure;
  }
  return names;
}

/** The parts of a path; refuses what would leave the directory or name nothing. */
function split(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '');
  if (names.length === 0 || names.some((name) => name === '.' || name === '..'))
    throw new DiskError('refused', `"${path}" is not a path in the origin private file system`, { field: 'path' });
  return names;
}

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

async function openHandle(file: SyncFileHandle, readOnly: boolean): Promise<SyncAccessHandle> {
  for (const pause of [...RETRY_PAUSES, undefined]) {
    try {
      // Browsers without modes ignore the option and open for writing, which is stricter.
      return await file.createSyncAccessHandle({ mode: readOnly ? 'read-only' : 'readwrite' });
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
  #size: number;
  /** The longest that the browser has let the file be. */
  #granted: number;
  #spending = false;
  #open = true;

  /** @internal Use `opfsStorage`. */
  constructor(path: string, handle: SyncAccessHandle, { readOnly, reserve }: { readOnly: boolean; reserve: number }) {
    this.name = path;
    this.identity = `opfs:${split(path).join('/')}`;
    this.readOnly = readOnly;
    this.#handle = handle;
    this.#reserve = readOnly ? 0 : reserve;
    this.#size = attempt(path, () => handle.getSize());
    this.#granted = this.#size;
    // From the start if there is room; a file that does not grow is of use without.
    this.#grant(this.#size);
  }

  get size(): number {
    return this.#size;
  }

  /** Reads in the call itself, as nothing is waited for: so a request costs no coroutine. `write` and `flush` do likewise. */
  read(offset: number, into: Uint8Array): Io<void> {
    const length = Math.max(0, Math.min(into.length, this.#size - offset));
    let done = 0;
    try {
      while (done < length) {
        const count = this.#handle.read(done === 0 && length === into.length ? into : into.subarray(done, length), { at: offset + done });
        // The handle is exclusive: nobody else can have cut the file.
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
    requireWritable(this);
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
      this.#size = attempt(this.name, () => this.#handle.getSize());
      throw browserError(this.name, error);
    }
    if (end > this.#size && bytes.length > 0) this.#size = end;
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
    for (const wanted of [needed + AHEAD, needed]) {
      try {
        this.#handle.truncate(wanted);
        this.#granted = this.#handle.getSize();
      } catch {
        // Refused: less may do.
      }
      attempt(this.name, () => this.#handle.truncate(this.#size));
      if (needed <= this.#granted) return true;
    }
    return false;
  }

  *zero(offset: number, length: number): Io<void> {
    requireWritable(this);
    yield* writeZeroes(this, offset, Math.max(0, Math.min(length, this.#size - offset)));
  }

  *discard(): Io<void> {
    requireWritable(this);
  }

  *truncate(size: number): Io<void> {
    requireWritable(this);
    this.#requireRoom(size);
    const now = attempt(this.name, () => {
      this.#handle.truncate(size);
      return this.#handle.getSize();
    });
    this.#size = now;
    // Chromium's private windows neither throw nor change the size when the space is not there.
    if (now !== size) throw new DiskError('no-space', `${this.name}: the browser did not set the size to ${size} bytes; it is ${now}`);
  }

  *map(_offset: number, length: number): Io<StorageExtent> {
    return { length, zero: false };
  }

  barrier(): Io<void> {
    return this.flush();
  }

  flush(): Io<void> {
    if (!this.readOnly) attempt(this.name, () => this.#handle.flush());
    return finished;
  }

  *close(): Io<void> {
    if (!this.#open) return;
    this.#open = false;
    try {
      yield* this.flush();
    } finally {
      attempt(this.name, () => this.#handle.close());
    }
  }
}
