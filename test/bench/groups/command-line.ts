/**
 * The built command beside QEMU's, on the same files in the system's folder for temporary ones. Times are wall clock, except of `bench`,
 * whose own report counts. Where Node's start-up is left out, that of an empty script in the same round is taken off.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'vite';
import { type Bench, type Group, generator, interleave, noise, type Row } from '../harness.ts';
import { KIB, MIB } from '../opfs-files.ts';

const TOP = join(import.meta.dirname, '../../..');
const LARGE = 2048 * MIB;
/** QEMU compresses 20 to 40 MiB a second. */
const COMPRESSED = 256 * MIB;
const MOST_ROUNDS = 5;

const BENCH = ['bench', '-c', '100000', '-d', '1', '-s', '4096', '-f', 'qcow2'];
const CONVERT = { anchor: 'qemu-img convert' };
const apart = 'start-up of node apart';

/** qcow2 comes first: what it takes is what the others may take. */
const OTHER_FORMATS = ['qcow2', 'qcow', 'qed', 'vdi', 'vpc', 'vhdx', 'vmdk', 'parallels'];
const idsOf = (format: string) => ({ to: `cli-to-${format}-small`, from: `cli-from-${format}-small` });

const rows: readonly Row[] = [
  { id: 'cli-bench-read', what: '`tabdisk bench -c 100000 -d 1 -s 4096`, read', anchor: 'qemu-img bench', target: 0.2 },
  { id: 'cli-bench-write', what: '`tabdisk bench -c 100000 -d 1 -s 4096 -w`', anchor: 'qemu-img bench', target: 0.3 },
  { id: 'cli-to-qcow2', what: 'convert raw to qcow2, 2 GiB half full', ...CONVERT, target: 1 },
  { id: 'cli-to-raw', what: 'convert qcow2 to raw, 2 GiB half full', ...CONVERT, target: 1 },
  { id: 'cli-compress', what: 'convert -c', ...CONVERT, target: 1 },
  { id: 'cli-decompress', what: 'convert from compressed', ...CONVERT, target: 1.2 },
  ...OTHER_FORMATS.flatMap((format) => [
    { id: idsOf(format).to, what: `convert raw to ${format}, 512 MiB half full`, ...CONVERT },
    { id: idsOf(format).from, what: `convert ${format} to raw, 512 MiB half full`, ...CONVERT },
  ]),
  { id: 'cli-compare', what: `compare on the same (${apart})`, anchor: 'qemu-img compare', target: 1.2 },
  { id: 'cli-check', what: `check on the same (${apart})`, anchor: 'qemu-img check', target: 1.2 },
  { id: 'cli-map', what: `map on the same (${apart})`, anchor: 'qemu-img map', target: 1.2 },
];

export const commandLine: Group = { name: 'command line', where: 'node', rows, measure };

