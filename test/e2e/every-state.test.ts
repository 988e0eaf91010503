/** Every state of the page: for everybody's colours, every width, fingers, and the keyboard. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { audit, prepareAudit } from './audit.ts';
import { type Visit, visit } from './browser.ts';
import { slowEngine } from './slow-engine.ts';
import { STATES, type Stage } from './states.ts';

let browser: Visit;
let stage: Stage;

beforeAll(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-states-'));
  browser = await visit({ motion: true });
  const page = await browser.tab();
  await prepareAudit(page);
  await slowEngine(page);
  page.setDefaultTimeout(15_000);
  await page.reload();
  await page.getByTestId('empty').waitFor();
  stage = { browser, folder, page };
});

afterAll(async () => {
  await browser?.close();
  rmSync(stage.folder, { recursive: true, force: true });
});

/** What is wrong with a state and stays so: a machine that runs, or a message that goes, changes the page while it is looked at. */
async function lastingProblems(page: Page, tabbing: boolean): Promise<string[]> {
  const found = await audit(page, tabbing);
  if (found.length === 0) return found;
  const still = new Set(await audit(page, tabbing));
  return found.filter((problem) => still.has(problem));
}

/** A state that could not be entered: those after it start from there. */
let stuck: string | undefined;

test.each(STATES)('$name', async ({ name, enter, leave, menu }) => {
  if (stuck !== undefined) throw new Error(`The state before could not be entered: ${stuck}`);
  stuck = name;
  const page = await enter(stage);
  stuck = undefined;
  const found = await lastingProblems(page, !menu);
  stuck = name;
  await leave?.(stage);
  stuck = undefined;
  expect(found, `${name}: ${found.join('; ')}`).toEqual([]);
  expect(browser.complaints.splice(0)).toEqual([]);
});
