/**
 * Files that were cut short. What an image's tables say is there and the file does not have is an error, whoever reads it and wherever in a run
 * of clusters it begins; images whose files QEMU leaves shorter than their last cluster read on.
 */
import { createCipheriv } from 'node:crypto';
import { copyFileSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { inspect } from '../../src/index.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Random } from '../random.ts';
import { Sides } from './harness.ts';

const sides = new Sides();
const MiB = 1024 * 1024;
const SIZE = 6 * MiB;
const SECRET = ['--object', 'secret,id=key,data=x'];
const inOurs = (name: string) => join(sides.ours, name);
const sizeOf = (name: string) => statSync(inOurs(name)).size;

const qemu = (tool: 'qemu-img' | 'qemu-io', ...args: string[]) => {
  const { status, out, err } = sides.qemu(tool, args, { side: sides.ours });
  if (status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${out}${err}`);
};
const qemuImg = (...args: string[]) => qemu('qemu-img', ...args);

/** A copy of a file, without its last bytes. */
function cut(from: string, to: string, by: number): void {
  copyFileSync(inOurs(from), inOurs(to));
  truncateSync(inOurs(to), sizeOf(from) - by);
}

const LAYOUTS: readonly { name: string; options: string; cuts: readonly number[] }[] = [
  { name: '4k', options: 'cluster_size=4k', cuts: [5000, 2_090_000] },
  { name: '64k', options: 'cluster_size=64k', cuts: [100, 65_536, 2_090_000] },
  { name: '2M', options: 'cluster_size=2M', cuts: [2 * MiB, 4_000_000] },
  { name: 'version-2', options: 'compat=0.10', cuts: [70_000] },
  { name: 'extended', options: 'extended_l2=on,cluster_size=64k', cuts: [2048, 2_090_000] },
];

beforeAll(() => {
  writeFileSync(inOurs('raw'), new Random(7).bytes(SIZE));
  // Text gets smaller when it is compressed.
  const noise = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(SIZE / 2));
  writeFileSync(inOurs('text'), noise.toString('hex'));
  for (const { name, options } of LAYOUTS) qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-o', options, 'raw', name);
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-o', 'data_file=x.data', 'raw', 'external');
  copyFileSync(inOurs('x.data'), inOurs('whole.data'));
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-c', 'text', 'compressed');
});
beforeEach(() => {
  for (const name of ['out', 'over', 'top', 'base', 'x', 'x.data']) rmSync(inOurs(name), { force: true });
});
afterAll(() => sides.remove());

/** Everything that reads the end of `x`, of `over`, which lies over it, or of `top`, which is `x` over another image. */
const READERS = `
convert -O raw x out
convert -O qcow2 x out
convert -O raw -W -m 4 x out
convert -O qcow2 -c over out
dd if=x of=out bs=1M
compare -f qcow2 -F raw x raw
rebase -b '' over
commit top
io -c 'read 0 6M' x
io -c 'read 6M-512 512' x
`
  .replace('6M-512', String(SIZE - 512))
  .trim()
  .split('\n');

const words = (line: string) => [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');

/** Each reader over `x` as it is now. */
async function everyReader(named: string): Promise<void> {
  for (const line of READERS) {
    rmSync(inOurs('out'), { force: true });
    qemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', 'x', '-F', 'qcow2', 'over', String(SIZE));
    if (line.includes('top')) {
      copyFileSync(inOurs('x'), inOurs('top'));
      qemuImg('create', '-q', '-f', 'qcow2', 'base', String(SIZE));
      qemuImg('rebase', '-u', '-b', 'base', '-F', 'qcow2', 'top');
    }
    const { status, out, err } = await sides.tabdisk(words(line));
    expect.soft(status, `${named}: ${line}\n${out}${err}`).not.toBe(0);
  }
}

describe('a file that is cut short', () => {
  it.each(LAYOUTS)('$name: every reader fails, salvage and check go on, and inspect says what it should be', async ({ name, cuts }) => {
    const whole = sizeOf(name);
    for (const by of cuts) {
      cut(name, 'x', by);
      await everyReader(`${name}, ${by} bytes`);
      const salvaged = await sides.tabdisk(['convert', '--salvage', '-O', 'raw', 'x', 'out']);
      expect(salvaged.status).toBe(0);
      expect(salvaged.err).toContain('error while reading offset');
      const kept = Math.max(0, SIZE - by - 2 * MiB);
      expect(
        readFileSync(inOurs('out'))
          .subarray(0, kept)
          .equals(readFileSync(inOurs('raw')).subarray(0, kept)),
      ).toBe(true);
      const report = await inspect(nodeFileStorage(inOurs('x'), { readOnly: true, locking: 'off' }));
      expect(report.neededSize).toBe(whole);
      expect(report.warnings).toContain(`this file is cut short: it should have ${whole} bytes, it has ${whole - by}`);
    }
  });

  it('is not written to, so that what is missing never turns into zeros', async () => {
    cut('64k', 'x', 200_000);
    for (const line of ["io -c 'write 0 512' x", 'snapshot -c a x', 'resize x 8M', 'bitmap --add x b', 'amend -o lazy_refcounts=on x']) {
      const { status, err } = await sides.tabdisk(words(line));
      expect.soft([line, status, sizeOf('x')]).toEqual([line, 1, sizeOf('64k') - 200_000]);
      expect.soft(err, line).toContain(`this file is cut short: it should have ${sizeOf('64k')} bytes, it has ${sizeOf('64k') - 200_000}`);
    }
    const { status, out, err } = await sides.tabdisk(['check', 'x']);
    const theirs = sides.qemu('qemu-img', ['check', 'x'], { side: sides.ours });
    expect({ status, out, err }).toEqual({ status: 2, out: theirs.out, err: theirs.err });
    expect(out + err).toContain('exceeding the end of the file by one cluster or more');
  });

  it.each([600, 5000, 1_000_000])('compressed, %d bytes', async (by) => {
    cut('compressed', 'x', by);
    for (const line of ['convert -O raw x out', 'dd if=x of=out bs=1M', "io -c 'read 0 6M' x"])
      expect.soft((await sides.tabdisk(words(line))).status, line).toBe(1);
    const { neededSize = 0 } = await inspect(nodeFileStorage(inOurs('x'), { readOnly: true, locking: 'off' }));
    expect(Math.abs(neededSize - sizeOf('compressed'))).toBeLessThanOrEqual(512);
  });

  it('an external data file', async () => {
    for (const by of [65_536, 2_090_000]) {
      copyFileSync(inOurs('external'), inOurs('x'));
      cut('whole.data', 'x.data', by);
      for (const line of ['convert -O raw x out', 'dd if=x of=out bs=1M', "io -c 'read 0 6M' x"])
        expect.soft((await sides.tabdisk(words(line))).status, `${line}: ${by}`).toBe(1);
    }
  });

  it('encrypted: also a sector that is there in part', async () => {
    const luks = ['-o', 'key-secret=key,iter-time=10'];
    const inside = ['-o', 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10'];
    qemuImg('convert', ...SECRET, '-f', 'raw', '-O', 'luks', ...luks, 'raw', 'plain-luks');
    qemuImg('convert', ...SECRET, '-f', 'raw', '-O', 'qcow2', ...inside, 'raw', 'inside');
    cut('plain-luks', 'x', 300);
    const opened = (options: string) => sides.tabdisk(['convert', ...SECRET, '--image-opts', options, '-O', 'raw', 'out']);
    const broken = await opened('driver=luks,key-secret=key,file.filename=x');
    expect(broken.err).toContain('error while reading at byte');
    expect(broken.status).toBe(1);
    const report = await inspect(nodeFileStorage(inOurs('x'), { readOnly: true, locking: 'off' }));
    expect(report.warnings).toEqual([`this file is cut short: it should have ${sizeOf('plain-luks')} bytes, it has ${sizeOf('x')}`]);
    cut('plain-luks', 'x', sizeOf('plain-luks') - 3000);
    expect((await inspect(nodeFileStorage(inOurs('x'), { readOnly: true, locking: 'off' }))).neededSize).toBe(sizeOf('plain-luks') - SIZE);
    for (const by of [300, 4096, 70_000]) {
      cut('inside', 'x', by);
      expect((await opened('driver=qcow2,encrypt.key-secret=key,file.filename=x')).status).toBe(1);
    }
  });

  it('in every table: a prefix of any length is no image in green', async () => {
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', 'raw', 'snapshots');
    qemuImg('snapshot', '-c', 'one', 'snapshots');
    qemu('qemu-io', '-c', 'write -P 1 1M 3M', 'snapshots');
    const whole = sizeOf('snapshots');
    for (let size = 104; size < whole - 65_536; size += 65_536 * 5 + 700) {
      cut('snapshots', 'x', whole - size);
      const report = await inspect(nodeFileStorage(inOurs('x'), { readOnly: true, locking: 'off' }));
      expect.soft([size, report.warnings.length > 0]).toEqual([size, true]);
      if (size > 65_536) expect.soft(report.neededSize, `${size} bytes`).toBeGreaterThan(size);
    }
  });
});

describe('a file that is as short as QEMU leaves it', () => {
  const DISK = String(8 * MiB + 512);
  const create = (...options: string[]) => qemuImg('create', '-q', '-f', 'qcow2', ...options, 'x', DISK);
  const io = (...commands: string[]) => qemu('qemu-io', ...commands.flatMap((command) => ['-c', command]), 'x');
  const shape = (options: string, ...commands: string[]) => {
    create(...(options === '' ? [] : ['-o', options]));
    if (commands.length > 0) io(...commands);
  };
  const SHAPES: [string, () => void][] = [
    ['new', () => shape('')],
    ['with a few bytes written', () => shape('', 'write -P 1 1M 100', 'write -P 2 8M 512')],
    ['ending in a compressed cluster', () => shape('', 'write -P 1 0 100k', 'write -c -P 3 2M 64k')],
    ['converted, compressed', () => qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-c', 'text', 'x')],
    ['preallocated', () => shape('preallocation=metadata,cluster_size=2M')],
    ['subclusters', () => shape('extended_l2=on', 'write -P 1 3M 2k', 'write -P 1 4M 512')],
    ['a data file as long as the disk', () => shape('data_file=x.data', 'write -P 2 8M 512')],
  ];
  const RESIZED: readonly [string, string, () => void][] = [
    ['grown with preallocation', '16M', () => shape('')],
    ['shrunk', '2M', () => shape('', 'write -P 1 0 8M', 'discard 4M 1M')],
    ['a raw data file, grown', '10M', () => shape('data_file=x.data,data_file_raw=on', 'write -P 2 8M 512')],
  ];
  for (const [name, size, make] of RESIZED) {
    const how = size === '16M' ? ['--preallocation=metadata'] : ['--shrink'];
    const resized = () => {
      make();
      qemuImg('resize', '-q', ...how, 'x', size);
    };
    SHAPES.push([name, resized]);
  }

  it.each(SHAPES)('%s', async (_, make) => {
    make();
    expect((await inspect(nodeFileStorage(inOurs('x'), { readOnly: true, locking: 'off' }))).warnings).toEqual([]);
    expect(await sides.tabdisk(['convert', '-O', 'raw', 'x', 'out'])).toEqual({ out: '', err: '', status: 0 });
    qemuImg('compare', '-F', 'raw', 'x', 'out');
    expect((await sides.tabdisk(['io', '-c', 'write -P 9 512 1k', 'x'])).status).toBe(0);
  });
});
