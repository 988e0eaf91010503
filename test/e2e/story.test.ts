/** The story in Chromium, in OPFS; it takes the README's screenshot. Of IndexedDB it is told in Firefox and WebKit, and full-disk.test.ts has a guest on it here. */
import { resolve } from 'node:path';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { visit } from './browser.ts';
import { enter, run } from './guest.ts';
import { stage, story } from './story.ts';

const SCREENSHOT = resolve(import.meta.dirname, '../../public/screenshot.png');

const set = stage(() => visit({ motion: true }));

/** Types into the guest's screen as a user does, and takes the README's picture. */
async function screenshot(page: Page): Promise<void> {
  await page.setViewportSize({ width: 1440, height: 800 });
  await page.getByTestId('screen').click();
  for (const line of ['cp /etc/banner /mnt/typed', 'ls -l /mnt', 'df -h /mnt']) {
    await page.keyboard.type(line, { delay: 30 });
    await page.keyboard.press('Enter');
    await page.waitForTimeout(1000);
  }
  await page.keyboard.press('Control+Alt+KeyG');
  expect(await page.getByTestId('screen').evaluate((screen) => document.activeElement === screen)).toBe(false);
  await run(page, 'test -s /mnt/typed && rm /mnt/typed && sync');
  await page.getByTestId('serial-interrupt').click();
  for (const line of ['uname -srm', 'fdisk -l /dev/sda', 'sha256sum /mnt/random', 'mount | grep sda', 'dumpe2fs -h /dev/sda | head -4']) {
    await enter(page, line);
  }
  await page.getByTestId('run-saved').getByText('all saved').waitFor();
  await page.getByTestId('run-state').click();
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: SCREENSHOT });
  await page.setViewportSize({ width: 1280, height: 800 });
}

test('a PC in the page runs from a qcow2 disk that survives a reload: OPFS', () => story(set(), 'opfs', { middle: screenshot }));
