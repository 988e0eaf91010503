/** A format as the registry knows it: how it is recognised, what it can do, what its images are made with, and how they are opened. */
import type { Io } from '../base/io.ts';
import type { OptionSet } from '../base/options.ts';
import type { AskSecret } from '../crypto/passphrase.ts';
import type { Storage } from '../storage/storage.ts';
import type { BackingReference, BitmapInfo, OpenFile } from './driver.ts';
import type { ToolImage } from './tools.ts';

/** An option of `create`, as the README's table and `tabdisk create -o help` show it. */
export interface CreateOption {
  /** QEMU's name, `cluster_size`. */
  readonly name: string;
  /** What it does and takes, in one line. */
  readonly help: string;
  /** Its value where nobody gives one, as text; absent: none. */
  readonly default?: string;
}

/** What a new image is to have. */
export interface CreateParameters {
  /** Bytes. */
  readonly size: number;
  /** The backing file that the new image names. */
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
  /** Images can be opened. */
  readonly read: boolean;
  /** Images can be written. */
  readonly write: boolean;
  /** New images can be made. */
  readonly create: boolean;
  /** The disk's size can be changed. */
  readonly resize: boolean;
  /** Images keep internal snapshots. */
  readonly snapshots: boolean;
  /** Images keep dirty bitmaps. */
  readonly bitmaps: boolean;
  /** Images can be checked. */
  readonly check: boolean;
  /** A check can mend what it finds. */
  readonly repair: boolean;
  /** Images can name a backing file. */
  readonly backing: boolean;
  /** Space can be given back. */
  readonly discard: boolean;
  /** A range can be made to read as zero without writing zeros. */
  readonly zeroes: boolean;
  /** Compressed clusters can be read. */
  readonly compressedRead: boolean;
  /** Compressed clusters can be written. */
  readonly compressedWrite: boolean;
}

/** How an image is opened. */
export interface OpenParameters {
  /** Nothing is written, not even to repair an image that was not closed properly. */
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
  /** As the header states it. */
  readonly cylinders: number;
  /** As the header states it. */
  readonly heads: number;
  /** Sectors per track, as the header states it. */
  readonly sectors: number;
}

/** A format, as the registry knows it. */
export interface FormatDescriptor {
  /** QEMU's name for the format. */
  readonly name: string;
  /** Other names that are taken for it. */
  readonly aliases: readonly string[];
  /** For people: "QEMU copy-on-write 2". */
  readonly title: string;
  /** Usual file name endings, without the dot. */
  readonly extensions: readonly string[];
  /** How sure the format is that `head` (the first bytes) and the file's size are its own: 0 no, 1 raw, 100 magic. */
  probe(head: Uint8Array, file: { size: number; name: string }): number;
  /** Of a format with its mark at the end: whether `tail`, the last bytes of a file, has it. Probing, as QEMU does it, does not look there. */
  ends?(tail: Uint8Array): boolean;
  /** What can be done with its images. */
  readonly capabilities: Capabilities;
  /** What `create` takes besides size and backing file. */
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
  open?(storage: Storage, parameters: OpenParameters): Io<ToolImage>;
  /**
   * What an image would take. `parameters.size` and the options are as for `create`; `bitmaps` are those that would be copied, if the source
   * can have any. Throws `refused`, naming the option.
   */
  measure?(parameters: CreateParameters & { readonly bitmaps?: readonly BitmapInfo[] }): Io<Measurement>;
  /** Writes an empty image into an empty storage. */
  create?(storage: Storage, parameters: CreateParameters): Io<void>;
}
