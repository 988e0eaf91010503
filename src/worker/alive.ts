/**
 * Whether a worker is still there. Browsers tell nobody that a worker was ended or has crashed, and an `error` event tells something else: that code in it,
 * or in a worker below it, threw, after which it goes on. But a worker's Web Locks are freed when it ends, however it ends. So the engine holds one for
 * as long as it lives, and the page that waits for the same lock gets it at the engine's death and never before.
 */

/** A name for the lock that nobody else has. */
export const lifeLock = (): string => `tabdisk engine ${crypto.getRandomValues(new Uint32Array(4)).join('-')}`;

/**
 * Holds the lock until this worker ends. Resolves to whether it does, once it does: not where the browser has no Web Locks (on insecure pages) or refuses
 * them.
 */
export function holdForLife(name: string): Promise<boolean> {
  return new Promise((resolve) => {
    const hold = async (): Promise<void> =>
      navigator.locks.request(name, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock ? new Promise<never>(() => undefined) : undefined;
      });
    hold().catch(() => resolve(false));
  });
}

/** Calls back when the worker that holds the lock has ended. Returns a function that stops it. */
export function onDeath(name: string, died: () => void): () => void {
  const stop = new AbortController();
  const wait = async (): Promise<void> => navigator.locks.request(name, { signal: stop.signal }, died);
  // Where this page has no Web Locks nobody tells.
  wait().catch(() => undefined);
  return () => stop.abort();
}
