/**
 * `npm run bench:start`: what starting the built command line costs over starting Node, which scripts pay for every image. The two are
 * run in turn; the aim is a ratio below 2. Build first: `npm run build`.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROUNDS = 21;
const cli = join(import.meta.dirname, '../../dist/cli.js');
if (!existsSync(cli)) throw new Error('dist/cli.js is not there: run "npm run build" first');

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-start-'));
try {
  const image = join(folder, 'small.qcow2');
  time([cli, 'create', '-q', '-f', 'qcow2', image, '1M']);
  const rounds = Array.from({ length: ROUNDS }, () => ({ bare: time(['-e', '0']), info: time([cli, 'info', image]) }));
  const middle = (values: readonly number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
  console.log(`node -e 0      ${middle(rounds.map(({ bare }) => bare)).toFixed(0)} ms`);
  console.log(`tabdisk info   ${middle(rounds.map(({ info }) => info)).toFixed(0)} ms`);
  console.log(`ratio          ${middle(rounds.map(({ bare, info }) => info / bare)).toFixed(2)} (aim: below 2)`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Milliseconds that a run of Node with these arguments takes. */
function time(args: readonly string[]): number {
  const start = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`node ${args.join(' ')}: ${stderr}`);
  return performance.now() - start;
}
