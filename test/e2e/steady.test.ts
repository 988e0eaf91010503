/** What the user has stays: the focus after every action, the rows of the lists and their icons, what was filled in; and figures follow what is done. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { choose, createImage, fill, openTab, type Visit, visit } from './browser.ts';
import { damagedImage, pick } from './states.ts';

let browser: Visit;
let folder: string;
let page: Page;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-steady-'));
  browser = await visit({ motion: true });
  page = await browser.tab();
});

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

afterEach(() => {
  expect(browser.complaints.splice(0)).toEqual([]);
});

const focused = (): Promise<string | undefined> =>
  page.evaluate(() => (document.activeElement as HTMLElement | null)?.dataset['testid'] ?? document.activeElement?.localName);

/** Presses a control by the keyboard. */
async function press(testId: string, key = 'Enter'): Promise<void> {
  await page.getByTestId(testId).first().waitFor();
  // A control that is busy yet takes no focus.
  await expect.poll(() => page.getByTestId(testId).first().isEnabled(), { timeout: 10_000 }).toBe(true);
  await page.getByTestId(testId).first().focus();
  await page.keyboard.press(key);
}

/** Says yes by the keyboard, and waits until the question has gone. */
async function goAhead(): Promise<void> {
  await press('confirm-deed');
  await page.getByTestId('confirm').waitFor({ state: 'detached' });
}

/** The focus comes to one of these, and stays there. */
async function focusIsOn(...testIds: string[]): Promise<void> {
  await expect.poll(focused, { timeout: 10_000 }).toBeOneOf(testIds);
  await page.waitForTimeout(100);
  expect(testIds).toContain(await focused());
}

test('after every action the focus is on what was pressed, or on what took its place', async () => {
  await press('empty-create');
  await page.getByTestId('create-name').locator('input:focus').waitFor();
  await page.keyboard.press('Escape');
  await page.getByTestId('create-dialog').waitFor({ state: 'detached' });
  await focusIsOn('empty-create');
  await createImage(page, { name: 'one', size: '1.44M' });
  await createImage(page, { name: 'two', size: '64M' });
  await focusIsOn('create');
  await press('check');
  await page.getByTestId('check-result').getByText('No errors').waitFor();
  await focusIsOn('check');
  await press('rename');
  await page.getByTestId('prompt-input').locator('input:focus').waitFor();
  await page.keyboard.type('zwei');
  await page.keyboard.press('Enter');
  await page.getByTestId('image-title').getByText('zwei', { exact: true }).waitFor();
  await focusIsOn('rename');
  await press('overlay');
  await press('prompt-deed');
  await page.getByTestId('image-title').getByText('zwei overlay', { exact: true }).waitFor();
  // The view is another's; the focus goes to a control of it.
  await expect.poll(focused).not.toBe('body');
  await press('stream');
  await page.getByTestId('message-success').getByText('zwei overlay stands alone').waitFor();
  await expect.poll(focused).not.toBe('body');
  await press('message-dismiss');
  await expect.poll(focused).not.toBe('body');
  await openTab(page, 'snapshots');
  for (const name of ['snapshot 1', 'snapshot 2', 'snapshot 3']) {
    await expect.poll(() => page.getByTestId('snapshot-name').locator('input').inputValue()).toBe(name);
    await press('snapshot-take');
    await page.getByTestId('snapshot-row').getByText(name, { exact: true }).waitFor();
    await focusIsOn('snapshot-take');
  }
  await press('snapshot-revert');
  await goAhead();
  await page.getByTestId('message-success').getByText('back at snapshot 1').waitFor();
  await focusIsOn('snapshot-revert');
  for (const left of [2, 1, 0]) {
    await press('snapshot-delete');
    await goAhead();
    await expect.poll(() => page.getByTestId('snapshot-row').count()).toBe(left);
    await expect.poll(focused).not.toBe('body');
    if (left > 0) await focusIsOn('snapshot-delete');
  }
  await openTab(page, 'map');
  await press('map-refresh');
  await focusIsOn('map-refresh');
  await press('theme');
  await focusIsOn('theme');
  for (const name of ['zwei overlay', 'zwei', 'one']) {
    await pick(page, name);
    await press('delete');
    await goAhead();
    await page.locator('.image-name').getByText(name, { exact: true }).waitFor({ state: 'detached' });
    await expect.poll(focused).not.toBe('body');
  }
});

