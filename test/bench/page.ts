/** The page between the command and the worker: OPFS's synchronous handles exist in dedicated workers only. */
import type { BenchOptions, Measured } from './cases.ts';

type Answer = { progress: string } | { error: string } | { results: Measured[] };

declare global {
  interface Window {
    /** Runs the cases; tells the console what it is at. */
    runBench(options: BenchOptions): Promise<Measured[]>;
  }
}

window.runBench = (options) =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    worker.addEventListener('error', (event) => reject(new Error(event.message)));
    worker.addEventListener('message', ({ data }: MessageEvent<Answer>) => {
      if ('progress' in data) console.log(data.progress);
      else if ('error' in data) reject(new Error(data.error));
      else resolve(data.results);
    });
    worker.postMessage(options);
  });
