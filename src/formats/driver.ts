/**
 * What a format driver owes. A driver maps; it does not move guest bytes: `map` says where guest bytes are, `allocate` where
 * a write may go, and the one loop in disk/node.ts splits requests, reads, writes, fills and copies.
 *
 * The loop guarantees, for every call on a driver:
 * - offsets and lengths lie inside `size` (past it only in `ResizeOptions.beforeGrowth`), lengths are positive;
 * - no two calls of `allocate … commit`, `zero`, `discard` overlap in guest clusters, and no `map` result is used while one of
 *   those changes its range (the node's range lock); `resize` and snapshot changes run with nothing else in flight.
 * The driver guards its own tables against calls for different ranges that interleave where the storage waits.
 */
import type { DebugHook } from '../base/debug-events.ts';
import type { Io } from '../base/io.ts';
import type { JobOptions } from '../base/job.ts';
import type { OptionSet } from '../base/options.ts';
import type { Permissions } from '../base/permissions.ts';
import type { Compression } from '../compression/compressor.ts';
import type { AskSecret } from '../crypto/passphrase.ts';
import type { Storage } from '../storage/storage.ts';

/** Where a run of guest bytes is. `length` counts from the offset asked for, at least 1, at most what was asked. */
export type Extent =
  /** `encrypted`: the bytes lie there in another form, and `storage` deciphers them. `placeless`: `storage` puts them together. */
  | {
      readonly kind: 'data';
      readonly length: number;
      readonly storage: Storage;
      readonly hostOffset: number;
      readonly encrypted?: boolean;
      readonly placeless?: boolean;
    }
  /** Reads as zero; `hostOffset` if space is set aside all the same. */
  | { readonly kind: 'zero'; readonly length: number; readonly hostOffset?: number }
  /** Not in this layer: the backing file's bytes, or zero without one; `hostOffset` if space is set aside all the same. */
  | { readonly kind: 'backing'; readonly length: number; readonly hostOffset?: number }
  /** In this layer, in a form that only `ImageDriver.decode` can read. */
  | { readonly kind: 'encoded'; readonly length: number; readonly compressed: boolean };

/** How a status is asked for. */
export interface StatusOptions {
  /** What is not known to be zero is read next, and zeros are looked for in it: nothing is read only to tell (`Storage.mapReads`). */
  readonly reading?: boolean;
  /** Layers hear of it, and may fail; else only the images are asked. */
  readonly layers?: boolean;
  /** Between requests where much is read ahead, with the part of that, 0 to 1, that is there: whoever is asked stops with what it throws. */
  readonly step?: (part: number) => Io<void>;
}

/** Where a write may go. `length` bytes from the guest offset asked for go to `hostOffset` of `storage`. */
export interface Placement {
  readonly length: number;
  readonly storage: Storage;
  readonly hostOffset: number;
  /** Set if the place is new: nothing points at it before `commit`. */
  readonly fresh?: FreshPlacement;
}

/** A new place that is had and linked without waiting; see `ImageDriver.newPlace`. */
export interface NewPlace {
  readonly storage: Storage;
  readonly hostOffset: number;
  /** Points the mapping at the place, once the bytes were written. */
  commit(): void;
  /** The write failed: gives the place back. */
  abort(): void;
}

/** The obligations of a write to a new place. */
export interface FreshPlacement {
  /**
   * Guest bytes [start, end) come alive with the commit. The loop writes what the request does not cover from the old
   * contents: byte `start` belongs at `hostOffset - (offset - start)`.
   */
  readonly start: number;
  readonly end: number;
  /** All of the place lies past the end of a sparse file and was never given to anybody: what is not written there reads as zero. */
  readonly untouched?: boolean;
  /** Points the mapping at the new place; called once the bytes were written. All or nothing. */
  commit(): Io<void>;
  /** The write or the commit failed: gives the place back. */
  abort(): Io<void>;
}

/** An internal snapshot as `qemu-img info` lists it. */
export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  /** Bytes of saved machine state. */
  readonly vmStateSize: number;
  /** Seconds and nanoseconds since 1970-01-01 UTC. */
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  /** Guest clock in nanoseconds since power-on. */
  readonly vmClockNanoseconds: number;
  readonly icount?: number;
  /** Bytes of the disk when the snapshot was taken. */
  readonly diskSize: number;
}

