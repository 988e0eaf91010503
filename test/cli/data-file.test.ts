/**
 * External data files beside qemu-img and qemu-io: made, written, mapped, checked, resized, committed and converted on both sides, the files
 * compared byte for byte; then both take turns on one image.
 */
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Sides } from './harness.ts';

const sides = new Sides();
afterAll(() => sides.remove());

const VARIANTS = ['', ',data_file_raw=on', ',cluster_size=4k', ',cluster_size=512,data_file_raw=on', ',extended_l2=on,cluster_size=16k'];

/** What must be the same on both sides after each step. */
async function requireSame(image = 'a.qcow2', data = 'd.raw'): Promise<void> {
  await sides.same('info', image);
  await sides.sameJson('info', '--output=json', image);
  await sides.same('map', '--output=json', image);
  await sides.same('map', image);
  await sides.same('check', image);
  const [ours, theirs] = [sides.ours, sides.theirs].map((side) => readFileSync(join(side, data)));
  expect(ours?.length).toBe(theirs?.length);
  // Where nothing is said to be there, only a raw data file must be the same: QEMU makes holes for what was discarded.
  if ((await sides.tabdisk(['info', image])).out.includes('data file raw: true')) expect(ours?.equals(theirs as Buffer)).toBe(true);
  expect(sides.qemu('qemu-img', ['compare', join(sides.ours, image), join(sides.theirs, image)]).status).toBe(0);
  expect(sides.qemu('qemu-img', ['check', image], { side: sides.ours }).status).toBe(0);
}

describe.each(VARIANTS)('an image with a data file%s', (options) => {
  const create = (size = '1000k') => sides.same('create', '-f', 'qcow2', '-o', `data_file=d.raw${options}`, 'a.qcow2', size);

  it('is made and written as QEMU does it', async () => {
    await create();
    await requireSame();
    expect(readFileSync(join(sides.ours, 'a.qcow2')).equals(readFileSync(join(sides.theirs, 'a.qcow2')))).toBe(true);
    await sides.sameIo(['-c', 'write -P 7 0 256k', '-c', 'write -P 8 900k 100k', '-c', 'write -P 9 300001 777', 'a.qcow2']);
    await requireSame();
    await sides.sameIo([
      '-d',
      'unmap',
      '-c',
      'write -z 64k 64k',
      '-c',
      'write -zu 128k 64k',
      '-c',
      'discard 192k 128k',
      '-c',
      'write -z 0 16k',
      'a.qcow2',
    ]);
    await requireSame();
    await sides.sameIo(['-c', 'write -P 3 1k 1k', '-c', 'write -P 4 130k 1k', '-c', 'read -P 0 192k 64k', '-c', 'read -P 7 3k 100', 'a.qcow2']);
    await requireSame();
    expect(readFileSync(join(sides.ours, 'a.qcow2')).equals(readFileSync(join(sides.theirs, 'a.qcow2')))).toBe(true);
  });

  it('is resized with its data file', async () => {
    await create('1M');
    await sides.sameIo(['-c', 'write -P 7 0 1M', 'a.qcow2']);
    await sides.same('resize', 'a.qcow2', '1100k');
    await requireSame();
    await sides.sameIo(['-c', 'write -P 5 1M 76k', 'a.qcow2']);
    // Within a cluster, but not within a subcluster: QEMU says of its rest that it is data, we that it is zero.
    await sides.same('resize', '--shrink', 'a.qcow2', options.includes('extended') ? '512k' : '500k');
    await requireSame();
    await sides.same('resize', 'a.qcow2', '2M');
    await requireSame();
    await sides.sameIo(['-c', 'read -P 7 0 500k', '-c', 'read -P 0 512k 1536k', 'a.qcow2']);
  });

  it('is converted to and from', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 's.qcow2', '1M');
    sides.prepare('qemu-io', '-c', 'write -P 6 100k 200k', '-c', 'write -P 5 700k 3k', 's.qcow2');
    await sides.same('convert', '-O', 'qcow2', '-o', `data_file=d.raw${options}`, 's.qcow2', 'a.qcow2');
    await requireSame();
    await sides.same('compare', 's.qcow2', 'a.qcow2');
    await sides.same('convert', '-O', 'raw', 'a.qcow2', 'out.raw');
    if (options.includes('raw')) await sides.same('compare', '-f', 'qcow2', '-F', 'raw', 's.qcow2', 'd.raw');
    await sides.same('convert', '-n', '-O', 'qcow2', 'out.raw', 'a.qcow2');
    await sides.same('compare', 's.qcow2', 'a.qcow2');
  });
});

describe('an overlay with a data file', () => {
  it('is committed and rebased as QEMU does it', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '1M');
    sides.prepare('qemu-io', '-c', 'write -P 1 0 1M', 'base.qcow2');
    await sides.same('create', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', '-o', 'data_file=d.raw', 'a.qcow2');
    await sides.sameIo(['-d', 'unmap', '-c', 'write -P 2 100k 10k', '-c', 'discard 256k 64k', 'a.qcow2']);
    await requireSame();
    await sides.same('commit', 'a.qcow2');
    // QEMU keeps the L2 table.
    await sides.same('map', '--output=json', 'a.qcow2');
    expect((await sides.tabdisk(['check', 'a.qcow2'])).status).toBe(0);
    await sides.same('check', 'base.qcow2');
    await sides.sameIo(['-c', 'read -P 2 100k 10k', '-c', 'read -P 0 256k 64k', '-c', 'read -P 1 512k 512k', 'a.qcow2']);
    await sides.same('rebase', '-b', '', 'a.qcow2');
    await sides.same('map', '--output=json', 'a.qcow2');
    await sides.same('info', 'a.qcow2');
    await sides.sameIo(['-c', 'read -P 2 100k 10k', '-c', 'read -P 0 256k 64k', '-c', 'read -P 1 512k 512k', 'a.qcow2']);
    expect(sides.qemu('qemu-img', ['check', 'a.qcow2'], { side: sides.ours }).status).toBe(0);
  });
});

