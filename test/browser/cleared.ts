/** Clearing the site's data as a user does it, through the browser's own debugging protocol, while images are open. */
import { cdp } from 'vitest/browser';
import type { Place } from '../../src/index.ts';

/** Milliseconds, a little more than a look of opfs-presence.ts counts for: a flush after that looks itself. */
const LOOK_COUNTS = 30;

/** Clears OPFS, IndexedDB, or both. The page goes on, and so do its workers. */
export async function clearSite(...places: Place[]): Promise<void> {
  const storageTypes = places.map((place) => (place === 'opfs' ? 'file_systems' : 'indexeddb')).join(',');
  await cdp().send('Storage.clearDataForOrigin', { origin: location.origin, storageTypes });
  await new Promise((resolve) => setTimeout(resolve, LOOK_COUNTS));
}

/** What a promise comes to, or that it hangs. */
export async function outcome<T>(promise: Promise<T>, milliseconds = 60_000): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer after ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
