/** commit and rebase beside qemu-img: the same words, the same contents, and each side's images in the other's hands. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Sides } from './harness.ts';

const MiB = 1024 * 1024;

let sides: Sides;
beforeEach(() => {
  sides = new Sides();
});
afterEach(() => sides.remove());

function make(name: string, size: number, { backing, options = [] }: { backing?: string; options?: string[] } = {}): void {
  const below = backing === undefined ? [] : ['-b', backing, '-F', backing.endsWith('.raw') ? 'raw' : 'qcow2'];
  sides.prepare('qemu-img', 'create', '-q', '-f', name.endsWith('.raw') ? 'raw' : 'qcow2', ...below, ...options, name, String(size));
}

function fill(name: string, ...commands: string[]): void {
  sides.prepare('qemu-io', '-f', name.endsWith('.raw') ? 'raw' : 'qcow2', name, ...commands.flatMap((command) => ['-c', command]));
}

/** A base of 3 MiB, in the middle 2 MiB, on top 5 MiB: data, zeros and nothing at all of each in view of the others. */
function chain(options: string[] = []): void {
  make('base.qcow2', 3 * MiB);
  fill('base.qcow2', 'write -P 1 0 1M', 'write -P 2 2M 900k');
  make('mid.qcow2', 2 * MiB, { backing: 'base.qcow2', options });
  fill('mid.qcow2', 'write -P 3 300k 200k', 'write -P 4 1500k 100k');
  make('top.qcow2', 5 * MiB, { backing: 'mid.qcow2', options });
  fill('top.qcow2', 'write -P 5 100k 70k', 'write -P 6 1600k 10k', 'write -z 700k 200k', 'write -P 7 4000k 300k', 'write -P 8 2100k 3k');
}

/** What our image reads as, through qemu-img. */
function contents(name: string, side = sides.ours): Buffer {
  const done = sides.qemu('qemu-img', ['convert', '-O', 'raw', name, 'contents.raw'], { side });
  expect(done.err).toBe('');
  return readFileSync(join(side, 'contents.raw'));
}

function clean(...names: string[]): void {
  for (const name of names)
    expect(sides.qemu('qemu-img', ['check', '-q', name], { side: sides.ours }), name).toEqual({ out: '', err: '', status: 0 });
}

/** Runs the command on both sides; what `name` reads as afterwards is the same on both. */
async function sameContents(args: string[], ...names: string[]): Promise<void> {
  await sides.same(...args);
  for (const name of names) expect(contents(name).equals(contents(name, sides.theirs)), `${args.join(' ')}: ${name}`).toBe(true);
}

