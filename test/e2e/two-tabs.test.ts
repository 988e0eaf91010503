/**
 * An image in IndexedDB and two real tabs that open it without a library: one writer at a time, whatever becomes of its tab; and a page without Web Locks,
 * which browsers give to secure pages only.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium, type Page } from 'playwright-core';
import { build, preview } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CHROMIUM_FLAGS, requireChromium } from '../chromium.ts';

const HOST = 'insecure.test';
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-two-tabs-'));
let context: BrowserContext;
let port: number;
let stop: () => Promise<void>;

beforeAll(async () => {
  const settings = { configFile: false, root: join(import.meta.dirname, 'storage-page'), base: './', logLevel: 'error' } as const;
  const outDir = join(folder, 'page');
  await build({ ...settings, build: { outDir, emptyOutDir: true, target: 'es2022' } });
  const server = await preview({ ...settings, build: { outDir }, preview: { port: 0, host: '127.0.0.1', allowedHosts: [HOST] } });
  port = Number(new URL(server.resolvedUrls?.local[0] ?? '').port);
  context = await chromium.launchPersistentContext(join(folder, 'profile'), {
    executablePath: requireChromium(),
    headless: true,
    args: [...CHROMIUM_FLAGS, `--host-resolver-rules=MAP ${HOST} 127.0.0.1`],
  });
  stop = async () => {
    await context.close();
    await server.close();
  };
});

afterAll(async () => {
  await stop?.();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

async function tab(host = '127.0.0.1'): Promise<Page> {
  const page = await context.newPage();
  await page.goto(`http://${host}:${port}/`);
  await page.waitForFunction(() => 'storages' in window);
  return page;
}

const open = (page: Page, options: { takeOver?: boolean; readOnly?: boolean } = {}) => page.evaluate((given) => window.storages.open(given), options);

test('the second tab is refused, also while the first one writes; what ends the first frees the image at once', async () => {
  const one = await tab();
  const two = await tab();
  expect(await one.evaluate(() => window.storages.create())).toBe('done');
  expect(await open(two)).toBe('locked');
  expect(await one.evaluate(() => window.storages.write(1))).toBe('done');
  expect(await one.evaluate(() => window.storages.flush())).toBe('done');
  expect(await open(two, { readOnly: true })).toBe('done');
  expect(await two.evaluate(() => window.storages.read())).toBe(1);
  expect(await two.evaluate(() => window.storages.close())).toBe('done');
  // Closed by name.
  expect(await one.evaluate(() => window.storages.close())).toBe('done');
  expect(await open(two)).toBe('done');
  expect(await open(one)).toBe('locked');
  // A tab that is closed without a word.
  await two.close();
  expect(await open(one)).toBe('done');
  // A tab that is reloaded has it again at once, and again.
  for (let i = 0; i < 3; i++) {
    await one.reload();
    await one.waitForFunction(() => 'storages' in window);
    expect(await open(one)).toBe('done');
  }
  // A tab that crashes.
  const other = await tab();
  expect(await open(other)).toBe('locked');
  await one.goto('chrome://crash').catch(() => undefined);
  expect(await open(other)).toBe('done');
  expect(await other.evaluate(() => window.storages.close())).toBe('done');
  await other.close();
});

test('taken over by name, the first tab hears of it at once and saves nothing more', async () => {
  const one = await tab();
  const two = await tab();
  expect(await open(one)).toBe('done');
  expect(await one.evaluate(() => window.storages.write(2))).toBe('done');
  expect(await one.evaluate(() => window.storages.flush())).toBe('done');
  expect(await one.evaluate(() => window.storages.write(3))).toBe('done');
  expect(await open(two, { takeOver: true })).toBe('done');
  await expect.poll(() => one.evaluate(() => window.storages.lost())).toBe('lost');
  for (const verb of ['flush', 'close'] as const) {
    // What was not saved is still to be had for a copy, until it is closed.
    if (verb === 'flush') expect(await one.evaluate(() => window.storages.read())).toBe(3);
    expect(await one.evaluate((name) => window.storages[name](), verb)).toBe('lost');
  }
  expect(await two.evaluate(() => window.storages.read())).toBe(2);
  expect(await two.evaluate(() => window.storages.write(4))).toBe('done');
  expect(await two.evaluate(() => window.storages.flush())).toBe('done');
  expect(await open(one)).toBe('locked');
  expect(await two.evaluate(() => window.storages.close())).toBe('done');
  expect(await open(one)).toBe('done');
  expect(await one.evaluate(() => window.storages.read())).toBe(4);
  await one.close();
  await two.close();
});

test('without Web Locks images open all the same, and the one before learns at its next request that it has lost its own', async () => {
  const one = await tab(HOST);
  const two = await tab(HOST);
  expect(await one.evaluate(() => window.storages.secure())).toBe(false);
  expect(await one.evaluate(() => window.storages.create())).toBe('done');
  expect(await one.evaluate(() => window.storages.write(5))).toBe('done');
  expect(await one.evaluate(() => window.storages.flush())).toBe('done');
  expect(await open(two)).toBe('done');
  expect(await two.evaluate(() => window.storages.read())).toBe(5);
  expect(await one.evaluate(() => window.storages.write(6))).toBe('done');
  expect(await one.evaluate(() => window.storages.flush())).toBe('lost');
  expect(await two.evaluate(() => window.storages.write(7))).toBe('done');
  expect(await two.evaluate(() => window.storages.close())).toBe('done');
  await one.close();
  await two.close();
});
