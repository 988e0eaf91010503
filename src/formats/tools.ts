/** The functions of an image besides its bytes: snapshots, bitmaps, check, other options. A format may lack some, and few images need them. */
import type { Io } from '../base/io.ts';
import type { JobOptions } from '../base/job.ts';
import type { AskSecret } from '../crypto/passphrase.ts';
import type { Storage } from '../storage/storage.ts';
import type { BackingReference, ImageDriver, SnapshotInfo } from './driver.ts';

/** The facts about a machine that a new snapshot records. */
export interface SnapshotMoment {
  /** Bytes of the machine's state, which `ImageTools.vmState` holds and the snapshot takes over; 0: none. */
  readonly vmStateSize?: number;
  /** Guest clock in nanoseconds since power-on; default 0. */
  readonly vmClockNanoseconds?: number;
  /** Instructions executed, where the emulator counts them. */
  readonly icount?: number;
}

/** Changes to the snapshots of an image (`ImageDriver.snapshots`). Every verb leaves the image flushed. */
export interface SnapshotTools {
  /** Freezes the disk as it is now, and takes over the machine's state that `SnapshotMoment` describes. */
  create(options: SnapshotMoment & { name: string; date: Date }): Io<SnapshotInfo>;
  /** Makes the disk read as in the snapshot; may change `ImageDriver.size`. */
  apply(id: string): Io<void>;
  /** Gives back the space that only this snapshot used. */
  delete(id: string): Io<void>;
  /** Gives it another name; a cut leaves the old one or the new one. */
  rename(id: string, name: string): Io<void>;
  /** A read-only driver for the snapshot's contents; valid until the snapshot is deleted or this driver closed. */
  view(id: string): Io<ImageDriver>;
  /** Guest bytes that may read differently than in the snapshot, by whole clusters; valid until the snapshot is deleted. Absent: the format cannot tell. */
  changes?(id: string): Io<DirtyRuns>;
}

/** Guest bytes that changed: a bitmap calls them dirty, or they differ from a snapshot. */
export interface DirtyRun {
  /** Guest bytes from the beginning of the disk. */
  readonly start: number;
  /** Guest bytes, at least 1. */
  readonly length: number;
}

/** Changed bytes, run by run. */
export interface DirtyRuns {
  /** Bytes of the disk. */
  readonly size: number;
  /** The first run that reaches past `from`, cut off there; undefined if there is none. */
  next(from: number): Io<DirtyRun | undefined>;
}

/**
 * Bitmaps kept in an image. Their records and changes are in memory until the image is closed, except that a removal is
 * durable when it returns; a bitmap whose image was not closed is inconsistent. Changes run with no other request under way.
 */
export interface BitmapTools {
  /** `granularity` is a power of 2 from 512 to 2 GiB. */
  add(options: { name: string; granularity: number; enabled: boolean }): Io<void>;
  /** Removes a bitmap. Durable when it returns. */
  remove(name: string): Io<void>;
  /** Makes everything clean in a bitmap. */
  clear(name: string): Io<void>;
  /** Whether a bitmap records changes from now on. */
  setEnabled(name: string, enabled: boolean): Io<void>;
  /** Adds the dirty bytes of another bitmap, perhaps of another image of the same size. */
  merge(name: string, source: DirtyRuns): Io<void>;
  /** The contents of a bitmap; reading them throws `refused` if it is inconsistent. */
  runs(name: string): DirtyRuns;
}

/** The options of `check`. A check that repairs is neither stopped nor paused once it has begun. */
export interface CheckOptions extends JobOptions {
  /** The kind of repair: leaked space only, or everything that can be repaired. */
  readonly repair?: 'leaks' | 'all';
  /** Called with each line that goes into `CheckResult.messages`, and with those that no longer fit, as they are found. */
  readonly onMessage?: (message: string) => void;
}

/** The counts of `qemu-img check`. */
export interface CheckResult {
  /** Inconsistencies that lose or mix up data. */
  corruptions: number;
  /** Clusters counted as used that nothing refers to. */
  leaks: number;
  /** Structures that could not be read. */
  checkErrors: number;
  /** How many of the corruptions were mended. */
  corruptionsFixed: number;
  /** How many of the leaks were given back. */
  leaksFixed: number;
  /** Clusters of the guest's disk. */
  totalClusters: number;
  /** Clusters of the guest's disk that have a place in the image. */
  allocatedClusters: number;
  /** Allocated clusters that do not lie right behind the one before. */
  fragmentedClusters: number;
  /** Allocated clusters that are compressed. */
  compressedClusters: number;
  /** Bytes: where the last used cluster ends. */
  imageEndOffset: number;
  /** A line for each finding, in QEMU's words where QEMU has some. At most 1,000 are kept. */
  messages: string[];
}