test('a name that is taken is not suggested, and what the user typed is not replaced', async () => {
  await createImage(page, { name: 'snapped', size: '64M' });
  await openTab(page, 'snapshots');
  const suggested = (): Promise<string> => page.getByTestId('snapshot-name').locator('input').inputValue();
  await fill(page, 'snapshot-name', 'snapshot 2');
  await page.getByTestId('snapshot-take').click();
  await expect.poll(suggested).toBe('snapshot 3');
  await fill(page, 'snapshot-name', 'mine');
  // The first tab's suggestion is taken by another tab.
  const other = await browser.tab();
  await pick(other, 'snapped');
  await openTab(other, 'snapshots');
  await expect.poll(() => other.getByTestId('snapshot-name').locator('input').inputValue()).toBe('snapshot 3');
  await page.getByTestId('snapshot-take').click();
  await page.getByTestId('snapshot-row').getByText('mine', { exact: true }).waitFor();
  await expect.poll(suggested).toBe('snapshot 3');
  await other.close();
  await fill(page, 'snapshot-name', '  ');
  await page.getByTestId('snapshot-take').click();
  await page.getByTestId('snapshot-problem').getByText('Give the snapshot a name').waitFor();
  expect(await page.getByTestId('snapshot-row').count()).toBe(2);
});

test('rows and their icons are kept when the list is read anew, and its sizes follow what is done', async () => {
  const row = page.locator('.image').filter({ hasText: 'snapped' });
  const before = await row.locator('.image-facts').textContent();
  const there = await page.evaluate(() => {
    const nodes = [...document.querySelectorAll('.image, .image .icon, [data-testid=snapshot-row]')];
    for (const node of nodes) (node as Element & { kept?: boolean }).kept = true;
    return nodes.length;
  });
  await fill(page, 'snapshot-name', 'more');
  await page.getByTestId('snapshot-take').click();
  await page.getByTestId('snapshot-row').getByText('more', { exact: true }).waitFor();
  await expect.poll(() => row.locator('.image-facts').textContent(), { timeout: 10_000 }).not.toBe(before);
  // Drawings of another file come a moment late whenever an icon is made.
  const elsewhere = await page.evaluate(() => [...document.querySelectorAll('.icon use')].map((use) => use.getAttribute('href') ?? ''));
  expect(elsewhere.length).toBeGreaterThan(10);
  expect(elsewhere.filter((address) => !address.startsWith('#'))).toEqual([]);
  const kept = await page.evaluate(() => {
    const nodes = [...document.querySelectorAll('.image, .image .icon, [data-testid=snapshot-row]')];
    return nodes.filter((node) => (node as Element & { kept?: boolean }).kept).length;
  });
  expect(kept).toBe(there);
});

test('a form that was filled in is given up only if the user says so', async () => {
  await page.getByTestId('create').click();
  await page.getByTestId('create-name').locator('input:focus').waitFor();
  await fill(page, 'create-name', 'long thought about');
  // A press beside the dialog, one left of its ×, and one on it.
  const cross = await page.locator('wa-dialog').locator('[part~=close-button]').boundingBox();
  if (cross === null) throw new Error('The dialog has no ×');
  await page.mouse.click(5, 5);
  await page.mouse.click(cross.x - 140, cross.y + cross.height / 2);
  expect(await page.getByTestId('confirm').count()).toBe(0);
  expect(await page.getByTestId('create-name').locator('input').inputValue()).toBe('long thought about');
  await page.mouse.click(cross.x + cross.width / 2, cross.y + cross.height / 2);
  await page.getByTestId('confirm-cancel').click();
  await page.getByTestId('confirm').waitFor({ state: 'detached' });
  expect(await page.getByTestId('create-name').locator('input').inputValue()).toBe('long thought about');
  // Whoever goes on is in the form again.
  await expect.poll(() => page.evaluate(() => document.activeElement?.closest('wa-dialog') !== null)).toBe(true);
  await page.keyboard.press('Escape');
  await page.getByTestId('confirm-deed').click();
  await page.getByTestId('create-dialog').waitFor({ state: 'detached' });
  await focusIsOn('create');
  expect(await page.locator('.image-name').allTextContents()).not.toContain('long thought about');
});

test('the arrow keys go from tab to tab of the image, with the focus', async () => {
  const tabs = ['overview', 'snapshots', 'geometry', 'map', 'run'] as const;
  const open = (): Promise<string | null> => page.getByTestId('tabs').getAttribute('active');
  const expectOpen = async (name: string): Promise<void> => {
    await focusIsOn(`tab-${name}`);
    expect(await open()).toBe(name);
    expect(await page.locator('wa-tab-panel:visible').count()).toBe(1);
    expect(await page.locator(`wa-tab-panel[name=${name}]`).isVisible()).toBe(true);
  };
  await openTab(page, 'overview');
  await page.getByTestId('tab-overview').focus();
  for (const [key, names] of [
    ['ArrowRight', [...tabs.slice(1), 'overview']],
    ['ArrowLeft', [...tabs].reverse()],
    ['End', ['run']],
    ['Home', ['overview']],
  ] as const)
    for (const name of names) {
      await page.keyboard.press(key);
      await expectOpen(name);
    }
});

