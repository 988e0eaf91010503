/** Sweeping what tabs that died left half-made: images without a record that is ready, and temporary exports. */
import { DiskError } from '../base/errors.ts';
import { takeLock } from '../storage/image-lock.ts';
import type { Catalogue } from './catalogue.ts';
import type { ImagePlace } from './places.ts';

/** Removes what nobody is at and no list shows; images in `spared` stay. `lockName`: the name of an image's lock. */
export async function sweep(
  catalogue: Catalogue,
  places: readonly ImagePlace[],
  lockName: (id: string) => string,
  spared: ReadonlySet<string>,
): Promise<void> {
  const records = new Map((await catalogue.all()).map((record) => [record.id, record]));
  const leftovers = new Set<string>();
  for (const { id, state } of records.values()) if (state !== 'ready') leftovers.add(id);
  for (const place of places) for (const id of await place.ids()) if (!records.has(id) && !spared.has(id)) leftovers.add(id);
  for (const id of leftovers) {
    const lock = await takeLock(lockName(id), 0);
    if (!lock) continue;
    try {
      // It may have become ready between the look at the list and the lock.
      const record = await catalogue.find(id);
      if (record?.state === 'ready') continue;
      for (const place of places) await place.remove(id);
      await catalogue.remove(id);
    } catch (error) {
      // Somebody is at it who goes by another lock: the next sweep will do.
      if (!(error instanceof DiskError) || error.kind !== 'locked') throw error;
    } finally {
      await lock.release();
    }
  }
}
