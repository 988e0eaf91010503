/** Waiting for work that may never end. */

/** The result of `work`, unless the signal is aborted first: then rejects with its reason. The work goes on, and its result is ignored. */
export function unless<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort);
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** Resolves to true once `work` has ended in any way; to false if `signal` was aborted and so many milliseconds have passed since. */
export async function settledWithin(work: Promise<unknown>, milliseconds: number, signal: AbortSignal): Promise<boolean> {
  const ended = work.then(
    () => true,
    () => true,
  );
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    const begin = (): void => {
      timer ??= setTimeout(() => resolve(false), milliseconds);
    };
    if (signal.aborted) begin();
    else signal.addEventListener('abort', begin, { once: true });
  });
  const result = await Promise.race([ended, late]);
  clearTimeout(timer);
  return result;
}
