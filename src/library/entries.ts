/** What callers of the library give and get. */

import type { ConvertOptions } from '../jobs/convert.ts';
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
  /** How it is kept. */
  readonly format: ImageFormat;
  /** It takes a passphrase to open it. Not known (false) of qcow2 images that an earlier version of this program brought in. */
  readonly encrypted: boolean;
  /** Where it is kept. */
  readonly place: Place;
  /** The id of the image that it lies over, if there is one. */
  readonly backing?: string | undefined;
  /** Guest-visible bytes. */
  readonly size: number;
  /** Bytes it takes in the browser. */
  readonly storedSize: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  /** When it was last changed, in milliseconds since 1970; noted when it is closed. */
  readonly changed: number;
  /**
   * True while some tab has it open for writing, or for reading what nobody may change: with its changes thrown away, for an export, below an
   * overlay (unless that is open here).
   */
  readonly inUse: boolean;
  /** True of an image that is open for writing here and that the browser has removed meanwhile: export it, it is gone once it is closed. */
  readonly lost?: true;
}

/**
 * What a browser, or this window of it, may not give the library: its two stores, locks that hold across tabs, and a channel between tabs. Without Web Locks two
 * tabs may write to one image in IndexedDB: the later one gets it, the other's disk is `lost`.
 */
export type Lack = 'opfs' | 'indexeddb' | 'web-locks' | 'broadcast-channel';

/** What the browser says about its storage. Bytes. `quota` is a hint: browsers make it up. */
export interface StorageReport {
  /** Undefined where the browser does not tell. */
  readonly usage?: number;
  /** Undefined where the browser does not tell. */
  readonly quota?: number;
  /** Time to tell the user: nine tenths of the quota are used, or (since quotas are made up) there was no room lately for a few MiB. */
  readonly nearlyFull: boolean;
  /** The browser keeps this site's data when space runs low. */
  readonly persisted: boolean;
  /** Where images can be kept here. */
  readonly places: readonly Place[];
  /** What this browser, or this window of it, does not give. */
  readonly lacks: readonly Lack[];
}

/** What a new image is to be. */
export interface CreateImageOptions {
  /** For people; unique in the library. */
  readonly name: string;
  /** `raw` holds the guest's bytes as they are, `qcow2` grows as the guest writes and keeps snapshots. */
  readonly format: 'qcow2' | 'raw';
  /** Bytes. */
  readonly size: number;
  /** Default: OPFS where there is one, else IndexedDB. */
  readonly place?: Place;
  /** Bytes; qcow2 only. */
  readonly clusterSize?: number;
  /** Encrypts the image (LUKS) with this passphrase, which is kept nowhere; qcow2 only. */
  readonly secret?: string;
  /** Milliseconds that trying a passphrase is to take; default 2000. */
  readonly iterTime?: number;
}

/** How an imported file is kept. */
export interface ImportOptions {
  /** For people; unique in the library. */
  readonly name: string;
  /** Default: OPFS where there is one, else IndexedDB. */
  readonly place?: Place;
  /**
   * What the file is. Default: what its bytes say; for a raw disk they have to say so, by a boot sector, a file system and the like. With `raw` any file
   * is taken for one.
   */
  readonly format?: ImageFormat;
}

/** What a new overlay is to be. */
export interface OverlayOptions {
  /** For people; unique in the library. */
  readonly name: string;
  /** Default: where the image below it is. */
  readonly place?: Place;
}

/** How an image is opened. */
export interface OpenImageOptions {
  /** Refuses every change, and takes no lock: one state of the image is seen, and reads throw once somebody has changed it. */
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
   * Where writes go until the image is closed, when they are thrown away; the image is only read, and nobody can change it meanwhile. What a tab
   * that died left of it is swept when a library is opened.
   */
  readonly snapshot?: Place;
}

export interface LibraryOptions {
  /** Names everything the library keeps: directory, databases, locks. Default `tabdisk`. */
  readonly name?: string;
  /**
   * Where the browser lets the page keep no data: keep images in memory, until the library is closed or its thread ends. Default false: opening the
   * library throws `unsupported` there.
   */
  readonly memoryIfBlocked?: boolean;
  /** Threads that compress what is exported so. Without them the library's own does it. */
  readonly compressor?: ConvertOptions['compressor'];
}

/** What an exported file is to be. */
export interface ExportOptions {
  /** An image in the format `luks` leaves as `luks`, `qcow2` or `raw`. */
  readonly format: ImageFormat;
  /**
   * Compressed clusters, of qcow2 only: then the disk as it is now leaves, without the image's snapshots and bitmaps. Not of an encrypted image,
   * and not with `since`.
   */
  readonly compressed?: boolean;
  /** Only what changed since then, as a qcow2 overlay over the export of that time. */
  readonly since?: ExportSince;
  /** The name that an overlay gives its backing file, which is qcow2; default the name of a full export. */
  readonly backing?: string;
  /** Of an image that is lost: what can no longer be read leaves as zeros, in a new image without snapshots; `ExportedImage.missing` tells of it. */
  readonly salvage?: boolean;
  /** The image's passphrase. An encrypted image that leaves as it is needs none. */
  readonly secret?: string;
  /** Where a new image is encrypted: milliseconds that trying its passphrase is to take; default 2000. */
  readonly iterTime?: number;
}

/** A snapshot by id or name, or a persistent dirty bitmap that was begun then. */
export type ExportSince = { readonly snapshot: string } | { readonly bitmap: string };

/** An image on its way out. */
export interface ExportedImage {
  /** Suggested file name. */
  readonly name: string;
  /** Bytes if known beforehand. */
  readonly size: number | undefined;
  /** The file's bytes, read on demand. To cancel it ends the export. */
  readonly stream: ReadableStream<Uint8Array>;
  /** Bytes that could not be read and are zeros, with `salvage`. */
  readonly missing?: number;
}
