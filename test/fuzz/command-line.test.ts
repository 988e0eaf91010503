/**
 * Command lines by chance, for as long as a usual run has time (TABDISK_FUZZ_SECONDS, default 5), from a seed that is printed: TABDISK_SEED
 * repeats it. `npm run fuzz -- --arguments` goes on for longer, in processes that may hang.
 */
import { afterAll, expect, it } from 'vitest';
import { Playground } from './command-line.ts';

const SECONDS = Number(process.env['TABDISK_FUZZ_SECONDS'] ?? 5);
const SEED = Number(process.env['TABDISK_SEED'] ?? Math.floor(Math.random() * 2 ** 24));
/** Command lines that once found something. */
const KNOWN = [
  ['convert', 'snap.qcow2', '--salvage', 'a\0b'],
  ['info', 'folder'],
  ['info', 'a\0b'],
  ['info', 'json:{"driver":"raw","file":{"driver":"file","filename":"a\\u0000b"}}'],
  ['resize', '/proc/self/mem', '1M'],
  ['dd', 'if=s.qcow2', 'of=pipe'],
  ['io', '-c', 'write -s /dev/zero 0 1k', 'a.raw'],
  ['--object', 'secret,id=s,file=/dev/zero'],
  ['info', '--object', 'secret,id=s,file=/dev/zero', 'a.raw'],
  ['-T', 'events=folder'],
  ['-T', 'events=/dev/zero'],
];

const playground = await Playground.make();
afterAll(() => playground.remove());

it.each(KNOWN.map((words) => [JSON.stringify(words), words] as const))('%s', async (_shown, words) =>
  expect(await playground.runLine(words)).toBeUndefined(),
);

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
