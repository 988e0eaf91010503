/**
 * Worker, tab and browser are killed at random moments of a write load, on OPFS and on IndexedDB. Whoever comes next gets the image
 * within two seconds, everything flushed is there, each sector is old or new, and the image has no corruption; leaks may be left. That the
 * browser does not throw all of IndexedDB away when it was killed is storage/indexed-db-renewal.ts's doing.
 * `TABDISK_KILLS` says how often each (100), `TABDISK_SEED` repeats the loads (not the moments of the kills).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Place } from '../../src/index.ts';
import { startChromium } from '../chromium.ts';
import { Random } from '../random.ts';
import { openPage, Reports, type Served, servePage, startVictim } from './browsers.ts';
import type { Finding } from './page.ts';
import { SECTORS, violations } from './plan.ts';

const KILLS = Number(process.env['TABDISK_KILLS'] ?? 100);
const SEED = Number(process.env['TABDISK_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
/** Milliseconds from a load's first operation to its end, at most. */
const LONGEST_LOAD = 300;
/** Milliseconds in which a lock that is left over must be had. */
const REOPENING_LIMIT = 2000;
/** Numbers of operations that a load has to itself. */
const NUMBERS = 100_000;

interface Load {
  readonly image: string;
  readonly seed: number;
  /** The number before its first operation. */
  readonly base: number;
  /** When it is killed: milliseconds after its first operation, or after it was sent to open the image. */
  readonly moment: { readonly after: 'first operation' | 'opening'; readonly milliseconds: number };
  readonly reports: Reports;
}

/** What is killed, and how one kill goes: `look` at the image comes after it. */
interface Death {
  /** A page to make images in, and to look at them after the end of a load. */
  watcher(): Promise<Page>;
  run(load: Load): Promise<void>;
  end(): Promise<void>;
}

let served: Served;
const figures: string[] = [];
const random = new Random(SEED);

beforeAll(async () => {
  console.log(`TABDISK_SEED=${SEED} TABDISK_KILLS=${KILLS}`);
  served = await servePage();
});

afterAll(async () => {
  await served?.close();
  console.log(figures.join('\n'));
});

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Starts the load and lets it run. A load that ends by itself has failed. */
async function runFor(page: Page, { image, seed, base, moment, reports }: Load): Promise<void> {
  let killed = false;
  const ended = page
    .evaluate(([id, number, first]) => window.kill.load(id, number, first), [image, seed, base] as const)
    .then(
      () => new Error('the load came to an end'),
      (error: Error) => (killed ? undefined : error),
    );
  const reached = moment.after === 'opening' ? pause(moment.milliseconds) : reports.started.then(() => pause(moment.milliseconds));
  const failure = await Promise.race([ended, reached]);
  killed = true;
  if (failure instanceof Error) throw failure;
}

/** One browser for all; loads run in the watcher's own page, or in a tab of their own. */
async function inOneBrowser(way: 'worker' | 'tab'): Promise<Death> {
  const browser = await startChromium();
  const context: BrowserContext = browser.context;
  let reports = new Reports(0);
  const newTab = async () => openPage(await context.newPage(), served.address, () => reports);
  const watcher = await newTab();
  return {
    watcher: async () => watcher,
    async run(load) {
      reports = load.reports;
      if (way === 'worker') {
        await runFor(watcher, load);
        await watcher.evaluate(() => window.kill.terminate());
      } else {
        const tab = await newTab();
        await runFor(tab, load);
        await tab.close();
      }
    },
    end: () => browser.close(),
  };
}

/** A browser for each load, on one profile. */
async function inManyBrowsers(): Promise<Death> {
  const profile = mkdtempSync(join(tmpdir(), 'tabdisk-kill-profile-'));
  let victim = await startVictim(profile);
  let page: Page | undefined;
  let reports = new Reports(0);
  const open = async () => openPage(await victim.newPage(), served.address, () => reports);
  return {
    watcher: async () => {
      page ??= await open();
      return page;
    },
    async run(load) {
      reports = load.reports;
      const tab = await open();
      await runFor(tab, load);
      await victim.kill();
      victim = await startVictim(profile);
      page = undefined;
    },
    async end() {
      await victim.kill();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function killAll(name: string, place: Place, death: Death): Promise<void> {
  let longest = 0;
  let operations = 0;
  let flushes = 0;
  const leaks: number[] = [];
  try {
    const image = await (await death.watcher()).evaluate((where) => window.kill.create(where), place);
    let contents: readonly number[] = new Array<number>(SECTORS).fill(0);
    // Loads that never come far enough prove nothing: some end before their first flush, by chance, and then more are killed.
    for (let round = 0; round < KILLS || (flushes <= KILLS / 5 && round < 4 * KILLS); round++) {
      const seed = SEED + round;
      const base = round * NUMBERS;
      const reports = new Reports(base);
      const moment: Load['moment'] = random.chance(0.1)
        ? { after: 'opening', milliseconds: random.between(0, 100) }
        : { after: 'first operation', milliseconds: random.between(0, LONGEST_LOAD) };
      await death.run({ image, seed, base, moment, reports });
      const repair = round % 10 === 9;
      const found: Finding = await (await death.watcher()).evaluate(([id, fix]) => window.kill.look(id, { repair: fix }), [image, repair] as const);
      const where = `TABDISK_SEED=${SEED}, round ${round}, killed ${moment.milliseconds} ms after ${moment.after}, flushed up to ${reports.flushed - base} of ${reports.begun - base}`;
      expect(violations(contents, { seed, base, ...reports }, found.stamps), where).toEqual([]);
      expect(found, where).toMatchObject({ corruptions: 0, checkErrors: 0 });
      expect(found.reopening, where).toBeLessThan(REOPENING_LIMIT);
      contents = found.stamps;
      longest = Math.max(longest, found.reopening);
      operations += reports.begun - base;
      if (reports.flushed > base) flushes++;
      leaks.push(found.leaks);
    }
  } finally {
    await death.end();
  }
  const leaky = leaks.filter((count) => count > 0).length;
  figures.push(
    `${name} on ${place}: ${leaks.length} kills, ${operations} operations, ${flushes} after a flush, longest reopening ${Math.round(longest)} ms, ` +
      `leaks after ${leaky} (at most ${Math.max(...leaks)} clusters)`,
  );
  expect(flushes, name).toBeGreaterThan(KILLS / 5);
}

for (const place of ['opfs', 'indexeddb'] as const) {
  test(`${KILLS} workers are terminated while they write: ${place}`, async () => killAll('worker terminated', place, await inOneBrowser('worker')));
  test(`${KILLS} tabs are closed while they write: ${place}`, async () => killAll('tab closed', place, await inOneBrowser('tab')));
  test(`${KILLS} browsers are killed while they write: ${place}`, async () => killAll('browser killed', place, await inManyBrowsers()));
}
