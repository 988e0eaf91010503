/** A place where images are kept, in either store. */
import type { Storage } from '../storage/storage.ts';

/** The images' bytes, by the names that `bytesOf` gives them, here called ids. Code that makes, writes or removes an image holds its lock, which has the storages' own name (`imageLockName`). */
export interface ImagePlace {
  /** A new, empty storage. */
  create(id: string): Promise<Storage>;
  /** For the holder of the image's lock. `grows`: its end of file has no meaning, so that it may have a reserve. `direct`: without a block cache. */
  open(id: string, options: { readOnly: boolean; grows?: boolean; direct?: boolean }): Promise<Storage>;
  /** Read-only and without a lock: one state of the image. Reads fail once the image has changed. */
  view(id: string): Promise<Storage>;
  /** Read-only, for the holder of a lock that keeps others from changing it. */
  still(id: string): Promise<Storage>;
  /** Nothing happens if it is not there. */
  remove(id: string): Promise<void>;
  /** Bytes it takes; 0 if it is not there. */
  storedSize(id: string): Promise<number>;
  /** Ids of all images, half-made ones included. */
  ids(): Promise<string[]>;
}
