/** A file that an image names, and the caller's function that opens it. */
import type { Storage } from '../storage/storage.ts';

/** What an image asks for by name. */
export interface Reference {
  /** What the file is to the image. */
  readonly kind: 'backing' | 'data';
  /** True if the storage must take writes; see `OpenOptions.writableBacking`. */
  readonly writable?: true;
  /** True if the storage is to be made, or emptied: the data file of a new image. */
  readonly create?: true;
  /** As stored in the image: untrusted text. That of a data file is a plain file name, whatever it looks like: no `json:`, no protocol. */
  readonly name: string;
  /** As stored in the image, if it is. */
  readonly format?: string;
  /** Name of the storage whose image asks. */
  readonly from: string;
}

/** What a reference resolves to: a storage, with its format where the image does not say. */
export type Resolved = Storage | { readonly storage: Storage; readonly format?: string };

/** Opens what an image names, or throws. */
export type Resolve = (reference: Reference) => Resolved | PromiseLike<Resolved>;
