/** What the user has stays: the focus after every action, the rows of the lists and their icons, what was filled in; and figures follow what is done. */
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createImage, fill, openTab, type Visit, visit } from './browser.ts';
import { pick } from './states.ts';

let browser: Visit;
let page: Page;

beforeAll(async () => {
  browser = await visit();
  page = await browser.tab();
});

afterAll(async () => {
  await browser?.close();
});

afterEach(() => {
  expect(browser.complaints.splice(0)).toEqual([]);
});

const focused = (): Promise<string | undefined> =>
  page.evaluate(() => (document.activeElement as HTMLElement | null)?.dataset['testid'] ?? document.activeElement?.localName);

/** Presses a control by the keyboard. */
async function press(testId: string, key = 'Enter'): Promise<void> {
  await page.getByTestId(testId).first().waitFor();
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
  await expect.poll(focused).toBeOneOf(testIds);
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
  // The view is another's; its controls are where those of the other were.
  await focusIsOn('overlay');
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
  await page.evaluate(() => {
    for (const node of document.querySelectorAll('.image, .image .icon, [data-testid=snapshot-row]'))
      (node as Element & { kept?: boolean }).kept = true;
  });
  await fill(page, 'snapshot-name', 'more');
  await page.getByTestId('snapshot-take').click();
  await page.getByTestId('snapshot-row').getByText('more', { exact: true }).waitFor();
  await expect.poll(() => row.locator('.image-facts').textContent(), { timeout: 10_000 }).not.toBe(before);
  const kept = await page.evaluate(() =>
    [...document.querySelectorAll('.image, .image .icon, [data-testid=snapshot-row]')].filter((node) => (node as Element & { kept?: boolean }).kept),
  );
  expect(kept.length).toBe(4);
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
  await page.keyboard.press('Escape');
  await page.getByTestId('confirm-deed').click();
  await page.getByTestId('create-dialog').waitFor({ state: 'detached' });
  expect(await page.locator('.image-name').allTextContents()).not.toContain('long thought about');
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
