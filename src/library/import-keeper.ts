/** The library's side of an import of a file that may hold several images. */
import type { ImageEntry } from './entries.ts';
import type { Place } from './image-record.ts';
import type { ImportKeeper } from './import.ts';
import type { Scratch } from './scratch.ts';

/** The library's services to such an import. */
export interface UnwrapKeeper extends ImportKeeper {
  scratch(place: Place): Promise<Scratch>;
  list(): Promise<readonly ImageEntry[]>;
  delete(id: string): Promise<void>;
}
