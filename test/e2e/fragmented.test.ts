/** Checking and mapping an image of 1 TiB whose clusters lie all over it, in the page: both show how far they have come, and are called off without a failure. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDisk } from '../../src/index.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Random } from '../random.ts';
import { openTab, type Visit, visit } from './browser.ts';

const TiB = 2 ** 40;
const CLUSTER = 4096;
/** So many that even a quick machine is at it for a while. */
const CLUSTERS = 10_000;

let browser: Visit;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-fragmented-'));
  browser = await visit();
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

test('a check and a map that take long show how far they are, can be called off, and begun anew', async () => {
  const path = join(folder, 'fragmented.qcow2');
  const disk = await createDisk(nodeFileStorage(path, { create: 'must-not-exist' }), { format: 'qcow2', size: TiB, clusterSize: CLUSTER });
  const random = new Random(11);
  for (let i = 0; i < CLUSTERS; i++) await disk.write(random.between(0, TiB / CLUSTER - 1) * CLUSTER, new Uint8Array(CLUSTER).fill(1 + (i % 255)));
  await disk.close();
  const page = await browser.tab();
  await page.getByTestId('import-input').setInputFiles(path);
  await page.getByTestId('image-title').getByText('fragmented').waitFor();

  await page.getByTestId('check').click();
  await page.getByTestId('check-cancel').click();
  await page.getByTestId('check-result').getByText('called off').waitFor();
  expect(await page.getByTestId('check-looking').isVisible()).toBe(false);

  await openTab(page, 'map');
  await page.getByTestId('map-cancel').click();
  await page.getByTestId('map-readout').getByText('not read to its end').waitFor();
  await page.getByTestId('map-refresh').click();
  await page.getByTestId('map-progress').waitFor();
  await page.getByTestId('map-totals').getByText('unallocated').waitFor();
  expect(await page.getByTestId('map-looking').isVisible()).toBe(false);

  expect(await page.getByTestId('message-error').count()).toBe(0);
  await page.close();
  expect(browser.complaints.splice(0)).toEqual([]);
});