/** What is noted of a machine when a snapshot is made. */
export interface MachineMoment {
  /** Bytes of the machine's state, which `ImageDriver.vmState` holds and the snapshot takes over; 0: none. */
  readonly vmStateSize?: number;
  readonly vmClockNanoseconds?: number;
  /** Instructions executed, where the emulator counts them. */
  readonly icount?: number;
}

/** Snapshots inside an image. Every verb leaves the image flushed. */
export interface SnapshotDriver {
  list(): SnapshotInfo[];
  create(options: MachineMoment & { name: string; date: Date }): Io<SnapshotInfo>;
  /** Makes the disk read as it did; may change `ImageDriver.size`. */
  apply(id: string): Io<void>;
  delete(id: string): Io<void>;
  /** Gives it another name; a cut leaves the old one or the new one. */
  rename(id: string, name: string): Io<void>;
  /** A read-only driver for the snapshot's contents; valid until the snapshot is deleted or this driver closed. */
  view(id: string): Io<ImageDriver>;
  /** Guest bytes that may read otherwise than in the snapshot, by whole clusters; valid until the snapshot is deleted. Absent: nobody knows. */
  changes?(id: string): Io<DirtyRuns>;
}

/** A persistent dirty bitmap. */
export interface BitmapInfo {
  readonly name: string;
  /** Guest bytes for each bit: a power of 2. */
  readonly granularity: number;
  /** It notes what is written while the image is open for writing. */
  readonly enabled: boolean;
  /** It was not saved when the image was used last, or could not be kept: it can only be removed. */
  readonly inconsistent: boolean;
}

/** Guest bytes that changed: that a bitmap calls dirty, or that differ from a snapshot. */
export interface DirtyRun {
  readonly start: number;
  readonly length: number;
}

/** Changed bytes, run by run. */
export interface DirtyRuns {
  /** Bytes of the disk. */
  readonly size: number;
  /** The first run that reaches past `from`, cut off there; nothing if there is none. */
  next(from: number): Io<DirtyRun | undefined>;
}

/**
 * Bitmaps kept in an image. What they note and what changes in them is in memory until the image is closed, except that a removal is
 * durable when it returns; a bitmap whose image was not closed is inconsistent. Changes run with nothing else in flight.
 */
export interface BitmapDriver {
  /** False if this image can hold none. */
  readonly storable: boolean;
  list(): BitmapInfo[];
  /** `granularity` is a power of 2 from 512 to 2 GiB. */
  add(options: { name: string; granularity: number; enabled: boolean }): Io<void>;
  remove(name: string): Io<void>;
  clear(name: string): Io<void>;
  setEnabled(name: string, enabled: boolean): Io<void>;
  /** Adds what another bitmap, perhaps of another image of the same size, calls dirty. */
  merge(name: string, source: DirtyRuns): Io<void>;
  /** The contents of a bitmap; reading them throws `refused` if it is inconsistent. */
  runs(name: string): DirtyRuns;
  /** True if some bitmap notes changes. */
  readonly recording: boolean;
  /** Notes that guest bytes may have changed. Does not fail: a bitmap that cannot note it becomes inconsistent. */
  record(offset: number, length: number): Io<void>;
}

/** What `check` takes. A check that repairs is neither stopped nor paused once it has begun. */
export interface CheckOptions extends JobOptions {
  /** What to repair: leaked space only, or everything that can be. */
  readonly repair?: 'leaks' | 'all';
  /** Called with each line that goes into `CheckResult.messages`, and with those that no longer fit, as they are found. */
  readonly onMessage?: (message: string) => void;
}

/** What `qemu-img check` counts. */
export interface CheckResult {
  /** Inconsistencies that lose or mix up data. */
  corruptions: number;
  /** Clusters counted as used that nothing refers to. */
  leaks: number;
  /** Structures that could not be looked at. */
  checkErrors: number;
  corruptionsFixed: number;
  leaksFixed: number;
  totalClusters: number;
  allocatedClusters: number;
  fragmentedClusters: number;
  compressedClusters: number;
  /** Bytes: where the last used cluster ends. */
  imageEndOffset: number;
  /** A line for each finding, in QEMU's words where QEMU has some. At most 1,000 are kept. */
  messages: string[];
}

