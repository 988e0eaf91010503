import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { allFormats } from '../../src/index.ts';
import { pattern, sparseBytes } from '../jobs/fixtures.ts';
import { Sides } from './harness.ts';

let sides: Sides;
beforeEach(() => {
  sides = new Sides();
});
afterEach(() => sides.remove());

/** Byte for byte. */
const sameFile = (name: string): boolean => readFileSync(join(sides.ours, name)).equals(readFileSync(join(sides.theirs, name)));

/** Whole clusters of every kind, written in an order that is not that of the disk. */
const WRITES = ['-c', 'write -P 1 2M 128k', '-c', 'write -P 2 0 192k', '-c', 'write -z 1M 128k', '-c', 'write -P 3 5M 64k'];

describe('create', () => {
  it.each([
    ['-f qcow2 n.qcow2 1.5M', 'n.qcow2'],
    ['-q -f qcow2 n.qcow2 3M', 'n.qcow2'],
    ['-f qcow2 -o compat=0.10,cluster_size=4k n.qcow2 5M', 'n.qcow2'],
    ['-f qcow2 -o compat=1.1,cluster_size=512,lazy_refcounts=on,refcount_bits=1 n.qcow2 3M', 'n.qcow2'],
    ['-f qcow2 -o cluster_size=2M -o refcount_bits=64 n.qcow2 70M', 'n.qcow2'],
    ['-f qcow2 -o preallocation=off,extended_l2=off,compression_type=zlib,compat=v3 n.qcow2 70000', 'n.qcow2'],
    ['-f qcow2 -o extended_l2=on n.qcow2 70M', 'n.qcow2'],
    ['-f qcow2 -o size=7M n.qcow2', 'n.qcow2'],
    ['-f qcow2 n.qcow2 0', 'n.qcow2'],
    ['-f qcow2 -b base.raw -F raw n.qcow2', 'n.qcow2'],
    ['-f qcow2 -b base.raw -F raw n.qcow2 9M', 'n.qcow2'],
    ['-f qcow2 -o backing_file=base.raw,backing_fmt=raw,cluster_size=1k n.qcow2', 'n.qcow2'],
    ['-f qcow2 -u -b not-there.raw -F raw n.qcow2 10M', 'n.qcow2'],
    ['-f qcow2 -u -b with,,comma -F raw n.qcow2 1G', 'n.qcow2'],
    ['-f raw n.raw 1000', 'n.raw'],
    ['n.raw 3M', 'n.raw'],
    ['-o size=1M,preallocation=off n.raw', 'n.raw'],
  ])('%s makes the same file', async (line, name) => {
    sides.put('base.raw', sparseBytes(1, 700_000));
    await sides.same('create', ...line.split(' '));
    expect(sameFile(name)).toBe(true);
  });

  it('keeps the old file when an option is wrong, and leaves no new one behind', async () => {
    sides.put('keep.qcow2', 'what was there before');
    await sides.same('create', '-f', 'qcow2', '-o', 'cluster_size=5', 'keep.qcow2', '1M').catch(() => undefined);
    expect(readFileSync(join(sides.ours, 'keep.qcow2'), 'utf8')).toBe('what was there before');
    await sides.same('create', '-f', 'qcow2', '-o', 'cluster_size=5', 'new.qcow2', '1M');
    expect(existsSync(join(sides.ours, 'new.qcow2'))).toBe(false);
  });

  it('finds the backing file beside the new image', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'base.raw', '2M');
    await sides.same('create', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', '../ours/../theirs/n.qcow2');
    const err = (await sides.tabdisk(['create', '-f', 'qcow2', '-b', 'gone.raw', '-F', 'raw', '../theirs/n.qcow2'])).err;
    expect(err).toContain("Could not open '../theirs/gone.raw': No such file or directory");
  });

  it.each(allFormats.filter((format) => format.create).map(({ name }) => name))(
    'lists the options that %s takes, with the kinds that QEMU has',
    async (format) => {
      const ours = await sides.tabdisk(['create', '-f', format, '-o', 'help']);
      // With a file's name QEMU lists what files take too: preallocation of a raw one.
      const theirs = sides.qemu('qemu-img', ['create', '-f', format, '-o', 'help', 'n']);
      // QEMU makes no children of these formats.
      const own = ['vdi', 'vpc', 'vhdx'].includes(format) ? /^ {2}(?!backing_)([\w.-]+=<.*?>)/gm : /^ {2}([\w.-]+=<.*?>)/gm;
      const names = (text: string) => [...text.matchAll(own)].map((match) => match[1]);
      expect(names(ours.out).length).toBeGreaterThan(1);
      expect(names(theirs.out)).toEqual(expect.arrayContaining(names(ours.out)));
    },
  );
});

