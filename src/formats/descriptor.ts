/** A format as the registry knows it: how it is recognised, its abilities, the options of its images, and how they are opened. */
import type { DeclaredOption, GivenOptions } from '../base/declared-options.ts';
import type { Io } from '../base/io.ts';
import type { OptionSet } from '../base/options.ts';
import type { AskSecret } from '../crypto/passphrase.ts';
import type { Storage } from '../storage/storage.ts';
import type { BackingReference, BitmapInfo, FileRequest, FormatInfo, ImageDriver, OpenFile } from './driver.ts';
import type { ToolImage } from './tools.ts';

/** The parameters of a new image. */
export interface CreateParameters {
  /** Bytes. */
  readonly size: number;
  /** The backing file that the new image names. */
  readonly backing?: BackingReference;
  /** The facts about the image that `backing` names, if it was opened. `driver`: for facts from its memory; its file is closed. */
  readonly below?: { readonly format: string; readonly info: FormatInfo; readonly driver: ImageDriver };
  /** Options of the format under QEMU's names, unread: the format reads them by its `createOptions`. */
  readonly options: GivenOptions;
  /** Asked for the passphrase of an image that is to be encrypted. */
  readonly secret?: AskSecret;
  /** Makes a further file of the image, empty. */
  readonly makeFile?: OpenFile;
  /** The image will be written once, in the order of the disk, by `writeCompressed`: a format for streams takes a layout that can be read as one. */
  readonly inOrder?: boolean;
}

/** The space that an image of a format would take. All in bytes. */
export interface Measurement {
  /** The disk's size, rounded up to whole units. */
  readonly size: number;
  /** Metadata once all of the disk is allocated. */
  readonly metadata: number;
  /** The unit in which space is allocated. */
  readonly unit: number;
  /** Everything is allocated from the start: a preallocated image, or a format that allocates in no other way. */
  readonly everything: boolean;
  /** Bytes for copies of the bitmaps; absent if the image could hold none. */
  readonly bitmaps?: number;
}

/** The abilities of a format, for the support table and for a page that hides the functions that are missing. */
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
  /** A check can repair its findings. */
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
  /** Guest data can lie in a second file that the image names. */
  readonly dataFile: boolean;
  /** Images can be written anew without the space that they do not need. */
  readonly compact: boolean;
}

/** How images of a format are encrypted with a passphrase, in the format's options. */
export interface EncryptionFacts {
  /** Every image of the format is encrypted. */
  readonly always: boolean;
  /** The option that names the secret with the passphrase, of a new image and of one that is opened. */
  readonly key: string;
  /** The option that states how an image is encrypted, if the format has several ways. */
  readonly method?: string;
  /** Any of these options of `create` makes an image encrypted. */
  readonly turnedOnBy: readonly string[];
  /** The options of `create` that encrypt an image in the best way. */
  readonly options: GivenOptions;
  /** With `options`: the option for the milliseconds that trying a passphrase is to take. */
  readonly iterTime?: string;
}

/** How an image is opened. */
export interface OpenParameters {
  /** Nothing is written, not even to repair an image that was not closed properly. */
  readonly readOnly: boolean;
  /** Opens a further file of the image. */
  readonly openFile?: OpenFile;
  /** Makes a further file of an image that grows, empty. */
  readonly makeFile?: OpenFile;
  /** Opened for `check` with repair: damage that would forbid writing is no obstacle, and only the repair changes the image. */
  readonly repair?: boolean;
  /**
   * Called with each line about damage: an image was not closed properly and is repaired before it is written, an image is marked corrupt,
   * or (with `warning`; the line then begins with this word) another program has dropped a part of the image's information.
   */
  readonly onDamage?: (message: string, warning?: boolean) => void;
  /** Asked for the passphrase of an encrypted image. */
  readonly secret?: AskSecret;
  /** The image is opened for its facts only: an encrypted one opens without its key, a data file stays closed, and guest data cannot be read. */
  readonly noData?: boolean;
  /** An encrypted image for which there is no passphrase opens all the same, and gets its key by `KeyDriver.set`. */
  readonly keyLater?: boolean;
  /** Options of the format at run time, under QEMU's names: the format takes out those it understands. */
  readonly options?: OptionSet;
}

