/** A page of the tests, served, and the browsers that visit it: one to stay, and ones to be killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium, type Page } from 'playwright-core';
import { build, preview } from 'vite';
import { CHROMIUM_FLAGS, requireChromium } from '../chromium.ts';

/** The page, built and served. */
export interface Served {
  readonly address: string;
  close(): Promise<void>;
}

/** Builds a page and serves it from this machine: the kill tests' unless told otherwise. */
export async function servePage(root: string = import.meta.dirname): Promise<Served> {
  const outDir = mkdtempSync(join(tmpdir(), 'tabdisk-kill-'));
  const settings = { configFile: false, root, base: './', logLevel: 'error' } as const;
  await build({ ...settings, build: { outDir, emptyOutDir: true, target: 'es2022' }, worker: { format: 'es' } });
  const server = await preview({ ...settings, build: { outDir }, preview: { port: 0, host: '127.0.0.1' } });
  return {
    address: server.resolvedUrls?.local[0] ?? '',
    async close() {
      await server.close();
      rmSync(outDir, { recursive: true, force: true });
    },
  };
}

/** How far the load in a page has come, by its own reports. */
export class Reports {
  begun: number;
  flushed: number;
  /** Resolves with the first operation. */
  readonly started: Promise<void>;
  #start = (): void => undefined;

  /** `base`: the number before the load's first operation. */
  constructor(base: number) {
    this.begun = base;
    this.flushed = base;
    this.started = new Promise((resolve) => {
      this.#start = resolve;
    });
  }

  begin(number: number): void {
    this.begun = number;
    this.#start();
  }
}

/** Opens the page in a tab; loads in it report to what `reports` returns then. */
export async function openPage(page: Page, address: string, reports: () => Reports): Promise<Page> {
  await page.exposeFunction('begin', (number: number) => {
    reports().begin(number);
  });
  await page.exposeFunction('flushed', (number: number) => {
    reports().flushed = number;
  });
  await page.goto(address);
  await page.waitForFunction(() => 'kill' in window);
  return page;
}

/** A browser whose process is ours to kill. */
export interface Victim {
  newPage(): Promise<Page>;
  /** SIGKILL, at once; resolves when the process is gone. */
  kill(): Promise<void>;
}

/** Starts Chromium on a profile that outlives it. */
export async function startVictim(profile: string): Promise<Victim> {
  const flags = ['--headless=new', '--remote-debugging-port=0', '--hide-crash-restore-bubble', `--user-data-dir=${profile}`];
  // A process group of its own, so that none of its helpers can be left over.
  const browser = spawn(requireChromium(), [...CHROMIUM_FLAGS, ...flags, 'about:blank'], { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  const orphaned = () => browser.kill('SIGKILL');
  process.once('exit', orphaned);
  const connection = await chromium.connectOverCDP(await endpoint(browser));
  return {
    newPage: async () => (connection.contexts()[0] ?? (await connection.newContext())).newPage(),
    async kill() {
      process.off('exit', orphaned);
      const gone = once(browser, 'exit');
      browser.kill('SIGKILL');
      await gone;
      try {
        process.kill(-(browser.pid as number), 'SIGKILL');
      } catch {
        // They ended with it.
      }
      await connection.close().catch(() => undefined);
    },
  };
}

/** The address at which the browser listens, as it tells on its error output. */
async function endpoint(browser: ChildProcess): Promise<string> {
  if (!browser.stderr) throw new Error('Chromium has no error output');
  for await (const line of createInterface({ input: browser.stderr })) {
    const found = /^DevTools listening on (ws:\S+)$/.exec(line)?.[1];
    if (!found) continue;
    // Keeps reading, or the browser would block.
    browser.stderr.resume();
    return found;
  }
  throw new Error('Chromium ended before it listened');
}
