/** The library's side of an import. */
import type { Storage } from '../storage/storage.ts';
import type { ImageEntry } from './entries.ts';
import type { ImageFormat, ImageRecord, Place } from './image-record.ts';
import type { MadeImage } from './import.ts';
import type { ChainKeeper } from './overlays.ts';
import type { Scratch } from './scratch.ts';

/** Fills the storage of a new image and closes it. It may find another format than was wished. */
export type Fill = (storage: Storage) => Promise<MadeImage & { readonly format?: ImageFormat }>;

/** The library's services to an import. */
export interface ImportKeeper extends ChainKeeper {
  /** The place that the caller wants, or the usual one. */
  choose(wanted: Place | undefined): Place;
  /** Makes an image that appears in the list when `fill` is done. */
  make(wish: Pick<ImageRecord, 'name' | 'format' | 'place'>, fill: Fill): Promise<ImageEntry>;
  scratch(place: Place): Promise<Scratch>;
  list(): Promise<readonly ImageEntry[]>;
  delete(id: string): Promise<void>;
}
