/**
 * Web Locks: one per image, held for as long as the image is open for writing, made or deleted; and held by several at a time, shared, for as
 * long as they rely on an image that nobody may change. The browser frees the locks of a tab
 * or worker that ends, however it ends; so a lock that can be had means that nobody is at the image.
 */
import { DiskError } from '../base/errors.ts';

/** A lock that is ours. `release` resolves when others can have it. */
export interface HeldLock {
  release(): Promise<void>;
}

/**
 * Takes a lock. Waits up to `patience` milliseconds for whoever has it (a page that was reloaded lets go a little late); then
 * resolves to `undefined`. Throws `unsupported` where there are no Web Locks (insecure pages).
 */
export async function takeLock(name: string, patience: number, mode: LockMode = 'exclusive'): Promise<HeldLock | undefined> {
  if (!navigator.locks) throw new DiskError('unsupported', 'This page has no Web Locks: open it over https or from localhost');
  let release = (): void => undefined;
  let taken = (_lock: boolean): void => undefined;
  const answer = new Promise<boolean>((resolve) => {
    taken = resolve;
  });
  const options: LockOptions = { mode, ...(patience > 0 ? { signal: AbortSignal.timeout(patience) } : { ifAvailable: true }) };
  const over = navigator.locks.request(name, options, (lock) => {
    taken(lock !== null);
    if (!lock) return undefined;
    return new Promise<void>((resolve) => {
      release = resolve;
    });
  });
  over.catch(() => taken(false));
  if (!(await answer)) return undefined;
  return {
    async release() {
      release();
      await over;
    },
  };
}

/** The names of all locks that somebody holds, in any tab. */
export async function heldLocks(): Promise<Set<string>> {
  const { held = [] } = await navigator.locks.query();
  return new Set(held.map(({ name }) => name ?? ''));
}
