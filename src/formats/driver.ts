/**
 * The contract of a format driver. A driver maps; it does not move guest bytes: `look` says where guest bytes are, `place` where
 * a write may go, and the two loops of node/ split requests, read, write, fill and copy. Neither of the two ever waits; `load` and `prepare` read
 * the tables they need, so that one loop each way serves storages that wait and storages that do not.
 *
 * The loops guarantee, for every call on a driver:
 * - offsets and lengths lie inside `size` (past it only in `ResizeOptions.beforeGrowth`), lengths are positive;
 * - no two of `place … commit`, `zero`, `discard` overlap in guest clusters, and no answer of `look` is used while one of
 *   those changes its range (the node's range lock); `resize` and snapshot changes run with nothing else in flight.
 * The driver guards its own tables against calls for different ranges that interleave where the storage waits; `commit` and `abort` may come at any
 * time, also while a flush of the same driver waits.
 */
import type { DebugHook } from '../base/debug-events.ts';
import type { Io } from '../base/io.ts';
import type { Permissions } from '../base/permissions.ts';
import type { Compression } from '../compression/compressor.ts';
import type { Storage } from '../storage/storage.ts';

/** Where a run of guest bytes is. `length` counts from the requested offset; it is at least 1, and at most the requested length. */
export type Extent =
  /** `encrypted`: the bytes are stored in another form, and `storage` deciphers them. `placeless`: `storage` puts them together. */
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

/** How a status is requested. */
export interface StatusOptions {
  /** The caller will read all bytes that are not known to be zero, and look for zeros in them: so no storage need read them to answer (`Storage.mapReads`). */
  readonly reading?: boolean;
  /** Layers are told of the request, and may fail; else only the images answer. */
  readonly layers?: boolean;
  /** Called between requests where much is read ahead, with the part of that, 0 to 1, that is there. If it throws, the driver stops with that error. */
  readonly step?: (part: number) => Io<void>;
}

/** Where a write may go: `length` bytes from the requested guest offset go to `hostOffset` of `storage`. */
export interface Placement {
  /** Guest bytes, at least 1. */
  readonly length: number;
  /** The file of the image that has the place. */
  readonly storage: Storage;
  /** Bytes in that file. */
  readonly hostOffset: number;
  /** Set if the place is new: nothing points at it before `commit`. */
  readonly fresh?: FreshPlacement;
}

/** The obligations of a write to a new place. `commit` or `abort` follows, exactly once. */
export interface FreshPlacement {
  /**
   * Guest bytes [start, end) become visible with the commit. The loop writes those of them that the request does not cover from the old
   * contents: byte `start` belongs at `hostOffset - (offset - start)`.
   */
  readonly start: number;
  /** See `start`. */
  readonly end: number;
  /** All of the place lies past the end of a sparse file and was never used: bytes that are not written there read as zero. */
  readonly untouched?: boolean;
  /** The image had nothing at the ends of [start, end): the bytes around the request are the backing file's, or zero. */
  readonly wasEmpty?: boolean;
  /** Points the mapping at the new place; called after the bytes were written. Never fails. */
  commit(): void;
  /** Gives the place back; called if the write failed, or (`unused`) was not begun. */
  abort(unused?: boolean): void;
}

/** Format facts for `info`, in the shape of qemu-img's JSON. */
export interface FormatInfo {
  /** Bytes, if the format has clusters. */
  readonly clusterSize?: number;
  /** The image was not closed properly. `unknown`: QEMU has no such fact about the format. */
  readonly dirty?: boolean | 'unknown';
  /** Guest bytes are enciphered. */
  readonly encrypted?: boolean;
  /** Some clusters are compressed, or the format compresses all. */
  readonly compressed?: boolean;
  /** The space of the image's further files counts as its own, as QEMU counts it for VMDK. Default: false. */
  readonly filesCounted?: boolean;
  /** Guest offset at which machine state begins, past the disk's end, if the format keeps any. */
  readonly vmStateOffset?: number;
  /** `format-specific.data` of qemu-img's JSON, if the format has it. */
  readonly specific?: Readonly<Record<string, unknown>>;
}

/** The name of a backing file as stored in an image. */
export interface BackingReference {
  /** As stored in the image: untrusted text. */
  readonly name: string;
  /** QEMU's name of the backing file's format, if the image says it. */
  readonly format?: string;
}

