/**
 * CDs and floppies that are exchanged while the guest runs: the guest reads the new one, what it wrote to a floppy stays there, and the page counts
 * what it asks of each drive.
 */
import { createHash } from 'node:crypto';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Random } from '../random.ts';
import { choose, confirm, createImage, type Visit, visit } from './browser.ts';
import { boot, run, stop } from './guest.ts';

let browser: Visit;
beforeAll(async () => {
  browser = await visit();
});
afterAll(() => browser?.close());

interface Medium {
  readonly id: string;
  readonly sum: string;
}

const FLOPPY = 1440 * 1024;
/** Bytes of a floppy that the guest adds up: an emulated drive is slow. */
const SUMMED = 64 * 1024;

/** Imports a medium of random bytes. */
async function importMedium(page: Page, name: string, size: number, summed = size): Promise<Medium> {
  const buffer = Buffer.from(new Random(name.length).bytes(size));
  await page.getByTestId('import-input').setInputFiles({ name, mimeType: '', buffer });
  await confirm(page);
  const row = page.locator('[data-image]', { hasText: name });
  await row.waitFor();
  return { id: (await row.getAttribute('data-image')) ?? '', sum: createHash('sha256').update(buffer.subarray(0, summed)).digest('hex') };
}

/** Puts an image into a drive, or none, and waits until the guest can see it. */
async function put(page: Page, slot: 'cdrom' | 'fda', image: string): Promise<void> {
  await choose(page, `run-change-${slot}`, image);
  await page.locator(`[data-testid=run-change-${slot}][data-inside="${image}"]`).waitFor();
}

const sumOfCd = async (page: Page): Promise<string> => /[0-9a-f]{64}/.exec(await run(page, 'sha256sum < /dev/sr0'))?.[0] ?? '';
const nothingIn = (page: Page, device: string): Promise<string> => run(page, `cat ${device} > /dev/null 2>&1 || echo none`);

/** Linux takes a floppy that was exchanged within seconds for one that is absent, and looks again after a while. */
const NOTICED = 'n=0; until head -c 1 /dev/fd0 > /dev/null 2>&1 || [ $n -ge 100 ]; do n=$((n+1)); sleep 1; done';

async function sumOfFloppy(page: Page): Promise<string> {
  return /[0-9a-f]{64}/.exec(await run(page, `${NOTICED}; head -c ${SUMMED} /dev/fd0 | sha256sum`))?.[0] ?? '';
}

async function floppies(page: Page, first: Medium, second: Medium): Promise<void> {
  expect(await nothingIn(page, '/dev/fd0')).toBe('none');
  await put(page, 'fda', first.id);
  expect(await sumOfFloppy(page)).toBe(first.sum);
  await run(page, 'echo was here | dd of=/dev/fd0 bs=512 seek=2000 conv=sync,notrunc,fsync');
  await put(page, 'fda', second.id);
  expect(await sumOfFloppy(page)).toBe(second.sum);
  await put(page, 'fda', 'empty');
  expect(await nothingIn(page, '/dev/fd0')).toBe('none');
  await put(page, 'fda', first.id);
  expect(await run(page, `${NOTICED}; dd if=/dev/fd0 bs=512 skip=2000 count=1 | head -c 8`)).toContain('was here');
  const reads = page.getByTestId('run-drive-fda').locator('td').first();
  expect(await reads.textContent()).toMatch(/^[1-9][0-9,]* · .* each$/);
}

test('CDs and floppies are exchanged while the guest runs', async () => {
  const page = await browser.tab();
  const first = await importMedium(page, 'first.iso', 150 * 2048);
  const second = await importMedium(page, 'second.iso', 400 * 2048);
  const floppy = await importMedium(page, 'floppy.img', FLOPPY, SUMMED);
  const other = await importMedium(page, 'other floppy.img', FLOPPY, SUMMED);
  await createImage(page, { name: 'system', size: '64M' });
  await boot(page);
  // Empty at the start.
  expect(await nothingIn(page, '/dev/sr0')).toBe('none');
  await put(page, 'cdrom', first.id);
  expect(await sumOfCd(page)).toBe(first.sum);
  await put(page, 'cdrom', second.id);
  expect(await sumOfCd(page)).toBe(second.sum);
  const reads = page.getByTestId('run-drive-cdrom').locator('td').first();
  expect(await reads.textContent()).toMatch(/^[1-9][0-9,]* · .* each$/);
  await put(page, 'cdrom', 'empty');
  expect(await nothingIn(page, '/dev/sr0')).toBe('none');
  await put(page, 'cdrom', first.id);
  expect(await sumOfCd(page)).toBe(first.sum);
  await floppies(page, floppy, other);
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
