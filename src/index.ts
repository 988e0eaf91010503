/** tabdisk's public surface. Node's file storage is `tabdisk/node`, the v86 adapter `tabdisk/v86`, the engine's worker `tabdisk/worker`. */

export { text as decodeText, utf8 as encodeText } from './base/bytes.ts';
export { SystemError, strerror } from './base/errno.ts';
export { DiskError, type DiskErrorJson, type ErrorKind } from './base/errors.ts';
export { type Io, runAsync, runSync } from './base/io.ts';
export { type CopyJobOptions, JobControl, type JobOptions } from './base/job.ts';
export type { Keeper, Keepers, KeptBytes } from './base/keepers.ts';
export type { LostListener } from './base/loss.ts';
export { beside, combineNames, protocolOf } from './base/names.ts';
export { OptionSet } from './base/options.ts';
export { formatSize, parseSize } from './base/units.ts';
export { type Compression, type Compressor, type Inflate, provideInflate } from './compression/compressor.ts';
export { type CompressionPort, type CompressionWorker, type PoolOptions, serveCompression, workerPool } from './compression/worker-pool.ts';
export type { SecretRequest } from './crypto/passphrase.ts';
export type { AllocatedRun } from './disk/allocation.ts';
export type { AsyncBitmaps, AsyncDisk, AsyncSnapshots, FlushOptions } from './disk/async-disk.ts';
export type { Bitmaps } from './disk/bitmaps.ts';
export type { OpenOptions, Reference, Resolve, Resolved } from './disk/chain.ts';
export { Disk } from './disk/disk.ts';
export type { DiskInfo } from './disk/info.ts';
export { type InspectionReport, inspect } from './disk/inspect.ts';
export { type CreateOptions, createDisk, openDisk } from './disk/open.ts';
export { findProtocol, type Protocol, type ProtocolRequest, resolveNames } from './disk/protocols.ts';
export type { Secret, SecretCallback } from './disk/secrets.ts';
export type { SnapshotOptions, Snapshots } from './disk/snapshots.ts';
export type { DriveStatistics, LatencyHistogram, OperationStatistics } from './drive/accounting.ts';
export type { DriveErrorEvent, DriveEvent } from './drive/bay.ts';
export type { BlockConfiguration } from './drive/block-configuration.ts';
export { CdTray, type DriveDevice } from './drive/device.ts';
export type { DirtyBitmap } from './drive/dirty-bitmap.ts';
export { type BatchedWrite, Drive, type DriveOptions, type RequestOptions } from './drive/drive.ts';
export { Drives, type DrivesOptions, type MissingKey } from './drive/drives.ts';
export {
  type ErrorAction,
  type IoStatus,
  type ReadErrorPolicy,
  readErrorPolicy,
  type WriteErrorPolicy,
  writeErrorPolicy,
} from './drive/error-policy.ts';
export { biosGeometry, type CmosDrive, cmosBytes, type GeometryHints, type GeometryReport, type Translation } from './drive/geometry.ts';
export {
  deleteMachine,
  type LoadMachineOptions,
  listMachines,
  loadMachine,
  type MachineMoment,
  type MachineSnapshot,
  type MachineState,
  machineMoment,
  readMachineState,
  type SaveMachineOptions,
  saveMachine,
} from './drive/machine.ts';
export type { Medium } from './drive/medium.ts';
export { type BlockInfo, type BlockStats, blockInfo, blockInfoText, blockStats, blockStatsText } from './drive/report.ts';
export { allFormats } from './formats/all.ts';
export type { FormatDescriptor } from './formats/descriptor.ts';
export type { BackingReference } from './formats/driver.ts';
export { qcow2 } from './formats/qcow2/index.ts';
export { raw } from './formats/raw/index.ts';
export { type Whitelist, whitelisted } from './formats/registry.ts';
export type { BitmapInfo, CheckOptions, CheckResult, DirtyRun, SnapshotInfo } from './formats/tools.ts';
export { findDebugger } from './graph/debug-node.ts';
export { BackingFailure } from './graph/format-node.ts';
export { type GraphOptions, openGraph } from './graph/graph.ts';
export { parseOptionList } from './graph/option-text.ts';
export { type AmendOptions, amend } from './jobs/amend.ts';
export { check } from './jobs/check.ts';
export { type CommitOptions, commit } from './jobs/commit.ts';
export { type CompareOptions, type CompareResult, compare } from './jobs/compare.ts';
export { type ConvertOptions, convert, countData } from './jobs/convert.ts';
export { type CommitAllOptions, commitAll, commitDrive, streamDrive } from './jobs/drives.ts';
export { type Increment, type IncrementOptions, type Since, writeIncrement } from './jobs/increment.ts';
export { type Measured, type MeasureOptions, measure } from './jobs/measure.ts';
export { changeBackingFile, type RebaseOptions, rebase } from './jobs/rebase.ts';
export { type StreamOptions, stream } from './jobs/stream.ts';
export { anyAlignment } from './layers/align.ts';
export type { Debugger } from './layers/blkdebug.ts';
export { type CacheOptions, CacheStorage } from './layers/cache.ts';
export { CacheMemory } from './layers/cache-lines.ts';
export { type LoggedRequest, type LogOptions, LogWritesStorage, readLog } from './layers/log-writes.ts';
export { type QuorumOperation, type QuorumOptions, type QuorumReport, QuorumStorage } from './layers/quorum.ts';
export { temporaryStorage } from './layers/temporary.ts';
export { ThrottleStorage } from './layers/throttle.ts';
export { checkThrottleLimits, THROTTLE_LIMITS, type ThrottleClock, ThrottleGroup, type ThrottleLimits } from './layers/throttle-group.ts';
export { type ExportFacts, exportProblem } from './library/export-limits.ts';
export type { ImageFormat, Lack, Place } from './library/library.ts';
export { CACHE_MODES, type CacheFlags, type CacheMode, cacheFlags, parseCacheMode } from './node/cache-mode.ts';
export type { MapRun } from './node/map-run.ts';
export type { DetectZeroes } from './node/node-types.ts';
export { blobStorage } from './storage/blob.ts';
export { indexedDbStorage } from './storage/indexed-db.ts';
export { memoryStorage } from './storage/memory.ts';
export { opfsStorage } from './storage/opfs.ts';
export type { Storage } from './storage/storage.ts';
export { connectEngine } from './worker/client.ts';
export type { ConnectOptions } from './worker/connect-options.ts';
export type {
  CreateImageOptions,
  Engine,
  ExportedImage,
  ExportOptions,
  ExportSince,
  ImageEntry,
  ImportOptions,
  MapBucket,
  MapSummary,
  MapSummaryOptions,
  OpenImageOptions,
  OverlayOptions,
  RemoteDisk,
  RemoteLibrary,
  StorageReport,
} from './worker/engine.ts';
export { connectEngineHere } from './worker/here.ts';
export { SharedDisk, type SharedDiskHandle } from './worker/shared-disk.ts';
