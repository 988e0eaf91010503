/** tabdisk's public surface. Node's file storage is `tabdisk/node`, the v86 adapter `tabdisk/v86`, the engine's worker `tabdisk/worker`. */
export { DiskError, type DiskErrorJson, type ErrorKind } from './base/errors.ts';
export { formatSize, parseSize } from './base/units.ts';
export type { AsyncDisk, AsyncSnapshots } from './disk/async-disk.ts';
export type { OpenOptions, Reference, Resolve, Resolved } from './disk/chain.ts';
export { Disk } from './disk/disk.ts';
export type { DiskInfo } from './disk/info.ts';
export type { CacheMode, MapRun } from './disk/node.ts';
export { type CreateOptions, createDisk, openDisk } from './disk/open.ts';
export type { Snapshots } from './disk/snapshots.ts';
export { allFormats } from './formats/all.ts';
export type { CheckOptions, CheckResult, FormatDescriptor, SnapshotInfo } from './formats/driver.ts';
export { memoryStorage } from './storage/memory.ts';
export type { Storage } from './storage/storage.ts';
