/**
 * stream and commit beside QEMU's own: chains that QEMU made, streamed by us and by QEMU's block-stream, committed by us and by qemu-img, come to
 * the same; and under a guest they read as if QEMU had made the guest's writes. `TABDISK_ORACLE_SEEDS` says how many chains (2).
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { resolve as absolute, dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import type { PaceOptions } from '../../src/base/job.ts';
import { KiB } from '../../src/base/units.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { openDisk } from '../../src/disk/open.ts';
import type { Resolve } from '../../src/disk/reference.ts';
import { commitNodes } from '../../src/jobs/commit.ts';
import { streamNode } from '../../src/jobs/stream.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Random } from '../random.ts';
import { qemuImg, qemuIo, requireClean } from './qemu.ts';
import { qemuJob } from './storage-daemon.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-jobs-'));
afterAll(() => rmSync(folder, { recursive: true }));

const SIZE = 3000 * KiB;
const SEEDS = Array.from({ length: Number(process.env.TABDISK_ORACLE_SEEDS ?? 2) }, (_, i) => i + 1);

const resolve: Resolve = ({ name, from, writable }) => nodeFileStorage(absolute(dirname(from), name), { readOnly: !writable });
const open = (path: string, writableBacking = 0): Promise<Disk> => openDisk(nodeFileStorage(path), { format: 'qcow2', resolve, writableBacking });

/** Writes and zeros, as qemu-io is told them. */
function someWrites(random: Random, size: number, count: number): string[] {
  return Array.from({ length: count }, () => {
    const offset = random.between(0, size / 512 - 1) * 512;
    const length = Math.min(size - offset, random.between(1, 300) * 512);
    return random.chance(0.75) ? `write -P ${random.between(1, 255)} ${offset} ${length}` : `write -z ${offset} ${length}`;
  });
}

/** The same on one of our disks, without waiting. */
function apply(disk: Disk, command: string): void {
  const [, kind, ...numbers] = command.split(' ');
  const values = numbers.map(Number);
  const [offset, length] = values.slice(-2) as [number, number];
  if (kind === '-z') disk.zeroSync(offset, length);
  else disk.writeSync(offset, new Uint8Array(length).fill(values[0] as number));
}

/** Of the active image: QEMU 7.2 dies of an assertion while it streams into one with subclusters. */
const TOP_OPTIONS = ['cluster_size=64k', 'cluster_size=4k', 'cluster_size=512', 'cluster_size=64k,compat=0.10'];
const OPTIONS = [...TOP_OPTIONS, 'cluster_size=32k,extended_l2=on'];

/** A chain that QEMU makes, the active image first in `names`. */
function makeChain(into: string, names: readonly string[], random: Random): void {
  mkdirSync(into);
  for (let index = names.length - 1; index >= 0; index--) {
    const path = join(into, names[index] as string);
    const below = names[index + 1];
    qemuImg(
      'create',
      '-q',
      '-f',
      'qcow2',
      '-o',
      random.pick(index === 0 ? TOP_OPTIONS : OPTIONS),
      ...(below ? ['-b', below, '-F', 'qcow2'] : []),
      path,
      String(SIZE),
    );
    qemuIo(path, 'qcow2', someWrites(random, SIZE, 7));
  }
}

function copyOf(source: string, name: string): string {
  const target = `${source}-${name}`;
  cpSync(source, target, { recursive: true });
  return target;
}

/** Bytes of data in an image without others below it, as qemu-img map tells. */
function dataBytes(path: string): number {
  const runs = JSON.parse(qemuImg('map', '--output=json', path)) as { length: number; data: boolean }[];
  return runs.reduce((sum, { length, data }) => sum + (data ? length : 0), 0);
}

function requireSame(one: string, other: string, context: string): void {
  requireClean(one, context);
  requireClean(other, context);
  expect(qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', one, other), context).toContain('Images are identical.');
}

const backingOf = (path: string) => (JSON.parse(qemuImg('info', '--output=json', path)) as Record<string, unknown>)['backing-filename'];

describe.each(SEEDS)('chain %i', (seed) => {
  const random = new Random(seed);
  const names = ['top', 'mid', 'low', 'base'].slice(0, random.between(3, 4));
  const made = join(folder, `chain-${seed}`);
  makeChain(made, names, random);

  it.each([undefined, random.between(2, names.length - 1)])('streamed down to %s is what QEMU makes of it', async (base) => {
    const [ours, theirs] = [copyOf(made, `ours-${base}`), copyOf(made, `theirs-${base}`)];
    const name = base === undefined ? undefined : (names[base] as string);
    const disk = await open(join(ours, 'top'));
    await runAsync(streamNode(disk.node, base === undefined ? {} : { base }));
    await disk.close();
    await qemuJob(join(theirs, 'top'), 'block-stream', name === undefined ? {} : { base: join(theirs, name), 'backing-file': name });
    expect(backingOf(join(ours, 'top'))).toBe(name);
    expect(backingOf(join(theirs, 'top'))).toBe(name);
    // Neither has anything else below it any more.
    for (const gone of names.slice(1, base)) for (const place of [ours, theirs]) rmSync(join(place, gone));
    requireSame(join(ours, 'top'), join(theirs, 'top'), `seed ${seed}, base ${base}`);
    requireSame(join(ours, 'top'), join(made, 'top'), `seed ${seed}, base ${base}, before and after`);
    // We leave out what reads as zero without images below as well; QEMU writes zeros where the format cannot mark them.
    if (base === undefined) expect(dataBytes(join(ours, 'top'))).toBeLessThanOrEqual(dataBytes(join(theirs, 'top')));
  });

  it.each([1, 2])('committed %i down is what qemu-img makes of it', async (depth) => {
    const [ours, theirs] = [copyOf(made, `ours+${depth}`), copyOf(made, `theirs+${depth}`)];
    const base = names[depth] as string;
    const disk = await open(join(ours, 'top'), depth);
    await runAsync(commitNodes(disk.node, { depth }));
    await disk.close();
    qemuImg('commit', '-q', '-f', 'qcow2', ...(depth === 1 ? [] : ['-b', join(theirs, base)]), join(theirs, 'top'));
    for (const name of [base, 'top']) requireSame(join(ours, name), join(theirs, name), `seed ${seed}, ${name} of a commit ${depth} down`);
    requireSame(join(ours, base), join(made, 'top'), `seed ${seed}, before and after`);
  });

  it.each(['stream', 'commit'] as const)('under a guest, %s changes nothing but what the guest writes', async (job) => {
    const [ours, theirs] = [copyOf(made, `ours of ${job}`), copyOf(made, `theirs of ${job}`)];
    const written: string[] = [];
    const disk = await open(join(ours, 'top'), 1);
    const options: PaceOptions & { piece: number } = {
      everyStep: true,
      piece: 64 * KiB,
      onProgress: (done, total) => {
        if (done === total || random.chance(0.7)) return;
        const [command] = someWrites(random, SIZE, 1) as [string];
        apply(disk, command);
        written.push(command);
      },
    };
    await runAsync<unknown>(job === 'stream' ? streamNode(disk.node, options) : commitNodes(disk.node, options));
    await disk.close();
    expect(written.length).toBeGreaterThan(0);
    qemuIo(join(theirs, 'top'), 'qcow2', written);
    requireSame(join(ours, job === 'stream' ? 'top' : 'mid'), join(theirs, 'top'), `seed ${seed}, ${job} under a guest`);
  });
});
