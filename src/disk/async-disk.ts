/** The part of `Disk` that also exists across a worker: what adapters and pages may rely on. */
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
import { DiskError } from '../base/errors.ts';
import { JOB_OPTIONS, type JobOptions } from '../base/job.ts';
import type { Keepers } from '../base/keepers.ts';
import type { LostListener } from '../base/loss.ts';
import type { BitmapInfo, CheckOptions, CheckResult, MachineMoment, SnapshotInfo } from '../formats/tools.ts';
import type { MapRun } from '../node/node.ts';
import type { DiskInfo } from './info.ts';

/** A disk by promises: a `Disk` in this thread, or a `RemoteDisk` whose engine runs in a worker. Meanings are `Disk`'s. */
export interface AsyncDisk {
  readonly size: number;
  readonly format: string;
  readonly readOnly: boolean;
  /** True if the `…Sync` verbs of `SyncDisk` exist and work. */
  readonly synchronous: boolean;
  /** What holds bytes above the disk. Verbs about its contents, other than `read`, bring those to it first, and fail with why that cannot be. */
  readonly keepers?: Keepers | undefined;
  read(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array>;
  write(offset: number, bytes: Uint8Array): Promise<void>;
  zero(offset: number, length: number, options?: { unmap?: boolean }): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  flush(options?: FlushOptions): Promise<void>;
  /** Calls back once if the disk is `lost`, and takes nothing any more. Returns a function that stops it. */
  onLost(listener: LostListener): () => void;
  resize(size: number): Promise<void>;
  close(): Promise<void>;
  map(offset?: number, length?: number, options?: JobOptions): AsyncIterableIterator<MapRun>;
  info(): Promise<DiskInfo>;
  check(options?: CheckOptions): Promise<CheckResult>;
  readVmState(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array>;
  writeVmState(offset: number, bytes: Uint8Array): Promise<void>;
  clearVmState(): Promise<void>;
  readonly snapshots: AsyncSnapshots;
  readonly bitmaps: AsyncBitmaps;
}

/** What `flush` takes. */
export interface FlushOptions {
  /** Only what has reached the disk: for what keeps bytes above it, and asks because it saves them. */
  readonly below?: boolean;
}

export const FLUSH: Kind = optionsOf<FlushOptions>({ below: FLAG });

/** `disk.bitmaps`. What they note reaches the file when the disk is closed; until then the file calls them inconsistent. */
export interface AsyncBitmaps {
  list(): Promise<BitmapInfo[]>;
  add(options: { name: string; granularity?: number; enabled?: boolean }): Promise<void>;
  remove(name: string): Promise<void>;
  clear(name: string): Promise<void>;
  enable(name: string): Promise<void>;
  disable(name: string): Promise<void>;
  /** Adds what the bitmap `source` of the same disk calls dirty. */
  merge(name: string, source: string): Promise<void>;
}

/** Bytes to read and write: what an emulator's adapter needs of a disk, or of a drive. */
export type DiskIo = Pick<AsyncDisk, 'size' | 'readOnly' | 'synchronous' | 'read' | 'write' | 'flush'> &
  Partial<Pick<AsyncDisk, 'keepers' | 'onLost'>>;

/** `disk.snapshots`, without `open` (which differs by side). */
export interface AsyncSnapshots {
  readonly possible: boolean;
  list(): Promise<SnapshotInfo[]>;
  create(options: SnapshotOptions): Promise<SnapshotInfo>;
  readVmState(idOrName: string, range?: { offset?: number; length?: number }): Promise<Uint8Array>;
  rename(idOrName: string, name: string): Promise<void>;
  apply(idOrName: string): Promise<void>;
  delete(idOrName: string): Promise<void>;
}

/** What a new snapshot is to have. `vmStateSize` is given instead of `vmState` where that was written piece by piece (`Disk.writeVmState`). */
export interface SnapshotOptions extends MachineMoment {
  readonly name: string;
  /** Now, if it is left out. */
  readonly date?: Date;
  /** The machine's state, kept with the snapshot. */
  readonly vmState?: Uint8Array;
}

/** A new array, or the caller's, for machine state from `offset` on. */
export function vmStateTarget(offset: number, lengthOrInto: number | Uint8Array): Uint8Array {
  const where = 'disk.readVmState';
  if (typeof lengthOrInto !== 'number') requireBytes(where, 'lengthOrInto', lengthOrInto);
  const length = typeof lengthOrInto === 'number' ? lengthOrInto : lengthOrInto.length;
  requireNumbers(where, offset, length);
  requireReadable(Number.MAX_SAFE_INTEGER, offset, length);
  return typeof lengthOrInto === 'number' ? new Uint8Array(lengthOrInto) : lengthOrInto;
}

/** Kinds of the arguments that both sides of the worker look at. */
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

/** Machine state that is read at once has at most so many bytes: its size is what the image claims. */
const MOST_AT_ONCE = 2 ** 30;

/** Throws unless `length` bytes from `offset` on can be read at once of machine state of `size` bytes. */
export function requireReadable(size: number, offset: number, length: number): void {
  if (offset < 0 || length < 0 || offset + length > size)
    throw new DiskError('out-of-bounds', `${length} bytes at ${offset} do not lie inside the machine state of ${size} bytes`, { offset });
  if (length > MOST_AT_ONCE)
    throw new DiskError('refused', `${length} bytes of machine state are too many at once: read it in pieces of at most 1 GiB`, { field: 'length' });
}
