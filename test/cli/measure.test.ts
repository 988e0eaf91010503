/** measure, dd and bench beside qemu-img: the same numbers, words and files. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pattern } from '../jobs/fixtures.ts';
import { Sides } from './harness.ts';

const sides = new Sides();
beforeAll(() => {
  const create = (name: string, size: string, ...options: string[]) =>
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', ...options, name, size);
  const io = (name: string, ...commands: string[]) =>
    sides.prepare('qemu-io', '-f', 'qcow2', name, ...commands.flatMap((command) => ['-c', command]));
  sides.put('full.raw', pattern(300_000, 3));
  create('a.qcow2', '70M');
  io('a.qcow2', 'write -P 1 1M 3M', 'write -P 2 60M 5k', 'write -z 10M 1M', 'write -P 9 69M 1M');
  sides.prepare('qemu-img', 'snapshot', '-c', 'one', 'a.qcow2');
  io('a.qcow2', 'write -P 3 30M 2M');
  create('small.qcow2', '3M', '-o', 'cluster_size=512');
  io('small.qcow2', 'write -P 1 10k 1', 'write -P 1 11000 600', 'write -P 1 1M 100k', 'write -P 4 2048k 3k');
  create('old.qcow2', '5M', '-o', 'compat=0.10');
  io('old.qcow2', 'write -P 1 100k 1M');
  create('over.qcow2', '80M', '-b', 'a.qcow2', '-F', 'qcow2');
  io('over.qcow2', 'write -P 5 2M 100k', 'write -P 6 75M 1M', 'write -z 1M 64k');
  create('sub.qcow2', '80M', '-o', 'extended_l2=on,cluster_size=16k', '-b', 'a.qcow2', '-F', 'qcow2');
  io('sub.qcow2', 'write -P 5 2M 1k', 'write -P 6 70M 5k', 'write -z 1M 3k', 'write -z 75M 20k');
});
afterAll(() => sides.remove());

const IMAGES = ['full.raw', 'a.qcow2', 'small.qcow2', 'old.qcow2', 'over.qcow2', 'sub.qcow2'];
const OPTIONS = [
  '',
  'cluster_size=512',
  'cluster_size=2M',
  'refcount_bits=1',
  'refcount_bits=64,cluster_size=4k',
  'compat=0.10',
  'preallocation=full',
  'preallocation=metadata',
  'extended_l2=on',
  'extended_l2=on,cluster_size=16k,backing_file=x,backing_fmt=raw',
  'lazy_refcounts=on',
  'backing_file=x,backing_fmt=raw',
];

describe('measure', () => {
  it.each(IMAGES)('%s', async (image) => {
    await sides.same('measure', image);
    for (const options of OPTIONS) {
      const given = options === '' ? [] : ['-o', options];
      await sides.sameJson('measure', '--output=json', '-O', 'qcow2', ...given, image);
      await sides.same('measure', '-O', 'qcow2', ...given, image);
    }
  });

  it.each(['0', '1000', '8M', '1G', '3T', '2P'])('--size %s', async (size) => {
    await sides.sameJson('measure', '--output=json', '--size', size);
    for (const options of ['cluster_size=64k', 'cluster_size=2M,refcount_bits=8', 'extended_l2=on'])
      await sides.same('measure', '-O', 'qcow2', '-o', options, '--size', size);
  });

  it('a snapshot, and beside others', async () => {
    await sides.same('measure', '-O', 'qcow2', '-l', 'one', 'a.qcow2');
    await sides.same('measure', '-U', '-f', 'qcow2', '-O', 'qcow2', 'a.qcow2');
  });

  it('is what a conversion then takes', async () => {
    const { required } = (await sides.sameJson('measure', '--output=json', '-O', 'qcow2', 'a.qcow2')) as { required: number };
    await sides.tabdisk(['convert', '-O', 'qcow2', 'a.qcow2', 'copy.qcow2']);
    expect(readFileSync(join(sides.ours, 'copy.qcow2')).length).toBeLessThanOrEqual(required);
  });
});

describe('dd', () => {
  it.each([
    [['if=small.qcow2', 'of=out']],
    [['if=small.qcow2', 'of=out', 'bs=1M', 'count=2', 'skip=1']],
    [['if=small.qcow2', 'of=out', 'bs=100', 'count=5', 'skip=1']],
    [['if=small.qcow2', 'of=out', 'bs=1.5k', 'count=9']],
    [['if=small.qcow2', 'of=out', 'count=0']],
    [['-O', 'qcow2', 'if=small.qcow2', 'of=out', 'bs=700', 'count=1600']],
    [['-f', 'raw', '-O', 'qcow2', 'if=small.qcow2', 'of=out', 'skip=3', 'bs=4k']],
    [['-U', '-f', 'raw', 'if=full.raw', 'of=out', 'bs=64k', 'skip=2']],
    [['-f', 'raw', 'if=full.raw', 'of=out', 'bs=7', 'skip=11', 'count=40000']],
  ])('%j', async (args) => {
    await sides.same('dd', ...args);
    const raw = [sides.ours, sides.theirs].map((side) => {
      const format = args.includes('-O') ? 'qcow2' : 'raw';
      expect(sides.qemu('qemu-img', ['convert', '-f', format, '-O', 'raw', 'out', 'flat'], { side }).err).toBe('');
      return readFileSync(join(side, 'flat'));
    });
    expect(raw[0]?.equals(raw[1] as Buffer)).toBe(true);
    if (args.includes('qcow2')) await sides.sameJson('map', '-f', 'qcow2', '--output=json', 'out');
  });
});

describe('bench', () => {
  it.each([
    'bench -c 0 a.qcow2',
    'bench -c 300 a.qcow2',
    'bench -c 10 -d 3 -s 5 a.qcow2',
    'bench -c 20 -s 0 a.qcow2',
    'bench -q -c 10 -S 1M -o 512 a.qcow2',
    'bench -c 100 -S 3M a.qcow2',
    'bench --no-drain -c 10 a.qcow2',
    'bench -c 4 -s 3M -S 40M a.qcow2',
  ])('%s', async (line) => {
    await sides.same(...line.split(' '));
  });

  it.each([
    'bench -w -c 50 -d 4 -s 3000 -S 5001 --pattern=0x61 small.qcow2',
    'bench -w -c 50 -d 2 -s 4k -o 1M --pattern=7 --flush-interval=5 small.qcow2',
    'bench -w -c 50 -d 2 -s 4k -o 100k --pattern=9 --flush-interval=7 --no-drain -t writethrough small.qcow2',
  ])('%s writes what QEMU writes', async (line) => {
    await sides.same(...line.split(' '));
    const [ours, theirs] = [sides.ours, sides.theirs].map((side) => {
      expect(sides.qemu('qemu-img', ['convert', '-O', 'raw', 'small.qcow2', 'flat'], { side }).err).toBe('');
      return readFileSync(join(side, 'flat'));
    });
    expect(ours?.equals(theirs as Buffer)).toBe(true);
    expect(sides.qemu('qemu-img', ['check', '-q', 'small.qcow2'], { side: sides.ours }).status).toBe(0);
  });
});
