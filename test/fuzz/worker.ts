/** A fuzzing process: runs the cases it is told to and reports each, so that the parent sees which one hangs. */

import { runCase } from './case.ts';
import { makePool } from './pool.ts';

const pool = await makePool();
process.on('message', async ({ from, to, format }: { from: number; to: number; format?: string }) => {
  const seeds = pool.filter((seed) => format === undefined || seed.format === format);
  for (let number = from; number < to; number++) {
    process.send?.({ kind: 'begin', number });
    const finding = await runCase(seeds, number);
    if (finding) process.send?.({ kind: 'finding', ...finding, bytes: Buffer.from(finding.bytes).toString('base64') });
  }
  process.send?.({ kind: 'done', to });
});
process.on('disconnect', () => process.exit());
process.send?.({ kind: 'ready' });
