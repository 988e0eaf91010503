/** A CD that is exchanged while the guest runs: the guest reads the new one, and the page counts what it asks of each drive. */
import { createHash } from 'node:crypto';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Random } from '../random.ts';
import { choose, createImage, type Visit, visit } from './browser.ts';
import { boot, run, stop } from './guest.ts';

let browser: Visit;
beforeAll(async () => {
  browser = await visit();
});
afterAll(() => browser?.close());

interface Cd {
  readonly id: string;
  readonly sum: string;
}

/** Imports a CD of random bytes. */
async function importCd(page: Page, name: string, sectors: number): Promise<Cd> {
  const buffer = Buffer.from(new Random(sectors).bytes(sectors * 2048));
  await page.getByTestId('import-input').setInputFiles({ name: `${name}.iso`, mimeType: '', buffer });
  const row = page.locator('[data-image]', { hasText: name });
  await row.waitFor();
  return { id: (await row.getAttribute('data-image')) ?? '', sum: createHash('sha256').update(buffer).digest('hex') };
}

const sumOfCd = async (page: Page): Promise<string> => /[0-9a-f]{64}/.exec(await run(page, 'sha256sum < /dev/sr0'))?.[0] ?? '';

test('a CD is exchanged while the guest runs', async () => {
  const page = await browser.tab();
  const first = await importCd(page, 'first', 150);
  const second = await importCd(page, 'second', 400);
  await createImage(page, { name: 'system', size: '64M' });
  await boot(page);
  // Empty at the start.
  expect(await run(page, 'cat /dev/sr0 > /dev/null 2>&1 || echo none')).toBe('none');
  await choose(page, 'run-change-cd', first.id);
  expect(await sumOfCd(page)).toBe(first.sum);
  await choose(page, 'run-change-cd', second.id);
  expect(await sumOfCd(page)).toBe(second.sum);
  const reads = page.getByTestId('run-drive-cdrom').locator('td').first();
  expect(await reads.textContent()).toMatch(/^[1-9][0-9,]* · .* each$/);
  await choose(page, 'run-change-cd', 'empty');
  expect(await run(page, 'cat /dev/sr0 > /dev/null 2>&1 || echo none')).toBe('none');
  await choose(page, 'run-change-cd', first.id);
  expect(await sumOfCd(page)).toBe(first.sum);
  await run(page, 'echo kept | dd of=/dev/sda bs=512 conv=sync,notrunc && sync');
  await page
    .getByTestId('run-drive-hda')
    .locator('td')
    .nth(1)
    .getByText(/^[1-9].* each$/)
    .waitFor();
  await stop(page);
  expect(browser.complaints).toEqual([]);
});
