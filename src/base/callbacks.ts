/**
 * Calling code of the embedder's: listeners and progress. What they throw is theirs, not a failure of the disk or job that called: it goes where
 * uncaught exceptions go, and the caller goes on with its own work.
 */

/** Calls back. What the listener throws is reported as uncaught: `window.onerror` and the console hear of it, or the process. */
export function callBack<A extends unknown[]>(listener: (...given: A) => unknown, ...given: A): void {
  try {
    listener(...given);
  } catch (error) {
    // In a later turn, where it can disturb nobody.
    setTimeout(() => {
      throw error;
    });
  }
}
