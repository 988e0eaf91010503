/**
 * The data of the page's site is cleared while a machine runs: the page says so in one sentence and offers the export, which holds what the guest wrote; and
 * the page goes on.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bootDisk, bootSector } from '../boot-media.ts';
import { confirm, createImage, downloadOf, type Visit, visit } from './browser.ts';
import { bring, said, start, tell } from './program.ts';

let browser: Visit;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-cleared-'));
  browser = await visit();
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

test('what the machine wrote is exported after the site was cleared under it', async () => {
  const page = await browser.tab();
  await bring(page, 'precious', bootDisk('Ready', 16 * 2 ** 20));
  await start(page, 'Ready');
  await tell(page, 'w');
  await said(page, 'WRITTEN', 1);
  // Both are told at the same time.
  await page.getByTestId('run-written').getByText('512 B written').waitFor();
  await page.getByTestId('run-saved').getByText('all saved').waitFor();
  const session = await page.context().newCDPSession(page);
  await session.send('Storage.clearDataForOrigin', { origin: new URL(browser.address).origin, storageTypes: 'file_systems,indexeddb' });
  await page.getByTestId('message-request').getByText('precious is no longer in this browser').waitFor();
  const path = join(folder, 'precious.img');
  await downloadOf(page, 'message-deed', path);
  const bytes = readFileSync(path);
  expect(bytes.length).toBe(16 * 2 ** 20);
  expect(bytes.subarray(512, 1024).equals(bootSector('Ready'))).toBe(true);

  // The machine can be stopped, which gives the image up: all was saved before, so no further question is asked. The page makes new ones.
  await page.getByTestId('run-stop').click();
  await confirm(page);
  await page.getByTestId('images').getByText('precious').waitFor({ state: 'detached' });
  // There is nothing left to export.
  await page.getByTestId('message-request').waitFor({ state: 'detached' });
  await createImage(page, { name: 'next', size: '16M' });
});
