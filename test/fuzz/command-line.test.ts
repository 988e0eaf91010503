/**
 * Command lines by chance, for as long as a usual run has time (TABDISK_FUZZ_SECONDS, default 20), from a seed that is printed: TABDISK_SEED
 * repeats it. `npm run fuzz -- --arguments` goes on for longer, in processes that may hang.
 */
import { afterAll, expect, it } from 'vitest';
import { Playground } from './command-line.ts';

const SECONDS = Number(process.env['TABDISK_FUZZ_SECONDS'] ?? 20);
const SEED = Number(process.env['TABDISK_SEED'] ?? Math.floor(Math.random() * 2 ** 24));
/** Cases that once found something. */
const KNOWN = [50, 392];

const playground = await Playground.make();
afterAll(() => playground.remove());

it.each(KNOWN)('command line %i', async (number) => expect(await playground.runCase(number)).toBeUndefined());

it('command lines by chance', { timeout: SECONDS * 20_000 + 60_000 }, async () => {
  console.log(`TABDISK_SEED=${SEED} TABDISK_FUZZ_SECONDS=${SECONDS}`);
  const end = Date.now() + SECONDS * 1000;
  let cases = 0;
  for (; Date.now() < end; cases++) {
    const finding = await playground.runCase(SEED + cases);
    if (finding) throw new Error(`TABDISK_SEED=${finding.number}: ${JSON.stringify(finding.words)}: ${finding.what}`);
  }
  console.log(`${cases} command lines`);
  expect(cases).toBeGreaterThan(0);
});
