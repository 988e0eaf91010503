/** Images of QEMU's that grow here: QEMU reads them and writes on, again and again, and nothing of ours is in its way. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openDisk } from '../../src/disk/open.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { firstDifference, NaiveDisk } from '../model/naive.ts';
import { Random } from '../random.ts';
import { usualFolder } from '../temporary-folder.ts';
import { qemuImg, qemuIo } from './qemu.ts';

const MiB = 2 ** 20;
const folder = mkdtempSync(join(usualFolder(), 'tabdisk-grown-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);

it.each([
  ['vdi', ''],
  ['vpc', 'subformat=dynamic'],
  ['vhdx', 'block_size=1M'],
  ['vmdk', 'subformat=monolithicSparse'],
  ['vmdk', 'subformat=twoGbMaxExtentSparse'],
  ['parallels', 'cluster_size=64k'],
  ['qed', 'table_size=2,cluster_size=4k'],
  ['qcow2', 'cluster_size=512'],
])('%s %s', async (format, options) => {
  const random = new Random(format.length);
  const path = file(`grown.${format}`);
  rmSync(path, { force: true });
  qemuImg('create', '-q', '-f', format, ...(options ? ['-o', options] : []), path, String(4 * MiB));
  const open = () => openDisk(nodeFileStorage(path), { format, resolve: ({ name }) => nodeFileStorage(file(name)) });
  const first = await open();
  const naive = new NaiveDisk(first.size);
  await first.close();
  for (const size of [10, 30, 60].map((size) => size * MiB)) {
    const disk = await open();
    await disk.resize(size);
    naive.resize(size);
    await disk.close();
    const commands: string[] = [];
    for (let i = 0; i < 12; i++) {
      const offset = random.between(0, Math.min(size, 25 * MiB) / 512 - 400) * 512;
      const length = random.between(1, 400) * 512;
      const pattern = random.between(1, 255);
      commands.push(`write -P ${pattern} ${offset} ${length}`);
      naive.bytes.fill(pattern, offset, offset + length);
    }
    qemuIo(path, format, commands);
    if (format !== 'vpc') qemuImg('check', '-q', '-f', format, path);
    writeFileSync(file('plain'), naive.bytes);
    qemuImg('compare', '-q', '-f', format, '-F', 'raw', path, file('plain'));
    const again = await open();
    for (const at of [0, size - MiB]) expect(firstDifference(await again.read(at, MiB), naive.bytes.subarray(at, at + MiB))).toBe(-1);
    await again.close();
  }
});
