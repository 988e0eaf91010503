/** What is shown belongs to the image that is chosen, however late the engine answers about the one before. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { choose, createImage, fill, openTab, type Visit, visit } from './browser.ts';
import { slowEngine } from './slow-engine.ts';
import { damagedImage, pick } from './states.ts';

const FIRST = 'first.qcow2';
const SECOND = 'second';
let browser: Visit;
let folder: string;
let page: Page;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-bound-'));
  browser = await visit({ motion: true });
  page = await browser.tab();
  await slowEngine(page);
  await page.reload();
  const path = damagedImage(folder, FIRST);
  execFileSync('qemu-img', ['snapshot', '-c', 'of the first', path]);
  await page.getByTestId('import-input').setInputFiles(path);
  await page.getByTestId('image-title').getByText(FIRST).waitFor();
  await createImage(page, { name: SECOND, size: '64M' });
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  await pick(page, FIRST);
  await openTab(page, 'overview');
  await page.getByTestId('fact-size').getByText('10,485,760').waitFor();
});

/** Begins something about the first image, chooses the second, which the engine answers for, and only then lets it answer for the first. */
async function leaveBefore(deed: () => Promise<void>, other = SECOND): Promise<void> {
  await page.evaluate(() => window.engineCalls.hold());
  await deed();
  await page.evaluate(() => window.engineCalls.pass());
  await pick(page, other);
  await page.evaluate(() => window.engineCalls.quiet());
  await page.evaluate(() => window.engineCalls.letGo());
  await page.evaluate(() => window.engineCalls.quiet());
}

/** All that the engine was asked before has been answered. */
async function settled(): Promise<void> {
  await openTab(page, 'geometry');
  await page.getByTestId('geometry-sectors').getByText('131,072').waitFor();
}

test('the verdict of a check, and the offer to repair', async () => {
  await leaveBefore(() => page.getByTestId('check').click());
  await page.getByTestId('fact-size').getByText('67,108,864').waitFor();
  await settled();
  await openTab(page, 'overview');
  expect(await page.getByTestId('check-result').textContent()).toBe('');
  expect(await page.getByTestId('repair').isVisible()).toBe(false);
});

test.each([
  { tab: 'snapshots', late: '[data-testid=snapshot-row]', own: 'There is none yet' },
  { tab: 'geometry', late: 'text=20,480 of 512', own: '131,072 of 512' },
  { tab: 'map', late: '[aria-label*="first.qcow2"]', own: '64 MiB' },
] as const)('the tab $tab', async ({ tab, late, own }) => {
  await leaveBefore(() => openTab(page, tab));
  expect(await page.locator(late).count()).toBe(0);
  await page.getByTestId('image-view').getByText(own, { exact: false }).first().waitFor();
  await settled();
  await openTab(page, tab);
  expect(await page.locator(late).count()).toBe(0);
});

test('a snapshot, which is taken all the same and said to be of its image', async () => {
  await openTab(page, 'snapshots');
  await page.getByTestId('snapshot-row').first().waitFor();
  await fill(page, 'snapshot-name', 'late');
  await leaveBefore(() => page.getByTestId('snapshot-take').click());
  await page.getByTestId('message-success').getByText(`${FIRST}: Snapshot late is taken`).waitFor();
  expect(await page.getByTestId('snapshot-row').count()).toBe(0);
});

test('the name of the next snapshot, typed while one is taken, stays', async () => {
  await openTab(page, 'snapshots');
  await page.getByTestId('snapshot-row').first().waitFor();
  await fill(page, 'snapshot-name', 'this one');
  await page.evaluate(() => window.engineCalls.hold());
  await page.getByTestId('snapshot-take').click();
  await fill(page, 'snapshot-name', 'the next');
  await page.evaluate(() => window.engineCalls.letGo());
  await page.getByTestId('message-success').getByText('Snapshot this one is taken').waitFor();
  await page.getByTestId('snapshot-row').getByText('this one', { exact: true }).waitFor();
  await page.evaluate(() => window.engineCalls.quiet());
  expect(await page.getByTestId('snapshot-name').locator('input').inputValue()).toBe('the next');
});

test('the form of an incremental export does not open over another image', async () => {
  await page.getByTestId('export').click();
  await leaveBefore(() => page.getByTestId('export-changes').click());
  await settled();
  expect(await page.locator('wa-dialog').count()).toBe(0);
});

test('an overlay is made, and the page stays where the user went', async () => {
  await page.getByTestId('overlay').click();
  await page.getByTestId('prompt-deed').waitFor();
  await leaveBefore(async () => {
    await page.getByTestId('prompt-deed').click();
    await page.getByTestId('prompt').waitFor({ state: 'detached' });
  });
  await page.locator('.image-name').getByText(`${FIRST} overlay`).waitFor();
  await settled();
  expect(await page.getByTestId('image-title').textContent()).toBe(SECOND);
  await pick(page, `${FIRST} overlay`);
  await page.getByTestId('delete').click();
  await page.getByTestId('confirm-deed').click();
  await page.locator('.image-name').getByText(`${FIRST} overlay`).waitFor({ state: 'detached' });
});

test('a question that is open when the image changes is called off', async () => {
  await pick(page, SECOND);
  await pick(page, FIRST);
  await page.getByTestId('delete').click();
  await page.getByTestId('confirm-deed').waitFor();
  await page.goBack();
  await page.getByTestId('confirm').waitFor({ state: 'detached' });
  await page.getByTestId('image-title').getByText(SECOND, { exact: true }).waitFor();
  expect(await page.locator('.image-name').allTextContents()).toContain(FIRST);
});

test('the question for a password does not come over another image, and comes again for its own', async () => {
  await page.getByTestId('create').click();
  await page.getByTestId('create-name').locator('input:focus').waitFor();
  await fill(page, 'create-name', 'private');
  await choose(page, 'create-encryption', 'password');
  for (const field of ['create-password', 'create-password-again']) await fill(page, field, 'open sesame');
  await page.getByTestId('create-deed').click();
  await page.getByTestId('create-dialog').waitFor({ state: 'detached' });
  await pick(page, SECOND);
  // Forgets the password.
  await page.reload();
  await page.getByTestId('fact-size').getByText('67,108,864').waitFor();
  await leaveBefore(() => page.locator('.image').filter({ hasText: 'private' }).click());
  await settled();
  expect(await page.locator('wa-dialog').count()).toBe(0);
  await page.locator('.image').filter({ hasText: 'private' }).click();
  await page.getByTestId('password-deed').waitFor();
  await page.getByTestId('password-cancel').click();
  await page.getByTestId('unlock').waitFor();
  expect(browser.complaints).toEqual([]);
});