/** Format facts for `info`, in the shape of qemu-img's JSON. */
export interface FormatInfo {
  readonly clusterSize?: number;
  readonly dirty?: boolean;
  readonly encrypted?: boolean;
  readonly compressed?: boolean;
  /** Guest offset at which machine state begins, past the disk's end, if the format keeps any. */
  readonly vmStateOffset?: number;
  /** `format-specific.data` of qemu-img's JSON, if the format has it. */
  readonly specific?: Readonly<Record<string, unknown>>;
}

/** See `ImageDriver.vmState`. */
export interface VmStateDriver extends ImageDriver {
  /** Gives the space of all of it back. Durable when it returns. */
  clear(): Io<void>;
}

/** A run of the image file that holds metadata, for the allocation map. */
export interface MetadataExtent {
  readonly hostOffset: number;
  readonly length: number;
  readonly what: string;
}

/** The name of a backing file as stored in an image. */
export interface BackingReference {
  readonly name: string;
  readonly format?: string;
}

/** How a disk is to grow. */
export interface ResizeOptions {
  /** Runs when the tables reach the new size but the disk does not show it yet: what must be there first goes here. */
  readonly beforeGrowth?: () => Io<void>;
  /** How what is added is set aside: `off` (default), `metadata`, `falloc` or `full`, as far as the format has it. */
  readonly preallocation?: string;
}

/** What `amend` takes: which of the format's options are to change, and what it needs from the node. */
export interface AmendParameters {
  /** Only what is to change, under QEMU's names (`FormatDescriptor.amendOptions`). */
  readonly options: Readonly<Record<string, string | number | boolean>>;
  /** Does what could make the image unreadable (the last key slot). */
  readonly force: boolean;
  /** Asked for passphrases that options name. */
  readonly secret?: AskSecret;
  /** Changes the disk's size as `Storage.truncate` of the node does; 0 is never asked for. */
  readonly resize: (size: number) => Io<void>;
  /** Called with steps done and the total, as far as they are known. */
  readonly onProgress: (done: number, total: number) => void;
}

/** The key of an encrypted image. */
export interface KeyDriver {
  /** There is a key: guest bytes can be read and written. */
  readonly valid: boolean;
  /**
   * Takes the key that a passphrase opens. Throws `refused` if it opens none; then the image has no key, not even the one it had. The old AES
   * encryption takes any passphrase for right.
   */
  set(passphrase: Uint8Array): Io<void>;
}