async function measure(bench: Bench): Promise<void> {
  bench.progress('building the command');
  await build({ configFile: join(TOP, 'vite.config.ts'), mode: 'cli', logLevel: 'error' });
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-bench-'));
  try {
    await measureBench(bench, folder);
    await measureLarge(bench, folder);
    await measureOthers(bench, folder);
    await measureCompressed(bench, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measureBench(bench: Bench, folder: string): Promise<void> {
  const ids = { 'cli-bench-read': [], 'cli-bench-write': ['-w'] };
  for (const [id, more] of Object.entries(ids)) {
    if (!bench.wants(id)) continue;
    bench.progress(id);
    const image = join(folder, 'bench.qcow2');
    qemu(['create', '-q', '-f', 'qcow2', image, '1G']);
    qemu([...BENCH, '-w', image]);
    const reported = (text: string) => (Number(/completed in ([\d.]+)/.exec(text)?.[1]) * 1e6) / 100_000;
    const sides = { anchor: () => reported(qemu([...BENCH, ...more, image]).text), ours: () => reported(ours([...BENCH, ...more, image]).text) };
    bench.record(id, await interleave(few(bench), sides));
    rmSync(image);
  }
}

async function measureLarge(bench: Bench, folder: string): Promise<void> {
  if (!['cli-to-qcow2', 'cli-to-raw', 'cli-compare', 'cli-check', 'cli-map'].some(bench.wants)) return;
  bench.progress('2 GiB');
  const raw = join(folder, 'large.raw');
  const image = join(folder, 'large.qcow2');
  halfFull(raw, LARGE, (index) => noise(MIB, index));
  qemu(['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
  const out = join(folder, 'out');
  await both(bench, 'cli-to-qcow2', ['convert', '-f', 'raw', '-O', 'qcow2', raw, out], { made: out });
  await both(bench, 'cli-to-raw', ['convert', '-f', 'qcow2', '-O', 'raw', image, out], { made: out });
  await both(bench, 'cli-compare', ['compare', '-f', 'raw', '-F', 'qcow2', raw, image], { startApart: true });
  await both(bench, 'cli-check', ['check', '-f', 'qcow2', image], { startApart: true });
  await both(bench, 'cli-map', ['map', '-f', 'qcow2', '--output=json', image], { startApart: true });
  rmSync(raw);
  rmSync(image);
}

/** Smaller than for qcow2: the rows are many. */
async function measureOthers(bench: Bench, folder: string): Promise<void> {
  if (!OTHER_FORMATS.some((format) => Object.values(idsOf(format)).some(bench.wants))) return;
  const [raw, image, out] = ['small.raw', 'small.image', 'out'].map((name) => join(folder, name)) as [string, string, string];
  halfFull(raw, 512 * MIB, (index) => noise(MIB, index));
  for (const format of OTHER_FORMATS) {
    const { to, from } = idsOf(format);
    qemu(['convert', '-f', 'raw', '-O', format, raw, image]);
    await both(bench, to, ['convert', '-f', 'raw', '-O', format, raw, out], { made: out });
    await both(bench, from, ['convert', '-f', format, '-O', 'raw', image, out], { made: out });
    rmSync(image);
  }
  rmSync(raw);
}

async function measureCompressed(bench: Bench, folder: string): Promise<void> {
  if (!['cli-compress', 'cli-decompress'].some(bench.wants)) return;
  const raw = join(folder, 'text.raw');
  const image = join(folder, 'packed.qcow2');
  const out = join(folder, 'out');
  halfFull(raw, COMPRESSED, halfText);
  qemu(['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, image]);
  await both(bench, 'cli-compress', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, out], { made: out });
  await both(bench, 'cli-decompress', ['convert', '-f', 'qcow2', '-O', 'raw', image, out], { made: out });
}

/** The same arguments for both; what they made is removed in between. */
async function both(bench: Bench, id: string, args: string[], { made, startApart = false }: { made?: string; startApart?: boolean }): Promise<void> {
  if (!bench.wants(id)) return;
  bench.progress(id);
  const cleaned = (time: number) => {
    if (made) rmSync(made);
    return time;
  };
  const sides = {
    anchor: () => cleaned(qemu(args).time),
    ours: () => {
      const start = startApart ? timed(process.execPath, ['-e', '0']).time : 0;
      return cleaned(ours(args).time - start);
    },
  };
  bench.record(id, await interleave(few(bench), sides, 'ms'));
}

const few = ({ rounds }: Bench) => Math.min(MOST_ROUNDS, rounds);
const qemu = (args: readonly string[]) => timed('qemu-img', args);
const ours = (args: readonly string[]) => timed(process.execPath, [join(TOP, 'dist/cli.js'), ...args]);

/** Milliseconds that a command takes, and what it printed. */
function timed(command: string, args: readonly string[]): { time: number; text: string } {
  const start = performance.now();
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 64 * MIB });
  const time = performance.now() - start;
  if (error || status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stderr}`);
  return { time, text: stdout };
}

/** A raw image whose every other run of 1 to 8 MiB is a hole. */
function halfFull(path: string, size: number, block: (index: number) => Uint8Array): void {
  const random = generator(size);
  const file = openSync(path, 'w');
  const blocks = Array.from({ length: 16 }, (_, index) => block(index));
  for (let at = 0; at < size; ) {
    const length = (1 + (random() % 8)) * MIB;
    for (let end = Math.min(size, at + length); at < end; at += MIB) writeSync(file, blocks[random() % 16] as Uint8Array, 0, MIB, at);
    at += length;
  }
  ftruncateSync(file, size);
  closeSync(file);
}

/** Words from a short list, and noise in between: compresses to about half. */
function halfText(index: number): Uint8Array {
  const bytes = noise(MIB, index);
  const words = Array.from({ length: 256 }, (_, word) => (word * 2_654_435_761).toString(36));
  const random = generator(index);
  for (let at = 0; at < MIB; at += 8 * KIB) {
    let text = '';
    while (text.length < 5 * KIB) text += `${words[random() % 256]} `;
    bytes.set(new TextEncoder().encode(text.slice(0, 5 * KIB)), at);
  }
  return bytes;
}
