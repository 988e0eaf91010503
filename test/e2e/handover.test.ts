/** Two tabs of the page and one image: the second asks for it, the first lets go only when its user says so, and nothing is lost. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createImage, enabled, exportTo, openTab, type Visit, visit } from './browser.ts';
import { boot, run } from './guest.ts';

let browser: Visit;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-handover-'));
  browser = await visit();
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

test('an image with a running machine is handed over when its user agrees', async () => {
  const one = await browser.tab();
  await createImage(one, { name: 'wanted', size: '64M' });
  await boot(one);
  const two = await browser.tab(new URL(one.url()).hash);
  await two.getByTestId('in-use').getByText('in use in another tab').waitFor();
  await one.bringToFront();
  await run(one, 'echo handed over | dd of=/dev/sda bs=4k conv=sync,notrunc,fsync');
  await two.bringToFront();
  await two.getByTestId('ask-release').click();
  await two.getByTestId('asked').getByText('has been asked').waitFor();

  await one.bringToFront();
  const request = one.getByTestId('message-request');
  await request.getByText('Another tab asks for wanted').waitFor();
  // Nothing happens by itself, and asking twice is one request.
  await two.getByTestId('ask-release').click();
  await run(one, 'echo still here | dd of=/dev/sda bs=4k seek=1 conv=sync,notrunc,fsync');
  expect(await request.count()).toBe(1);
  expect(await one.getByTestId('run-state').textContent()).toBe('Running');
  expect(await two.getByTestId('tabs').isVisible()).toBe(false);

  await one.getByTestId('message-deed').click();
  await one.getByTestId('message-success').getByText('wanted is free for the other tab').waitFor();
  expect(await request.count()).toBe(0);
  await two.bringToFront();
  await two.getByTestId('ask-release').waitFor({ state: 'detached' });
  await openTab(two, 'run');
  await expect.poll(() => enabled(two, 'run-start')).toBe(true);
  await openTab(two, 'overview');
  await two.getByTestId('check').click();
  await two.getByTestId('check-result').getByText('No errors were found on the image.').waitFor();
  const exported = join(folder, 'wanted.img');
  await exportTo(two, 'raw', exported);
  const bytes = readFileSync(exported);
  expect(bytes.subarray(0, 12).toString()).toBe('handed over\n');
  expect(bytes.subarray(4096, 4107).toString()).toBe('still here\n');
  expect(browser.complaints).toEqual([]);
});
