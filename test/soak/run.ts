/**
 * `npm run soak [-- --minutes 30] [--seed 1]`: random operations with reopening, against the naive model, until the time is up. Prints the
 * seed of the case under way, the rate, and resident memory, which must stay flat: at the end within 10 % of that after a sixth of the time.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { runCase } from '../model/run-case.ts';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '30' }, seed: { type: 'string', default: '1' } } });
const cases = [
  { format: 'raw', options: {} },
  { format: 'qcow2', options: { cluster_size: 512 } },
  { format: 'qcow2', options: { cluster_size: 512, refcount_bits: 64 } },
  { format: 'qcow2', options: { cluster_size: 4096, compat: '0.10' } },
  { format: 'qcow2', options: { cluster_size: 4096, refcount_bits: 1 } },
  { format: 'qcow2', options: { cluster_size: 65536 } },
  { format: 'qcow2', options: { cluster_size: 16384, extended_l2: 'on' } },
];
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-soak-'));
const started = Date.now();
const length = Number(values.minutes) * 60_000;
const rounds = 4;
const count = 200;
let seed = Number(values.seed);
let operations = 0;
let early: number | undefined;
let said = started;

/** Resident memory in MiB, after a garbage collection where Node was started with --expose-gc. */
function resident(): number {
  globalThis.gc?.();
  return process.memoryUsage.rss() / 2 ** 20;
}

try {
  for (; Date.now() - started < length; seed++) {
    const one = cases[seed % cases.length] as (typeof cases)[number];
    const path = join(folder, 'image');
    rmSync(path, { force: true });
    await runCase({ open: () => nodeFileStorage(path, { create: 'if-missing' }), ...one, seed, rounds, count });
    operations += rounds * count;
    if (early === undefined && Date.now() - started > length / 6) early = resident();
    if (Date.now() - said > 30_000) {
      said = Date.now();
      const rate = Math.round((operations * 1000) / (said - started));
      process.stdout.write(`seed ${seed}: ${operations} operations, ${rate} a second, ${Math.round(resident())} MiB resident\n`);
    }
  }
  const late = resident();
  const drift = early === undefined ? 0 : late / early - 1;
  process.stdout.write(
    `soak: seeds ${values.seed} to ${seed - 1}, ${operations} operations, no divergence; resident ${Math.round(early ?? late)} MiB early, ${Math.round(late)} MiB at the end\n`,
  );
  if (drift > 0.1) {
    process.stdout.write(`resident memory grew by ${Math.round(drift * 100)} %\n`);
    process.exitCode = 1;
  }
} catch (error) {
  process.stdout.write(`seed ${seed}: ${error instanceof Error ? error.stack : error}\n`);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true });
}
