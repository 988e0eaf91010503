/** Sweeping the half-made leftovers of tabs that died: images without a record that is ready, and temporary exports. */
import { DiskError } from '../base/errors.ts';
import { locksReachTabs, takeLock } from '../storage/image-lock.ts';
import type { Catalogue } from './catalogue.ts';
import type { ImagePlace } from './image-place.ts';
import { scratchTime } from './scratch.ts';

/** Milliseconds after which no tab can still be making an image, where locks do not tell. */
const OLD = 24 * 60 * 60 * 1000;

/** Removes images that are not in use and not in the list; images that are `spared` stay. `lockName`: the name of an image's lock. */
export async function sweep(
  catalogue: Catalogue,
  places: readonly ImagePlace[],
  { lockName, spared }: { readonly lockName: (id: string) => string; readonly spared: (id: string) => boolean },
): Promise<void> {
  const records = new Map((await catalogue.all()).map((record) => [record.id, record]));
  const leftovers = new Set<string>();
  for (const { id, state } of records.values()) if (state !== 'ready') leftovers.add(id);
  for (const place of places) for (const id of await place.ids()) if (!records.has(id) && !spared(id)) leftovers.add(id);
  // If locks end at this tab, a free lock does not mean that no other tab uses the image.
  const unsure = !(await locksReachTabs());
  for (const id of leftovers) {
    const made = records.get(id)?.created ?? scratchTime(id) ?? Date.now();
    if (unsure && Date.now() - made < OLD) continue;
    const lock = await takeLock(lockName(id), 0);
    if (!lock) continue;
    try {
      // It may have become ready between the look at the list and the lock.
      const record = await catalogue.find(id);
      if (record?.state === 'ready') continue;
      for (const place of places) await place.remove(id);
      await catalogue.remove(id);
    } catch (error) {
      // It is in use under another lock: the next sweep will remove it.
      if (!(error instanceof DiskError) || error.kind !== 'locked') throw error;
    } finally {
      await lock.release();
    }
  }
}