/** A dialog of the page: what opens it, which may be an item of a menu. */
interface Opening {
  readonly image: string;
  readonly tab?: 'overview' | 'snapshots';
  readonly opener: string;
  readonly item?: string;
  readonly dialog: 'create-dialog' | 'prompt' | 'confirm' | 'changes-dialog' | 'password-dialog';
}

const OPENINGS: readonly Opening[] = [
  { image: 'snapped', opener: 'create', dialog: 'create-dialog' },
  { image: 'snapped', opener: 'rename', dialog: 'prompt' },
  { image: 'snapped', opener: 'delete', dialog: 'confirm' },
  { image: 'snapped', tab: 'overview', opener: 'overlay', dialog: 'prompt' },
  { image: 'snapped', opener: 'export', item: 'export-changes', dialog: 'changes-dialog' },
  { image: 'snapped', tab: 'snapshots', opener: 'snapshot-revert', dialog: 'confirm' },
  { image: 'snapped', tab: 'snapshots', opener: 'snapshot-delete', dialog: 'confirm' },
  { image: 'damaged.qcow2', tab: 'overview', opener: 'repair', dialog: 'confirm' },
  { image: 'over it', tab: 'overview', opener: 'commit', dialog: 'confirm' },
  { image: 'secret', opener: 'export', item: 'export-raw', dialog: 'confirm' },
  { image: 'secret', opener: 'unlock', dialog: 'password-dialog' },
];

const WAYS = ['cancel', 'cross', 'Escape'] as const;

test('the focus is where it was after each dialog is called off, by its button, its × and Escape', async () => {
  await page.getByTestId('import-input').setInputFiles(damagedImage(folder));
  await page.getByTestId('image-title').getByText('damaged.qcow2').waitFor();
  await createImage(page, { name: 'below', size: '64M' });
  await openTab(page, 'overview');
  await press('overlay');
  await fill(page, 'prompt-input', 'over it');
  await page.keyboard.press('Enter');
  await page.getByTestId('image-title').getByText('over it', { exact: true }).waitFor();
  await press('create');
  await fill(page, 'create-name', 'secret');
  await choose(page, 'create-encryption', 'password');
  for (const field of ['create-password', 'create-password-again']) await fill(page, field, 'open sesame');
  await page.keyboard.press('Enter');
  await page.getByTestId('create-dialog').waitFor({ state: 'detached' });
  await focusIsOn('create');
  await press('lock');
  await page.getByTestId('unlock').waitFor();
  const done = new Set<string>();
  for (const [at, { image, tab, opener, item, dialog }] of OPENINGS.entries()) {
    if ((await page.getByTestId('image-title').textContent()) !== image) await pick(page, image);
    if (tab) await openTab(page, tab);
    if (opener === 'repair') await press('check');
    // All ways of the first of a kind, and one of each other.
    for (const way of done.has(dialog) ? WAYS.slice(at % WAYS.length).slice(0, 1) : WAYS) {
      await press(opener);
      if (item) await page.getByTestId(item).click();
      const shown = page.getByTestId(dialog);
      const cross = shown.locator('[part~=close-button]');
      await cross.waitFor();
      if (way === 'Escape') await page.keyboard.press('Escape');
      else if (way === 'cross') await cross.click();
      else await press(`${dialog.replace('-dialog', '')}-cancel`);
      await shown.waitFor({ state: 'detached' });
      await focusIsOn(opener);
    }
    done.add(dialog);
  }
  // A question that nothing on the page was pressed for.
  await page.getByTestId('import').focus();
  await page.getByTestId('import-input').setInputFiles({ name: 'unknown.img', mimeType: '', buffer: Buffer.alloc(70_000, 0x91) });
  await press('confirm-cancel');
  await page.getByTestId('confirm').waitFor({ state: 'detached' });
  await focusIsOn('import');
});

test('an image that another tab deletes is said to be gone', async () => {
  const other = await browser.tab();
  await pick(other, 'snapped');
  await pick(page, 'snapped');
  await other.getByTestId('delete').click();
  await other.getByTestId('confirm-deed').click();
  await page.getByTestId('image-gone').waitFor();
  await other.getByTestId('empty').waitFor();
  expect(await other.getByTestId('image-gone').isVisible()).toBe(false);
  await other.close();
});
