/**
 * A file on disk, for Node: the command line and tests. Synchronous, unless it is to work in the background: then large requests go to Node's
 * threads, and the caller can do something else meanwhile. Bytes for which `write` has returned are in the operating system's
 * hands (they survive the process); `flush` is fsync.
 *
 * Node cannot ask a file system for holes. Where a file occupies less than its size, `map` therefore reads it, and calls a block that is full
 * of zeros zero. Those are its holes, and zeros that were written, which the file system would call data. The occupied size only
 * decides whether reading is worth it: file systems that compress or write late report less than there is.
 *
 * On Linux the file is locked against QEMU and other users of this kind of storage as long as it is open (storage/file-locks.ts), and a file that is
 * to be emptied is emptied behind its lock.
 */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  read,
  readSync,
  type Stats,
  statfsSync,
  write,
  writeSync,
} from 'node:fs';
import { check, FLAG, oneOf, optionsOf, TEXT } from '../base/arguments.ts';
import { roundDown, roundUp } from '../base/bytes.ts';
import { SystemError, strerror } from '../base/errno.ts';
import { DiskError, type ErrorKind } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import { ALL, joined, PERMISSIONS, type Permissions, READING, WRITING } from '../base/permissions.ts';
import { FileLocks, type Locking } from './file-locks.ts';
import { requireWritable, STORAGE_OPTIONS, type Storage, type StorageExtent, type StorageOptions, writeZeroes } from './storage.ts';
import { systemPath } from './system-path.ts';

/** The unit by which nearly all file systems allocate. */
const BLOCK = 4096;
const ZEROS = new Uint8Array(BLOCK);
/** How far one call of `map` reads. */
const MOST_LOOKED_AT = 16 * 1024 * 1024;
/** Requests of so many bytes are worth the cost of another thread. */
const WORTH_A_THREAD = 128 * 1024;

/** The options of `nodeFileStorage`. */
export interface NodeFileOptions extends StorageOptions {
  /** `must-not-exist` makes a new file, `truncate` empties one; default: the file must be there. */
  readonly create?: 'must-not-exist' | 'truncate' | 'if-missing';
  /** Large requests are waited for while other threads deal with them, so the storage is not synchronous. For jobs that do several things at once. */
  readonly background?: boolean;
  /** Whether the file is locked: `auto` (default) where that can be done, `on` or the opening fails, `off`. QEMU's option of that name. */
  readonly locking?: Locking;
  /** Others may write meanwhile, and bytes read may be half-written. Only with `readOnly`; QEMU's `force-share`. */
  readonly forceShare?: boolean;
  /**
   * The permissions held for as long as the file is open, besides those that the image above wants (`Storage.permit`). Default: with `readOnly`, no other user
   * may write; else, no other user may read or write.
   */
  readonly permissions?: Permissions;
}

export {
  ALL,
  CONSISTENT_READ,
  NOTHING,
  type Permissions,
  READING,
  RESIZE,
  SHARED_WRITING,
  WRITE,
  WRITE_UNCHANGED,
  WRITING,
} from '../base/permissions.ts';
export { LockedError, type Locking } from './file-locks.ts';

const OPTIONS = optionsOf<NodeFileOptions>({
  ...STORAGE_OPTIONS,
  create: oneOf('must-not-exist', 'truncate', 'if-missing'),
  background: FLAG,
  locking: oneOf('on', 'auto', 'off'),
  forceShare: FLAG,
  permissions: PERMISSIONS,
});

/**
 * Opens a file as a storage. Throws `not-found`, `read-only`, `no-space` or `io`, with the path and the system's words; `unsupported` with the
 * field `file type` for anything but a regular file: a folder, a pipe, a device; `locked` if another program, or another storage in this one, uses
 * the file in a way that conflicts.
 */
export function nodeFileStorage(path: string, options: NodeFileOptions = {}): NodeFileStorage {
  check('nodeFileStorage', 'path', path, TEXT);
  check('nodeFileStorage', 'options', options, OPTIONS);
  return new NodeFileStorage(path, options);
}

/** A file on disk as a storage. */
export class NodeFileStorage implements Storage {
  readonly name: string;
  readonly identity: string;
  readonly modified: number;
  readonly readOnly: boolean;
  readonly synchronous: boolean;
  readonly mapReads = true;
  readonly #descriptor: number;
  readonly #locks: FileLocks;
  readonly #permissions: Permissions;
  readonly #forceShare: boolean;
  #size: number;
  #open = true;

