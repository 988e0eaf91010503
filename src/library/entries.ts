/** The values that callers of the library give and get. */

import type { CreatedFormat, FormatOptions } from '../formats/all.ts';
import type { Capabilities } from '../formats/descriptor.ts';
import type { ConvertOptions } from '../jobs/convert.ts';
import type { APPLIANCE } from '../jobs/ova.ts';
import type { CacheMode } from '../node/cache-mode.ts';
import type { DetectZeroes } from '../node/zero-range.ts';
import type { ImageFormat, Place } from './image-record.ts';

export type { ImageFormat, Place } from './image-record.ts';

/** An image of the library. */
export interface ImageEntry {
  /** Never changes; part of lock and file names. */
  readonly id: string;
  /** For people; unique in the library. */
  readonly name: string;
  /** The format in which it is kept. */
  readonly format: ImageFormat;
  /** The abilities of images of its format. */
  readonly capabilities: Capabilities;
  /** A passphrase is needed to open it. Not known (false) for qcow2 images that an earlier version of this program brought in. */
  readonly encrypted: boolean;
  /** The place where it is kept. */
  readonly place: Place;
  /** The id of the image that it lies over, if there is one. */
  readonly backing?: string | undefined;
  /** Guest-visible bytes. */
  readonly size: number;
  /** Bytes it takes in the browser. */
  readonly storedSize: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  /** The time of the last change, in milliseconds since 1970; noted when the image is closed. */
  readonly changed: number;
  /**
   * True while some tab has it open for writing, or reads it and relies on it not changing: with its changes thrown away, for an export, below an
   * overlay (unless that is open here).
   */
  readonly inUse: boolean;
  /** True if the image is open for writing here and the browser has removed it meanwhile: export it, because it is gone once it is closed. */
  readonly lost?: true;
}

/**
 * Features that a browser, or this window of it, may not give the library: its two stores, locks that hold across tabs, and a channel between tabs. Without
 * Web Locks two tabs may write to one image in IndexedDB: the later one gets it, the other's disk is `lost`.
 */
export type Lack = 'opfs' | 'indexeddb' | 'web-locks' | 'broadcast-channel';

/** The browser's report about its storage. Bytes. `quota` is a hint: browsers make it up. */
export interface StorageReport {
  /** Undefined where the browser does not tell. */
  readonly usage?: number;
  /** Undefined where the browser does not tell. */
  readonly quota?: number;
  /** The user should be told: nine tenths of the quota are used, or (since quotas are made up) there was no room lately for a few MiB. */
  readonly nearlyFull: boolean;
  /** The browser keeps this site's data when space runs low. */
  readonly persisted: boolean;
  /** The places where images can be kept here. */
  readonly places: readonly Place[];
  /** The features that this browser, or this window of it, does not give. */
  readonly lacks: readonly Lack[];
}

/** The parameters of a new image of any format. */
export interface CreateImageBasics {
  /** For people; unique in the library. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Default: OPFS where there is one, else IndexedDB. */
  readonly place?: Place;
  /** Encrypts the image with this passphrase, which is kept nowhere; of a format that has encryption. */
  readonly secret?: string;
  /** Milliseconds that trying a passphrase is to take; default 2000. */
  readonly iterTime?: number;
}

/** The parameters of a new image: the format, and its own options as `createDisk` takes them, such as `clusterSize`. */
export type CreateImageOptions<Format extends string = CreatedFormat> = Format extends CreatedFormat
  ? CreateImageBasics & { readonly format: Format } & FormatOptions<Format>
  : string extends Format
    ? CreateImageBasics & { readonly format: Format; readonly [option: string]: unknown }
    : never;

/** How an imported file is kept. */
export interface ImportOptions {
  /**
   * For people; unique in the library. Of several disks in one file the first gets it. Default: the machine's name for an appliance, else the name of the
   * disk's own file, with a number if it is taken.
   */
  readonly name?: string;
  /** Default: OPFS where there is one, else IndexedDB. */
  readonly place?: Place;
  /**
   * The format of the file. Default: as its bytes show. A raw disk must contain something known, such as a boot sector or a file system. With `raw` any file
   * is taken for a raw disk.
   */
  readonly format?: ImageFormat;
  /**
   * Further files that hold a part of the image's bytes (the extents of a VMDK, a data file, those of an `.ovf`, the tracks of a cue sheet), by their names. The image that is kept is then a new one
   * of one file: in the format of the set where such images can be made, else in qcow2.
   */
  readonly parts?: readonly File[];
  /** The id of the image of the library that is its backing file or its parent, under whatever name the file has for it. */
  readonly backing?: string;
  /** Takes the image also over a `backing` that has changed since it was made over it, or is another one, as ids in the two tell; see `OpenOptions.changedParent`. */
  readonly changedParent?: boolean;
  /** The only disk that is taken out of an archive, by its name there, with or without its folders. Default: all disks. */
  readonly member?: string;
  /** Bytes that may be unpacked; more are `refused`. Default: 4 GiB, and 2000 times the size of the file besides. */
  readonly most?: number;
  /** Keeps a packed file or an archive as it is, as a raw disk. */
  readonly asIs?: boolean;
}

/** A machine, as an appliance describes it. */
export interface MachineDescription {
  /** Undefined if it has none. */
  readonly name?: string;
  /** Bytes; undefined if not stated. */
  readonly memory?: number;
  /** The ids of its disks, in the machine's order. */
  readonly disks: readonly string[];
}

