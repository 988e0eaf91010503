/**
 * Coroutines. Inside tabdisk everything that can wait is a `function*` of type `Io<T>`, called under `yield*`. It yields a
 * promise only when the storage below really is asynchronous, so over synchronous storage the same code runs
 * start to end without a microtask. `runAsync` is the public promise API; `runSync` returns at once or throws `would-wait`.
 */
import { DiskError } from './errors.ts';

/** A coroutine that yields promises and returns a `T`. */
// biome-ignore lint/suspicious/noExplicitAny: what `next` receives is whatever the yielded promise resolved to
export type Io<T> = Generator<PromiseLike<unknown>, T, any>;

/** Waits for a promise: the only place a value comes in from outside. Throws what the promise rejects with. */
export function* wait<T>(promise: PromiseLike<T>): Io<T> {
  return (yield promise) as T;
}

/** A coroutine that has ended: for a verb whose work was done when it was called. */
export const finished: Io<void> = (function* (): Io<void> {})();
finished.next();

/** Runs a coroutine, awaiting each promise it yields. */
export function runAsync<T>(io: Io<T>): Promise<T> {
  let step: IteratorResult<PromiseLike<unknown>, T>;
  try {
    step = io.next();
  } catch (error) {
    return Promise.reject(error);
  }
  return step.done ? Promise.resolve(step.value) : resume(io, step.value);
}

async function resume<T>(io: Io<T>, first: PromiseLike<unknown>): Promise<T> {
  let promise = first;
  for (;;) {
    let value: unknown;
    let failure: { error: unknown } | undefined;
    try {
      value = await promise;
    } catch (error) {
      failure = { error };
    }
    const step = failure ? io.throw(failure.error) : io.next(value);
    if (step.done) return step.value;
    promise = step.value;
  }
}

/**
 * Runs a coroutine that must not wait. Throws `would-wait` if it does: the error is thrown into the coroutine first, so
 * that its `finally` blocks release what it holds.
 */
export function runSync<T>(io: Io<T>): T {
  const step = io.next();
  if (step.done) return step.value;
  // The abandoned promise may reject later; nobody is left to hear it.
  Promise.resolve(step.value).catch(() => undefined);
  const error = new DiskError('would-wait', 'The storage below is asynchronous: use the promise form of this call.');
  let next = io.throw(error);
  while (!next.done) next = io.throw(error);
  return next.value;
}

/** Runs several coroutines; those that wait do so at the same time. The first failure is thrown after all have settled. */
export function* together<T>(ios: readonly Io<T>[]): Io<T[]> {
  const results: T[] = new Array(ios.length);
  const waiting: Promise<void>[] = [];
  const failures: unknown[] = [];
  for (const [index, io] of ios.entries()) {
    try {
      const step = io.next();
      if (step.done) results[index] = step.value;
      else
        waiting.push(
          resume(io, step.value).then(
            (value) => {
              results[index] = value;
            },
            (error) => {
              failures.push(error);
            },
          ),
        );
    } catch (error) {
      failures.push(error);
    }
  }
  if (waiting.length > 0) yield* wait(Promise.all(waiting));
  if (failures.length > 0) throw failures[0];
  return results;
}
