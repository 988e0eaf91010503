/**
 * The last turn of a page, for code that keeps data in it. Messages and requests sent in that turn get no answer, but they arrive. A worker gets no such
 * event: it ends in the middle of its work.
 */

/** Calls back with true when the page is left, with false if it comes back after all. Returns a function that stops it. */
export function onPageEnd(listener: (ends: boolean) => void): () => void {
  if (typeof document === 'undefined' || typeof globalThis.addEventListener !== 'function') return () => undefined;
  let ended = false;
  const hide = (): void => {
    ended = true;
    listener(true);
  };
  // Also called when a page is shown first.
  const show = (): void => {
    if (ended) listener(false);
    ended = false;
  };
  globalThis.addEventListener('pagehide', hide);
  globalThis.addEventListener('pageshow', show);
  return () => {
    globalThis.removeEventListener('pagehide', hide);
    globalThis.removeEventListener('pageshow', show);
  };
}