/** A file that an image names. */
export interface FileRequest extends BackingReference {
  /**
   * The file's role. `backing`, `parent`: the image below. `data`, `extent`: a file with a part of the image's own bytes; an extent lies beside the image,
   * so that its name has no folders. Only the name of a backing file may have a protocol; any other is a plain file name, whatever it looks like.
   */
  readonly kind: 'backing' | 'parent' | 'data' | 'extent';
  /** The id that the image states for the contents of the file, such as a UUID. The name may be empty then. */
  readonly identity?: string;
}

/** How images above an image know it. */
export interface ImageIdentity {
  /** `FileRequest.identity` of those images: a UUID, a GUID, an id of contents, as text. */
  readonly id: string;
  /** Another one after each opening that has changed the image, in formats that keep this apart from `id`. */
  readonly modification?: string;
}

/** The image below, as an image names it. */
export interface BelowReference extends BackingReference {
  /** Default: `backing`. */
  readonly kind?: 'backing' | 'parent';
  /** See `FileRequest.identity`. */
  readonly identity?: string;
  /** Names to try after `name`, in this order. */
  readonly otherNames?: readonly string[];
}

/** How a disk is to grow. */
export interface ResizeOptions {
  /** Runs when the tables reach the new size but the disk does not show it yet: work that must be done before that goes here. */
  readonly beforeGrowth?: () => Io<void>;
  /** How the added space is set aside: `off` (default), `metadata`, `falloc` or `full`, as far as the format has it. */
  readonly preallocation?: string;
}

/** The key of an encrypted image. */
export interface KeyDriver {
  /** The option that names the secret with the passphrase. */
  readonly option: string;
  /** How the image is encrypted: in LUKS's way, or in the way of old qcow2 images. */
  readonly method: 'luks' | 'aes';
  /** There is a key: guest bytes can be read and written. */
  readonly valid: boolean;
  /**
   * Takes the key that a passphrase opens. Throws `refused` if it opens none; then the image has no key, not even an earlier one. The old AES
   * encryption accepts any passphrase.
   */
  set(passphrase: Uint8Array): Io<void>;
}

/** An internal snapshot as `qemu-img info` lists it. */
export interface SnapshotInfo {
  /** Unique in the image; given by the format. */
  readonly id: string;
  /** The name that the user gave; names may repeat. */
  readonly name: string;
  /** Bytes of saved machine state. */
  readonly vmStateSize: number;
  /** Seconds and nanoseconds since 1970-01-01 UTC. */
  readonly dateSeconds: number;
  /** Nanoseconds beyond `dateSeconds`. */
  readonly dateNanoseconds: number;
  /** Guest clock in nanoseconds since power-on. */
  readonly vmClockNanoseconds: number;
  /** Instructions that the guest had executed, if the emulator counts them. */
  readonly icount?: number;
  /** Bytes of the disk when the snapshot was taken. */
  readonly diskSize: number;
}

/** A persistent dirty bitmap. */
export interface BitmapInfo {
  /** Unique in the image. */
  readonly name: string;
  /** Guest bytes for each bit: a power of 2. */
  readonly granularity: number;
  /** It notes what is written while the image is open for writing. */
  readonly enabled: boolean;
  /** It was not saved when the image was used last, or could not be kept: it can only be removed. */
  readonly inconsistent: boolean;
}

/** The facts about an image's bitmaps that are always available, and the verbs that writing needs; the rest is `BitmapTools`. */
export interface BitmapFacts {
  /** False if this image can hold none. */
  readonly storable: boolean;
  /** All bitmaps of the image. */
  list(): BitmapInfo[];
  /** True if some bitmap notes changes. */
  readonly recording: boolean;
  /** Notes that guest bytes may have changed. Does not fail: a bitmap that cannot note it becomes inconsistent. */
  record(offset: number, length: number): Io<void>;
}

