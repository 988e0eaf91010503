/** The part of `Disk` that also exists across a worker: what adapters and pages may rely on. */
import type { BitmapInfo, CheckOptions, CheckResult, SnapshotInfo } from '../formats/driver.ts';
import type { DiskInfo } from './info.ts';
import type { MapRun } from './node.ts';

/** A disk by promises: a `Disk` in this thread, or a `RemoteDisk` whose engine runs in a worker. Meanings are `Disk`'s. */
export interface AsyncDisk {
  readonly size: number;
  readonly format: string;
  readonly readOnly: boolean;
  /** True if the `…Sync` verbs of `SyncDisk` exist and work. */
  readonly synchronous: boolean;
  read(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array>;
  write(offset: number, bytes: Uint8Array): Promise<void>;
  zero(offset: number, length: number, options?: { unmap?: boolean }): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
  resize(size: number): Promise<void>;
  close(): Promise<void>;
  map(offset?: number, length?: number): AsyncIterableIterator<MapRun>;
  info(): Promise<DiskInfo>;
  check(options?: CheckOptions): Promise<CheckResult>;
  readonly snapshots: AsyncSnapshots;
  readonly bitmaps: AsyncBitmaps;
}

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
export type DiskIo = Pick<AsyncDisk, 'size' | 'readOnly' | 'synchronous' | 'read' | 'write' | 'flush'>;

/** `disk.snapshots`, without `open` (which differs by side). */
export interface AsyncSnapshots {
  list(): Promise<SnapshotInfo[]>;
  create(options: { name: string; date?: Date }): Promise<SnapshotInfo>;
  apply(idOrName: string): Promise<void>;
  delete(idOrName: string): Promise<void>;
}
