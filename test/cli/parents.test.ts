/** On the command line: a VDI's parent is found by its UUID in the folders where VirtualBox keeps it, and a folder of Parallels is a disk. */
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { bundleText, partFile, readPart } from '../formats/parallels/bundle.ts';
import { makeVdi, readChain } from '../formats/vdi/chain.ts';
import { firstDifference } from '../model/naive.ts';
import { Random } from '../random.ts';
import { Sides } from './harness.ts';

const MiB = 2 ** 20;

let sides: Sides;
beforeEach(() => {
  sides = new Sides();
});
afterEach(() => sides.remove());

async function tabdisk(...args: string[]): Promise<string> {
  const { out, err, status } = await sides.tabdisk(args);
  expect({ args, err, status }).toMatchObject({ err: '', status: 0 });
  return out;
}

const file = (name: string): string => join(sides.ours, name);
const bytes = (...names: string[]): Uint8Array[] => names.map((name) => new Uint8Array(readFileSync(file(name))));

it('overlays are made, written, moved to where VirtualBox has them, rebased and committed', async () => {
  await tabdisk('create', '-q', '-f', 'vdi', 'base.vdi', '4M');
  await tabdisk('io', '-c', 'write -P 1 0 2M', 'base.vdi');
  await tabdisk('create', '-q', '-f', 'vdi', '-b', 'base.vdi', '-F', 'vdi', 'mid.vdi');
  await tabdisk('io', '-c', 'write -P 2 1M 1M', 'mid.vdi');
  mkdirSync(file('Snapshots'));
  await tabdisk('create', '-q', '-f', 'vdi', '-b', 'mid.vdi', '-F', 'vdi', 'top.vdi');
  await tabdisk('io', '-c', 'write -P 3 3M 100', '-c', 'write -z -u 0 1M', 'top.vdi');
  const expected = readChain(bytes('top.vdi', 'mid.vdi', 'base.vdi'));
  expect([0, MiB, 2 * MiB, 3 * MiB].map((at) => expected[at])).toEqual([0, 2, 0, 3]);
  // The child in Snapshots, its parent in the folder above, and the parent's parent beside that.
  renameSync(file('top.vdi'), file('Snapshots/top.vdi'));
  await tabdisk('convert', '-O', 'raw', 'Snapshots/top.vdi', 'plain');
  expect(firstDifference(bytes('plain')[0] as Uint8Array, expected)).toBe(-1);
  expect(await tabdisk('info', '--backing-chain', 'Snapshots/top.vdi')).toContain('base.vdi');
  await tabdisk('rebase', '-b', '../base.vdi', '-F', 'vdi', 'Snapshots/top.vdi');
  await tabdisk('commit', '-q', 'Snapshots/top.vdi');
  expect(firstDifference(readChain(bytes('base.vdi')), expected)).toBe(-1);
  expect(await sides.tabdisk(['rebase', '-u', '-b', 'gone.vdi', '-F', 'vdi', 'Snapshots/top.vdi'])).toMatchObject({
    status: 1,
    err: expect.stringContaining('needs no rebase'),
  });
  renameSync(file('base.vdi'), file('base.gone'));
  expect(await sides.tabdisk(['info', '--backing-chain', 'Snapshots/top.vdi'])).toMatchObject({ status: 1, err: expect.stringContaining('UUID') });
});

it('a parent that was changed is refused, and opened with changed-parent=on', async () => {
  const block = new Random(1).bytes(65_536);
  writeFileSync(file('base.vdi'), makeVdi({ size: MiB, create: 1, modify: 2, blocks: new Map([[0, block]]) }));
  writeFileSync(file('top.vdi'), makeVdi({ size: MiB, create: 3, modify: 4, parent: [1, 9], blocks: new Map([[1, block]]) }));
  expect(await sides.tabdisk(['convert', '-O', 'raw', 'top.vdi', 'plain'])).toMatchObject({
    status: 1,
    err: expect.stringContaining('changed-parent=on'),
  });
  expect((await sides.tabdisk(['convert', '--image-opts', '-O', 'raw', 'driver=vdi,file.filename=top.vdi,changed-parent=on', 'plain'])).status).toBe(
    0,
  );
  expect(firstDifference(bytes('plain')[0] as Uint8Array, readChain(bytes('top.vdi', 'base.vdi')))).toBe(-1);
});

it('a folder of Parallels is opened as its disk', async () => {
  const random = new Random(2);
  const clusters = (): Map<number, Uint8Array> =>
    new Map([
      [3, random.bytes(4096)],
      [1, random.bytes(4096)],
    ]);
  mkdirSync(file('disk.hdd'));
  writeFileSync(
    file('disk.hdd/DiskDescriptor.xml'),
    bundleText([
      {
        sectors: 64,
        files: [
          ['Compressed', 'a.hds'],
          ['Compressed', 'b.hds'],
        ],
      },
    ]),
  );
  writeFileSync(file('disk.hdd/a.hds'), partFile(64, 8, clusters()));
  writeFileSync(file('disk.hdd/b.hds'), partFile(64, 8, clusters().set(5, random.bytes(4096))));
  await tabdisk('io', '-c', 'write -P 7 10000 300', 'disk.hdd');
  await tabdisk('convert', '-O', 'raw', 'disk.hdd', 'plain');
  const [plain, above, below] = bytes('plain', 'disk.hdd/b.hds', 'disk.hdd/a.hds') as [Uint8Array, Uint8Array, Uint8Array];
  expect([
    firstDifference(
      plain,
      readPart(64, [
        ['Compressed', above],
        ['Compressed', below],
      ]),
    ),
    plain[10_000],
  ]).toEqual([-1, 7]);
  expect(await tabdisk('info', 'disk.hdd')).toContain('file format: parallels');
  const { length } = readdirSync(file('disk.hdd'));
  await tabdisk('snapshot', '-c', 'before', 'disk.hdd');
  expect(readdirSync(file('disk.hdd'))).toHaveLength(length + 1);
  await tabdisk('io', '-c', 'write -P 8 10000 300', 'disk.hdd');
  expect(await tabdisk('snapshot', '-l', 'disk.hdd')).toContain('before');
  await tabdisk('snapshot', '-a', 'before', 'disk.hdd');
  await tabdisk('snapshot', '-d', 'before', 'disk.hdd');
  await tabdisk('convert', '-O', 'raw', 'disk.hdd', 'again');
  expect(firstDifference(bytes('again')[0] as Uint8Array, plain)).toBe(-1);
});
