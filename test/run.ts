/**
 * `npm test`: everything that CI runs, stage after stage, with the output as it comes; only the stages in browsers, each of which keeps about
 * one core busy, run two at a time: one of the two speaks when it ends. A few files that fail there are run once more, alone, and
 * what passes only then is listed. Installs the system tools that tests need where it can (root with apt-get), else names them. Goes on after a failure, so that one run tells all, and ends with
 * a line `N passed, N failed`; the exit status is 1 if anything failed or nothing ran. In CI (CI=true) a tool or a guest that
 * cannot be had is a failure; elsewhere the stages that need it are left out by name.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, relative, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { findChromium } from './chromium.ts';
import { findFirefox } from './engines/firefox.ts';
import { WEBKIT_TOOLS } from './engines/webkit.ts';

const TOP = resolve(import.meta.dirname, '..');
const CI = process.env['CI'] === 'true';
/** Of a failure's message, so that one long difference does not bury the others. */
const MESSAGE_LINES = 12;
/** What test/guest/build.mjs answers where Debian's packages cannot be had. */
const GUEST_UNAVAILABLE = 3;

// Debian keeps debugfs where only root's PATH leads.
process.env['PATH'] = [process.env['PATH'], '/usr/sbin', '/sbin'].join(delimiter);

interface Tool {
  readonly name: string;
  readonly debianPackage: string;
  readonly present: () => boolean;
}

const onPath = (name: string) => spawnSync('which', [name]).status === 0;
const TOOLS: readonly Tool[] = [
  { name: 'qemu-img and qemu-io', debianPackage: 'qemu-utils', present: () => onPath('qemu-img') && onPath('qemu-io') },
  { name: 'qemu-storage-daemon', debianPackage: 'qemu-system-common', present: () => onPath('qemu-storage-daemon') },
  { name: 'Chromium', debianPackage: 'chromium', present: () => findChromium() !== undefined },
  { name: 'Firefox', debianPackage: 'firefox-esr', present: () => findFirefox() !== undefined },
  ...WEBKIT_TOOLS,
  { name: 'debugfs', debianPackage: 'e2fsprogs', present: () => onPath('debugfs') },
  { name: 'mformat', debianPackage: 'mtools', present: () => onPath('mformat') },
  ...['zip', 'zstd', 'lz4', 'bzip2'].map((name) => ({ name, debianPackage: name, present: () => onPath(name) })),
  { name: 'xz', debianPackage: 'xz-utils', present: () => onPath('xz') },
  // Debian's own Python has them, whichever comes first on the path.
  { name: 'pyvmdk', debianPackage: 'python3-libvmdk', present: () => spawnSync('/usr/bin/python3', ['-c', 'import pyvmdk']).status === 0 },
  { name: 'pyvhdi', debianPackage: 'python3-libvhdi', present: () => spawnSync('/usr/bin/python3', ['-c', 'import pyvhdi']).status === 0 },
];

/** The page's tests that boot Linux, and those that start other machines: about half of the time of all of them. */
const WITH_GUEST = ['cleared', 'full-disk', 'linux', 'machine', 'machine-snapshot', 'sets', 'story'].map((name) => `test/e2e/${name}.test.ts`);

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

const totals: Counts = { passed: 0, failed: 0, skipped: 0 };
const summary: string[] = [];
/** What failed and why, repeated at the end: the output is long, and often only its end is kept. */
const failures: string[] = [];
const reports = mkdtempSync(join(tmpdir(), 'tabdisk-test-'));

/**
 * Browsers, a guest and servers share two cores here, and now and then one waits for longer than a test allows. When more files than
 * these fail it is no accident.
 */
const RUN_AGAIN = 3;
/** Files that failed while other stages ran beside them. */
const failedBeside: { readonly project: string; readonly env: Readonly<Record<string, string>>; readonly outcome: FileOutcome }[] = [];

await main();

async function main(): Promise<void> {
  const missing = installTools();
  await single('types', 'tsc', ['-p', '.']);
  await single('lint', 'biome', ['ci', '.']);
  await single('build', 'npm', ['run', '--silent', 'build']);
  await buildGuest();
  await vitest('node');
  const chromium = !missing.includes('Chromium');
  if (!chromium) leaveOut('browser and e2e tests', 'there is no Chromium');
  const stages = inBrowsers(chromium, missing);
  await Promise.all((['at once', 'at the end'] as const).map((speak) => lane(stages, speak)));
  const again = await runAgain();
  rmSync(reports, { recursive: true, force: true });
  if (failures.length > 0) console.log(`\n=== what failed ===\n\n${failures.join('\n\n')}`);
  if (again.length > 0) console.log(`\n=== what failed beside other stages and passed alone ===\n\n${again.join('\n\n')}`);
  console.log(`\n${summary.join('\n')}\n`);
  const skipped = totals.skipped > 0 ? `, ${totals.skipped} skipped` : '';
  console.log(`${totals.passed} passed, ${totals.failed} failed${skipped}`);
  process.exitCode = totals.failed > 0 || totals.passed === 0 ? 1 : 0;
}