/** The facts from the headers of an image, and from its tables about the file's length, found without opening anything. */
export interface Inspection {
  /** Bytes, if the headers say. */
  readonly size?: number;
  /** If the headers say. */
  readonly geometry?: HeaderGeometry;
  /** The id under which images above know this one, as they state it in `FileRequest.identity`; absent: by its name alone. */
  readonly identity?: string;
  /** Files the image names: untrusted text. */
  readonly references: readonly FileRequest[];
  /** Short phrases: "version 3", "zstd compression", "encrypted (LUKS)". */
  readonly features: readonly string[];
  /** Bytes that the file should have at least, if its headers and tables prove that it was cut short. */
  readonly neededSize?: number;
  /** With `neededSize`: only reference counts are missing, which a check can make anew. All guest data is there, and all tables that lead to it. */
  readonly countsOnly?: boolean;
  /** Reasons why the image could not be opened or written, in words. */
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
  /** Other names that are accepted for it. */
  readonly aliases: readonly string[];
  /** For people: "QEMU copy-on-write 2". */
  readonly title: string;
  /** Usual file name endings, without the dot. */
  readonly extensions: readonly string[];
  /** How sure the format is that `head` (the first bytes) and the file's size are its own: 0 no, 1 raw, 100 magic. */
  probe(head: Uint8Array, file: { size: number; name: string }): number;
  /** For a format with its mark at the end: whether `tail`, the last bytes of a file, has it. Probing, as QEMU does it, does not look there. */
  ends?(tail: Uint8Array): boolean;
  /** The abilities of its images. */
  readonly capabilities: Capabilities;
  /** The format's advantages in a few words, for people who choose one of the formats that can be created. */
  readonly gist?: string;
  /** The program whose own format it is, for people who choose by that; of a format that can be created. */
  readonly product?: string;
  /** How a whole image is made compressed: by these options of `create`, and what is to be said of it. Absent: there are no such images. */
  readonly compressed?: { readonly options: GivenOptions; readonly remark: string };
  /** The file's bytes are the disk's, without a mark: any file can be an image of this format, and a guest could write another format's mark. */
  readonly plain?: true;
  /** Absent: images are never encrypted. */
  readonly encryption?: EncryptionFacts;
  /** The whole names of the run-time options that change the image's contents. Default: none does. */
  readonly strongOptions?: RegExp;
  /** Images note an id of their parent that changes when the parent is written. */
  readonly notesParents?: true;
  /** The options of `create`, in QEMU's order. All texts about them come from here. */
  readonly createOptions: readonly DeclaredOption[];
  /** The file holds little but the guest's bytes: users that may write these beside others may write the file so too. Default: no other user may. */
  readonly sharesFile?: true;
  /** The file may be longer than the image: bytes behind the image's end have no meaning. Default: every byte of the file has a meaning. */
  readonly slack?: true;
  /** The options that `amend` changes. Absent: the format has no `amend`. */
  readonly amendOptions?: readonly DeclaredOption[];
  /** The features that are refused, one short phrase each, for the README. */
  readonly limits: readonly string[];
  /** Reads headers, and a bounded part of the tables; throws only errors of reading: damage becomes a warning. */
  inspect?(storage: Storage): Io<Inspection>;
  /** Opens an image. */
  open(storage: Storage, parameters: OpenParameters): Io<ToolImage>;
  /**
   * The space that an image would take. `parameters.size` and the options are as for `create`; `bitmaps` are those that would be copied, if the source
   * can have any. Throws `refused`, naming the option.
   */
  measure?(parameters: CreateParameters & { readonly bitmaps?: readonly BitmapInfo[] }): Io<Measurement>;
  /** Writes an empty image into an empty storage. */
  create?(storage: Storage, parameters: CreateParameters): Io<void>;
}
