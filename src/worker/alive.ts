/**
 * Whether a worker still runs. Browsers do not report that a worker was ended or has crashed, and an `error` event means something else: code in it,
 * or in a worker below it, threw, after which the worker goes on. But a worker's Web Locks are freed when it ends, in any way. So the engine holds one for
 * as long as it lives, and the page that waits for the same lock gets it at the engine's end and never before.
 */

/**
 * Holds a unique lock until this worker ends. Resolves to its name, once it is held; to undefined if the browser has no Web Locks (on
 * insecure pages) or refuses them.
 */
export function holdForLife(): Promise<string | undefined> {
  const name = `tabdisk engine ${crypto.getRandomValues(new Uint32Array(4)).join('-')}`;
  return new Promise((resolve) => {
    const hold = async (): Promise<void> =>
      navigator.locks.request(name, { ifAvailable: true }, (lock) => {
        resolve(lock ? name : undefined);
        return lock ? new Promise<never>(() => undefined) : undefined;
      });
    hold().catch(() => resolve(undefined));
  });
}

/** Calls back when the worker that holds the lock has ended, unless the signal fires before. */
export async function onDeath(name: string, died: () => void, signal: AbortSignal): Promise<void> {
  try {
    await navigator.locks.request(name, { signal }, died);
  } catch {
    // If this page has no Web Locks, the worker's end is not reported.
  }
}