/** A stage that can run beside others. */
type Stage = (speak: Speaking) => Promise<void>;

/** Runs one stage after another, until none is left: of two lanes, each takes the next stage when it is free. */
async function lane(stages: Stage[], speak: Speaking): Promise<void> {
  for (let stage = stages.shift(); stage; stage = stages.shift()) await stage(speak);
}

/** The stages in browsers, longest first, so that two lanes end at about the same time. */
function inBrowsers(chromium: boolean, missing: readonly string[]): Stage[] {
  const engines: Stage[] = [];
  const stories: string[] = [];
  for (const [engine, tools] of [
    ['firefox', ['Firefox']],
    ['webkit', WEBKIT_TOOLS.map(({ name }) => name)],
  ] as const) {
    const lacking = tools.filter((name) => missing.includes(name));
    if (lacking.length > 0) {
      leaveOut(`${engine} tests`, `there is no ${lacking.join(', no ')}`);
      continue;
    }
    engines.push((speak) => vitest(engine, { speak }));
    stories.push(`test/e2e/story-${engine}.test.ts`);
  }
  if (stories.length > 0) engines.unshift((speak) => vitest('engines', { speak, words: stories }));
  if (!chromium) return engines;
  const all = readdirSync(join(TOP, 'test/e2e')).flatMap((name) => (name.endsWith('.test.ts') ? [`test/e2e/${name}`] : []));
  const withoutGuest = all.filter((file) => !WITH_GUEST.includes(file));
  const kills = { TABDISK_KILLS: process.env['TABDISK_KILLS'] ?? '5' };
  return [
    (speak) => vitest('e2e', { speak, words: withoutGuest }),
    (speak) => vitest('e2e', { speak, name: 'e2e, Linux', words: WITH_GUEST }),
    (speak) => vitest('browser', { speak }),
    ...engines,
    (speak) => vitest('kill', { speak, env: kills }),
  ];
}

/** Returns the names of tools that are still missing. */
function installTools(): string[] {
  const absent = TOOLS.filter((tool) => !tool.present());
  if (absent.length === 0) return [];
  const packages = absent.map((tool) => tool.debianPackage);
  if (process.getuid?.() === 0 && onPath('apt-get')) {
    title(`installing ${packages.join(', ')}`);
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...packages]])
      spawnSync('apt-get', ['-qq', ...args], { stdio: ['ignore', 'ignore', 'inherit'], env });
  }
  const missing = absent.filter((tool) => !tool.present());
  for (const { name, debianPackage } of missing) {
    console.log(`${name} is missing: install Debian's package ${debianPackage} or your system's like`);
    if (!CI) continue;
    count('tools', { passed: 0, failed: 1, skipped: 0 }, 0);
    failures.push(`${name} is missing`);
  }
  return missing.map(({ name }) => name);
}

/** A stage that passes or fails as one. */
async function single(name: string, command: string, args: readonly string[]): Promise<void> {
  const { status, seconds } = await run(name, command, args);
  if (status !== 0) failures.push(`${name}: see its output`);
  count(name, { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0 }, seconds);
}

async function buildGuest(): Promise<void> {
  const { status, seconds } = await run('guest', 'node', ['test/guest/build.mjs']);
  if (status === GUEST_UNAVAILABLE && !CI) leaveOut('the guest', 'its packages cannot be had here; tests that boot it will say so');
  else count('guest', { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0 }, seconds);
}

interface VitestOptions extends RunOptions {
  /** Default: the project's. */
  readonly name?: string;
  /** More words for Vitest's command line: files, or what is left out. */
  readonly words?: readonly string[];
}

/** A vitest project or some files of it, counted test by test. */
async function vitest(project: string, options: VitestOptions = {}): Promise<void> {
  const { speak, env = {} } = options;
  const outcomes = await runVitest(project, options);
  for (const outcome of outcomes) {
    if (speak !== undefined && outcome.counts.failed > 0) failedBeside.push({ project, env, outcome });
    else failures.push(...outcome.failures);
  }
}