describe('info', () => {
  it('for raw and for qcow2 with snapshots and a backing file, for people and as JSON', async () => {
    sides.put('odd.raw', pattern(5000, 1));
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'odd.raw', '-F', 'raw', 'mid.qcow2', '3M');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2');
    sides.prepare('qemu-img', 'snapshot', '-c', 'first', 'top.qcow2');
    sides.prepare('qemu-img', 'snapshot', '-c', 'a name that is longer than its column', 'top.qcow2');
    for (const name of ['odd.raw', 'mid.qcow2', 'top.qcow2']) {
      await sides.same('info', name);
      await sides.sameJson('info', '--output=json', name);
      await sides.same('info', '-U', '--backing-chain', name);
      await sides.sameJson('info', '--output', 'json', '--backing-chain', name);
    }
    await sides.same('info', '-f', 'raw', 'mid.qcow2');
    await sides.same('snapshot', '-l', 'top.qcow2');
  });

  it('names a missing backing file, and finds one beside the image', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'gone.raw', '-F', 'raw', 'orphan.qcow2', '2M');
    await sides.same('info', 'orphan.qcow2');
    await sides.same('info', '../theirs/orphan.qcow2');
  });

  it('refuses a backing chain that is a circle', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'b.qcow2', '-F', 'qcow2', 'a.qcow2', '2M');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'a.qcow2', '-F', 'qcow2', 'b.qcow2', '2M');
    await sides.same('info', '--backing-chain', 'a.qcow2');
    // qemu-img map does not come back from this.
    expect(await sides.tabdisk(['map', 'a.qcow2'])).toMatchObject({ status: 1, err: expect.stringMatching(/cycle/) });
  });

  it('of sizes on both sides of every unit', async () => {
    for (const size of [0, 512, 1536, 1023488, 1024000, 1025024, 1048576000, 1073741824000, 5000000000000]) {
      sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=2M', 'n.qcow2', String(size));
      await sides.same('info', 'n.qcow2');
    }
  });
});

describe('map', () => {
  it('of every kind of run, whole and in part', async () => {
    sides.put('base.raw', pattern(4 * 1024 * 1024 + 1536, 3));
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'top.qcow2', '8M');
    sides.prepare('qemu-io', ...WRITES, 'top.qcow2');
    await sides.same('map', 'top.qcow2');
    await sides.same('map', '--output=json', 'top.qcow2');
    await sides.same('map', '--start-offset=1M', '--max-length=1088k', '--output=json', 'top.qcow2');
    await sides.same('map', '-s', '70000', '-l', '3000000', 'top.qcow2');
    await sides.same('map', '-s', '100M', 'top.qcow2');
    await sides.same('map', '--output=json', 'base.raw');
    await sides.same('map', 'base.raw');
    sides.put('empty.raw', '');
    await sides.same('map', '--output=json', 'empty.raw');
  });

  it('refuses a table where compressed clusters are', async () => {
    sides.put('base.raw', sparseBytes(4, 2 * 1024 * 1024));
    sides.prepare('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', 'base.raw', 'c.qcow2');
    await sides.same('map', 'c.qcow2');
    await sides.same('map', '--output=json', 'c.qcow2');
  });
});

