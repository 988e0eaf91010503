/**
 * Disks by the file functions of Node, for emulators that read their images with `fs` (ports of PCjs or 86Box, say): `diskFs` has the synchronous functions, over
 * disks that never wait, and `diskFileHandle` is a `FileHandle` over any disk. A file has the size of its disk; errors have Node's `code` besides.
 *
 * Crash argument: the synchronous functions are those of disk-file.ts. A handle passes writes on and flushes at `sync`, `datasync` and `close`, in the order in
 * which they are called; what no flush has covered may be lost, as with files.
 */
import { COUNT, check, either, maybe, objectWith, requireBytes, requireNumbers, SIZE, TEXT } from '../base/arguments.ts';
import { asDiskError, DiskError, type ErrorKind } from '../base/errors.ts';
import type { DiskIo } from '../disk/async-disk.ts';
import { DiskFile, type DiskFileOptions, type WaitlessDisk } from './disk-file.ts';

export type { DiskFileOptions, WaitlessDisk };

/** What `fstatSync` and `stat` tell. */
export interface DiskStats {
  /** Bytes. */
  readonly size: number;
  /** `0o100666`, or `0o100444` for a disk that is only read. */
  readonly mode: number;
  /** Always true. */
  isFile(): boolean;
  /** Always false. */
  isDirectory(): boolean;
}

/** An error with Node's code: `EBADF`, `ENOENT`, `EROFS`, `ENOSPC`, `EINVAL`, `EIO`. */
export type CodedError = DiskError & { readonly code: string };

const CODES: Partial<Record<ErrorKind, string>> = {
  'not-found': 'ENOENT',
  'read-only': 'EROFS',
  'no-space': 'ENOSPC',
  'out-of-bounds': 'EINVAL',
  refused: 'EINVAL',
  'would-wait': 'EAGAIN',
  'in-use': 'EBUSY',
  locked: 'EBUSY',
};

function coded(error: unknown, code?: string): CodedError {
  const failure = asDiskError(error, 'The file failed');
  return Object.assign(failure, { code: code ?? CODES[failure.kind] ?? 'EIO' });
}

function statsOf(size: number, readOnly: boolean): DiskStats {
  return { size, mode: readOnly ? 0o100444 : 0o100666, isFile: () => true, isDirectory: () => false };
}

/** The part of an array that a request means, as Node has it: from `offset` on, so many bytes, by default the rest. */
function part(where: string, buffer: Uint8Array, offset = 0, given?: number): Uint8Array {
  requireBytes(where, 'buffer', buffer);
  const length = given ?? buffer.length - offset;
  requireNumbers(where, offset, length);
  if (offset < 0 || length < 0 || offset + length > buffer.length)
    throw new DiskError('refused', `${where}: ${length} bytes from ${offset} on do not lie inside the buffer`, { field: 'length' });
  return buffer.subarray(offset, offset + length);
}

/** The place that a request names; undefined if it goes on where the last one ended. */
function place(where: string, position: number | bigint | null | undefined): number | undefined {
  if (position === null || position === undefined) return undefined;
  const at = typeof position === 'bigint' ? Number(position) : position;
  if (at === -1) return undefined;
  check(where, 'position', at, SIZE);
  return at;
}

/** The synchronous functions of `fs` for files that are disks. Each open file has a position, for requests without one. */
export interface DiskFs {
  /** Opens a file of the given names. Flags are Node's: with `r` every write throws `EBADF`; none cuts the file off. Throws `ENOENT`. */
  openSync(path: string, flags?: string | number): number;
  /** Returns how many bytes there were: 0 at the end. */
  readSync(fd: number, buffer: Uint8Array, offset?: number, length?: number, position?: number | bigint | null): number;
  /** Returns how many bytes fitted in front of the end. Throws `ENOSPC` at the end, `EROFS`. */
  writeSync(fd: number, buffer: Uint8Array, offset?: number, length?: number, position?: number | null): number;
  /** The file's size and mode. */
  fstatSync(fd: number): DiskStats;
  /** Makes durable what was written. */
  fsyncSync(fd: number): void;
  /** As `fsyncSync`. */
  fdatasyncSync(fd: number): void;
  /** Flushes the disk, and lets the number go. The disk stays open. */
  closeSync(fd: number): void;
}

const DISKS = objectWith('an object with a disk for each path', []);
const FLAGS = either(TEXT, COUNT);
const WRITE_ONLY_OR_BOTH = 3;

