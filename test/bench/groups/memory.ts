/** Resident memory of processes that do one thing (test/bench/memory.ts), as the kernel counts it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Bench, Group, Row } from '../harness.ts';

const ROUNDS = 3;

const rows: readonly Row[] = [
  { id: 'memory-reads', what: 'memory: 200,000 random reads all over a 1 TiB image, above baseline', target: 96, unit: 'MiB' },
  { id: 'memory-convert', what: 'memory: convert of 8 GiB, resident at most', target: 256, unit: 'MiB' },
];

export const memory: Group = { name: 'memory', where: 'node', rows, measure };

async function measure(bench: Bench): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-bench-'));
  try {
    if (bench.wants('memory-reads')) {
      const image = join(folder, 'large.qcow2');
      // Every table there is: 128 MiB of them. The clusters behind them are holes.
      run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', image, '1T']);
      record(bench, 'memory-reads', () => script(['reads', image]));
      rmSync(image);
    }
    if (bench.wants('memory-convert')) {
      const raw = join(folder, 'large.raw');
      writeFileSync(raw, '');
      truncateSync(raw, 8 * 2 ** 30);
      run('qemu-io', ['-f', 'raw', '-c', 'write -P 5 0 1G', '-c', 'write -P 6 6G 1G', raw]);
      record(bench, 'memory-convert', () => script(['convert', raw, join(folder, 'out.qcow2')]));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function record(bench: Bench, id: string, once: () => number): void {
  bench.progress(id);
  bench.record(id, { ours: Array.from({ length: Math.min(ROUNDS, bench.rounds) }, once), unit: 'MiB' });
}

const script = (args: readonly string[]) =>
  Number(run(process.execPath, ['--expose-gc', '--import', 'tsx', join(import.meta.dirname, '../memory.ts'), ...args]));

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (error || status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stderr}`);
  return stdout;
}
