/**
 * Calling code of the embedder's: listeners and progress. An error that they throw is theirs, not a failure of the disk or job that called: the error goes
 * where uncaught exceptions go, and the caller goes on with its own work.
 */

/** Calls back. An error that the listener throws is reported as uncaught: to `window.onerror` and the console, or to the process. */
export function callBack<A extends unknown[]>(listener: (...given: A) => unknown, ...given: A): void {
  try {
    listener(...given);
  } catch (error) {
    // In a later turn, where the error disturbs no other code.
    setTimeout(() => {
      throw error;
    });
  }
}
