/**
 * A page is reloaded, left or closed as soon as its adapter has saved by itself what its guest wrote, in real Chromium: the next page finds it, with the
 * engine in a worker or on the page's thread, on both stores. Of a guest that writes on and on, everything is kept that was saved meanwhile.
 * `TABDISK_RELOADS` says how often each (3).
 */
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OwnBrowser, startChromium } from '../chromium.ts';
import { type Served, servePage } from '../kill/browsers.ts';
import type { Where } from './reload/page.ts';

const TIMES = Number(process.env['TABDISK_RELOADS'] ?? 3);
const WHERE: readonly Where[] = ['page, IndexedDB', 'worker, IndexedDB', 'worker, OPFS'];
/** Milliseconds in which what a guest wrote is saved while it writes on, however busy the machine: two saves, and the longest rests before them. */
const LAG = 30_000;

let served: Served;
let browser: OwnBrowser;
/** The next stamp, for all tests. */
let next = 1;

beforeAll(async () => {
  served = await servePage(join(import.meta.dirname, 'reload'));
  browser = await startChromium();
});

afterAll(async () => {
  await browser?.close();
  await served?.close();
});

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function visit(page: Page, where: Where): Promise<Page> {
  await page.goto(served.address);
  return opened(page, where);
}

async function opened(page: Page, where: Where): Promise<Page> {
  await page.waitForFunction(() => 'trial' in window);
  await page.evaluate((place) => window.trial.open(place), where);
  return page;
}

/** Ways to leave a page; each resolves to a page that has the disk open again. */
const WAYS: Readonly<Record<string, (page: Page, where: Where) => Promise<Page>>> = {
  'is reloaded': async (page, where) => {
    await page.reload();
    return opened(page, where);
  },
  'goes to another address': async (page, where) => {
    await page.goto('about:blank');
    return visit(page, where);
  },
  'is closed': async (page, where) => {
    await page.close();
    return visit(await browser.context.newPage(), where);
  },
  'is closed as a user does it': async (page, where) => {
    const gone = new Promise((resolve) => page.once('close', resolve));
    await page.close({ runBeforeUnload: true });
    await gone;
    return visit(await browser.context.newPage(), where);
  },
};

/** Writes a stamp, leaves at once or when it is saved, and looks for it; `TIMES` times. Returns how often it was there. */
async function survivors(where: Where, way: string, { when }: { when: 'at once' | 'saved' }): Promise<number> {
  let page = await visit(await browser.context.newPage(), where);
  let kept = 0;
  const took: number[] = [];
  for (let time = 0; time < TIMES; time++) {
    const number = next++;
    if (when === 'at once') await page.evaluate(() => window.trial.running());
    await page.evaluate((first) => window.trial.write(first), number);
    if (when === 'saved') took.push(await page.evaluate(() => window.trial.saved()));
    page = (await WAYS[way]?.(page, where)) as Page;
    const missing = await page.evaluate((one) => window.trial.missing(one, one), number);
    if (missing.length === 0) kept++;
    expect(await page.evaluate(() => window.trial.check())).toMatchObject({ corruptions: 0, checkErrors: 0 });
  }
  await page.evaluate(() => window.trial.close());
  await page.close();
  const saves = took.map((milliseconds) => `${Math.round(milliseconds)} ms`).join(', ');
  console.log(`${where}: the page ${way} after a write ${when === 'saved' ? `that was saved in ${saves}` : 'just now'}: ${kept} of ${TIMES} kept`);
  return kept;
}

describe.each(WHERE)('%s: what was saved', (where) => {
  it.each(Object.keys(WAYS))('the page %s is kept', async (way) => {
    expect(await survivors(where, way, { when: 'saved' })).toBe(TIMES);
  });

  it('a guest that writes on and on is reloaded is kept', async () => {
    let page = await visit(await browser.context.newPage(), where);
    let kept = 0;
    for (let time = 0; time < TIMES; time++) {
      const first = next;
      await page.evaluate((from) => window.trial.writeOn(from), first);
      await pause(300);
      const last = await page.evaluate(() => window.trial.written());
      await page.evaluate(
        (limit) =>
          Promise.race([
            window.trial.overtaken(),
            new Promise((_, reject) => setTimeout(() => reject(new Error(`not saved in ${limit} ms`)), limit)),
          ]),
        LAG,
      );
      next = (await page.evaluate(() => window.trial.written())) + 1000;
      await page.reload();
      page = await opened(page, where);
      if ((await page.evaluate(([from, to]) => window.trial.missing(from, to), [first, last] as const)).length === 0) kept++;
      expect(await page.evaluate(() => window.trial.check())).toMatchObject({ corruptions: 0, checkErrors: 0 });
    }
    await page.evaluate(() => window.trial.close());
    await page.close();
    console.log(`${where}: the page of a guest that writes on is reloaded: ${kept} of ${TIMES} kept`);
    expect(kept).toBe(TIMES);
  });
});

describe.each(WHERE.slice(1))('%s: what was saved', (where) => {
  it('the worker is terminated is kept', async () => {
    let page = await visit(await browser.context.newPage(), where);
    let kept = 0;
    for (let time = 0; time < TIMES; time++) {
      const number = next++;
      await page.evaluate((first) => window.trial.write(first), number);
      await page.evaluate(() => window.trial.saved());
      await page.evaluate(() => window.trial.terminate());
      page = await visit(page, where);
      if ((await page.evaluate((one) => window.trial.missing(one, one), number)).length === 0) kept++;
    }
    await page.close();
    console.log(`${where}: the worker is terminated: ${kept} of ${TIMES} kept`);
    expect(kept).toBe(TIMES);
  });
});

describe('page, IndexedDB: what was written just now', () => {
  it('before the page is reloaded is kept nearly always, and the image is whole', async () => {
    // The next page may look before the last words of this one have arrived.
    expect(await survivors('page, IndexedDB', 'is reloaded', { when: 'at once' })).toBeGreaterThanOrEqual(0.6 * TIMES);
  });
});
