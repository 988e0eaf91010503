/**
 * The places where images are kept: files in OPFS, blocks in IndexedDB; memory where the browser gives neither (memory-place.ts). The same verbs for all; no
 * locks here.
 */

import { DiskError } from '../base/errors.ts';
import { MiB } from '../base/units.ts';
import { CacheStorage } from '../layers/cache.ts';
import { CacheMemory } from '../layers/cache-lines.ts';
import { blobStorage } from '../storage/blob.ts';
import { indexedDbStorage } from '../storage/indexed-db.ts';
import { deleteIndexedDbStorage, indexedDbNames, indexedDbSize, indexedDbWorks } from '../storage/indexed-db-blocks.ts';
import { deleteOpfsFile, opfsFile, opfsFileNames, opfsStorage, opfsView, opfsWorks } from '../storage/opfs.ts';
import type { ImagePlace } from './image-place.ts';
import type { Place } from './image-record.ts';
import { memoryPlace } from './memory-place.ts';

const ENDING = '.img';
/** Bytes by which an image in OPFS can still grow when guest writes are refused. */
const RESERVE = 2 * MiB;

/** Files in the directory `name` of OPFS. */
export function opfsPlace(name: string): ImagePlace {
  const path = (id: string) => `${name}/${id}${ENDING}`;
  const memory = new CacheMemory();
  return {
    create: (id) => opfsStorage(path(id), { create: 'must-not-exist' }),
    // A call to IndexedDB costs more than moving its bytes. IndexedDB storages keep blocks in memory by themselves.
    async open(id, { readOnly, grows = false, direct = false }) {
      const storage = await opfsStorage(path(id), { readOnly, reserve: grows ? RESERVE : 0 });
      return direct ? storage : new CacheStorage(storage, { memory });
    },
    async view(id) {
      // Chromium makes the old file unreadable after a write; other browsers may not: there the file's times show it.
      const { file, unchanged } = await opfsView(path(id));
      return blobStorage(file, { name: path(id), identity: `opfs:${path(id)}`, unchanged });
    },
    async still(id) {
      try {
        return await opfsStorage(path(id), { readOnly: true });
      } catch (error) {
        // Some browsers give out one handle at a time, whatever its mode. Reading it as a file is slower.
        if (!(error instanceof DiskError) || error.kind !== 'locked') throw error;
        return this.view(id);
      }
    },
    remove: (id) => deleteOpfsFile(path(id)),
    async storedSize(id) {
      try {
        return (await opfsFile(path(id))).size;
      } catch (error) {
        if (error instanceof DiskError && error.kind === 'not-found') return 0;
        throw error;
      }
    },
    async ids() {
      const names = await opfsFileNames(name);
      // Leftovers of a browser's own writer that was killed; our code never uses one.
      for (const left of names.filter((each) => each.endsWith('.crswap'))) await deleteOpfsFile(`${name}/${left}`);
      return names.filter((each) => each.endsWith(ENDING)).map((each) => each.slice(0, -ENDING.length));
    },
  };
}

/** Blocks in the IndexedDB database `database`. */
export function indexedDbPlace(database: string): ImagePlace {
  return {
    create: (id) => indexedDbStorage(id, { create: 'must-not-exist', database, mend: false, lockHeld: true }),
    open: (id, { readOnly }) => indexedDbStorage(id, { readOnly, database, mend: false, lockHeld: true }),
    view: (id) => indexedDbStorage(id, { readOnly: true, database }),
    still: (id) => indexedDbStorage(id, { readOnly: true, database }),
    remove: (id) => deleteIndexedDbStorage(id, { database, lockHeld: true }),
    storedSize: (id) => indexedDbSize(id, { database }),
    ids: () => indexedDbNames({ database }),
  };
}

/** The places that work in this browser and thread, the preferred one first. With `memoryIfBlocked`, memory where there is none. */
export async function availablePlaces(name: string, { memoryIfBlocked }: { memoryIfBlocked: boolean }): Promise<Map<Place, ImagePlace>> {
  const places = new Map<Place, ImagePlace>();
  if (await opfsWorks()) places.set('opfs', opfsPlace(name));
  if (await indexedDbWorks({ database: name })) places.set('indexeddb', indexedDbPlace(name));
  if (places.size === 0 && memoryIfBlocked) places.set('memory', memoryPlace());
  return places;
}

/** A place in words. */
export const placeName = (place: Place): string => ({ opfs: 'OPFS', indexeddb: 'IndexedDB', memory: 'memory' })[place];

/** The place of this name. Throws `unsupported` where the browser does not give it. */
export function requirePlace(places: ReadonlyMap<Place, ImagePlace>, place: Place): ImagePlace {
  const found = places.get(place);
  if (found) return found;
  throw new DiskError('unsupported', `Images cannot be kept in ${placeName(place)} in this browser or window`, { field: 'place' });
}
