/** The page between the command and what measures: it hands a group to a worker of its own, or measures it itself. */
import { browserGroups } from './groups/browser.ts';
import { type Found, measureGroup, type Request } from './measuring.ts';

type Answer = { progress: string } | { error: string } | { found: Found };

declare global {
  interface Window {
    /** Measures a group; tells the console what it is at. A profiler wants the worker to stay when it has measured. */
    runGroup(request: Request, options?: { readonly keepWorker?: boolean }): Promise<Found>;
  }
}

window.runGroup = (request, { keepWorker = false } = {}) =>
  browserGroups.find(({ name }) => name === request.group)?.where === 'worker'
    ? inWorker(request, keepWorker)
    : measureGroup(browserGroups, request, (text) => console.log(text));

function inWorker(request: Request, keepWorker: boolean): Promise<Found> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    worker.addEventListener('error', (event) => reject(new Error(event.message)));
    worker.addEventListener('message', ({ data }: MessageEvent<Answer>) => {
      if ('progress' in data) return console.log(data.progress);
      if (!keepWorker) worker.terminate();
      if ('error' in data) reject(new Error(data.error));
      else resolve(data.found);
    });
    worker.postMessage(request);
  });
}
