/** Machines that run the program of boot-media.ts, which does what letters say: bringing its disk, starting it, and talking to it. It starts in a second. */
import type { Page } from 'playwright-core';
import { openTab } from './browser.ts';

export const START_MS = 120_000;

/** Imports a medium; its Run tab is open afterwards. */
export async function bring(page: Page, name: string, buffer: Buffer): Promise<void> {
  await page.getByTestId('import-input').setInputFiles({ name, mimeType: '', buffer });
  await page.getByTestId('image-title').getByText(name, { exact: true }).waitFor();
  await openTab(page, 'run');
}

/** Starts the machine of the chosen image, and waits until the program has said its message. */
export async function start(page: Page, message: string): Promise<void> {
  await page.getByTestId('run-start').click();
  await said(page, message, 1);
}

/** Waits until the program has said a message so many times. */
export async function said(page: Page, message: string, times: number): Promise<void> {
  await page.waitForFunction(
    ([text, count]) => (document.querySelector('[data-testid=serial-output]')?.textContent?.split(text).length ?? 0) - 1 >= count,
    [message, times] as const,
    { timeout: START_MS, polling: 100 },
  );
}

/** Sends the program a letter. */
export async function tell(page: Page, letter: string): Promise<void> {
  await page.getByTestId('serial-input').locator('input').fill(letter);
  await page.getByTestId('serial-input').locator('input').press('Enter');
}
