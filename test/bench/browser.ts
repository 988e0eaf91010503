/** The browser that groups are measured in: real Chromium with a profile on disk, and the built page of page.ts. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build, preview } from 'vite';
import { startChromium } from '../chromium.ts';
import type { Found, Request } from './measuring.ts';

/** Chromium with the page that measures, started when it is first needed. */
export class BenchBrowser {
  readonly #progress: (text: string) => void;
  #started: ReturnType<typeof startPage> | undefined;

  constructor(progress: (text: string) => void) {
    this.#progress = progress;
  }

  async measure(request: Request): Promise<Found> {
    this.#started ??= startPage(this.#progress);
    const { page } = await this.#started;
    return page.evaluate((asked) => window.runGroup(asked), request);
  }

  async version(): Promise<string> {
    this.#started ??= startPage(this.#progress);
    return (await this.#started).browser.context.browser()?.version() ?? 'of unknown version';
  }

  async close(): Promise<void> {
    if (!this.#started) return;
    await (await this.#started).close();
  }
}

/** Chromium with the page that measures, built with the names of its functions kept if asked to. */
export async function startPage(progress: (text: string) => void, names: 'shortened' | 'kept' = 'shortened') {
  const outDir = mkdtempSync(join(tmpdir(), 'tabdisk-bench-'));
  const settings = { configFile: false, root: import.meta.dirname, base: './', logLevel: 'error' } as const;
  await build({
    ...settings,
    build: { outDir, emptyOutDir: true, target: 'es2022', chunkSizeWarningLimit: 2048, minify: names === 'shortened' },
    worker: { format: 'es' },
  });
  // Cross-origin isolated, for shared memory.
  const headers = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };
  const server = await preview({ ...settings, build: { outDir }, preview: { port: 0, host: '127.0.0.1', headers } });
  const browser = await startChromium();
  const page = await browser.context.newPage();
  page.on('console', (message) => progress(message.text()));
  page.on('pageerror', (error) => progress(String(error)));
  await page.goto(server.resolvedUrls?.local[0] ?? '');
  return {
    page,
    browser,
    async close() {
      await browser.close();
      await server.close();
      rmSync(outDir, { recursive: true, force: true });
    },
  };
}
