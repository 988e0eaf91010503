/** The system's Firefox, headless, over WebDriver BiDi, which it speaks by itself. Found by `FIREFOX_PATH` or by name. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch, type Page } from 'puppeteer-core';
import type { DriverBrowser, DriverTab } from './driver.ts';

const NAMES = ['firefox-esr', 'firefox'];
const VIEWPORT = { width: 1280, height: 800 };
/** Of the browser's protocol: a machine that boots in one tab keeps the others waiting. */
const PATIENCE = 300_000;

/** The path of the system's Firefox, if there is one. */
export function findFirefox(): string | undefined {
  const stated = process.env['FIREFOX_PATH'];
  if (stated) return existsSync(stated) ? stated : undefined;
  for (const name of NAMES) {
    const found = spawnSync('which', [name], { encoding: 'utf8' });
    if (found.status === 0) return found.stdout.trim();
  }
  return undefined;
}

/** Starts it with a fresh profile. Throws if there is none. */
export async function startFirefox(): Promise<DriverBrowser> {
  const executablePath = findFirefox();
  if (!executablePath) throw new Error('Firefox was not found: install the package "firefox-esr", or set FIREFOX_PATH to the browser’s executable');
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-firefox-'));
  const downloads = join(folder, 'downloads');
  mkdirSync(downloads);
  const browser = await launch({
    browser: 'firefox',
    executablePath,
    headless: true,
    protocolTimeout: PATIENCE,
    extraPrefsFirefox: {
      'browser.download.folderList': 2,
      'browser.download.dir': downloads,
      'browser.download.useDownloadDir': true,
      // Asking to keep a site's data is answered, which no test could.
      'dom.storageManager.prompt.testing': true,
      'dom.storageManager.prompt.testing.allow': true,
      'browser.helperApps.neverAsk.saveToDisk': 'application/octet-stream',
    },
  });
  const complaints: string[] = [];
  return {
    version: (await browser.version()).replace(/^firefox\//i, 'Firefox '),
    downloads,
    complaints,
    async open() {
      const page = await browser.newPage();
      await page.setViewport(VIEWPORT);
      page.on('console', (message) => {
        if (message.type() === 'error') complaints.push(`console: ${message.text()}`);
      });
      page.on('pageerror', (error) => complaints.push(`page: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`));
      return driverTab(page);
    },
    async close() {
      await browser.close();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

function driverTab(page: Page): DriverTab {
  return {
    async goto(address) {
      await page.goto(address);
    },
    async reload() {
      await page.reload();
    },
    evaluate: (expression) => page.evaluate(expression),
    click: (x, y) => page.mouse.click(x, y),
    press: (key) => page.keyboard.press(key),
    close: () => page.close(),
  };
}
