/**
 * `mountDisk`: a file of an Emscripten file system that is a disk, for emulators compiled to WebAssembly: DOSBox and others open it by its path as a raw
 * image, whatever its format. A file of the build's own file system is made, and its node's operations are replaced; read, write and seek go to the disk
 * (disk-file.ts, with the crash argument), fsync flushes it, and a mapping into memory is refused as Emscripten does it (ENODEV). The file keeps the disk's size.
 *
 * Emscripten's file systems never wait. So the disk must answer at once: a `Disk` over OPFS in the emulator's worker, or a `SharedDisk`. WasmFS, whose files are
 * not in JavaScript, is not supported. C's own buffers are not seen here: the last sectors that a program wrote with stdio come when it flushes them.
 * Error numbers are those of Emscripten's C library (WASI's), or Linux's in builds from before 2019; the file system itself shows which.
 */
import { check, objectWith, TEXT } from '../base/arguments.ts';
import { DiskError, type ErrorKind } from '../base/errors.ts';
import { DiskFile, type DiskFileOptions, type WaitlessDisk } from './disk-file.ts';

export type { DiskFileOptions, WaitlessDisk };

/** The part of `Module.FS` that is used. Types of all Emscripten versions fit. */
export interface EmscriptenFs {
  /** Makes a file and returns its node. */
  create(path: string, mode?: number): object;
  /** Removes a file. */
  unlink(path: string): void;
  /** Makes a folder, and those above it. */
  mkdirTree(path: string, mode?: number): void;
  /** Whether there is something at a path. */
  analyzePath(path: string, dontResolveLastLink?: boolean): { readonly exists: boolean };
  /** Throws an error with a number for a path that leads nowhere. */
  lookupPath(path: string, options?: object): unknown;
  /** The folder that everything is in. */
  readonly root: object;
  /** The class of the errors that its callers understand. */
  readonly ErrnoError: new (
    errno: number,
  ) => Error;
}

/** A disk in a file system. */
export interface MountedDisk {
  /** Where the file is. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Whether a write is not flushed. */
  readonly unsaved: boolean;
  /** Makes durable what the emulator has written. Throws the reason if that fails; nothing is lost then. */
  sync(): void;
  /**
   * Flushes and removes the file; the disk stays open. If flushing fails it throws, `onError` is told, and the file stays; with `discard` nothing is saved.
   * Files that are still open then fail with EIO. May be called twice.
   */
  unmount(options?: { readonly discard?: boolean }): void;
}

const FS = objectWith("Module.FS, Emscripten's file system in JavaScript", ['create', 'unlink', 'lookupPath', 'ErrnoError'], (value) =>
  value && typeof value === 'object' && 'FS' in value ? 'pass its property FS' : undefined,
);

/** [in WASI, on Linux]. */
const NUMBERS = { EIO: [29, 5], EAGAIN: [6, 11], EINVAL: [28, 22], ENOSPC: [51, 28], EROFS: [69, 30], EBUSY: [10, 16], ENOTSUP: [138, 95] } as const;
type Code = keyof typeof NUMBERS;
const CODES: Partial<Record<ErrorKind, Code>> = {
  'would-wait': 'EAGAIN',
  'out-of-bounds': 'EINVAL',
  refused: 'EINVAL',
  'no-space': 'ENOSPC',
  'read-only': 'EROFS',
  'in-use': 'EBUSY',
  locked: 'EBUSY',
  unsupported: 'ENOTSUP',
};
const NO_ENTRY_ON_LINUX = 2;
const READ_ALL = 0o444;
const WRITE_ALL = 0o222;
const REGULAR_FILE = 0o100000;
/** Bits of the flags that a file is opened with. */
const ACCESS = 3;

interface Attributes {
  readonly mode?: number;
  readonly size?: number;
  readonly timestamp?: number;
  readonly [time: string]: unknown;
}

interface Mount {
  readonly type?: object;
  readonly mounts: Mount[];
}

/** A node of Emscripten's: a file or folder. */
interface FsNode {
  id: number;
  mode: number;
  usedBytes?: number;
  contents?: unknown;
  mount: Mount;
  node_ops: object;
  stream_ops: object;
}

interface FsStream {
  readonly flags: number;
  readonly position: number;
}

/** The bytes of an emulator's memory. */
type Heap = Uint8Array | Int8Array;

/** Makes the file `path` out of a disk. The caller keeps the disk: unmount first, then close it. Throws `refused` if there is something at `path`. */
export function mountDisk(fs: EmscriptenFs, path: string, disk: WaitlessDisk, options: DiskFileOptions = {}): MountedDisk {
  check('mountDisk', 'FS', fs, FS);
  check('mountDisk', 'path', path, TEXT);
  if (fs.analyzePath(path).exists) throw new DiskError('refused', `mountDisk: there is something at ${path} already`, { field: 'path' });
  const file = new DiskFile('mountDisk', disk, options);
  const node = new DiskNode(fs, file);
  try {
    const folder = path.slice(0, path.lastIndexOf('/'));
    if (folder !== '') fs.mkdirTree(folder);
    node.take(fs.create(path, READ_ALL | (file.readOnly ? 0 : WRITE_ALL)) as FsNode);
  } catch (cause) {
    file.close({ discard: true });
    throw new DiskError('refused', `mountDisk: the file system takes no file at ${JSON.stringify(path)}`, { field: 'path', cause });
  }
  let mounted = true;
  return {
    path,
    size: file.size,
    get unsaved() {
      return file.unsaved;
    },
    sync: () => {
      if (mounted) file.sync();
    },
    unmount(how) {
      if (!mounted) return;
      file.close(how);
      mounted = false;
      node.leave();
      if (fs.analyzePath(path).exists) fs.unlink(path);
    },
  };
}

