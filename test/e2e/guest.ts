/** The Linux guest over the page's serial console: starting it, and running commands in its shell. */
import type { Page } from 'playwright-core';
import type { Tab } from '../engines/tab.ts';
import { confirm, openTab } from './browser.ts';

/** Milliseconds. On cores that are busy with more than this, WebKit takes minutes for what is half a minute otherwise. */
const BOOT_MS = 420_000;
const COMMAND_MS = 240_000;
const PROMPT = 'tabdisk# ';

/** Starts the machine on the chosen image and waits for the guest's shell. */
export async function boot(page: Tab): Promise<void> {
  await openTab(page, 'run');
  await page.getByTestId('run-start').click();
  await page.getByTestId('run-state').getByText('Running').waitFor({ timeout: BOOT_MS });
  await started(page, 1);
}

/** Waits until the guest's shell is there for the first time or, after restarts, once more. */
export async function started(page: Tab, times: number): Promise<void> {
  await waitForText(page, new RegExp(`(?:GUEST READY[^]*){${times}}${PROMPT}`), BOOT_MS);
}

let commands = 0;

/** Runs a command in the guest's shell. Resolves to what it printed; throws unless it ends with status 0. */
export async function run(page: Tab, command: string): Promise<string> {
  const mark = `done-${++commands}`;
  // The shell echoes the line: with the mark in two pieces only its output has it whole.
  await page
    .getByTestId('serial-input')
    .locator('input')
    .fill(`${command}; echo "${mark.slice(0, 2)}""${mark.slice(2)}:$?:"`);
  await page.getByTestId('serial-input').locator('input').press('Enter');
  // What is typed before the prompt is there is echoed by the terminal, not by the shell.
  const text = await waitForText(page, new RegExp(`${mark}:\\d+:[^]*${PROMPT}`), COMMAND_MS);
  const end = text.lastIndexOf(`${mark}:`);
  const status = /^\d+(?=:)/.exec(text.slice(end + mark.length + 1))?.[0];
  const echo = text.lastIndexOf(PROMPT, end);
  const output = text.slice(text.indexOf('\n', echo) + 1, end).trim();
  if (status !== '0') throw new Error(`“${command}” ended with status ${status} in the guest:\n${output}`);
  return output;
}

/** Types a line as it is, for who looks at the console, and waits until the shell asks for the next. */
export async function enter(page: Page, line: string): Promise<void> {
  const output = page.getByTestId('serial-output');
  const before = (await output.textContent())?.length ?? 0;
  await page.getByTestId('serial-input').locator('input').fill(line);
  await page.getByTestId('serial-input').locator('input').press('Enter');
  await page.waitForFunction(
    ([length, prompt, typed]) => {
      const text = document.querySelector('[data-testid=serial-output]')?.textContent ?? '';
      const echo = text.lastIndexOf(prompt + typed);
      return echo >= length - prompt.length && text.length > echo + prompt.length + typed.length && text.endsWith(prompt);
    },
    [before, PROMPT, line] as const,
    { timeout: COMMAND_MS, polling: 200 },
  );
}

/** Stops the machine by its button. */
export async function stop(page: Tab): Promise<void> {
  await openTab(page, 'run');
  await page.getByTestId('run-stop').click();
  await confirm(page);
  await page.getByTestId('run-start').waitFor();
}

async function waitForText(page: Tab, wanted: RegExp, timeout: number): Promise<string> {
  const matches = (pattern: string): boolean => new RegExp(pattern).test(document.querySelector('[data-testid=serial-output]')?.textContent ?? '');
  await page.waitForFunction(matches, wanted.source, { timeout, polling: 200 });
  return (await page.getByTestId('serial-output').textContent()) ?? '';
}
