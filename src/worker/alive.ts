/**
 * Whether a worker is still there. Browsers tell nobody that a worker was ended or has crashed, and an `error` event tells something else: that code in it,
 * or in a worker below it, threw, after which it goes on. But a worker's Web Locks are freed when it ends, however it ends. So the engine holds one for
 * as long as it lives, and the page that waits for the same lock gets it at the engine's death and never before.
 */

/**
 * Holds a lock that nobody else has until this worker ends. Resolves to its name, once it is held; to nothing where the browser has no Web Locks (on
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
    // Where this page has no Web Locks nobody tells.
  }
}
