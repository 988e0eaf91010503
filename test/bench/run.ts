/**
 * `npm run bench`: what the engine costs over the bare file, in real Chromium with a profile on disk.
 *
 *   npm run bench -- [--filter text] [--format qcow2] [--rounds 21] [--json]
 *
 * `--filter` keeps the rows whose name has the text ("read", "4 KiB", "random"). The table gives the median of the rounds in
 * microseconds a call, and the ratio of each round's two halves: its median, and the range that eight in ten rounds are in.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, preview } from 'vite';
import { startChromium } from '../chromium.ts';
import { ALL_CASES, type BenchOptions, caseName, type Measured } from './cases.ts';

const DISK_SIZE = 256 * 1024 * 1024;

const { values } = parseArgs({
  options: {
    filter: { type: 'string', default: '' },
    format: { type: 'string', default: 'qcow2' },
    rounds: { type: 'string', default: '21' },
    json: { type: 'boolean', default: false },
  },
});

const cases = ALL_CASES.filter((one) => caseName(one).includes(values.filter));
if (cases.length === 0) throw new Error(`no case has "${values.filter}" in its name; there are: ${ALL_CASES.map(caseName).join(', ')}`);
const { results, machine } = await measure({ format: values.format, diskSize: DISK_SIZE, rounds: Number(values.rounds), cases });
if (values.json) console.log(JSON.stringify({ machine, format: values.format, diskSize: DISK_SIZE, results: results.map(row) }, null, 2));
else printTable(results, machine);

async function measure(options: BenchOptions): Promise<{ results: Measured[]; machine: string }> {
  const outDir = mkdtempSync(join(tmpdir(), 'tabdisk-bench-'));
  const settings = { configFile: false, root: import.meta.dirname, base: './', logLevel: 'error' } as const;
  await build({ ...settings, build: { outDir, emptyOutDir: true, target: 'es2022' }, worker: { format: 'es' } });
  const server = await preview({ ...settings, build: { outDir }, preview: { port: 0, host: '127.0.0.1' } });
  const browser = await startChromium();
  try {
    const page = await browser.context.newPage();
    page.on('console', (message) => console.error(message.text()));
    await page.goto(server.resolvedUrls?.local[0] ?? '');
    const results = await page.evaluate((asked) => window.runBench(asked), options);
    return { results, machine: describeMachine(browser.context.browser()?.version() ?? 'of unknown version') };
  } finally {
    await browser.close();
    await server.close();
    rmSync(outDir, { recursive: true, force: true });
  }
}

function describeMachine(chromium: string): string {
  const processors = cpus();
  const gibibytes = Math.round(totalmem() / 2 ** 30);
  return `${processors[0]?.model.trim() || 'processor'}, ${processors.length} cores, ${gibibytes} GiB, ${type()} ${release()}, Chromium ${chromium}`;
}

function row(one: Measured) {
  const ratios = one.bare.map((bare, index) => (one.disk[index] as number) / bare);
  return {
    name: caseName(one),
    bareMicroseconds: quantile(one.bare, 0.5),
    diskMicroseconds: quantile(one.disk, 0.5),
    ratio: quantile(ratios, 0.5),
    ratioLow: quantile(ratios, 0.1),
    ratioHigh: quantile(ratios, 0.9),
    callsPerRound: one.callsPerRound,
    rounds: ratios.length,
  };
}

function printTable(measured: readonly Measured[], machine: string): void {
  console.log(`\n${machine}`);
  console.log(
    `${values.format} on OPFS against the bare synchronous access handle; ${DISK_SIZE / 2 ** 20} MiB, all allocated; ${values.rounds} rounds in turn\n`,
  );
  const cell = (text: string | number, width = 11) => String(text).padStart(width);
  console.log(`${''.padEnd(24)}${cell('bare µs')}${cell('disk µs')}${cell('ratio')}${cell('8 in 10', 16)}`);
  for (const { name, bareMicroseconds, diskMicroseconds, ratio, ratioLow, ratioHigh } of measured.map(row)) {
    const range = `${ratioLow.toFixed(2)} - ${ratioHigh.toFixed(2)}`;
    console.log(
      `${name.padEnd(24)}${cell(bareMicroseconds.toFixed(1))}${cell(diskMicroseconds.toFixed(1))}${cell(ratio.toFixed(2))}${cell(range, 16)}`,
    );
  }
}

function quantile(values: readonly number[], at: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.round((sorted.length - 1) * at)] ?? Number.NaN;
}
