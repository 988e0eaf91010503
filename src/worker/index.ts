/**
 * The script of the engine's worker, `tabdisk/worker`. The page starts it with
 * `new Worker(new URL(…), { type: 'module' })` and hands the worker to `connectEngine`. The engine starts it again for workers that compress.
 *
 * WebKit evaluates the first module of a worker a second time as soon as another module imports it, and bundlers let files that are loaded on
 * demand import from the file that loads them. So this module has nothing that could be shared: the whole engine is loaded on demand. Earlier messages
 * are kept, and given in their order to the first listener.
 */
import type { Port } from './outbox.ts';

type Scope = Port & { readonly name?: string; removeEventListener: Port['addEventListener'] };

const scope = globalThis as unknown as Scope;
const early: MessageEvent[] = [];
const keep = (event: MessageEvent): void => void early.push(event);
scope.addEventListener('message', keep);
import('./start.ts').then(
  ({ start }) => {
    scope.removeEventListener('message', keep);
    start({
      ...(scope.name === undefined ? {} : { name: scope.name }),
      postMessage: (message, transfer) => scope.postMessage(message, transfer),
      addEventListener: (type, listener) => {
        scope.addEventListener(type, listener);
        if (type === 'message') for (const event of early.splice(0)) listener(event);
      },
    });
  },
  (error: unknown) => {
    scope.removeEventListener('message', keep);
    scope.addEventListener('message', refuse);
    for (const event of early.splice(0)) refuse(event);
    // Thrown outside a promise, so that the page is told by the worker's `error` event.
    setTimeout(() => {
      throw error;
    });
  },
);

/** The answer to every call if the engine's file cannot be loaded (as `loadPart` in base/load-part.ts has it). */
function refuse({ data }: MessageEvent): void {
  const message = 'The engine could not be loaded: look at the network, and load the page anew, there may be a newer version of it';
  if (typeof data?.id === 'number') scope.postMessage({ type: 'error', id: data.id, error: { kind: 'io', field: 'module', message } }, []);
}
