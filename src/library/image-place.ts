/** A place where images are kept, whichever store is behind it. */
import type { Storage } from '../storage/storage.ts';

/** Where the bytes of images are, by image id. Whoever makes, writes or removes one holds its lock, which has the storages' own name (`imageLockName`). */
export interface ImagePlace {
  /** A new, empty storage. */
  create(id: string): Promise<Storage>;
  /** For the holder of the image's lock. `grows`: its end of file means nothing, so that it may have a reserve. `direct`: without a block cache. */
  open(id: string, options: { readOnly: boolean; grows?: boolean; direct?: boolean }): Promise<Storage>;
  /** Read-only and without a lock: one state of the image. Reads fail once somebody has changed it. */
  view(id: string): Promise<Storage>;
  /** Read-only, for who has a lock that keeps others from changing it. */
  still(id: string): Promise<Storage>;
  /** Nothing happens if it is not there. */
  remove(id: string): Promise<void>;
  /** Bytes it takes; 0 if it is not there. */
  storedSize(id: string): Promise<number>;
  /** Ids of all images, half-made ones included. */
  ids(): Promise<string[]>;
}