/** The synchronous functions, over disks by their paths, for `Object.assign({}, fs, diskFs(disks))` and the like. Errors are `DiskError`s with a `code`. */
export function diskFs(disks: Readonly<Record<string, WaitlessDisk>>, options: DiskFileOptions = {}): DiskFs {
  check('diskFs', 'disks', disks, DISKS);
  const files = new Map(Object.entries(disks).map(([path, disk]) => [path, new DiskFile('diskFs', disk, options)]));
  const open = new Map<number, { readonly file: DiskFile; readonly reads: boolean; position: number }>();
  let last = 999;
  const opened = (fd: number) => {
    check('diskFs', 'fd', fd, COUNT);
    const one = open.get(fd);
    if (!one) throw coded(new DiskError('refused', `There is no open file of the number ${fd}`, { field: 'fd' }), 'EBADF');
    return one;
  };
  const guarded = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw (error as Partial<CodedError>).code ? error : coded(error);
    }
  };
  const sync = (fd: number): void => guarded(() => opened(fd).file.sync());
  return {
    openSync: (path, flags = 'r') =>
      guarded(() => {
        check('openSync', 'path', path, TEXT);
        check('openSync', 'flags', flags, FLAGS);
        const file = files.get(path);
        if (!file) throw new DiskError('not-found', `There is no disk at ${path}`, { field: 'path' });
        const reads = typeof flags === 'number' ? (flags & WRITE_ONLY_OR_BOTH) === 0 : /^rs?$/.test(flags);
        if (!reads && file.readOnly) throw new DiskError('read-only', `${path} is only read`, { field: 'flags' });
        open.set(++last, { file, reads, position: 0 });
        return last;
      }),
    readSync: (fd, buffer, offset, length, position) =>
      guarded(() => {
        const one = opened(fd);
        const at = place('readSync', position);
        const count = one.file.read(at ?? one.position, part('readSync', buffer, offset, length));
        if (at === undefined) one.position += count;
        return count;
      }),
    writeSync: (fd, buffer, offset, length, position) =>
      guarded(() => {
        const one = opened(fd);
        if (one.reads) throw coded(new DiskError('read-only', 'The file is open for reading'), 'EBADF');
        const at = place('writeSync', position);
        const count = one.file.write(at ?? one.position, part('writeSync', buffer, offset, length));
        if (at === undefined) one.position += count;
        return count;
      }),
    fstatSync: (fd) => guarded(() => statsOf(opened(fd).file.size, opened(fd).file.readOnly)),
    fsyncSync: sync,
    fdatasyncSync: sync,
    closeSync(fd) {
      sync(fd);
      open.delete(fd);
    },
  };
}

/** A disk in the shape of `fs.promises.FileHandle`. */
export interface DiskFileHandle {
  /** Resolves to how many bytes there were: 0 at the end. */
  read(
    buffer: Uint8Array,
    offset?: number,
    length?: number,
    position?: number | bigint | null,
  ): Promise<{ readonly bytesRead: number; readonly buffer: Uint8Array }>;
  /** Resolves to how many bytes fitted in front of the end. Rejects with `ENOSPC` at the end, `EROFS`. */
  write(
    buffer: Uint8Array,
    offset?: number,
    length?: number,
    position?: number | null,
  ): Promise<{ readonly bytesWritten: number; readonly buffer: Uint8Array }>;
  /** The file's size and mode. */
  stat(): Promise<DiskStats>;
  /** Resolves when everything written is durable. */
  sync(): Promise<void>;
  /** As `sync`. */
  datasync(): Promise<void>;
  /** Flushes; the disk stays open. */
  close(): Promise<void>;
}

const DISK = objectWith('an open disk or drive', ['size', 'readOnly', 'read', 'write', 'flush']);
const START = maybe(SIZE);

/** A file handle over any disk: a `Disk`, a `Drive`, or one of the engine's. `position`: where requests without a position begin; bytes, default 0. */
export function diskFileHandle(disk: DiskIo, position?: number): DiskFileHandle {
  check('diskFileHandle', 'disk', disk, DISK);
  check('diskFileHandle', 'position', position, START);
  let current = position ?? 0;
  let closed = false;
  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      if (closed) throw coded(new DiskError('io', 'This file handle is closed'), 'EBADF');
      return await work();
    } catch (error) {
      throw (error as Partial<CodedError>).code ? error : coded(error);
    }
  };
  /** Where a request lies, and how far it reaches; the position moves on at once, so that requests may be under way together. */
  const take = (where: string, at: number | bigint | null | undefined, wanted: number): [number, number] => {
    const named = place(where, at);
    const start = named ?? current;
    const length = Math.max(0, Math.min(wanted, disk.size - start));
    if (named === undefined) current += length;
    return [start, length];
  };
  const sync = () => guarded(() => disk.flush());
  return {
    read: (buffer, offset, length, at) =>
      guarded(async () => {
        const into = part('read', buffer, offset, length);
        const [start, count] = take('read', at, into.length);
        if (count > 0) into.set(await disk.read(start, count));
        return { bytesRead: count, buffer };
      }),
    write: (buffer, offset, length, at) =>
      guarded(async () => {
        const bytes = part('write', buffer, offset, length);
        if (disk.readOnly) throw new DiskError('read-only', 'This disk is only read');
        const [start, count] = take('write', at, bytes.length);
        if (count === 0 && bytes.length > 0) throw new DiskError('no-space', `The disk ends at ${disk.size} bytes`, { offset: start });
        if (count > 0) await disk.write(start, bytes.slice(0, count));
        return { bytesWritten: count, buffer };
      }),
    stat: () => guarded(async () => statsOf(disk.size, disk.readOnly)),
    sync,
    datasync: sync,
    close: async () => {
      await sync();
      closed = true;
    },
  };
}