describe('check', () => {
  it('of sound images', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'n.qcow2', '8M');
    await sides.same('check', 'n.qcow2');
    sides.prepare('qemu-io', ...WRITES, 'n.qcow2');
    await sides.same('check', 'n.qcow2');
    await sides.same('check', '-q', 'n.qcow2');
    await sides.same('check', '-r', 'all', 'n.qcow2');
    await sides.sameJson('check', '--output=json', 'n.qcow2');
  });

  /** A 64k-cluster image whose refcount block (at 0x20000) says `count` for one cluster. Clusters 14 and on are used by nothing. */
  const damaged = (cluster: number, count: number) => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'n.qcow2', '8M');
    sides.prepare('qemu-io', ...WRITES, 'n.qcow2');
    for (const side of [sides.ours, sides.theirs]) {
      const bytes = Buffer.concat([readFileSync(join(side, 'n.qcow2')), new Uint8Array(8 * 65536).fill(0x33)]);
      bytes.writeUInt16BE(count, 0x20000 + 2 * cluster);
      writeFileSync(join(side, 'n.qcow2'), bytes);
    }
  };

  it('finds leaks (status 3) and repairs them', async () => {
    damaged(14, 2);
    expect((await sides.same('check', 'n.qcow2')).status).toBe(3);
    await sides.sameJson('check', '--output=json', 'n.qcow2');
    await sides.same('check', '-q', 'n.qcow2');
    expect((await sides.same('check', '-r', 'leaks', 'n.qcow2')).status).toBe(0);
    await sides.same('check', 'n.qcow2');
  });

  it('finds corruption (status 2)', async () => {
    damaged(7, 0);
    expect((await sides.same('check', 'n.qcow2')).status).toBe(2);
    await sides.sameJson('check', '--output=json', 'n.qcow2');
  });

  it('repairs leaks as JSON', async () => {
    damaged(15, 3);
    await sides.sameJson('check', '--output=json', '-r', 'leaks', 'n.qcow2');
  });
});

describe('snapshot', () => {
  it('takes, lists, applies and deletes', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'n.qcow2', '8M');
    sides.prepare('qemu-io', ...WRITES, 'n.qcow2');
    await sides.same('snapshot', '-c', 'one', 'n.qcow2');
    sides.prepare('qemu-io', '-c', 'write -P 9 2M 64k', 'n.qcow2');
    await sides.same('snapshot', '-c', 'two', 'n.qcow2');
    await sides.same('snapshot', '-l', 'n.qcow2');
    await sides.same('snapshot', 'n.qcow2');
    await sides.same('snapshot', '-a', '1', 'n.qcow2');
    expect((await sides.sameIo(['-c', 'read -P 1 2M 64k', 'n.qcow2'])).status).toBe(0);
    await sides.same('snapshot', '-a', 'two', 'n.qcow2');
    expect((await sides.sameIo(['-c', 'read -P 9 2M 64k', 'n.qcow2'])).status).toBe(0);
    await sides.same('snapshot', '-d', 'one', 'n.qcow2');
    await sides.same('snapshot', '-l', 'n.qcow2');
    expect(sides.qemu('qemu-img', ['check', 'n.qcow2'], { side: sides.ours })).toMatchObject({ status: 0 });
  });

  it('deletes by name even where an id is spelled like it', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'n.qcow2', '1M');
    await sides.same('snapshot', '-c', '2', 'n.qcow2');
    await sides.same('snapshot', '-c', 'other', 'n.qcow2');
    await sides.same('snapshot', '-d', '2', 'n.qcow2');
    await sides.same('snapshot', '-l', 'n.qcow2');
  });
});