/** The operations of a file's node. */
class DiskNode {
  readonly #fs: EmscriptenFs;
  readonly #file: DiskFile;
  readonly #column: 0 | 1;
  /** A file system of the file's own: builds with Asyncify flush the file system of a file, not the file. */
  #mount: Mount | undefined;
  #changed = Date.now();
  #bounce = new Uint8Array();

  constructor(fs: EmscriptenFs, file: DiskFile) {
    this.#fs = fs;
    this.#file = file;
    this.#column = numbersOf(fs);
  }

  /** Replaces what the file system does with a file of its own. */
  take(node: FsNode): void {
    const { size } = this.#file;
    node.contents = null;
    Object.defineProperty(node, 'usedBytes', { get: () => size, set: () => undefined });
    node.node_ops = {
      getattr: () => this.#attributes(node),
      setattr: (_: FsNode, attributes: Attributes) => this.#setAttributes(node, attributes),
    };
    node.stream_ops = {
      open: (stream: FsStream) => this.#open(stream),
      llseek: (stream: FsStream, offset: number, whence: number) => this.#seek(stream, offset, whence),
      read: (_: FsStream, heap: Heap, at: number, length: number, position: number) => this.#do(() => this.#read(heap, at, length, position)),
      write: (_: FsStream, heap: Heap, at: number, length: number, position: number) => this.#do(() => this.#write(heap, at, length, position)),
      fsync: () => this.#do(() => this.#sync()),
    };
    const syncfs = (_mount: object, populate: boolean, done: (error: Error | null) => void) => this.#syncfs(populate, done);
    this.#mount = { ...node.mount, type: { ...node.mount.type, syncfs }, mounts: [] };
    node.mount = this.#mount;
    this.#mounts()?.push(this.#mount);
  }

  /** Undoes what `take` did outside of the node. */
  leave(): void {
    const mounts = this.#mounts();
    const at = this.#mount ? (mounts?.indexOf(this.#mount) ?? -1) : -1;
    if (at >= 0) mounts?.splice(at, 1);
  }

  /** The file systems that `FS.syncfs` goes through. */
  #mounts(): Mount[] | undefined {
    return (this.#fs.root as { mount?: Mount }).mount?.mounts;
  }

  #attributes(node: FsNode): object {
    const { size } = this.#file;
    const time = new Date(this.#changed);
    const blocks = Math.ceil(size / 512);
    return {
      dev: 1,
      ino: node.id,
      mode: node.mode,
      nlink: 1,
      uid: 0,
      gid: 0,
      rdev: 0,
      size,
      atime: time,
      mtime: time,
      ctime: time,
      blksize: 4096,
      blocks,
    };
  }

  /** Rights may be changed, times are not kept, and the size stays as it is. */
  #setAttributes(node: FsNode, { mode, size = this.#file.size }: Attributes): void {
    if (size !== this.#file.size) throw this.#errno('EINVAL');
    if (mode !== undefined) node.mode = (mode & 0o7777) | REGULAR_FILE;
  }

  #open({ flags }: FsStream): void {
    if (this.#file.readOnly && (flags & ACCESS) !== 0) throw this.#errno('EROFS');
  }

  #seek(stream: FsStream, offset: number, whence: number): number {
    const position = offset + (whence === 1 ? stream.position : whence === 2 ? this.#file.size : 0);
    if (position < 0) throw this.#errno('EINVAL');
    return position;
  }

  #read(heap: Heap, at: number, length: number, position: number): number {
    const place = new Uint8Array(heap.buffer, heap.byteOffset + at, length);
    if (plain(heap.buffer)) return this.#file.read(position, place);
    const count = this.#file.read(position, this.#between(length));
    place.set(this.#bounce.subarray(0, count));
    return count;
  }

  #write(heap: Heap, at: number, length: number, position: number): number {
    let bytes = new Uint8Array(heap.buffer, heap.byteOffset + at, length);
    if (!plain(heap.buffer)) {
      const between = this.#between(length);
      between.set(bytes);
      bytes = between;
    }
    this.#changed = Date.now();
    return this.#file.write(position, bytes);
  }

  #sync(): number {
    this.#file.sync();
    return 0;
  }

  #syncfs(populate: boolean, done: (error: Error | null) => void): void {
    try {
      if (!populate) this.#do(() => this.#sync());
    } catch (error) {
      return done(error as Error);
    }
    done(null);
  }

  /** Memory of our own, of so many bytes. */
  #between(length: number): Uint8Array<ArrayBuffer> {
    if (this.#bounce.length < length) this.#bounce = new Uint8Array(length);
    return this.#bounce.subarray(0, length) as Uint8Array<ArrayBuffer>;
  }

  #do(work: () => number): number {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      throw this.#errno(CODES[error.kind] ?? 'EIO');
    }
  }

  #errno(code: Code): Error {
    return new this.#fs.ErrnoError(NUMBERS[code][this.#column]);
  }
}

/** Storages take neither shared memory nor memory that can grow in its place. */
function plain(buffer: ArrayBufferLike): boolean {
  return buffer instanceof ArrayBuffer && !(buffer as { resizable?: boolean }).resizable;
}

/** Which of the two lists of numbers the build has. */
function numbersOf(fs: EmscriptenFs): 0 | 1 {
  try {
    fs.lookupPath('/ /no such file');
  } catch (error) {
    if ((error as { errno?: number }).errno === NO_ENTRY_ON_LINUX) return 1;
  }
  return 0;
}
