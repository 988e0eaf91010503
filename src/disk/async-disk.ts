/** The part of `Disk` that also exists across a worker: adapters and pages may rely on it. */

import {
  BYTES,
  COUNT,
  DATE,
  FLAG,
  FUNCTION,
  type Kind,
  needed,
  oneOf,
  optionsOf,
  requireBytes,
  requireNumbers,
  SIZE,
  TEXT,
} from '../base/arguments.ts';
import type { BytesRead } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { JOB_OPTIONS, type JobOptions } from '../base/job.ts';
import type { Keepers } from '../base/keepers.ts';
import type { LostListener } from '../base/loss.ts';
import type { BitmapInfo, SnapshotInfo } from '../formats/driver.ts';
import type { CheckOptions, CheckResult, SnapshotMoment } from '../formats/tools.ts';
import type { MapRun } from '../node/node.ts';
import type { DiskInfo } from './info.ts';

export type { SnapshotInfo };

/** A disk by promises: a `Disk` in this thread, or a `RemoteDisk` whose engine runs in a worker. Meanings are `Disk`'s. */
export interface AsyncDisk {
  /** Bytes that the guest sees. */
  readonly size: number;
  /** QEMU's name of the image's format. */
  readonly format: string;
  /** True if every change is refused. */
  readonly readOnly: boolean;
  /** True if the `…Sync` verbs of `SyncDisk` exist and work. */
  readonly synchronous: boolean;
  /** Code that holds bytes above the disk. Verbs about its contents, except `read`, first bring those bytes to it, and throw the reason if that fails. */
  readonly keepers?: Keepers | undefined;
  /** Reads bytes into a new array or into yours; resolves to the array. Throws `out-of-bounds`, `io`, `corrupt`. */
  read(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array>;
  /** Writes bytes. They are durable after `flush`, or at once under `writethrough`. Throws `out-of-bounds`, `read-only`, `no-space`, `io`. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Makes a range read as zero; with `unmap` its space is given back where that can be done. Throws as `write`. */
  zero(offset: number, length: number, options?: { unmap?: boolean }): Promise<void>;
  /** Gives a range up: it may read as before or as zero. Throws as `write`. */
  discard(offset: number, length: number): Promise<void>;
  /** Makes every change durable that was written before. */
  flush(options?: FlushOptions): Promise<void>;
  /** Calls back once if the disk is `lost`, and accepts nothing any more. Returns a function that stops it. */
  onLost(listener: LostListener): () => void;
  /** Changes the size, in bytes; growth reads as zero. Durable when it resolves. Throws `in-use` during jobs, `unsupported` by format. */
  resize(size: number): Promise<void>;
  /** Flushes and lets go of the image. May be called twice. */
  close(): Promise<void>;
  /** The state of a range, run by run; default: of the whole disk. Throws `aborted` if cancelled. */
  map(offset?: number, length?: number, options?: JobOptions): AsyncIterableIterator<MapRun>;
  /** The facts of `qemu-img info`. */
  info(): Promise<DiskInfo>;
  /** Checks the image, and repairs it if asked to. Throws `unsupported` where the format has no check, `aborted` if cancelled. */
  check(options?: CheckOptions): Promise<CheckResult>;
  /** Reads machine state that the image keeps beside the disk, as `read` does; bytes that were never written read as zero. Throws `unsupported` by format. */
  readVmState(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array>;
  /** Writes machine state beside the disk, for the next snapshot to take over. Throws `unsupported` by format. */
  writeVmState(offset: number, bytes: Uint8Array): Promise<void>;
  /** Gives back the space of machine state that belongs to no snapshot. Durable when it resolves. */
  clearVmState(): Promise<void>;
  /** Internal snapshots. */
  readonly snapshots: AsyncSnapshots;
  /** Dirty bitmaps that the image keeps. */
  readonly bitmaps: AsyncBitmaps;
}

/** The options of `flush`. */
export interface FlushOptions {
  /** Flushes only bytes that have reached the disk: for code that keeps bytes above the disk, and calls this because it saves them. */
  readonly below?: boolean;
}

export const FLUSH: Kind = optionsOf<FlushOptions>({ below: FLAG });

/** `disk.bitmaps`. Their records reach the file when the disk is closed; until then the file calls them inconsistent. */
export interface AsyncBitmaps {
  /** All bitmaps of the image. */
  list(): Promise<BitmapInfo[]>;
  /** Makes a bitmap that records writes, with a bit for `granularity` bytes. Throws `refused` if there is one of that name, `unsupported` by format. */
  add(options: { name: string; granularity?: number; enabled?: boolean }): Promise<void>;
  /** Removes a bitmap, an inconsistent one too. Durable when it resolves. */
  remove(name: string): Promise<void>;
  /** Makes everything clean. */
  clear(name: string): Promise<void>;
  /** Records writes from now on. */
  enable(name: string): Promise<void>;
  /** Records no more writes. */
  disable(name: string): Promise<void>;
  /** Adds the dirty bytes of the bitmap `source` of the same disk. */
  merge(name: string, source: string): Promise<void>;
}

/** Bytes to read and write: the part of a disk, or of a drive, that an emulator's adapter needs. */
export type DiskIo = Pick<AsyncDisk, 'size' | 'readOnly' | 'synchronous' | 'read' | 'write' | 'flush'> &
  Partial<Pick<AsyncDisk, 'keepers' | 'onLost'>>;

/** `disk.snapshots`, without `open` (which differs by side). */
export interface AsyncSnapshots {
  /** True if this image can take snapshots with machine state. */
  readonly possible: boolean;
  /** All snapshots, in the order of the image's table. */
  list(): Promise<SnapshotInfo[]>;
  /** Freezes the disk as it is now. Names may repeat, as in QEMU; the id is unique. Durable when it resolves. Throws `unsupported` by format. */
  create(options: SnapshotOptions): Promise<SnapshotInfo>;
  /** The machine state of a snapshot, or a part of it. Throws `refused` for more than 1 GiB at once, `not-found`. */
  readVmState(idOrName: string, range?: { offset?: number; length?: number }): Promise<Uint8Array>;
  /** Gives a snapshot another name. Durable when it resolves. Throws `not-found`. */
  rename(idOrName: string, name: string): Promise<void>;
  /** Restores the disk's contents from a snapshot; everything since is lost unless another snapshot has it. Throws `not-found`, `in-use`. */
  apply(idOrName: string): Promise<void>;
  /** Deletes a snapshot, and gives back the space that only it used. Throws `not-found`, `in-use` while it is open. */
  delete(idOrName: string): Promise<void>;
}

/** The parts of a new snapshot. `vmStateSize` is given instead of `vmState` if the state was written piece by piece (`Disk.writeVmState`). */
export interface SnapshotOptions extends SnapshotMoment {
  /** For people; names may repeat. */
  readonly name: string;
  /** Default: now. */
  readonly date?: Date;
  /** The machine's state, kept with the snapshot. */
  readonly vmState?: Uint8Array;
}

/** A new array, or the caller's, for machine state from `offset` on. */
export function vmStateTarget<T extends number | Uint8Array>(offset: number, lengthOrInto: T): BytesRead<T> {
  const where = 'disk.readVmState';
  if (typeof lengthOrInto !== 'number') requireBytes(where, 'lengthOrInto', lengthOrInto);
  const length = typeof lengthOrInto === 'number' ? lengthOrInto : lengthOrInto.length;
  requireNumbers(where, offset, length);
  requireReadable(Number.MAX_SAFE_INTEGER, offset, length);
  return (typeof lengthOrInto === 'number' ? new Uint8Array(lengthOrInto) : lengthOrInto) as BytesRead<T>;
}

/** Kinds of the arguments that both sides of the worker check. */
export const VM_STATE_RANGE = optionsOf<{ offset?: number; length?: number }>({ offset: SIZE, length: SIZE });
export const SNAPSHOT = optionsOf<SnapshotOptions>({
  name: needed(TEXT),
  date: DATE,
  vmState: BYTES,
  vmStateSize: SIZE,
  vmClockNanoseconds: COUNT,
  icount: COUNT,
});
export const CHECK = optionsOf<CheckOptions>({ ...JOB_OPTIONS, repair: oneOf('leaks', 'all'), onMessage: FUNCTION });
export const MAP = optionsOf<JobOptions>(JOB_OPTIONS);
export const BITMAP = optionsOf<{ name: string; granularity?: number; enabled?: boolean }>({ name: needed(TEXT), granularity: SIZE, enabled: FLAG });

/** At most so many bytes of machine state are read at once: its size is only a claim of the image. */
const MOST_AT_ONCE = 2 ** 30;

/** Throws unless `length` bytes from `offset` on can be read at once of machine state of `size` bytes. */
export function requireReadable(size: number, offset: number, length: number): void {
  if (offset < 0 || length < 0 || offset + length > size)
    throw new DiskError('out-of-bounds', `${length} bytes at ${offset} do not lie inside the machine state of ${size} bytes`, { offset });
  if (length > MOST_AT_ONCE)
    throw new DiskError('refused', `${length} bytes of machine state are too many at once: read it in pieces of at most 1 GiB`, { field: 'length' });
}