/** See `ImageTools.vmState`. */
export interface VmStateDriver extends ImageDriver {
  /** Gives the space of all of it back. Durable when it returns. */
  clear(): Io<void>;
}

/** A run of the image file that holds metadata, for the allocation map. */
export interface MetadataExtent {
  /** Bytes in the image file. */
  readonly hostOffset: number;
  /** Bytes, at least 1. */
  readonly length: number;
  /** The kind of metadata, in a few words: `L2 tables`. */
  readonly what: string;
}

/** The parameters of `amend`: the options of the format to change, and the functions it needs from the node. */
export interface AmendParameters {
  /** Only the options to change, under QEMU's names (`FormatDescriptor.amendOptions`). */
  readonly options: Readonly<Record<string, string | number | boolean>>;
  /** Allows changes that could make the image unreadable (the last key slot). */
  readonly force: boolean;
  /** Asked for passphrases that options name. */
  readonly secret?: AskSecret;
  /** Changes the disk's size as `Storage.truncate` of the node does; never called with 0. */
  readonly resize: (size: number) => Io<void>;
  /** Called with steps done and the total, as far as they are known. */
  readonly onProgress: (done: number, total: number) => void;
}

/** The end of `ImageTools.emptyCopy`: writing may have given the copy another id, and it gets back that of the image. */
export type AfterCopy = (() => Io<void>) | undefined;

/** The functions of an image besides its bytes. Each member is absent where the format has nothing of the kind. */
export interface ImageTools {
  /** Looks for leaks and corruptions, and repairs them if asked to. */
  check?(options: CheckOptions): Io<CheckResult>;
  /** Changes to the internal snapshots. */
  readonly snapshots?: SnapshotTools | undefined;
  /** Changes to the persistent dirty bitmaps. */
  readonly bitmaps?: BitmapTools;
  /**
   * Changes `ImageDriver.backing`: the name in the image, nothing else. Durable when it returns; a cut leaves the old name or the new one. Throws
   * `no-space` if the header has no room for the name. `below`: the image of that name, if it is open: a format that notes an id of it takes it from there,
   * else the one that is noted stays.
   */
  setBacking?(backing: BackingReference | undefined, below?: ImageDriver): Io<void>;
  /**
   * The image below is about to be written through this one, and gets another id or state by that: whichever it has will do until `setBacking` notes one.
   * Durable when it returns. Absent: the image cannot say so.
   */
  awaitBelow?(): Io<void>;
  /** Gives up all clusters of the image, so that it shows its backing file; a cut leaves some of them. Snapshots stay. */
  makeEmpty?(): Io<void>;
  /**
   * Writes an image into an empty storage that is like this one in everything but its contents: size, options, backing file, and the ids by which other images
   * know it. It shows its backing file, or zeros. Returns the work that is left when the image was filled and closed. Absent: the format, or this image, has a
   * place for every byte from the start.
   */
  emptyCopy?(target: Storage): Io<AfterCopy>;
  /**
   * Changes options of an image that exists, in QEMU's order and up to the first that is refused. Each change is durable when the next
   * begins; a cut leaves the image as before or after one of them. Throws `refused`, naming the option.
   */
  amend?(parameters: AmendParameters): Io<void>;
  /**
   * The machine's state as an image of its own: bytes that are in the image, but not on the disk. Its `size` is the largest possible one. It
   * shares this driver's tables, so changes to it run with no other request under way. Absent: the image has no room for such state.
   */
  vmState?(): Io<VmStateDriver>;
  /** Where the image file holds metadata, in any order. */
  metadata?(): Io<MetadataExtent[]>;
}

/** An opened image with its tools. Their code is loaded when it is first needed, so only verbs that may wait use them. */
export interface ToolImage extends ImageDriver {
  /** Absent: there are none. */
  tools?(): Io<ImageTools>;
}

/** The tools of an image. */
export function* toolsOf(driver: ToolImage): Io<ImageTools> {
  return driver.tools ? yield* driver.tools() : {};
}