/** An opened image of one format: the half that every request needs. See the guarantees at the top of this file, and `tools.ts` for the other half. */
export interface ImageDriver {
  /** Registry name. */
  readonly format: string;
  /** Guest-visible bytes; a multiple of 512 except for raw. */
  readonly size: number;
  /** Guest bytes that are allocated as one; 0 if writes never allocate. */
  readonly clusterSize: number;
  /** Guest bytes that become visible, or read as zero, as one, where that is less than a cluster. */
  readonly subclusterSize?: number;
  /** The image below that the image names. The node opens and owns it: its loop reads it, not the driver. */
  readonly backing?: BelowReference | undefined;
  /**
   * Called with the image that was opened below: throws `refused` if `backing` means another one, or that one has changed since; another kind of error if
   * the image can never be below this one. Then the next of its names is tried. A caller may accept an image that is `refused` (`changedParent`).
   */
  requireBelow?(below: ImageDriver): void;
  /** Absent: images above know this one by its name alone. */
  readonly identity?: ImageIdentity | undefined;
  /** False if an image that was just created may read as anything: its sectors are deciphered, whatever the file has there. Default true. */
  readonly newReadsZero?: boolean;
  /** The storage the image was opened on. */
  readonly storage: Storage;
  /** Further files of the image, opened through `OpenParameters.openFile`; the node that closes the image closes them afterwards. */
  readonly files?: readonly Storage[];
  /**
   * All bytes that `look` calls data are in the file, of which QEMU never leaves out an end: what lies past its end was cut off. Else the end of the unit in
   * which the file ends may be missing, and reads as zero.
   */
  readonly dataInFile?: boolean;
  /** The permissions that the image takes of its file besides those of its user. */
  readonly permissions?: Permissions;
  /**
   * The storage's `debugEvent`, for a driver that reports its steps; the loop then reports the steps it does for the driver. Undefined unless a debugger
   * is there, and fixed while the image is open.
   */
  readonly debug?: DebugHook | undefined;
  /** Where guest bytes are, answered from memory; never waits. Undefined: call `load`, then ask again. Also undefined after an error, which `load` throws. */
  look(offset: number, length: number): Extent | undefined;
  /** Reads the tables that `look` needs: called right after it, `look` answers. Throws the error if one of them is wrong. Absent: `look` always answers. */
  load?(offset: number, length: number): Io<void>;
  /** As `look`, for callers that want to know which bytes read as zero and do not read: it may take longer. Absent: `look` knows. */
  status?(offset: number, length: number, options?: StatusOptions): Io<Extent>;
  /** Reads guest bytes that `look` called encoded; the range lies inside that extent. */
  decode?(offset: number, into: Uint8Array): Io<void>;
  /**
   * Where the first bytes of a write may go; never waits. Undefined: call `prepare`, then ask again. Absent in a driver that only reads. `after` is the
   * host offset right behind the piece of the same request that ends at `offset`: a hint for keeping a request in one run.
   */
  place?(offset: number, length: number, after?: number): Placement | undefined;
  /** Makes `place` possible: called right after it, for the same bytes, `place` answers. Throws the error if it cannot. Absent: `place` always answers. */
  prepare?(offset: number, length: number, after?: number): Io<void>;
  /**
   * Writes one cluster compressed, wherever it was before; `bytes` is the whole cluster, or the part that the disk's last one has. False if it must be
   * written as it is, because it gets no smaller. `encoded`: the cluster compressed already, as `compression` says and filled up with zeros.
   * Without bytes: nothing more follows, and the file ends on a whole sector. Absent if the image cannot be written so.
   */
  writeCompressed?(offset: number, bytes: Uint8Array, encoded?: Uint8Array): Io<boolean>;
  /** `place` gives no places: guest bytes come by `writeCompressed` alone, and a job that writes a whole disk uses it. Default: false. */
  readonly compressedOnly?: boolean;
  /** How `writeCompressed` compresses, for callers that compress elsewhere beforehand. */
  readonly compression?: Compression;
  /** Makes a range of whole subclusters (or one that ends at `size`) read as zero. Returns bytes done from the start; 0: write zeros. */
  zero?(offset: number, length: number, options: { unmap: boolean }): Io<number>;
  /** Gives space back. Returns bytes dealt with from the start, at least 1; parts that are not cluster-aligned are left alone. */
  discard?(offset: number, length: number): Io<number>;
  /** Sets `size`. Durable when it returns; a cut leaves the old size or the new one. */
  resize?(size: number, options: ResizeOptions): Io<void>;
  /** The internal snapshots. Absent: the format has none. */
  readonly snapshots?: readonly SnapshotInfo[] | undefined;
  /** The persistent dirty bitmaps. Absent: the format has none. */
  readonly bitmaps?: BitmapFacts;
  /** Absent: the image is not encrypted. */
  readonly key?: KeyDriver | undefined;
  /** Facts for `info`, from memory. */
  info(): FormatInfo;
  /** Makes everything before it durable, in an order that survives a power cut at any point. */
  flush(): Io<void>;
  /** Flushes if writable and lets go of tables; the storage stays open. */
  close(): Io<void>;
}

/**
 * For a driver: opens a file that its image names (for writing if the image is written, unless `readOnly`), or makes it, empty. The storage holds the file's plain bytes; the opener
 * of the image closes it if the driver throws, later the node does (`ImageDriver.files`). Throws if there is no such file, or it may not be used: one file
 * is opened once.
 */
export type OpenFile = (request: FileRequest & { readonly kind: 'data' | 'extent'; readonly readOnly?: boolean }) => Io<Storage>;
