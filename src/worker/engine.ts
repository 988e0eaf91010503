/**
 * The engine in its worker, as the page sees it: types only. `client.ts` implements them over one message union (protocol.ts);
 * `host.ts` answers in the worker, which owns the OPFS handles and the locks.
 */

import type { BytesRead } from '../base/bytes.ts';
import type { asyncDispose } from '../base/dispose.ts';
import type { JobOptions } from '../base/job.ts';
import type { AsyncDisk } from '../disk/async-disk.ts';
import type { DriveStatistics } from '../drive/accounting.ts';
import type { GeometryReport } from '../drive/geometry.ts';
import type { CommitOptions } from '../jobs/commit.ts';
import type { StreamOptions } from '../jobs/stream.ts';
import type {
  Compacted,
  CompactImageOptions,
  CreateImageOptions,
  ExportedImage,
  ExportOptions,
  ExportSince,
  FormatFacts,
  ImageEntry,
  ImportedImage,
  ImportFile,
  ImportOptions,
  ImportPlan,
  MachineDescription,
  OpenImageOptions,
  OverlayOptions,
  PassedOver,
  PlannedImage,
  StorageReport,
} from '../library/library.ts';
import type { SharedDiskHandle } from './shared-disk.ts';

export type {
  Compacted,
  CompactImageOptions,
  CreateImageOptions,
  ExportedImage,
  ExportOptions,
  ExportSince,
  FormatFacts,
  ImageEntry,
  ImportedImage,
  ImportFile,
  ImportOptions,
  ImportPlan,
  JobOptions,
  MachineDescription,
  OpenImageOptions,
  OverlayOptions,
  PassedOver,
  PlannedImage,
  StorageReport,
};

/** The engine, running elsewhere. Every call rejects with a `DiskError`. */
export interface Engine {
  /** The images of this browser. */
  readonly library: RemoteLibrary;
  /**
   * Opens an image of the library; `secret` is the passphrase of an encrypted one. Throws `locked` if it is open for writing, unless
   * `readOnly` (see `requestRelease`), `refused` with the field `key-secret` or `encrypt.key-secret` if the passphrase is missing or wrong.
   */
  open(imageId: string, options?: OpenImageOptions): Promise<RemoteDisk>;
  /** Makes everything written so far durable, on every disk that is open for writing. */
  flush(): Promise<void>;
  /**
   * Asks the tabs that have an image open for writing, this one or another, to let go; only they can. Resolves to true once they were told
   * (or if none has it), to false without an answer. `library.onChange` tells when it is free: `ImageEntry.inUse`.
   */
  requestRelease(imageId: string): Promise<boolean>;
  /**
   * Calls back when another tab asks for an image that is open for writing here. Nothing happens by itself: stop its users, flush, close
   * it, or go on. Returns a function that stops it.
   */
  onReleaseRequest(listener: (imageId: string) => void): () => void;
  /** Closes every open disk (each is flushed) and ends the worker. */
  close(): Promise<void>;
  /** As `close`, for `await using`. */
  [asyncDispose](): Promise<void>;
}

/** Named images kept in this browser. */
export interface RemoteLibrary {
  /** All images that are complete. */
  list(): Promise<ImageEntry[]>;
  /** The formats that this version knows, and the abilities of images of each. */
  formats(): Promise<FormatFacts[]>;
  /** Makes an empty image. Throws `refused` for a name that is taken, for options that the format does not have, and for impossible values. */
  create<const Format extends string>(options: { readonly format: Format } & CreateImageOptions<Format>): Promise<ImageEntry>;
  /**
   * Makes an overlay over an image, which takes all changes: the image below is not changed while others lie over it. Throws `locked` if
   * the image is open for writing, `unsupported` if it is encrypted.
   */
  overlay(imageId: string, options: OverlayOptions): Promise<ImageEntry>;
  /**
   * What files that came together are: images, the parts of each, the image that each lies over, and what is missing; see `import`. Only headers are read, and
   * nothing is kept.
   */
  plan(files: readonly ImportFile[]): Promise<ImportPlan>;
  /**
   * Copies a file in, streamed, or puts a set of files together as one new image; of a packed file, an archive, an appliance or a CD
   * image the disks inside, each as an image. Throws `unsupported` naming the format if it cannot be opened, `wrong-format` if it is not a disk image: its
   * `format` is the file's kind (`zip`), or, with the field `contents`, it has no contents that disks have: `format: 'raw'` takes it for a disk.
   */
  import(file: Blob, options: ImportOptions & JobOptions): Promise<ImportedImage>;
  /** The image as a file, streamed: as it is kept if the formats agree, else converted. */
  export(imageId: string, options: ExportOptions & JobOptions): Promise<ExportedImage>;
  /**
   * Writes an image anew without the space that it does not need: clusters that nothing uses, and zeros. Throws `locked` while it is open or in use, also
   * below an open overlay, `refused` with the field `snapshots` if it has some, `unsupported` if its format has a place for every byte, `no-space`,
   * `aborted`; then the image is as before.
   */
  compact(imageId: string, options?: CompactImageOptions & JobOptions): Promise<Compacted>;
  /** Gives an image another name. Throws `refused` if it is taken, `not-found`. */
  rename(imageId: string, name: string): Promise<ImageEntry>;
  /** Deletes an image for good. Throws `locked` while it is open, `in-use` while others lie over it, `not-found`. */
  delete(imageId: string): Promise<void>;
  /** The browser's report about its storage, and the features it lacks. */
  storage(): Promise<StorageReport>;
  /** Asks the browser to keep this site's data when space runs low; call it from a click. Resolves to the browser's answer. */
  persist(): Promise<boolean>;
  /** Calls back after any change to the list, in this tab or another. Returns a function that stops it. */
  onChange(listener: () => void): () => void;
}

