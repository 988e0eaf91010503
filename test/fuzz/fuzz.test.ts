/**
 * Fuzzing in a usual run: the same cases every time (TABDISK_FUZZ_CASES, default 2,500), and every image that ever found something. `npm
 * run fuzz` goes on from there.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { Random } from '../random.ts';
import { runBytes, runCase } from './case.ts';
import { makePool } from './pool.ts';

const cases = Number(process.env.TABDISK_FUZZ_CASES ?? 2_500);
const fixtures = join(import.meta.dirname, 'fixtures');

it(`${cases} damaged images: nothing but DiskErrors, in bounded time and memory`, { timeout: 3_600_000 }, async () => {
  const pool = await makePool();
  for (let number = 0; number < cases; number++) {
    const finding = await runCase(pool, number);
    if (finding) throw new Error(`case ${number} (${finding.image}): ${finding.what}; repeat it with: npm run fuzz -- --from ${number} --cases 1`);
  }
});

describe('images that once found something', () => {
  const names = readdirSync(fixtures).filter((name) => name.endsWith('.gz'));
  it('are kept', () => expect(names.length).toBeGreaterThan(0));

  it.each(names)('%s', async (name) => {
    const bytes = new Uint8Array(gunzipSync(readFileSync(join(fixtures, name))));
    for (let seed = 1; seed <= 5; seed++) expect(await runBytes(bytes, name.split('.').at(-2) as string, new Random(seed))).toBeUndefined();
  });
});