describe('resize', () => {
  it('of raw, to the byte, both ways', async () => {
    sides.put('a.raw', pattern(3000, 1));
    for (const size of ['+1M', '5M', '+10', '1500000'])
      await sides.same('resize', '-f', 'raw', ...(size === '1500000' ? ['--shrink'] : []), 'a.raw', size);
    await sides.same('resize', '-f', 'raw', '--shrink', 'a.raw', '-512');
    expect(sameFile('a.raw')).toBe(true);
  });

  it('of qcow2, and refusals that leave it as it was', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'n.qcow2', '8M');
    sides.prepare('qemu-io', ...WRITES, 'n.qcow2');
    await sides.same('resize', 'n.qcow2', '+8M');
    await sides.same('resize', 'n.qcow2', '4M');
    await sides.same('resize', '-q', '--shrink', 'n.qcow2', '4M');
    await sides.same('resize', 'n.qcow2', '600M');
    await sides.same('info', 'n.qcow2');
    await sides.same('map', '--output=json', 'n.qcow2');
    expect(sides.qemu('qemu-img', ['check', 'n.qcow2'], { side: sides.ours })).toMatchObject({ status: 0 });
  });
});

describe('compare', () => {
  it('of equal, different and longer images', async () => {
    const bytes = sparseBytes(8, 3 * 1024 * 1024);
    sides.put('a.raw', bytes);
    sides.put('odd.raw', bytes.subarray(0, bytes.length - 300));
    const changed = bytes.slice();
    changed[2_500_001] = (changed[2_500_001] as number) ^ 1;
    sides.put('b.raw', changed);
    const longer = new Uint8Array(4 * 1024 * 1024);
    longer.set(bytes);
    sides.put('long.raw', longer);
    longer[3_999_999] = 1;
    sides.put('tail.raw', longer);
    sides.prepare('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', 'a.raw', 'a.qcow2');
    for (const pair of [
      'a.raw a.raw',
      'a.raw a.qcow2',
      'a.qcow2 b.raw',
      'a.raw b.raw',
      'a.raw long.raw',
      'long.raw a.qcow2',
      'tail.raw a.raw',
      'odd.raw a.raw',
    ]) {
      const names = pair.split(' ');
      await sides.same('compare', ...names);
      await sides.same('compare', '-q', ...names);
    }
    await sides.same('compare', '-s', 'a.raw', 'long.raw');
    await sides.same('compare', '-s', 'a.qcow2', 'a.qcow2');
    await sides.same('compare', '-s', '-f', 'raw', '-F', 'raw', 'a.raw', 'a.raw');
    sides.prepare('qemu-io', '-c', 'write -z 1M 64k', 'a.qcow2');
    sides.prepare('qemu-img', 'convert', '-O', 'qcow2', 'a.qcow2', 'sparse.qcow2');
    await sides.same('compare', '-s', 'a.qcow2', 'sparse.qcow2');
    await sides.same('compare', 'a.qcow2', 'sparse.qcow2');
    const { out } = await sides.tabdisk(['compare', '-p', 'sparse.qcow2', 'sparse.qcow2']);
    expect(out).toMatch(/^ {4}\(0\.00\/100%\)\r( {4}\(\d+\.\d\d\/100%\)\r)* {4}\(100\.00\/100%\)\rImages are identical\.\n\n$/);
  });
});