  constructor(path: string, { readOnly = false, create, background = false, locking = 'auto', forceShare = false, permissions }: NodeFileOptions) {
    if (forceShare && !readOnly) throw new DiskError('refused', `${path}: forceShare needs readOnly`, { field: 'force-share' });
    this.name = path;
    this.synchronous = !background;
    this.readOnly = readOnly;
    this.#forceShare = forceShare;
    this.#permissions = permissions ?? (readOnly ? READING : WRITING);
    if (path.includes('\0'))
      throw new DiskError('not-found', `${JSON.stringify(path)} names no file: a name cannot contain a NUL byte`, {
        field: 'name',
        cause: new SystemError('ENOENT', 'No such file or directory'),
      });
    this.#descriptor = attempt(path, () => openFile(path, readOnly, create));
    this.#locks = new FileLocks(this.#descriptor, path, locking);
    let stat: Stats;
    try {
      requireRegular(
        path,
        attempt(path, () => fstatSync(this.#descriptor)),
      );
      this.#lock(this.#permissions);
      if (create === 'truncate') attempt(path, () => ftruncateSync(this.#descriptor, 0));
      stat = attempt(path, () => fstatSync(this.#descriptor));
    } catch (error) {
      this.#letGo();
      throw error;
    }
    this.identity = `file:${stat.dev}:${stat.ino}`;
    this.modified = stat.mtimeMs;
    this.#size = stat.size;
  }

  *permit(permissions: Permissions): Io<void> {
    this.#lock(joined(permissions, this.#permissions));
  }

  #lock(wanted: Permissions): void {
    attempt(this.name, () => this.#locks.change(this.#forceShare ? { ...wanted, share: ALL } : wanted));
  }

  /** The locks end with the descriptor. */
  #letGo(): void {
    this.#locks.release();
    closeSync(this.#descriptor);
  }

  get size(): number {
    return this.#size;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    const length = Math.max(0, Math.min(into.length, this.#size - offset));
    for (let done = 0; done < length; ) {
      const count = yield* this.#piece(readingFile, into.subarray(done, length), offset + done);
      if (count === 0) {
        into.fill(0, done, length);
        break;
      }
      done += count;
    }
    if (length < into.length) into.fill(0, length);
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    requireWritable(this);
    let done = 0;
    try {
      while (done < bytes.length) {
        const count = yield* this.#piece(writingFile, bytes.subarray(done), offset + done);
        if (count === 0) throw new DiskError('no-space', `${this.name}: the file system took none of ${bytes.length - done} bytes`);
        done += count;
      }
    } finally {
      // A write that failed half-way changes the size too.
      if (done > 0) this.#size = Math.max(this.#size, offset + done);
    }
  }

  /** One call; returns how many bytes it read or wrote. */
  *#piece({ now, later }: FileCall, bytes: Uint8Array, position: number): Io<number> {
    if (this.synchronous || bytes.length < WORTH_A_THREAD) return attempt(this.name, () => now(this.#descriptor, bytes, position));
    try {
      return yield* wait(later(this.#descriptor, bytes, position));
    } catch (error) {
      throw diskError(this.name, error);
    }
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
    attempt(this.name, () => ftruncateSync(this.#descriptor, size));
    this.#size = size;
  }

  *map(offset: number, length: number): Io<StorageExtent> {
    const inside = Math.min(length, this.#size - offset);
    if (inside <= 0) return { length, zero: true };
    const occupied = attempt(this.name, () => fstatSync(this.#descriptor).blocks * 512);
    if (occupied >= this.#size) return { length, zero: false };
    return yield* this.#look(offset, inside);
  }

  /** Reads blocks as long as they are in the same state. */
  *#look(offset: number, length: number): Io<StorageExtent> {
    const end = offset + Math.min(length, MOST_LOOKED_AT);
    const buffer = Buffer.alloc(Math.min(roundUp(end, BLOCK) - roundDown(offset, BLOCK), 64 * BLOCK));
    let first: boolean | undefined;
    for (let at = roundDown(offset, BLOCK); at < end; at += buffer.length) {
      yield* this.read(at, buffer);
      for (let within = 0; within < buffer.length && at + within < end; within += BLOCK) {
        const zero = buffer.compare(ZEROS, 0, BLOCK, within, within + BLOCK) === 0;
        first ??= zero;
        if (zero !== first) return { length: at + within - offset, zero: first };
      }
    }
    return { length: end - offset, zero: first === true };
  }

  *barrier(): Io<void> {
    yield* this.flush();
  }

  *flush(): Io<void> {
    if (!this.readOnly) attempt(this.name, () => fsyncSync(this.#descriptor));
  }

  *close(): Io<void> {
    if (!this.#open) return;
    this.#open = false;
    attempt(this.name, () => this.#letGo());
  }

  *allocatedSize(): Io<number> {
    return attempt(this.name, () => fstatSync(this.#descriptor).blocks * 512);
  }
}

const { O_CREAT, O_EXCL, O_RDONLY, O_RDWR } = constants;
/** Opening a pipe must not wait for its other end. Windows has no such flag. */
const O_NONBLOCK = constants.O_NONBLOCK ?? 0;

const FLAGS: Readonly<Record<NonNullable<NodeFileOptions['create']>, number>> = {
  'must-not-exist': O_CREAT | O_EXCL,
  // Not O_TRUNC, which empties the file before its locks can be checked.
  truncate: O_CREAT,
  'if-missing': O_CREAT,
};

function openFile(path: string, readOnly: boolean, create: NodeFileOptions['create']): number {
  return openSync(systemPath(path), (readOnly && !create ? O_RDONLY : O_RDWR | (create ? FLAGS[create] : 0)) | O_NONBLOCK, 0o666);
}

const PROC_SUPER_MAGIC = 0x9fa0;

/** Refuses a file without bytes that stay where they are: it was opened without waiting, to see what it is. */
function requireRegular(path: string, stat: Stats): void {
  const place = { field: 'file type' };
  if (!stat.isFile()) throw new DiskError('unsupported', `${path} is ${kindOf(stat)}, not a regular file: an image cannot be kept there`, place);
  // Files of /proc claim to be regular, but have no size.
  if (stat.size === 0 && attempt(path, () => statfsSync(systemPath(path)).type) === PROC_SUPER_MAGIC)
    throw new DiskError('unsupported', `${path} is a view of the system, without a size: an image cannot be kept there`, {
      ...place,
      cause: new SystemError('EINVAL', 'Invalid argument'),
    });
}

function kindOf(stat: Stats): string {
  if (stat.isDirectory()) return 'a folder';
  if (stat.isFIFO()) return 'a pipe';
  return stat.isSocket() ? 'a socket' : 'a device';
}

const KINDS: Readonly<Record<string, ErrorKind>> = {
  ENOENT: 'not-found',
  EACCES: 'read-only',
  EPERM: 'read-only',
  EROFS: 'read-only',
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
  EFBIG: 'no-space',
  EEXIST: 'refused',
};

/** A call of the file system, in this thread or in another. Both return how many bytes they read or wrote. */
interface FileCall {
  now(descriptor: number, bytes: Uint8Array, position: number): number;
  later(descriptor: number, bytes: Uint8Array, position: number): Promise<number>;
}

const readingFile: FileCall = {
  now: (descriptor, bytes, position) => readSync(descriptor, bytes, 0, bytes.length, position),
  later: (descriptor, bytes, position) =>
    new Promise((resolve, reject) => {
      read(descriptor, bytes, 0, bytes.length, position, (error, count) => (error ? reject(error) : resolve(count)));
    }),
};

const writingFile: FileCall = {
  now: (descriptor, bytes, position) => writeSync(descriptor, bytes, 0, bytes.length, position),
  later: (descriptor, bytes, position) =>
    new Promise((resolve, reject) => {
      write(descriptor, bytes, 0, bytes.length, position, (error, count) => (error ? reject(error) : resolve(count)));
    }),
};

/** Runs a file operation, turning the system's errors into ours. */
function attempt<T>(path: string, operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    throw diskError(path, error);
  }
}

function diskError(path: string, error: unknown): DiskError {
  if (error instanceof DiskError) return error;
  const { code = '' } = error as NodeJS.ErrnoException;
  return new DiskError(KINDS[code] ?? 'io', `${path}: ${strerror(code) ?? `the system refused the call (${code})`}`, { cause: error });
}