/** An opened image of one format. See the guarantees at the top of this file. */
export interface ImageDriver {
  /** Registry name. */
  readonly format: string;
  /** Guest-visible bytes; a multiple of 512 except for raw. */
  readonly size: number;
  /** Guest bytes that are allocated as one; 0 if writes never allocate. */
  readonly clusterSize: number;
  /** Guest bytes that come alive, or read as zero, as one, where that is less than a cluster. */
  readonly subclusterSize?: number;
  readonly backing?: BackingReference | undefined;
  /** False if an image that was just created may read as anything: its sectors are deciphered, whatever lies there. Default true. */
  readonly newReadsZero?: boolean;
  /** The storage the image was opened on. */
  readonly storage: Storage;
  /** Further files of the image, opened through `OpenParameters.dataFile`; whoever closes the image closes them behind it. */
  readonly files?: readonly Storage[];
  /** What the image takes of its file besides what its user does. */
  readonly permissions?: Permissions;
  /**
   * The storage's `debugEvent`, for a driver that tells of what it does; the loop then tells of what it does for it. Undefined unless somebody
   * debugs, and fixed while the image is open.
   */
  readonly debug?: DebugHook | undefined;
  map(offset: number, length: number): Io<Extent>;
  /** What `map` answers, if it can be told from what is in memory and nothing is wrong. Never waits; absent: ask `map`. */
  resident?(offset: number, length: number): Extent | undefined;
  /** As `map`, for those who want to know what reads as zero rather than to read: it may take longer. Absent: `map` knows. */
  status?(offset: number, length: number, options?: StatusOptions): Io<Extent>;
  /** Reads guest bytes that `map` called encoded; the range lies inside that extent. */
  decode?(offset: number, into: Uint8Array): Io<void>;
  /**
   * Where a write may go. Absent in a driver that only reads. `after` is the host offset right behind the piece of the same request
   * that ends at `offset`: a hint for keeping a request in one run.
   */
  allocate?(offset: number, length: number, after?: number): Io<Placement>;
  /**
   * Where the first bytes of a write may go if they are in a place that can be written over, and no table has to be read or changed for that.
   * Never waits; nothing, or absent: ask `allocate`.
   */
  inPlace?(offset: number, length: number): Placement | undefined;
  /**
   * A new place for all of a small write, if it can be had and linked without waiting, nothing below the image shows there, and nothing has to be
   * written around it: what the write leaves of the place reads as zero. `commit` or `abort` follows before anything else is asked. Nothing, or
   * absent: ask `allocate`.
   */
  newPlace?(offset: number, length: number): NewPlace | undefined;
  /**
   * Writes one cluster compressed, wherever it was before; `bytes` is the whole cluster, or what the disk's last one has. False if it must be
   * written as it is, because it gets no smaller. `encoded`: the cluster compressed already, as `compression` says and filled up with zeros.
   * Without bytes: nothing more follows, and the file ends on a whole sector. Absent if the image cannot be written so.
   */
  writeCompressed?(offset: number, bytes: Uint8Array, encoded?: Uint8Array): Io<boolean>;
  /** How `writeCompressed` compresses, for those who do it elsewhere beforehand. */
  readonly compression?: Compression;
  /** Makes a range of whole subclusters (or one that ends at `size`) read as zero. Returns bytes done from the start; 0: write zeros. */
  zero?(offset: number, length: number, options: { unmap: boolean }): Io<number>;
  /** Gives space back. Returns bytes dealt with from the start, at least 1; what is not cluster-aligned is left alone. */
  discard?(offset: number, length: number): Io<number>;
  /** Sets `size`. Durable when it returns; a cut leaves the old size or the new one. */
  resize?(size: number, options: ResizeOptions): Io<void>;
  /**
   * Changes `backing`: the name in the image, nothing else. Durable when it returns; a cut leaves the old name or the new one. Throws
   * `no-space` if the header has no room for the name.
   */
  setBacking?(backing: BackingReference | undefined): Io<void>;
  /** Gives up everything the image holds, so that it shows its backing file; a cut leaves some of it. Snapshots stay. */
  makeEmpty?(): Io<void>;
  /**
   * Changes options of an image that exists, in QEMU's order and up to the first that is refused. Each change is durable when the next
   * begins; a cut leaves the image as before or after one of them. Throws `refused`, naming the option.
   */
  amend?(parameters: AmendParameters): Io<void>;
  check?(options: CheckOptions): Io<CheckResult>;
  readonly snapshots?: SnapshotDriver | undefined;
  readonly bitmaps?: BitmapDriver;
  /** Absent: the image is not encrypted. */
  readonly key?: KeyDriver | undefined;
  /**
   * The machine's state as an image of its own: bytes that lie in the image, but not on the disk. Its `size` is what may be there at most. It
   * shares this driver's tables, so changes to it run with nothing else in flight. Absent: the image has no room for such state.
   */
  vmState?(): Io<VmStateDriver>;
  metadata?(): Io<MetadataExtent[]>;
  info(): FormatInfo;
  /** Makes everything before it durable, in an order that survives a power cut at any point. */
  flush(): Io<void>;
  /** Flushes if writable and lets go of tables; the storage stays open. */
  close(): Io<void>;
}

/** An option of `create`, as the README's table and `tabdisk create -o help` show it. */
export interface CreateOption {
  readonly name: string;
  readonly help: string;
  readonly default?: string;
}

export interface CreateParameters {
  /** Bytes. */
  readonly size: number;
  readonly backing?: BackingReference;
  /** Format options under their QEMU names (`cluster_size`, `refcount_bits`, …); unknown ones are refused. */
  readonly options: Readonly<Record<string, string | number | boolean>>;
  /** Asked for the passphrase of an image that is to be encrypted. */
  readonly secret?: AskSecret;
  /** Gives the empty file for guest data that an option names, if there is such an option. */
  readonly dataFile?: OpenFile;
}

/** What an image of a format would take. All in bytes. */
export interface Measurement {
  /** The disk's size, rounded up to whole units. */
  readonly size: number;
  /** Metadata once all of the disk is allocated. */
  readonly metadata: number;
  /** What is allocated as one. */
  readonly unit: number;
  /** Everything is allocated from the start: a preallocated image, or a format that knows nothing else. */
  readonly everything: boolean;
  /** What copies of the bitmaps would take; absent if the image could hold none. */
  readonly bitmaps?: number;
}