/** A bucket of the allocation map: bytes of guest space in each state. */
export interface MapBucket {
  /** In this image. */
  readonly data: number;
  /** Known to read as zero. */
  readonly zero: number;
  /** In no image of the chain: reads as zero. */
  readonly unallocated: number;
  /** In an image below. */
  readonly backing: number;
  /** In this image, compressed. */
  readonly compressed: number;
}

/** The allocation map, downsampled. */
export interface MapSummary {
  /** Guest bytes of a bucket (the last may be shorter). */
  readonly bucketSize: number;
  /** The disk from its beginning, in buckets of `bucketSize`. */
  readonly buckets: readonly MapBucket[];
  /** Bytes of the image file that hold metadata, and the kinds with their bytes. */
  readonly metadata: readonly { readonly what: string; readonly length: number }[];
  /** Bytes of each bucket that may differ from the given snapshot, by whole clusters. */
  readonly changed?: readonly number[];
}

/** The options of `mapSummary`. */
export interface MapSummaryOptions extends JobOptions {
  /** A snapshot, by id or name, to compare the disk with. */
  readonly since?: string;
}

/** A disk in the engine. `read` with an array copies into it; `write` copies the bytes before it returns. */
export interface RemoteDisk extends AsyncDisk {
  /** The image's id in the library. */
  readonly imageId: string;
  /** Reads bytes into a new array or into yours; resolves to the array. Throws `out-of-bounds`, `io`, `corrupt`. */
  read<T extends number | Uint8Array>(offset: number, lengthOrInto: T): Promise<BytesRead<T>>;
  /** Reads machine state that the image keeps beside the disk, as `read` does. Throws `unsupported` by format. */
  readVmState<T extends number | Uint8Array>(offset: number, lengthOrInto: T): Promise<BytesRead<T>>;
  /**
   * Flushes, closes and lets others have the image. Throws `no-space`, with the disk open as before, if there is no room to flush. With
   * `discard` changes that no flush has covered are given up; the image is left as if the tab had ended.
   */
  close(options?: { discard?: boolean }): Promise<void>;
  /** As `close`, for `await using`. */
  [asyncDispose](): Promise<void>;
  /**
   * Copies the contents of an overlay into the image below it, and empties the overlay; no other image may lie over or use the one below. Requests go on.
   * Only into the image right below (`depth` 1). Closing the disk cancels it. Throws as `commit` does, `in-use` and `locked`.
   */
  commit(options?: CommitOptions): Promise<void>;
  /** Copies up into an overlay the contents of the images below, all or down to a `base`. Requests go on. Closing the disk cancels it. Throws as `stream`. */
  stream(options?: StreamOptions): Promise<void>;
  /** Cylinders, heads and sectors, by the partition table or the size. */
  geometry(): Promise<GeometryReport>;
  /** At most `buckets` buckets over the whole disk; cheap for sparse images of any virtual size. Progress is in bytes; throws `aborted` if cancelled. */
  mapSummary(buckets: number, options?: MapSummaryOptions): Promise<MapSummary>;
  /** Requests that the engine has served on this disk since it was opened. */
  statistics(): Promise<DriveStatistics>;
  /**
   * For a thread that may block, such as an emulator in a worker of its own: post the handle there, and make a `SharedDisk` of it. Throws
   * `unsupported` unless the page is cross-origin isolated.
   */
  share(): Promise<SharedDiskHandle>;
}
