/**
 * The built page and a real Chromium to visit it: every e2e test starts here. The page is built from the sources as they are (page-build.ts) and
 * served under its own content security policy; any request to another origin, any error in the console and any page error is
 * collected, and a test ends by asking that there was none.
 */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Page } from 'playwright-core';
import { preview } from 'vite';
import { inject } from 'vitest';
import { startChromium } from '../chromium.ts';
import { type DrivenEngine, startDriven } from '../engines/driver.ts';
import { DrivenTab, type SavedFile, type Tab } from '../engines/tab.ts';

const TOP = resolve(import.meta.dirname, '../..');
const VIEWPORT = { width: 1280, height: 800 };

/** The content security policy that the built page states for itself. */
export function policyOf(html: string): string {
  const policy = /<meta\s+http-equiv="Content-Security-Policy"\s+content="([^"]+)"/.exec(html)?.[1];
  if (policy === undefined) throw new Error('The built page states no content security policy');
  return policy;
}

/** A served page in a browser of its own. */
export interface Visit<T extends Tab = Page> {
  readonly address: string;
  /** Where the built page is. */
  readonly folder: string;
  /** A new tab, at the page unless told otherwise. */
  tab(hash?: string): Promise<T>;
  /** What went wrong in any tab so far. */
  readonly complaints: string[];
  close(): Promise<void>;
}

interface Served {
  readonly address: string;
  readonly folder: string;
  close(): Promise<void>;
}

async function serve(): Promise<Served> {
  const folder = inject('pageFolder');
  const server = await preview({
    root: TOP,
    configFile: false,
    logLevel: 'error',
    build: { outDir: folder },
    // As a header the policy binds the worker too.
    preview: { host: '127.0.0.1', port: 0, headers: { 'Content-Security-Policy': policyOf(readFileSync(join(folder, 'index.html'), 'utf8')) } },
  });
  const address = server.resolvedUrls?.local[0];
  if (address === undefined) throw new Error('The page is not served anywhere');
  return { address, folder, close: () => server.close() };
}

/** Serves the page, and starts Chromium with a fresh profile. Dialogs and the like come and go at once, without `motion`. */
export async function visit({ motion = false } = {}): Promise<Visit> {
  const served = await serve();
  const { address, folder } = served;
  const browser = await startChromium();
  const complaints: string[] = [];
  // Without a save dialog, which no test can operate, the page falls back to a download.
  await browser.context.addInitScript(() => Reflect.deleteProperty(window, 'showSaveFilePicker'));
  return {
    address,
    folder,
    complaints,
    async tab(hash = '') {
      const page = await browser.context.newPage();
      await page.setViewportSize(VIEWPORT);
      if (!motion) await page.emulateMedia({ reducedMotion: 'reduce' });
      page.on('console', (message) => {
        if (message.type() === 'error') complaints.push(`console: ${message.text()}`);
      });
      page.on('pageerror', (error) => complaints.push(`page: ${error.stack ?? error.message}`));
      page.on('request', (request) => {
        const url = request.url();
        if (!url.startsWith(address) && !/^(?:blob|data):/.test(url)) complaints.push(`request to another origin: ${url}`);
      });
      await page.goto(address + hash);
      await page.getByTestId('nothing-uploaded').waitFor();
      return page;
    },
    async close() {
      await browser.close();
      await served.close();
    },
  };
}

/** As `visit`, in Firefox or WebKit. Requests to other origins are complaints there too, of the page's policy. */
export async function visitIn(engine: DrivenEngine): Promise<Visit<Tab>> {
  const served = await serve();
  const { address, folder } = served;
  const browser = await startDriven(engine);
  console.info(`${browser.version}`);
  return {
    address,
    folder,
    complaints: browser.complaints,
    async tab(hash = '') {
      const driver = await browser.open();
      await driver.goto(address + hash);
      const tab = new DrivenTab(driver, browser);
      await tab.getByTestId('nothing-uploaded').waitFor();
      return tab;
    },
    async close() {
      await browser.close();
      await served.close();
    },
  };
}

