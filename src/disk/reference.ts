/** A file that an image names, and the caller's function that opens it. */
import type { FileRequest } from '../formats/driver.ts';
import type { Storage } from '../storage/storage.ts';

/** A file that an image asks for. Names and identity are as stored in the image: untrusted text. */
export interface Reference extends FileRequest {
  /** True if the storage must take writes; see `OpenOptions.writableBacking`. */
  readonly writable?: true;
  /** True if the storage is to be made, or emptied: a further file of a new image. */
  readonly create?: true;
  /** Name of the storage of the image that names the file. */
  readonly from: string;
}

/** The result for a reference: a storage, with its format if the image does not say it. */
export type Resolved = Storage | { readonly storage: Storage; readonly format?: string };

/** Opens the file that an image names, or throws. */
export type Resolve = (reference: Reference) => Resolved | PromiseLike<Resolved>;
