/** The page between the command and what measures: it hands a group to a worker of its own, or measures it itself. */
import { browserGroups } from './groups/browser.ts';
import { type Found, measureGroup, type Request } from './measuring.ts';

type Answer = { progress: string } | { error: string } | { found: Found };

declare global {
  interface Window {
    /** Measures a group; tells the console what it is at. */
    runGroup(request: Request): Promise<Found>;
  }
}

window.runGroup = (request) =>
  browserGroups.find(({ name }) => name === request.group)?.where === 'worker'
    ? inWorker(request)
    : measureGroup(browserGroups, request, (text) => console.log(text));

function inWorker(request: Request): Promise<Found> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    worker.addEventListener('error', (event) => reject(new Error(event.message)));
    worker.addEventListener('message', ({ data }: MessageEvent<Answer>) => {
      if ('progress' in data) return console.log(data.progress);
      worker.terminate();
      if ('error' in data) reject(new Error(data.error));
      else resolve(data.found);
    });
    worker.postMessage(request);
  });
}
