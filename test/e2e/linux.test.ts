/**
 * One Linux machine from its start to its end, since a start takes long: each test goes on with the machine of the one before. CDs and floppies are exchanged while the
 * guest runs: it reads the new one, what it wrote to a floppy stays there, and the page counts what it asks of each drive. It restarts. A second tab
 * asks for its disk; the first lets go only when its user says so, and nothing is lost.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { Random } from '../random.ts';
import { choose, confirm, createImage, enabled, exportTo, openTab, type Visit, visit } from './browser.ts';
import { boot, run, started } from './guest.ts';

let browser: Visit;
let page: Page;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-linux-'));
  browser = await visit();
  page = await browser.tab();
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

afterEach(() => {
  expect(browser.complaints.splice(0)).toEqual([]);
});

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
});

test('a restart keeps what was written', async () => {
  await page.getByTestId('run-reset').click();
  await confirm(page);
  await started(page, 2);
  expect(await run(page, 'head -c 4 /dev/sda')).toContain('kept');
});

test('the disk of a running machine is handed over when its user agrees', async () => {
  const two = await browser.tab(new URL(page.url()).hash);
  await two.getByTestId('in-use').getByText('in use in another tab').waitFor();
  await page.bringToFront();
  await run(page, 'echo handed over | dd of=/dev/sda bs=4k conv=sync,notrunc,fsync');
  await two.bringToFront();
  await two.getByTestId('ask-release').click();
  await two.getByTestId('asked').getByText('has been asked').waitFor();

  await page.bringToFront();
  const request = page.getByTestId('message-request');
  await request.getByText('Another tab asks for system').waitFor();
  // Nothing happens by itself, and asking twice is one request.
  await two.getByTestId('ask-release').click();
  await run(page, 'echo still here | dd of=/dev/sda bs=4k seek=1 conv=sync,notrunc,fsync');
  expect(await request.count()).toBe(1);
  expect(await page.getByTestId('run-state').textContent()).toBe('Running');
  expect(await two.getByTestId('tabs').isVisible()).toBe(false);

  await page.getByTestId('message-deed').click();
  await page.getByTestId('message-success').getByText('system is free for the other tab').waitFor();
  expect(await request.count()).toBe(0);
  await two.bringToFront();
  await two.getByTestId('ask-release').waitFor({ state: 'detached' });
  await openTab(two, 'run');
  await expect.poll(() => enabled(two, 'run-start')).toBe(true);
  await openTab(two, 'overview');
  await two.getByTestId('check').click();
  await two.getByTestId('check-result').getByText('No errors were found on the image.').waitFor();
  const exported = join(folder, 'system.img');
  await exportTo(two, 'raw', exported);
  const bytes = readFileSync(exported);
  expect(bytes.subarray(0, 12).toString()).toBe('handed over\n');
  expect(bytes.subarray(4096, 4107).toString()).toBe('still here\n');
});
