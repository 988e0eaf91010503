/**
 * The entry `tabdisk`: disks, drives, jobs and the engine, for pages and programs. Node's file storage is `tabdisk/node`, the v86 adapter `tabdisk/v86`, the
 * engine's worker `tabdisk/worker`; programs that speak to people as QEMU's tools do also need `tabdisk/qemu`.
 */

export type { BytesRead } from './base/bytes.ts';
export type { DebugEvent, DebugHook } from './base/debug-events.ts';
export type * from './base/declared-options.ts';
export { describeOption, parseOption } from './base/declared-options.ts';
export { DiskError, type DiskErrorJson, type ErrorKind, type ErrorPlace } from './base/errors.ts';
export { type Io, runAsync, runSync } from './base/io.ts';
export { type CopyJobOptions, JobControl, type JobOptions } from './base/job.ts';
export type { Keeper, Keepers, KeptBytes } from './base/keepers.ts';
export type { LostListener } from './base/loss.ts';
export type { OptionSet, OptionTree, OptionValue } from './base/options.ts';
export type { Permissions } from './base/permissions.ts';
export type { ByteRange } from './base/ranges.ts';
export { formatSize, parseSize } from './base/units.ts';
export type { Compression, Compressor } from './compression/compressor.ts';
export { type CompressionPort, type CompressionWorker, type PoolOptions, serveCompression, workerPool } from './compression/worker-pool.ts';
export type { AskSecret, SecretRequest } from './crypto/passphrase.ts';
export type { AllocatedRun } from './disk/allocation.ts';
export type { AsyncBitmaps, AsyncDisk, AsyncSnapshots, DiskIo, FlushOptions, SnapshotOptions } from './disk/async-disk.ts';
export type { Bitmaps } from './disk/bitmaps.ts';
export { type CdFacts, readCd } from './disk/cd.ts';
export type { OpenOptions } from './disk/chain.ts';
export { Disk, type GrowthOptions } from './disk/disk.ts';
export type { DiskInfo, DiskInfoSnapshot } from './disk/info.ts';
export { type InspectionReport, inspect } from './disk/inspect.ts';
export { type CreateBasics, type CreateOptions, createDisk, openDisk, openOrCreate } from './disk/open.ts';
export { findProtocol, type Protocol, type ProtocolRequest, resolveNames } from './disk/protocols.ts';
export type { Reference, Resolve, Resolved } from './disk/reference.ts';
export type { Secret, SecretCallback } from './disk/secrets.ts';
export type { Snapshots } from './disk/snapshots.ts';
export type { AccountedOperation, AccountedRequest, Accounting, DriveStatistics, LatencyHistogram, OperationStatistics } from './drive/accounting.ts';
export type { BlockConfiguration } from './drive/block-configuration.ts';
export { CdTray, type MediumSense, type TrayEvent } from './drive/cd-tray.ts';
export type { Chs } from './drive/chs.ts';
export type { DriveDevice } from './drive/device.ts';
export type { DirtyBitmap } from './drive/dirty-bitmap.ts';
export { Drive } from './drive/drive.ts';
export type { DriveErrorEvent, DriveEvent } from './drive/drive-events.ts';
export type { BatchedWrite, DriveOptions, RequestOptions } from './drive/drive-options.ts';
export { Drives, type DrivesOptions, type MissingKey } from './drive/drives.ts';
export type { ErrorAction, ErrorOperation, IoStatus, ReadErrorPolicy, WriteErrorPolicy } from './drive/error-policy.ts';
export type { FloppyDriveType } from './drive/floppy.ts';
export { type FloppyBoot, floppyBoot } from './drive/floppy-boot.ts';
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
export type { DriveBay } from './drive/media-change.ts';
export type { Medium } from './drive/medium.ts';
export type { PlacedBytes } from './drive/multiwrite.ts';
export type { BlockInfo, BlockStats, InsertedInfo } from './drive/report.ts';
export type { HandledError } from './drive/requests.ts';
export { allFormats, type CreatedFormat, type FormatName, type FormatOptions, type KnownFormat, type OpenedFormat } from './formats/all.ts';
export type * from './formats/descriptor.ts';
export type * from './formats/driver.ts';
export { qcow2 } from './formats/qcow2/index.ts';
export { raw } from './formats/raw/index.ts';
export { type Whitelist, whitelisted } from './formats/registry.ts';
export { FINDINGS_AS_ERRORS_FORMAT, OVERLAY_FORMAT, PLAIN_FORMAT } from './formats/roles.ts';
export type * from './formats/tools.ts';
export { type AmendOptions, amend } from './jobs/amend.ts';
export { check } from './jobs/check.ts';
export { type CommitOptions, type CommitResult, commit } from './jobs/commit.ts';
export { type CompactOptions, compact } from './jobs/compact.ts';
export { type CompareOptions, type CompareResult, compare } from './jobs/compare.ts';
export { type ConvertOptions, convert } from './jobs/convert.ts';
export { type CommitAllOptions, commitAll, commitDrive, streamDrive } from './jobs/drives.ts';
export { type Increment, type IncrementOptions, type Since, writeIncrement } from './jobs/increment.ts';
export { type Measured, type MeasureOptions, measure } from './jobs/measure.ts';
export { APPLIANCE, type OvaOptions, writeOva } from './jobs/ova.ts';
export { changeBackingFile, type RebaseOptions, rebase } from './jobs/rebase.ts';
export type { SalvageOptions } from './jobs/source.ts';
export { type StreamOptions, stream } from './jobs/stream.ts';
export { type AlignEvent, type AlignOptions, anyAlignment } from './layers/align.ts';
export { type CacheOptions, CacheStorage } from './layers/cache.ts';
export { CacheMemory } from './layers/cache-lines.ts';
export type { FilterStorage } from './layers/filter.ts';
export { type LoggedRequest, type LogOptions, LogWritesStorage, readLog } from './layers/log-writes.ts';
export { type QuorumOperation, type QuorumOptions, type QuorumReport, QuorumStorage } from './layers/quorum.ts';
export { temporaryStorage } from './layers/temporary.ts';
export { ThrottleStorage } from './layers/throttle.ts';
export { type RateName, type ThrottleClock, type ThrottleDirection, ThrottleGroup, type ThrottleLimits } from './layers/throttle-group.ts';
export { type ExportFacts, exportProblem } from './library/export-limits.ts';
export type { CreateImageBasics, FormatFacts, ImageFormat, Lack, Place } from './library/library.ts';
export { type UnwrapOptions, type UnwrappedDisk, type UnwrappedFile, unwrap } from './library/unwrap-file.ts';
export type { CacheFlags, CacheMode } from './node/cache-mode.ts';
export type { MapRun } from './node/map-run.ts';
export type { DetectZeroes, ZeroOptions } from './node/zero-range.ts';
export { type BlobStorage, type BlobStorageOptions, blobStorage } from './storage/blob.ts';
export type { WriterOptions } from './storage/image-lock.ts';
export { type IndexedDbStorage, indexedDbStorage } from './storage/indexed-db.ts';
export type { IndexedDbStorageOptions } from './storage/indexed-db-opening.ts';
export { type MemoryStorage, type MemoryStorageOptions, memoryStorage } from './storage/memory.ts';
export { type OpfsStorage, type OpfsStorageOptions, opfsStorage } from './storage/opfs.ts';
export type { MemoryBudget, Storage, StorageExtent, StorageOptions } from './storage/storage.ts';
export { deleteImage, listImages, type StoredIn } from './storage/stored-images.ts';
export { connectEngine } from './worker/client.ts';
export type { ConnectOptions } from './worker/connect-options.ts';
export type {
  Compacted,
  CompactImageOptions,
  CreateImageOptions,
  Engine,
  ExportedImage,
  ExportOptions,
  ExportSince,
  ImageEntry,
  ImportedImage,
  ImportFile,
  ImportOptions,
  ImportPlan,
  MachineDescription,
  MapBucket,
  MapSummary,
  MapSummaryOptions,
  OpenImageOptions,
  OverlayOptions,
  PassedOver,
  PlannedImage,
  RemoteDisk,
  RemoteLibrary,
  StorageReport,
} from './worker/engine.ts';
export { connectEngineHere } from './worker/here.ts';
export { SharedDisk, type SharedDiskHandle } from './worker/shared-disk.ts';
