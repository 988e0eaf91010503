/**
 * Images as QEMU makes them: new ones byte for byte, writes in the same places, compressed clusters. Taking turns is in turns.test.ts.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import type { Resolve } from '../../src/disk/reference.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { firstDifference, NaiveDisk } from '../model/naive.ts';
import { requireSame, runOperations } from '../model/operations.ts';
import { Random } from '../random.ts';
import { qemuImg, qemuIo, requireClean } from './qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-oracle-'));
afterAll(() => rmSync(folder, { recursive: true }));

const resolve: Resolve = ({ name, from }) => nodeFileStorage(join(dirname(from), name), { readOnly: true });
const open = (path: string, readOnly = false): Promise<Disk> => openDisk(nodeFileStorage(path, { readOnly }), { format: 'qcow2', readOnly, resolve });

it('a new image is byte for byte the one qemu-img makes', async () => {
  for (const options of [{}, { cluster_size: 512 }, { cluster_size: 2097152, refcount_bits: 1 }, { compat: '0.10' }, { lazy_refcounts: 'on' }]) {
    for (const size of [0, 512, 8 << 20, 3 * 2 ** 30 + 512]) {
      const path = join(folder, 'new.qcow2');
      const list = Object.entries(options).map(([name, value]) => `${name}=${value}`);
      rmSync(path, { force: true });
      qemuImg('create', '-q', '-f', 'qcow2', ...(list.length > 0 ? ['-o', list.join(',')] : []), path, String(size));
      const theirs = nodeFileStorage(path, { readOnly: true });
      const ours = join(folder, 'ours.qcow2');
      rmSync(ours, { force: true });
      await (await createDisk(nodeFileStorage(ours, { create: 'must-not-exist' }), { format: 'qcow2', size, ...options })).close();
      const mine = nodeFileStorage(ours, { readOnly: true });
      const context = `${JSON.stringify(options)} ${size}`;
      expect(mine.size, context).toBe(theirs.size);
      const raw = async (storage: typeof mine) => {
        const disk = await openDisk(storage, { format: 'raw', readOnly: true });
        const bytes = await disk.read(0, disk.size);
        await disk.close();
        return bytes;
      };
      expect(firstDifference(await raw(mine), await raw(theirs)), context).toBe(-1);
    }
  }
});

it.each([
  { cluster_size: 512 },
  { cluster_size: 65536 },
  { cluster_size: 16384, extended_l2: 'on' },
  { cluster_size: 65536, extended_l2: 'on', refcount_bits: 8 },
])('changes land where QEMU puts them: %o', async (options) => {
  const random = new Random(11);
  const [ours, theirs] = ['ours.qcow2', 'theirs.qcow2'].map((name) => join(folder, name)) as [string, string];
  for (const path of [ours, theirs]) rmSync(path, { force: true });
  const disk = await createDisk(nodeFileStorage(ours, { create: 'must-not-exist' }), { format: 'qcow2', size: 32 << 20, ...options });
  const list = Object.entries(options).map(([name, value]) => `${name}=${value}`);
  qemuImg('create', '-q', '-f', 'qcow2', '-o', list.join(','), theirs, String(32 << 20));
  // Where there is no L2 table yet, QEMU makes one in order to discard nothing.
  const discards = options.cluster_size > 512 ? ['discard'] : [];
  const commands: string[] = [];
  for (let i = 0; i < 90; i++) {
    const offset = random.between(0, (32 << 11) - 300) * 512;
    const length = random.between(1, random.pick([9, 300])) * 512;
    const what = random.pick(['write', 'write', 'write', 'zero', 'unmap', ...discards]);
    if (what === 'write') {
      const pattern = random.between(1, 255);
      await disk.write(offset, new Uint8Array(length).fill(pattern));
      commands.push(`write -P ${pattern} ${offset} ${length}`);
    } else if (what === 'discard') {
      await disk.discard(offset, length);
      commands.push(`discard ${offset} ${length}`);
    } else {
      await disk.zero(offset, length, { unmap: what === 'unmap' });
      commands.push(`write -z ${what === 'unmap' ? '-u ' : ''}${offset} ${length}`);
    }
    // Freed clusters are free at once for QEMU, for us after a flush.
    if (what !== 'write') await disk.flush();
  }
  await disk.close();
  qemuIo(theirs, 'qcow2', commands);
  const map = (path: string) => JSON.parse(qemuImg('map', '--output=json', '-f', 'qcow2', path));
  expect(map(ours)).toEqual(map(theirs));
});

it('compressed clusters made by QEMU read the same, and survive being overwritten', async () => {
  const random = new Random(5);
  const raw = join(folder, 'source.raw');
  const naive = new NaiveDisk(3 * 1024 * 1024 + 512);
  for (let i = 0; i < 40; i++) {
    const offset = random.between(0, naive.size - 20_000);
    const part = random.chance(0.5) ? random.bytes(random.between(1, 20_000)) : new Uint8Array(random.between(1, 20_000)).fill(i + 1);
    naive.bytes.set(part, offset);
  }
  writeFileSync(raw, naive.bytes);
  for (const options of [
    'cluster_size=64k',
    'cluster_size=512',
    'cluster_size=2M',
    'cluster_size=64k,compression_type=zstd',
    'cluster_size=4k,compression_type=zstd',
    'cluster_size=16k,extended_l2=on',
  ]) {
    const path = join(folder, 'compressed.qcow2');
    qemuImg('convert', '-c', '-O', 'qcow2', '-o', options, raw, path);
    const copy = new NaiveDisk(naive.size);
    copy.bytes.set(naive.bytes);
    const disk = await open(path);
    await requireSame(disk, copy, options);
    expect((await disk.check()).compressedClusters).toBe(JSON.parse(qemuImg('check', '-U', '--output=json', path))['compressed-clusters']);
    await runOperations(disk, copy, random, { count: 40, allowed: { snapshots: 4, resize: false, sizeUnit: 512, discardUnit: 0 } });
    await disk.close();
    requireClean(path, options);
    const expected = join(folder, 'expected.raw');
    writeFileSync(expected, copy.bytes);
    expect(qemuImg('compare', '-f', 'qcow2', '-F', 'raw', path, expected), options).toContain('identical');
  }
});
