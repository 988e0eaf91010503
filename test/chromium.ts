/**
 * The system's Chromium, as every browser test, the e2e tests and the benchmark start it: found by `CHROMIUM_PATH` or by name,
 * headless, with a fresh profile on disk. Never incognito: OPFS there is hundreds of times slower than for a real visitor.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium } from 'playwright-core';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** Quiet, offline, and able to run as root in a container. */
export const CHROMIUM_FLAGS: readonly string[] = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
];

/** The path of the system's Chromium, if there is one. */
export function findChromium(): string | undefined {
  const stated = process.env['CHROMIUM_PATH'];
  if (stated) return existsSync(stated) ? stated : undefined;
  for (const name of NAMES) {
    const found = spawnSync('which', [name], { encoding: 'utf8' });
    if (found.status === 0) return found.stdout.trim();
  }
  return undefined;
}

/** As `findChromium`, but throws and says what to install. */
export function requireChromium(): string {
  const path = findChromium();
  if (!path) throw new Error('Chromium was not found: install the package "chromium", or set CHROMIUM_PATH to the browser’s executable');
  return path;
}

/** A running browser with a profile of its own. */
export interface OwnBrowser {
  readonly context: BrowserContext;
  /** Ends the browser and removes its profile. */
  close(): Promise<void>;
}

/** Starts Chromium headless with a fresh persistent profile, and with further `flags`. */
export async function startChromium(...flags: readonly string[]): Promise<OwnBrowser> {
  const profile = mkdtempSync(join(tmpdir(), 'tabdisk-profile-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: requireChromium(),
    headless: true,
    args: [...CHROMIUM_FLAGS, ...flags],
  });
  return {
    context,
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