describe('convert', () => {
  /** Both outputs must read the same to the real tool, be sound, and be mapped alike. */
  const sameResult = (name: string) => {
    const [ours, theirs] = [join(sides.ours, name), join(sides.theirs, name)];
    expect(sides.qemu('qemu-img', ['compare', '-s', ours, theirs])).toMatchObject({ out: 'Images are identical.\n', status: 0 });
    if (name.endsWith('.qcow2')) expect(sides.qemu('qemu-img', ['check', ours])).toMatchObject({ status: 0 });
    const map = (path: string) => sides.qemu('qemu-img', ['map', '--output=json', path]).out;
    expect(map(ours)).toBe(map(theirs));
  };

  beforeEach(() => {
    sides.put('a.raw', sparseBytes(21, 6 * 1024 * 1024 + 1536));
    sides.put('odd.raw', sparseBytes(22, 900_001));
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'a.raw', '-F', 'raw', 's.qcow2', '8M');
    sides.prepare('qemu-io', ...WRITES, 's.qcow2');
    sides.prepare('qemu-img', 'snapshot', '-c', 'one', 's.qcow2');
    sides.prepare('qemu-io', '-c', 'write -P 7 3M 1M', 's.qcow2');
  });

  it.each([
    '-f raw -O qcow2 a.raw out.qcow2',
    '-f raw -O qcow2 -o cluster_size=4k,refcount_bits=4 a.raw out.qcow2',
    '-f raw -O qcow2 -o compat=0.10,cluster_size=2M a.raw out.qcow2',
    '-O raw s.qcow2 out.raw',
    's.qcow2 out.raw',
    '-O qcow2 s.qcow2 out.qcow2',
    '-O qcow2 -l one s.qcow2 out.qcow2',
    '-O qcow2 -l snapshot.name=one s.qcow2 out.qcow2',
    '-l snapshot.id=1 s.qcow2 out.raw',
    '-O qcow2 -B a.raw -F raw s.qcow2 out.qcow2',
    '-O qcow2 -o backing_file=a.raw,backing_fmt=raw s.qcow2 out.qcow2',
    '-f raw odd.raw out.raw',
    '-f raw -O qcow2 -S 64k a.raw out.qcow2',
    '-f raw -O qcow2 -S 512 a.raw out.qcow2',
    '-f raw -O qcow2 -S 1536 -o cluster_size=512 a.raw out.qcow2',
    '-f raw -O qcow2 -S 0 a.raw out.qcow2',
    '-f raw -S 0 a.raw out.raw',
    '-f raw -O qcow2 a.raw odd.raw out.qcow2',
    '-q -m 1 -W -t none -T none -U -O qcow2 s.qcow2 out.qcow2',
  ])('%s', async (line) => {
    await sides.same('convert', ...line.split(' '));
    sameResult(line.split(' ').at(-1) as string);
  });

  it('into an image that is there, larger and full of other data', async () => {
    sides.put('full.raw', pattern(8 * 1024 * 1024, 77));
    sides.prepare('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', 'full.raw', 'target.qcow2');
    await sides.same('convert', '-n', '-f', 'raw', '-O', 'qcow2', 'a.raw', 'target.qcow2');
    await sides.same('convert', '-n', '-f', 'raw', '-O', 'raw', 'a.raw', 'full.raw');
    for (const name of ['target.qcow2', 'full.raw']) {
      const args = ['compare', join(sides.ours, name), join(sides.theirs, name)];
      expect(sides.qemu('qemu-img', args)).toMatchObject({ out: 'Images are identical.\n' });
    }
    expect(sides.qemu('qemu-img', ['check', 'target.qcow2'], { side: sides.ours })).toMatchObject({ status: 0 });
  });

  it('shows its progress, and leaves the source of a refused overwrite alone', async () => {
    const { out } = await sides.tabdisk(['convert', '-p', '-O', 'qcow2', 's.qcow2', 'p.qcow2']);
    expect(out).toMatch(/^ {4}\(0\.00\/100%\)\r( {4}\(\d+\.\d\d\/100%\)\r)* {4}\(100\.00\/100%\)\r\n$/);
    const before = readFileSync(join(sides.ours, 'a.raw'));
    // The backing file of a source is as much in use as the source.
    expect((await sides.tabdisk(['convert', '-O', 'qcow2', 's.qcow2', 'a.raw'])).status).toBe(1);
    expect(readFileSync(join(sides.ours, 'a.raw')).equals(before)).toBe(true);
  });

  it('leaves a raw target sparse', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'big.qcow2', '3G');
    sides.prepare('qemu-io', '-c', 'write 2900M 192k', 'big.qcow2');
    await sides.same('convert', 'big.qcow2', 'big.raw');
    const stat = statSync(join(sides.ours, 'big.raw'));
    expect(stat.size).toBe(3 * 1024 ** 3);
    expect(stat.blocks * 512).toBeLessThan(1024 * 1024);
  });
});