describe('commit', () => {
  it.each([[[]], [['-o', 'cluster_size=1k']], [['-o', 'cluster_size=4k,refcount_bits=64']], [['-o', 'extended_l2=on,cluster_size=16k']]])(
    'empties the top image, which reads the same (%j)',
    async (options) => {
      chain(options);
      const before = contents('top.qcow2');
      await sameContents(['commit', 'top.qcow2'], 'top.qcow2', 'mid.qcow2', 'base.qcow2');
      expect(contents('top.qcow2').equals(before)).toBe(true);
      expect(contents('mid.qcow2').equals(before)).toBe(true);
      clean('top.qcow2', 'mid.qcow2', 'base.qcow2');
      const map = JSON.parse((await sides.tabdisk(['map', '--output=json', 'top.qcow2'])).out) as { depth: number; present: boolean }[];
      expect(map.filter(({ depth, present }) => present && depth === 0)).toEqual([]);
      // And QEMU goes on with what we left.
      expect(sides.qemu('qemu-img', ['commit', 'mid.qcow2'], { side: sides.ours }).out).toBe('Image committed.\n');
      expect(contents('base.qcow2').equals(before)).toBe(true);
    },
  );

  it('keeps the top image with -d, and reaches further down with -b', async () => {
    chain();
    const before = contents('top.qcow2');
    const top = readFileSync(join(sides.ours, 'top.qcow2'));
    await sameContents(['commit', '-q', '-d', 'top.qcow2'], 'mid.qcow2');
    await sameContents(['commit', '-b', 'base.qcow2', 'top.qcow2'], 'base.qcow2', 'top.qcow2');
    expect(readFileSync(join(sides.ours, 'top.qcow2')).equals(top)).toBe(true);
    expect(contents('base.qcow2').equals(before)).toBe(true);
    clean('top.qcow2', 'mid.qcow2', 'base.qcow2');
  });

  it('writes zeros where an image in between is too short to show the base', async () => {
    make('base.qcow2', 3 * MiB);
    fill('base.qcow2', 'write -P 9 0 3M');
    make('mid.qcow2', MiB, { backing: 'base.qcow2' });
    make('top.qcow2', 3 * MiB, { backing: 'mid.qcow2' });
    fill('top.qcow2', 'write -P 5 2M 64k');
    const before = contents('top.qcow2');
    await sameContents(['commit', '-b', 'base.qcow2', 'top.qcow2'], 'base.qcow2');
    expect(contents('base.qcow2').equals(before)).toBe(true);
  });

  it.each(['compat=1.1', 'compat=0.10'])('goes into a raw base, with internal snapshots in the top image (%s)', async (options) => {
    make('base.raw', 2 * MiB);
    fill('base.raw', 'write -P 1 0 2M');
    make('top.qcow2', 2 * MiB, { backing: 'base.raw', options: ['-o', options] });
    fill('top.qcow2', 'write -P 5 100k 170k');
    sides.prepare('qemu-img', 'snapshot', '-c', 'one', 'top.qcow2');
    fill('top.qcow2', 'write -P 6 200k 300k');
    await sameContents(['commit', 'top.qcow2'], 'top.qcow2');
    expect(readFileSync(join(sides.ours, 'base.raw')).equals(readFileSync(join(sides.theirs, 'base.raw')))).toBe(true);
    await sameContents(['snapshot', '-a', 'one', 'top.qcow2'], 'top.qcow2');
    clean('top.qcow2');
  });
});