/** An image that was imported, and what came with it. */
export interface ImportedImage extends ImageEntry {
  /** Further disks of the same file, in order. */
  readonly others?: readonly ImageEntry[];
  /** The machine that an appliance describes. */
  readonly machine?: MachineDescription;
  /** Remarks for people. */
  readonly warnings?: readonly string[];
}

/** A file that came with others, by dropping or choosing them together. */
export interface ImportFile {
  /** Its name, with the folders in which it came: `My PC/disk.vmdk`. */
  readonly path: string;
  /** Its bytes. */
  readonly file: Blob;
}

/** What files that came together are. The numbers are places in the list of files. */
export interface ImportPlan {
  /** The images, each behind the one that it lies over. */
  readonly images: readonly PlannedImage[];
  /** Files that belong to none, and may be left out. */
  readonly passedOver: readonly PassedOver[];
}

/** An image to be imported: `import(file, { name, format, parts, backing })`, with the id of the image that came of `backing`. */
export interface PlannedImage {
  /** The image's own file. */
  readonly file: number;
  /** The image's name: the file's, or that of a folder that is one disk. */
  readonly name: string;
  /** The format that an image over it states for it. */
  readonly format?: ImageFormat;
  /** Further files that hold a part of its bytes. */
  readonly parts: readonly number[];
  /** The file of the image that it lies over. */
  readonly backing?: number;
  /** The image that it lies over is another one than it was made over, or has changed since: why, in words. It takes `changedParent` then. */
  readonly changed?: string;
  /** Why it cannot be imported: files that it needs and that did not come, by name, with what to do. */
  readonly problem?: string;
}

/** A file that is not imported. */
export interface PassedOver {
  /** The file. */
  readonly file: number;
  /** What it is, in words: "the settings of a VMware machine". */
  readonly reason: string;
}

/** The parameters of a new overlay. */
export interface OverlayOptions {
  /** For people; unique in the library. */
  readonly name: string;
  /** Default: the place of the image below it. */
  readonly place?: Place;
}

/** How an image is compacted. */
export interface CompactImageOptions {
  /** The passphrase of an encrypted image. */
  readonly secret?: string;
}

/** What compacting an image has saved. */
export interface Compacted {
  /** Bytes that it took in the browser. */
  readonly before: number;
  /** Bytes that it takes now. */
  readonly after: number;
}

/** How an image is opened. */
export interface OpenImageOptions {
  /** Refuses every change, and takes no lock: the disk shows one state of the image, and reads throw once the image has changed. */
  readonly readOnly?: boolean;
  /** The passphrase of an encrypted image. */
  readonly secret?: string;
  /** Opens a damaged image for `check` with repair; see `OpenOptions.repair`. */
  readonly repair?: boolean;
  /** See `OpenOptions.detectZeroes`. */
  readonly detectZeroes?: DetectZeroes;
  /** When writes become durable; default `writeback`. */
  readonly cache?: CacheMode;
  /**
   * The place of writes until the image is closed, when they are thrown away; the image is only read, and must not change meanwhile. The next
   * opening of a library sweeps the leftovers of a tab that died.
   */
  readonly snapshot?: Place;
}

export interface LibraryOptions {
  /** Names everything the library keeps: directory, databases, locks. Default `tabdisk`. */
  readonly name?: string;
  /**
   * If the browser lets the page keep no data: keep images in memory, until the library is closed or its thread ends. Default false: opening the
   * library throws `unsupported` there.
   */
  readonly memoryIfBlocked?: boolean;
  /** Threads that compress during compressed exports. Without them the library's own thread does it. */
  readonly compressor?: ConvertOptions['compressor'];
}

/** The parameters of an export. */
export interface ExportOptions {
  /**
   * The format of the file, or `ova`: an appliance with the disk, for VMware's programs and VirtualBox. An image in the format `luks` can be exported as `luks`,
   * `qcow2` or `raw`.
   */
  readonly format: ImageFormat | typeof APPLIANCE;
  /**
   * Compressed, for formats that have this (`FormatFacts.compressed`): the file has the disk's present contents, without the image's snapshots and bitmaps. Not
   * for an encrypted image, and not with `since`.
   */
  readonly compressed?: boolean;
  /** Only the changes since then, as a qcow2 overlay over the export of that time. */
  readonly since?: ExportSince;
  /** The name that an overlay stores for its backing file, which is qcow2; default the name of a full export. */
  readonly backing?: string;
  /** For an image that is lost: bytes that cannot be read any more become zeros, in a new image without snapshots; `ExportedImage.missing` counts them. */
  readonly salvage?: boolean;
  /** The image's passphrase. An encrypted image that is exported unchanged needs none. */
  readonly secret?: string;
  /** If a new image is encrypted: milliseconds that trying its passphrase is to take; default 2000. */
  readonly iterTime?: number;
}

/** A snapshot by id or name, or a persistent dirty bitmap that was begun at that time. */
export type ExportSince = { readonly snapshot: string } | { readonly bitmap: string };

/** An image that is being exported. */
export interface ExportedImage {
  /** Suggested file name. */
  readonly name: string;
  /** Bytes if known beforehand. */
  readonly size: number | undefined;
  /** The file's bytes, read on demand. Cancelling it ends the export. */
  readonly stream: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Bytes that could not be read and are zeros, with `salvage`. */
  readonly missing?: number;
}
