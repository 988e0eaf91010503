/** The measuring side of the groups that need a dedicated worker, where OPFS has its synchronous handles. */
import { browserGroups } from './groups/browser.ts';
import { measureGroup, type Request } from './measuring.ts';

self.addEventListener('message', ({ data }: MessageEvent<Request>) => {
  measureGroup(browserGroups, data, (progress) => self.postMessage({ progress })).then(
    (found) => self.postMessage({ found }),
    (error: unknown) => self.postMessage({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
});
