/** What it costs to ask an engine in another thread. */
import type { Group } from '../harness.ts';

export const workerChannel: Group = {
  name: 'worker channel',
  where: 'page',
  rows: [
    {
      id: 'channel-shared-4k',
      what: 'blocking client over SharedArrayBuffer, 4 KiB read hit',
      anchor: 'postMessage round trip',
      target: 0.3,
      notBuilt: 'blocking client over SharedArrayBuffer',
    },
  ],
  async measure() {},
};
