/**
 * The script of the engine's worker, `tabdisk/worker`. The page starts it with
 * `new Worker(new URL(…), { type: 'module' })` and hands the worker to `connectEngine`. The engine starts it again for workers that compress.
 *
 * WebKit evaluates the first module of a worker a second time as soon as another module imports it, and bundlers let files that are loaded on
 * demand import from the one that loads them. So this module has nothing that could be shared: all the engine is loaded on demand. Messages that come
 * before it is there are kept, and given to it in their order.
 */
import type { Port } from './outbox.ts';

const scope = globalThis as unknown as Port & { readonly name?: string };
const early: MessageEvent[] = [];
scope.onmessage = (event) => early.push(event);
import('./start.ts').then(
  ({ start }) => {
    start(scope);
    for (const event of early) scope.onmessage?.(event);
  },
  // Thrown outside a promise, so that the page hears of it by the worker's `error` event.
  (error: unknown) =>
    setTimeout(() => {
      throw error;
    }),
);