describe('preallocation', () => {
  it.each(['metadata', 'falloc', 'full'])('%s', async (mode) => {
    await sides.same('create', '-f', 'qcow2', '-o', `preallocation=${mode},data_file=d.raw`, 'a.qcow2', '1000k');
    await requireSame();
    expect(readFileSync(join(sides.ours, 'd.raw')).equals(readFileSync(join(sides.theirs, 'd.raw')))).toBe(true);
  });
});

describe('a growth', () => {
  it.each(['metadata', 'falloc', 'full'])('with preallocation=%s', async (mode) => {
    await sides.same('create', '-q', '-f', 'qcow2', '-o', 'data_file=d.raw', 'a.qcow2', '1000k');
    await sides.sameIo(['-c', 'write -P 4 990k 10k', 'a.qcow2']);
    await sides.same('resize', `--preallocation=${mode}`, 'a.qcow2', '2M');
    await requireSame();
    const elsewhere = 'driver=qcow2,file.filename=a.qcow2,data-file.filename=moved.raw';
    for (const side of [sides.ours, sides.theirs]) renameSync(join(side, 'd.raw'), join(side, 'moved.raw'));
    await sides.same('map', '--output=json', '--image-opts', elsewhere);
    await sides.same('map', 'a.qcow2');
  });
});

describe('what an image with a data file cannot do', () => {
  const create = () => sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'data_file=d.raw', 'a.qcow2', '1M');

  it('is refused in the same words', async () => {
    create();
    for (const action of [
      ['-c', 'x'],
      ['-a', '1'],
      ['-d', '1'],
    ])
      expect((await sides.same('snapshot', ...action, 'a.qcow2')).status).toBe(1);
    await sides.same('snapshot', '-l', 'a.qcow2');
    await sides.sameIo(['-c', 'write -c -P 3 0 64k', 'a.qcow2']);
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 's.qcow2', '1M');
    sides.prepare('qemu-io', '-c', 'write -P 3 64k 64k', 's.qcow2');
    await sides.same('convert', '-c', '-O', 'qcow2', '-o', 'data_file=x.raw', 's.qcow2', 'y.qcow2');
    await sides.same('map', '--image-opts', 'driver=qcow2,file.filename=s.qcow2,data-file.filename=d.raw');
    for (const options of [
      'data_file_raw=on',
      'data_file=d.raw,compat=0.10',
      'data_file=d.raw,data_file_raw=on,backing_file=a.qcow2,backing_fmt=qcow2',
      'data_file=nosuch/d.raw',
      'data_file=',
      'data_file_raw=maybe,data_file=d.raw',
      'data_file=d.raw,backing_file=a.qcow2,backing_fmt=qcow2,preallocation=metadata',
    ])
      expect((await sides.same('create', '-f', 'qcow2', '-o', options, 'n.qcow2', '1M')).status).toBe(1);
    expect(existsSync(join(sides.ours, 'n.qcow2'))).toBe(false);
  });

  it('a raw data file has no backing file behind it', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '1M');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'data_file=d.raw,data_file_raw=on', 'a.qcow2', '1M');
    for (const mode of [[], ['-u']]) expect((await sides.same('rebase', ...mode, '-b', 'base.qcow2', '-F', 'qcow2', 'a.qcow2')).status).toBe(1);
    await sides.same('amend', '-o', 'data_file_raw=on', 'a.qcow2');
    await sides.same('amend', '-o', 'data_file_raw=off', 'a.qcow2');
    await sides.same('info', 'a.qcow2');
    await sides.same('rebase', '-u', '-b', 'base.qcow2', '-F', 'qcow2', 'a.qcow2');
    await requireSame();
  });

  it.each(['data_file=x.raw', 'data_file=x.raw,data_file_raw=on'])('measure -o %s', async (options) => {
    await sides.same('measure', '-O', 'qcow2', '-o', options, '--size', '1G');
    create();
    await sides.same('measure', '-O', 'qcow2', '-o', options, 'a.qcow2');
  });

  it('a data file that is not there is missed only where it is needed', async () => {
    create();
    for (const side of [sides.ours, sides.theirs]) rmSync(join(side, 'd.raw'));
    expect((await sides.same('info', 'a.qcow2')).status).toBe(0);
    for (const command of [['map'], ['check'], ['resize'], ['convert', '-O', 'raw'], ['snapshot', '-l']])
      expect(
        (await sides.same(...command, 'a.qcow2', ...(command[0] === 'resize' ? ['2M'] : command[0] === 'convert' ? ['o.raw'] : []))).status,
      ).toBe(1);
    await sides.sameIo(['-c', 'read 0 512', 'a.qcow2']);
  });

  it('another file of the chain is not written over', async () => {
    create();
    const before = readFileSync(join(sides.ours, 'a.qcow2'));
    expect((await sides.tabdisk(['create', '-f', 'qcow2', '-o', 'data_file=n.qcow2', 'n.qcow2', '1M'])).status).toBe(1);
    const { status } = await sides.tabdisk(['convert', '-O', 'qcow2', '-o', 'data_file=a.qcow2', 'a.qcow2', 'n.qcow2']);
    expect(status).toBe(1);
    expect(readFileSync(join(sides.ours, 'a.qcow2')).equals(before)).toBe(true);
  });
});
