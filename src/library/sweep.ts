/** Sweeping the half-made leftovers of tabs that died: images without a record that is ready, and temporary exports. */
import { DiskError } from '../base/errors.ts';
import { locksReachTabs, takeLock } from '../storage/image-lock.ts';
import type { Catalogue } from './catalogue.ts';
import type { ImagePlace } from './image-place.ts';
import { bytesOf, ownerOf, replacedAt } from './image-record.ts';
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
  for (const record of records.values()) if (record.state !== 'ready') leftovers.add(bytesOf(record));
  for (const place of places)
    for (const bytes of await place.ids()) {
      const owner = records.get(ownerOf(bytes));
      if (owner ? bytes !== bytesOf(owner) : !spared(ownerOf(bytes))) leftovers.add(bytes);
    }
  // If locks end at this tab, a free lock does not mean that no other tab uses the image.
  const unsure = !(await locksReachTabs());
  for (const bytes of leftovers) {
    const owner = records.get(ownerOf(bytes));
    const made = replacedAt(bytes) ?? (owner?.state === 'ready' ? owner.replaced : owner?.created) ?? scratchTime(bytes) ?? Date.now();
    if (unsure && Date.now() - made < OLD) continue;
    const lock = await takeLock(lockName(bytes), 0);
    if (!lock) continue;
    try {
      await removeLeftover(bytes, catalogue, places);
    } catch (error) {
      // It is in use under another lock, or there is no room for a second copy that names other bytes: the next sweep will remove it.
      if (!(error instanceof DiskError) || (error.kind !== 'locked' && error.kind !== 'no-space')) throw error;
    } finally {
      await lock.release();
    }
  }
}

/** The lock is held. What was found in the list may have changed before that. */
async function removeLeftover(bytes: string, catalogue: Catalogue, places: readonly ImagePlace[]): Promise<void> {
  const owner = await catalogue.find(ownerOf(bytes));
  if (owner?.state === 'ready') {
    if (bytes === bytesOf(owner)) return;
    const kept = await Promise.all(places.map((place) => place.ids()));
    const whole = kept.some((ids) => ids.includes(bytesOf(owner)));
    // The record may come from a second copy that was behind. Old bytes go only when the new ones are whole, so that bytes which are alone are whole too. Else the
    // second copy is written anew before they go: it may still name them.
    await catalogue.change(owner.id, whole ? {} : { replaced: replacedAt(bytes) });
    if (!whole) return;
  }
  for (const place of places) await place.remove(bytes);
  if (owner && owner.state !== 'ready' && bytes === bytesOf(owner)) await catalogue.remove(owner.id);
}