/** What a format can do, for the support table and for a page that hides what is not there. */
export interface Capabilities {
  readonly read: boolean;
  readonly write: boolean;
  readonly create: boolean;
  readonly resize: boolean;
  readonly snapshots: boolean;
  readonly bitmaps: boolean;
  readonly check: boolean;
  readonly repair: boolean;
  readonly backing: boolean;
  readonly discard: boolean;
  readonly zeroes: boolean;
  readonly compressedRead: boolean;
  readonly compressedWrite: boolean;
}

/** Opens a file that an image names, to be written if the image is. Throws if nobody opens it. */
export type OpenFile = (name: string) => Io<Storage>;

export interface OpenParameters {
  readonly readOnly: boolean;
  /** Opens the file that an image keeps guest data in. */
  readonly dataFile?: OpenFile;
  /** Opened for `check` with repair: damage that would keep the image from being written is no obstacle, and nothing else changes it. */
  readonly repair?: boolean;
  /**
   * Called with each line about damage: of an image that was not closed properly and is repaired before it is written, that is marked corrupt,
   * or (then it begins with "warning: ") that another program has made less of.
   */
  readonly onDamage?: (message: string) => void;
  /** Asked for the passphrase of an encrypted image. */
  readonly secret?: AskSecret;
  /** Only the image's facts are wanted: an encrypted one opens without its key, a data file stays closed, and guest data cannot be read. */
  readonly noData?: boolean;
  /** An encrypted image for which there is no passphrase opens all the same, and gets its key by `KeyDriver.set`. */
  readonly keyLater?: boolean;
  /** Options of the format at run time, under QEMU's names: those that are understood are taken out. */
  readonly options?: OptionSet;
}

/** What the headers of an image say, and its tables of the file's length, without opening anything. */
export interface Inspection {
  /** Bytes, if the headers say. */
  readonly size?: number;
  /** If the headers say. */
  readonly geometry?: HeaderGeometry;
  /** Files the image names: untrusted text. */
  readonly references: readonly { readonly kind: 'backing' | 'data'; readonly name: string; readonly format?: string }[];
  /** Short phrases: "version 3", "zstd compression", "encrypted (LUKS)". */
  readonly features: readonly string[];
  /** Bytes that the file should have at least, where its headers and tables prove that it was cut short. */
  readonly neededSize?: number;
  /** With `neededSize`: only reference counts are missing, which a check makes anew. All guest data is there, and what leads to it. */
  readonly countsOnly?: boolean;
  /** What would keep the image from being opened or written, in words. */
  readonly warnings: readonly string[];
}

/** Cylinders, heads and sectors per track that a header states. They need not fit the size. */
export interface HeaderGeometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectors: number;
}

/** A format, as the registry knows it. */
export interface FormatDescriptor {
  /** QEMU's name for the format. */
  readonly name: string;
  readonly aliases: readonly string[];
  /** For people: "QEMU copy-on-write 2". */
  readonly title: string;
  /** Usual file name endings, without the dot. */
  readonly extensions: readonly string[];
  /** How sure the format is that `head` (the first bytes) and the file's size are its own: 0 no, 1 raw, 100 magic. */
  probe(head: Uint8Array, file: { size: number; name: string }): number;
  /** Of a format with its mark at the end: whether `tail`, the last bytes of a file, has it. Probing, as QEMU does it, does not look there. */
  ends?(tail: Uint8Array): boolean;
  readonly capabilities: Capabilities;
  readonly createOptions: readonly CreateOption[];
  /** Its file holds the guest's bytes and little else: whoever may write them beside others may write the file so. Default: nobody else may. */
  readonly sharesFile?: true;
  /** The options that `amend` changes. Absent: the format has no `amend`. */
  readonly amendOptions?: readonly CreateOption[];
  /** What is refused, one short phrase each, for the README. */
  readonly limits: readonly string[];
  /** Reads headers, and a bounded part of the tables; throws only what reading them throws: damage becomes a warning. */
  inspect?(storage: Storage): Io<Inspection>;
  /** Absent: the format is recognised and named, nothing more. */
  open?(storage: Storage, parameters: OpenParameters): Io<ImageDriver>;
  /**
   * What an image would take. `parameters.size` and the options are as for `create`; `bitmaps` are those that would be copied, if the source
   * can have any. Throws `refused`, naming the option.
   */
  measure?(parameters: CreateParameters & { readonly bitmaps?: readonly BitmapInfo[] }): Io<Measurement>;
  /** Writes an empty image into an empty storage. */
  create?(storage: Storage, parameters: CreateParameters): Io<void>;
}