/** Runs the files again that failed beside other stages, if they are few. Returns what had failed of those that pass now. */
async function runAgain(): Promise<string[]> {
  const passed: string[] = [];
  const few = failedBeside.length <= RUN_AGAIN;
  for (const { project, env, outcome } of failedBeside) {
    const { file, counts } = outcome;
    if (!few || file === undefined) {
      failures.push(...outcome.failures);
      continue;
    }
    // Each test counts once: as it came out alone.
    for (const key of ['passed', 'failed', 'skipped'] as const) totals[key] -= counts[key];
    const now = await runVitest(project, { name: `${file}, again`, words: [file], env });
    const failed = now.flatMap((again) => again.failures);
    if (failed.length > 0) failures.push(...failed);
    else passed.push(...outcome.failures);
  }
  return passed;
}

async function runVitest(project: string, { name = project, words = [], ...options }: VitestOptions): Promise<FileOutcome[]> {
  const report = join(reports, `${name.replaceAll('/', '-')}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const { status, seconds } = await run(`${name} tests`, 'vitest', ['run', '--project', project, ...reporters, ...words], options);
  const outcomes = existsSync(report) ? readReport(report) : [];
  // An error outside any test, or a run that ended before its report.
  if (status !== 0 && outcomes.every(({ counts }) => counts.failed === 0)) {
    const words = `${name} tests: an error outside the tests, or no report; see their output`;
    outcomes.push({ file: undefined, counts: { passed: 0, failed: 1, skipped: 0 }, failures: [words] });
  }
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const outcome of outcomes) for (const key of ['passed', 'failed', 'skipped'] as const) counts[key] += outcome.counts[key];
  count(`${name} tests`, counts, seconds);
  return outcomes;
}

interface FileOutcome {
  /** Undefined for what went wrong outside of the files. */
  readonly file: string | undefined;
  readonly counts: Counts;
  /** What failed and why. */
  readonly failures: readonly string[];
}

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string; readonly failureMessages?: readonly string[] }[];
  }[];
}

function readReport(report: string): FileOutcome[] {
  const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as Report;
  return testResults.map(({ name, status, message, assertionResults }) => {
    const file = relative(TOP, name);
    const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
    const failures = message ? [`${file}: ${beginning(message)}`] : [];
    for (const test of assertionResults) {
      counts[test.status === 'passed' || test.status === 'failed' ? test.status : 'skipped']++;
      if (test.status === 'failed') failures.push(`${file}: ${test.fullName}\n${beginning((test.failureMessages ?? []).join('\n'))}`);
    }
    // What is done before the tests or after them failed.
    if (status === 'failed' && counts.failed === 0) counts.failed = 1;
    return { file, counts, failures };
  });
}

function beginning(message: string): string {
  return message.split('\n').slice(0, MESSAGE_LINES).join('\n');
}

/** Of stages that run beside each other, one keeps its output until it ends. */
type Speaking = 'at once' | 'at the end';

interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Default: at once. */
  readonly speak?: Speaking;
}

async function run(name: string, command: string, args: readonly string[], options: RunOptions = {}): Promise<{ status: number; seconds: number }> {
  const { env = {}, speak = 'at once' } = options;
  if (speak === 'at once') title(name);
  const start = performance.now();
  const local = join(TOP, 'node_modules/.bin', command);
  const output = speak === 'at once' ? 'inherit' : 'pipe';
  const child = spawn(existsSync(local) ? local : command, args, {
    cwd: TOP,
    stdio: ['ignore', output, output],
    env: { ...process.env, ...env },
  });
  const ended = new Promise<number>((resolve) => {
    child.once('error', () => resolve(1));
    child.once('close', (status) => resolve(status ?? 1));
  });
  const [status, out, errors] = await Promise.all([ended, child.stdout ? text(child.stdout) : '', child.stderr ? text(child.stderr) : '']);
  if (speak === 'at the end') {
    title(name);
    console.log(out, errors);
  }
  return { status, seconds: (performance.now() - start) / 1000 };
}

function count(name: string, counts: Counts, seconds: number): void {
  totals.passed += counts.passed;
  totals.failed += counts.failed;
  totals.skipped += counts.skipped;
  summary.push(
    `${name.padEnd(14)} ${String(counts.passed).padStart(5)} passed ${String(counts.failed).padStart(4)} failed ${seconds.toFixed(1).padStart(7)} s`,
  );
}

function leaveOut(what: string, why: string): void {
  console.log(`\nLeft out: ${what}: ${why}`);
  summary.push(`left out: ${what} (${why})`);
}

function title(name: string): void {
  console.log(`\n=== ${name} ===`);
}
