/** A file that an image names, and the caller's function that opens it. */
import type { Storage } from '../storage/storage.ts';

/** A file that an image asks for by name. */
export interface Reference {
  /** The file's role in the image. */
  readonly kind: 'backing' | 'data';
  /** True if the storage must take writes; see `OpenOptions.writableBacking`. */
  readonly writable?: true;
  /** True if the storage is to be made, or emptied: the data file of a new image. */
  readonly create?: true;
  /** As stored in the image: untrusted text. The name of a data file is a plain file name, whatever it looks like: no `json:`, no protocol. */
  readonly name: string;
  /** As stored in the image, if it is there. */
  readonly format?: string;
  /** Name of the storage of the image that names the file. */
  readonly from: string;
}

/** The result for a reference: a storage, with its format if the image does not say it. */
export type Resolved = Storage | { readonly storage: Storage; readonly format?: string };

/** Opens the file that an image names, or throws. */
export type Resolve = (reference: Reference) => Resolved | PromiseLike<Resolved>;