describe('rebase', () => {
  const others = ['other.qcow2', 'long.raw', 'short.qcow2', 'base.qcow2', ''] as const;

  async function rebased(to: string, options: string[]): Promise<void> {
    chain(options);
    make('other.qcow2', 5 * MiB);
    fill('other.qcow2', 'write -P 1 0 512k', 'write -P 77 600k 2M', 'write -P 2 4M 900k');
    make('long.raw', 7 * MiB);
    fill('long.raw', 'write -P 2 0 7M');
    make('short.qcow2', MiB);
    fill('short.qcow2', 'write -P 3 200k 800k');
    const before = contents('top.qcow2');
    const format = to === '' ? [] : ['-F', to.endsWith('.raw') ? 'raw' : 'qcow2'];
    await sameContents(['rebase', '-b', to, ...format, 'top.qcow2'], 'top.qcow2');
    expect(contents('top.qcow2').equals(before)).toBe(true);
    clean('top.qcow2');
    await sides.sameJson('info', '--output=json', 'top.qcow2');
    // QEMU rebases back what we rebased.
    expect(sides.qemu('qemu-img', ['rebase', '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2'], { side: sides.ours })).toEqual({
      out: '',
      err: '',
      status: 0,
    });
    expect(contents('top.qcow2').equals(before)).toBe(true);
  }

  it.each(others)('keeps what the image reads as, over "%s"', (to) => rebased(to, []));
  it.each(others)('the same with small clusters and version 2, over "%s"', (to) => rebased(to, ['-o', 'compat=0.10,cluster_size=1k']));

  it.each(['other.qcow2', 'short.qcow2'])('the same with subclusters, over "%s"', (to) => rebased(to, ['-o', 'extended_l2=on,cluster_size=16k']));

  it('copies no more than QEMU where the new backing file is in the old chain', async () => {
    chain();
    await sides.same('rebase', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2');
    const runs = async (side: 'tabdisk' | 'qemu') => {
      const args = ['map', '--output=json', 'top.qcow2'];
      const { out } = side === 'tabdisk' ? await sides.tabdisk(args) : sides.qemu('qemu-img', args);
      const map = JSON.parse(out) as { start: number; length: number; depth: number; present: boolean }[];
      return map.filter(({ depth, present }) => present && depth === 0).reduce((sum, { length }) => sum + length, 0);
    };
    expect(await runs('tabdisk')).toBeLessThanOrEqual(await runs('qemu'));
  });

  it('gives an image without one a backing file', async () => {
    make('top.qcow2', 3 * MiB);
    fill('top.qcow2', 'write -P 5 100k 70k');
    make('other.qcow2', 2 * MiB);
    fill('other.qcow2', 'write -P 77 0 1M');
    await sameContents(['rebase', '-b', 'other.qcow2', '-F', 'qcow2', 'top.qcow2'], 'top.qcow2');
    clean('top.qcow2');
  });

  it('shows its progress', async () => {
    chain();
    const { out } = await sides.tabdisk(['rebase', '-p', '-b', '', 'top.qcow2']);
    expect(out.startsWith('    (0.00/100%)\r')).toBe(true);
    expect(out.endsWith('    (100.00/100%)\r\n')).toBe(true);
  });
});

describe('rebase -u', () => {
  const long = 'd/'.repeat(200);
  const header = (side: string, length: number) => readFileSync(join(side, 'top.qcow2')).subarray(0, length);

  it.each([
    ['cluster_size=64k', 65536],
    ['cluster_size=4k', 4096],
    ['compat=0.10', 65536],
    ['cluster_size=8k,lazy_refcounts=on', 8192],
  ])('leaves the header that QEMU leaves (%s)', async (options, clusterSize) => {
    make('top.qcow2', MiB, { options: ['-o', options] });
    for (const args of [
      ['-b', 'moved', '-F', 'raw'],
      ['-b', `${long}a`, '-F', 'qcow2'],
      ['-b', `${long}${long}b`, '-F', 'raw'],
      ['-b', 'x', '-F', 'raw'],
      ['-b', ''],
    ]) {
      await sides.same('rebase', '-u', ...args, 'top.qcow2');
      expect(header(sides.ours, clusterSize).equals(header(sides.theirs, clusterSize)), args.join(' ')).toBe(true);
    }
    await sides.same('rebase', '-u', '-F', 'raw', 'top.qcow2');
    clean('top.qcow2');
  });

  it('keeps an extension that nobody knows', async () => {
    make('top.qcow2', MiB, { options: ['-o', 'compat=0.10'] });
    for (const side of [sides.ours, sides.theirs]) {
      const path = join(side, 'top.qcow2');
      const bytes = readFileSync(path);
      bytes.set([0x12, 0x34, 0x56, 0x78, 0, 0, 0, 5, ...Buffer.from('hello'), 0, 0, 0], 72);
      sides.put('top.qcow2', bytes);
    }
    await sides.same('rebase', '-u', '-b', 'moved', '-F', 'raw', 'top.qcow2');
    expect(header(sides.ours, 65536).equals(header(sides.theirs, 65536))).toBe(true);
    expect(header(sides.ours, 65536).includes('hello')).toBe(true);
  });

  it('says so if the header has no room', async () => {
    make('top.qcow2', MiB, { options: ['-o', 'cluster_size=512'] });
    await sides.same('rebase', '-u', '-b', 'y'.repeat(500), '-F', 'raw', 'top.qcow2');
    await sides.same('rebase', '-u', '-b', 'y'.repeat(1024), '-F', 'raw', 'top.qcow2');
    clean('top.qcow2');
  });
});