/** Chooses an entry of one of the page's selects. */
export async function choose(page: Tab, testId: string, value: string): Promise<void> {
  await page.getByTestId(testId).click();
  await page.getByTestId(testId).locator(`wa-option[value="${value}"]`).click();
  const isChosen = (wanted: string): boolean => {
    const [id, choice] = JSON.parse(wanted) as [string, string];
    const select = document.querySelector<HTMLElement & { value: string; open: boolean }>(`[data-testid="${id}"]`);
    return select?.value === choice && !select.open;
  };
  await page.waitForFunction(isChosen, JSON.stringify([testId, value]), { timeout: 30_000, polling: 100 });
}

/** Types into one of the page's text fields, replacing what is there. */
export async function fill(page: Tab, testId: string, text: string): Promise<void> {
  await page.getByTestId(testId).locator('input').fill(text);
}

export interface NewImage {
  readonly name: string;
  readonly size: string;
  readonly format?: 'qcow2' | 'raw';
  readonly place?: 'opfs' | 'indexeddb';
}

/** Makes an image through the dialog; it is the chosen one afterwards. */
export async function createImage(page: Tab, { name, size, format = 'qcow2', place = 'opfs' }: NewImage): Promise<void> {
  await page.getByTestId('create').click();
  await page.getByTestId('create-name').locator('input:focus').waitFor();
  await fill(page, 'create-name', name);
  if (format !== 'qcow2') await choose(page, 'create-format', format);
  await fill(page, 'create-size', size);
  if (place !== 'opfs') await choose(page, 'create-place', place);
  await page.getByTestId('create-deed').click();
  await page.getByTestId('create-dialog').waitFor({ state: 'detached' });
  await page.getByTestId('image-title').getByText(name, { exact: true }).waitFor();
}

/** Opens one of the chosen image's tabs. */
export async function openTab(page: Tab, name: 'overview' | 'snapshots' | 'geometry' | 'map' | 'run'): Promise<void> {
  await page.getByTestId(`tab-${name}`).click();
}

/** Says yes to the question on the screen. */
export async function confirm(page: Tab): Promise<void> {
  await page.getByTestId('confirm-deed').click();
  await page.getByTestId('confirm').waitFor({ state: 'detached' });
}

/** Exports the chosen image into `path`. */
export async function exportTo(page: Tab, way: string, path: string): Promise<SavedFile> {
  await page.getByTestId('export').click();
  return downloadOf(page, `export-${way}`, path);
}

/** Saves at `path` what a click downloads. */
export async function downloadOf(page: Tab, testId: string, path: string): Promise<SavedFile> {
  const [download] = await Promise.all([page.waitForEvent('download', { timeout: 120_000 }), page.getByTestId(testId).click()]);
  await download.saveAs(path);
  return download;
}

/** Whether one of the page's buttons can be pressed. They are custom elements, of which Playwright cannot tell. */
export async function enabled(page: Tab, testId: string): Promise<boolean> {
  await page.getByTestId(testId).waitFor();
  return page.evaluate((id) => !document.querySelector<HTMLButtonElement>(`[data-testid="${id}"]`)?.disabled, testId);
}

/**
 * Drags files and folders from the desktop over the page, and drops them. The browser cancels a drop that comes before a busy page has answered to the drag:
 * files that did not arrive are dragged again.
 */
export async function dropOn(page: Page, data: { files?: string[]; items?: { mimeType: string; data: string }[] }): Promise<void> {
  const session = await page.context().newCDPSession(page);
  const drag = { items: [], files: [], dragOperationsMask: 1, ...data };
  const arrived = await page.evaluateHandle(() => {
    const seen = { drop: false };
    window.addEventListener('drop', () => Object.assign(seen, { drop: true }), { once: true, capture: true });
    return seen;
  });
  for (let attempt = 0; attempt < 5; attempt++) {
    for (const type of ['dragEnter', 'dragOver', 'drop'] as const)
      await session.send('Input.dispatchDragEvent', { type, x: 640, y: 400, data: drag });
    // A link is refused, and never arrives.
    if (!data.files || (await arrived.evaluate(waitForDrop))) break;
  }
  await session.detach();
}

/** Whether the drop has come, or comes in the next second. */
async function waitForDrop(seen: { readonly drop: boolean }): Promise<boolean> {
  for (let times = 0; !seen.drop && times < 20; times++) await new Promise((resolve) => setTimeout(resolve, 50));
  return seen.drop;
}
