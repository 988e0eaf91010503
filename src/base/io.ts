/**
 * Coroutines. Inside tabdisk everything that can wait is a `function*` of type `Io<T>`, called under `yield*`. It yields a
 * promise only when the storage below really is asynchronous, so over synchronous storage the same code runs
 * start to end without a microtask. `runAsync` is the public promise API; `runSync` returns at once or throws `would-wait`.
 */
import { DiskError, mustBe } from './errors.ts';

/** A coroutine that yields promises and returns a `T`. */
// biome-ignore lint/suspicious/noExplicitAny: `next` receives the value that the yielded promise resolved to
export type Io<T> = Generator<PromiseLike<unknown>, T, any>;

/** Waits for a promise: the only place a value comes in from outside. Throws what the promise rejects with. */
export function* wait<T>(promise: PromiseLike<T>): Io<T> {
  return (yield promise) as T;
}

/** A coroutine that has ended: for a verb whose work was done when it was called. */
export const finished: Io<void> = (function* (): Io<void> {})();
finished.next();

function requireCoroutine(where: string, io: unknown): void {
  if (!(io as { next?: unknown } | undefined)?.next) throw mustBe(where, 'io', 'a coroutine, such as a verb of a Storage gives');
}

/** How many `runSync` are on the stack. */
let blocking = 0;

/** Whether the running coroutine may wait: not under `runSync`. For waits that are useful but not needed: the code goes on without them. */
export const mayWait = (): boolean => blocking === 0;

/** Runs a coroutine, awaiting each promise it yields. */
export function runAsync<T>(io: Io<T>): Promise<T> {
  let step: IteratorResult<PromiseLike<unknown>, T>;
  try {
    requireCoroutine('runAsync', io);
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
  // The verb did its work when it was called. So nothing is left to run, and nothing need be made for it.
  if ((io as Io<unknown>) === finished) return undefined as T;
  requireCoroutine('runSync', io);
  blocking++;
  try {
    const step = io.next();
    if (step.done) return step.value;
    // The abandoned promise may reject later; no code waits for it any more.
    Promise.resolve(step.value).catch(() => undefined);
    const error = new DiskError('would-wait', 'The storage below is asynchronous: use the promise form of this call.');
    let next = io.throw(error);
    while (!next.done) next = io.throw(error);
    return next.value;
  } finally {
    blocking--;
  }
}

/** A coroutine that goes on by itself. */
export interface Task<T> {
  /** Waits for the task's end: returns its result or throws its error. May be called any number of times, or never. */
  join(): Io<T>;
}

/** Starts a coroutine. It runs until it has to wait, and goes on by itself from there. */
export function begin<T>(io: Io<T>): Task<T> {
  let end: (() => T) | undefined;
  const returned = (value: T): void => {
    end = () => value;
  };
  const failed = (error: unknown): void => {
    end = () => {
      throw error;
    };
  };
  let waiting: Promise<void> | undefined;
  try {
    const step = io.next();
    if (step.done) returned(step.value);
    else waiting = resume(io, step.value).then(returned, failed);
  } catch (error) {
    failed(error);
  }
  return {
    *join() {
      if (!end && waiting) yield* wait(waiting);
      return (end as () => T)();
    },
  };
}

/** Runs several coroutines; those that wait do so at the same time. The first failure is thrown after all have settled. */
export function* together<T>(ios: readonly Io<T>[]): Io<T[]> {
  const results: T[] = [];
  let failure: { error: unknown } | undefined;
  for (const task of ios.map((io) => begin(io))) {
    try {
      results.push(yield* task.join());
    } catch (error) {
      failure ??= { error };
    }
  }
  if (failure) throw failure.error;
  return results;
}
