/**
 * `npm run bench`: what the engine costs, each row a ratio to an anchor measured in the same run, in turn (harness.ts). Rows that need a
 * browser run in real Chromium with a profile on disk.
 *
 *   npm run bench -- [--filter text] [--rounds 11] [--json] [--readme]
 *
 * `--filter` keeps the rows with the text in their id, their group's name or their words; more than one, separated by commas, keeps those of
 * any. `--json` prints the figures as JSON. `--readme` measures nothing: it puts what was kept of earlier runs into README.md.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, preview } from 'vite';
import { startChromium } from '../chromium.ts';
import { allGroups } from './groups/all.ts';
import { type Figure, figureOf, type Group, type Row } from './harness.ts';
import { type Found, measureGroup, type Request } from './measuring.ts';
import { keep, type Results, tableText, writeReadme } from './report.ts';

const { values } = parseArgs({
  options: {
    filter: { type: 'string', default: '' },
    rounds: { type: 'string', default: '11' },
    json: { type: 'boolean', default: false },
    readme: { type: 'boolean', default: false },
  },
});

async function measure(): Promise<void> {
  const words = values.filter.split(',');
  const wanted = (group: Group, row: Row) => words.some((word) => `${row.id} ${group.name} ${row.what}`.includes(word));
  const groups = allGroups.map((group) => ({ ...group, rows: group.rows.filter((row) => wanted(group, row)) })).filter(({ rows }) => rows.length > 0);
  if (groups.length === 0)
    throw new Error(
      `no row has "${values.filter}" in its id or its words; there are: ${allGroups.flatMap(({ rows }) => rows.map(({ id }) => id)).join(', ')}`,
    );
  const results = await measureAll(groups);
  console.log(values.json ? JSON.stringify(results, null, 2) : `\n${tableText(groups, results)}`);
}

async function measureAll(groups: readonly Group[]): Promise<Results> {
  const browser = new BenchBrowser();
  const figures: Record<string, Figure> = {};
  try {
    const machine = describeMachine(await browser.version());
    for (const { name, where, rows } of groups) {
      const request = { group: name, rows: rows.filter(({ notBuilt }) => notBuilt === undefined).map(({ id }) => id), rounds: Number(values.rounds) };
      if (request.rows.length === 0) continue;
      const found = where === 'node' ? await measureGroup(allGroups, request, progress) : await browser.measure(request);
      for (const [id, sample] of Object.entries(found)) figures[id] = figureOf(sample);
      // Group by group, so that a later one that fails loses nothing.
      keep({ machine, figures });
    }
    return { machine, figures };
  } finally {
    await browser.close();
  }
}

function progress(text: string): void {
  console.error(text);
}

/** Chromium with the page that measures, started when it is first needed. */
class BenchBrowser {
  #started: ReturnType<typeof startPage> | undefined;

  async measure(request: Request): Promise<Found> {
    this.#started ??= startPage();
    const { page } = await this.#started;
    return page.evaluate((asked) => window.runGroup(asked), request);
  }

  async version(): Promise<string> {
    this.#started ??= startPage();
    return (await this.#started).browser.context.browser()?.version() ?? 'of unknown version';
  }

  async close(): Promise<void> {
    if (!this.#started) return;
    const { browser, server, outDir } = await this.#started;
    await browser.close();
    await server.close();
    rmSync(outDir, { recursive: true, force: true });
  }
}

async function startPage() {
  const outDir = mkdtempSync(join(tmpdir(), 'tabdisk-bench-'));
  const settings = { configFile: false, root: import.meta.dirname, base: './', logLevel: 'error' } as const;
  await build({ ...settings, build: { outDir, emptyOutDir: true, target: 'es2022', chunkSizeWarningLimit: 2048 }, worker: { format: 'es' } });
  // Cross-origin isolated, for shared memory.
  const headers = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };
  const server = await preview({ ...settings, build: { outDir }, preview: { port: 0, host: '127.0.0.1', headers } });
  const browser = await startChromium();
  const page = await browser.context.newPage();
  page.on('console', (message) => progress(message.text()));
  page.on('pageerror', (error) => progress(String(error)));
  await page.goto(server.resolvedUrls?.local[0] ?? '');
  return { page, browser, server, outDir };
}

function describeMachine(chromium: string): string {
  const processors = cpus();
  const gibibytes = Math.round(totalmem() / 2 ** 30);
  const [kernel] = release().split('-');
  return `${processors[0]?.model.trim() || 'processor'}, ${processors.length} cores, ${gibibytes} GiB, ${type()} ${kernel}, Chromium ${chromium}, Node ${process.versions.node}`;
}

if (values.readme) console.log(writeReadme(allGroups) ? 'README.md has a new table.' : 'The table in README.md was current.');
else await measure();
