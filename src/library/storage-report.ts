/** The browser's report about its storage, and the features it lacks. Any call may be missing, or throw: on insecure pages, in private windows. */
import { locksReachTabs } from '../storage/image-lock.ts';
import type { Lack, StorageReport } from './entries.ts';
import type { Place } from './image-record.ts';

/** The part of the quota above which the storage counts as nearly full. */
const NEARLY_FULL = 0.9;

/** The report, with the library's own facts: its places, whether it is short of room, whether it can reach other tabs. Never rejects. */
export async function storageReport(
  places: readonly Place[],
  { short, tabsHear }: { readonly short: boolean; readonly tabsHear: boolean },
): Promise<StorageReport> {
  const [estimate, persisted, reach] = await Promise.all([
    unlessMissing(() => navigator.storage.estimate()),
    unlessMissing(() => navigator.storage.persisted()),
    locksReachTabs(),
  ]);
  const { usage, quota } = estimate ?? {};
  const lacks: Lack[] = (['opfs', 'indexeddb'] as const).filter((place) => !places.includes(place));
  if (!reach) lacks.push('web-locks');
  if (!tabsHear) lacks.push('broadcast-channel');
  return {
    ...(usage === undefined ? {} : { usage }),
    ...(quota === undefined ? {} : { quota }),
    nearlyFull: short || (usage !== undefined && quota !== undefined && usage >= quota * NEARLY_FULL),
    persisted: persisted ?? false,
    places,
    lacks,
  };
}

async function unlessMissing<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch {
    return undefined;
  }
}
