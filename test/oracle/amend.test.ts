/**
 * Options changed on images that exist, by us and by QEMU in turn: the disk and its snapshots read as before, both checkers are
 * satisfied, and the other side goes on writing.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Disk } from '../../src/disk/disk.ts';
import { openDisk } from '../../src/disk/open.ts';
import type { Resolve } from '../../src/disk/reference.ts';
import { amend } from '../../src/jobs/amend.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Random } from '../random.ts';
import { qemuImg, qemuIo, requireClean } from './qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-amend-'));
afterAll(() => rmSync(folder, { recursive: true }));

const resolve: Resolve = ({ name, from }) => nodeFileStorage(join(dirname(from), name), { readOnly: true });
const open = (path: string): Promise<Disk> => openDisk(nodeFileStorage(path), { format: 'qcow2', resolve });
const SIZE = 300 * 1024;

/** What a guest and its snapshots see. */
async function contents(path: string): Promise<Map<string, Buffer>> {
  const disk = await open(path);
  const seen = new Map([['', Buffer.from(await disk.read(0, disk.size))]]);
  for (const { id } of await disk.snapshots.list()) {
    const view = await disk.snapshots.open(id);
    seen.set(id, Buffer.from(await view.read(0, view.size)));
    await view.close();
  }
  const { corruptions, leaks } = await disk.check();
  expect({ corruptions, leaks }).toEqual({ corruptions: 0, leaks: 0 });
  await disk.close();
  return seen;
}

/** Writes, zero clusters with and without a place, discards. */
function qemuWrites(path: string, random: Random, count: number): void {
  const commands: string[] = [];
  for (let i = 0; i < count; i++) {
    const sector = random.between(0, SIZE / 512 - 1);
    const range = `${sector * 512} ${Math.min(SIZE / 512 - sector, random.between(1, 60)) * 512}`;
    commands.push(random.pick([`write -P ${random.between(1, 255)} ${range}`, `write -z ${range}`, `write -zu ${range}`, `discard ${range}`]));
  }
  qemuIo(path, 'qcow2', commands);
}

/**
 * Options that an image of up to three snapshots can take. QEMU is not asked for version 2: where the disk shares a zero cluster's place with
 * a snapshot, it writes zeros into the snapshot's data and leaves an image that it calls corrupt itself.
 */
const choices = (random: Random, down: boolean) =>
  random.pick([
    ...(down ? [{ compat: '0.10', refcount_bits: 16, lazy_refcounts: false }] : []),
    { compat: '1.1', refcount_bits: 64 },
    { compat: '1.1', refcount_bits: 4, lazy_refcounts: true },
    { compat: '1.1', refcount_bits: 8 },
  ]);

describe('amend in turn', () => {
  it.each([
    { cluster_size: 512, backing: false },
    { cluster_size: 4096, backing: false },
    { cluster_size: 1024, backing: true },
    { cluster_size: 8192, backing: true },
  ])('%j', { timeout: 120_000 }, async ({ cluster_size, backing }) => {
    const random = new Random(cluster_size);
    const path = join(folder, `image-${cluster_size}.qcow2`);
    const base = join(folder, 'base.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', base, `${SIZE}`);
    qemuIo(base, 'qcow2', [`write -P 99 0 ${SIZE}`]);
    const below = backing ? ['-b', 'base.qcow2', '-F', 'qcow2'] : [];
    qemuImg('create', '-q', '-f', 'qcow2', '-o', `cluster_size=${cluster_size}`, ...below, path, `${SIZE}`);
    for (let round = 0; round < 8; round++) {
      qemuWrites(path, random, 12);
      if (round < 3) qemuImg('snapshot', '-c', `s${round}`, path);
      if (round === 6) qemuImg('snapshot', '-d', 's1', path);
      qemuWrites(path, random, 4);
      const before = await contents(path);
      const options = choices(random, round % 3 !== 2);
      if (round % 3 === 2) {
        qemuImg(
          'amend',
          '-o',
          Object.entries(options)
            .map(([name, value]) => `${name}=${value}`)
            .join(','),
          path,
        );
      } else {
        const disk = await open(path);
        await amend(disk, { options });
        expect(disk.node.driver.info().specific).toMatchObject({ compat: options.compat, 'refcount-bits': options.refcount_bits });
        const sector = random.between(0, SIZE / 512 - 40);
        await disk.write(sector * 512, new Uint8Array(40 * 512).fill(round + 1));
        before.get('')?.fill(round + 1, sector * 512, (sector + 40) * 512);
        await disk.close();
      }
      requireClean(path, `round ${round}`);
      const after = await contents(path);
      const differ = [...before].filter(([id, bytes]) => !after.get(id)?.equals(bytes)).map(([id]) => id);
      expect(differ, `round ${round} ${JSON.stringify(options)}`).toEqual([]);
    }
  });

  it('zero clusters that have a place keep it, others go where nothing is below', async () => {
    const path = join(folder, 'places.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', path, '1M');
    qemuIo(path, 'qcow2', ['write -P 1 0 256k', 'write -z 64k 64k', 'write -z -u 128k 64k', 'write -z 512k 128k']);
    const disk = await open(path);
    await amend(disk, { options: { compat: '0.10' } });
    await disk.close();
    const runs = JSON.parse(qemuImg('map', '--output=json', path)).map(({ start, length, present }: Record<string, unknown>) => ({
      start,
      length,
      present,
    }));
    expect(runs).toEqual([
      { start: 0, length: 131072, present: true },
      { start: 131072, length: 65536, present: false },
      { start: 196608, length: 65536, present: true },
      { start: 262144, length: 786432, present: false },
    ]);
    expect(statSync(path).size).toBeLessThan(700_000);
  });

  it('version 2 snapshots of QEMU 1.x, without extra data, become whole', async () => {
    const path = join(folder, 'old.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', path, '1M');
    qemuIo(path, 'qcow2', ['write -P 1 0 256k']);
    qemuImg('snapshot', '-c', 'old', path);
    await withoutExtra(path);
    const disk = await open(path);
    await amend(disk, { options: { compat: '1.1' } });
    await disk.resize(2 * 1024 * 1024);
    await disk.close();
    requireClean(path, 'upgraded');
    qemuImg('snapshot', '-a', 'old', path);
    expect(JSON.parse(qemuImg('info', '--output=json', path))['virtual-size']).toBe(1024 * 1024);
  });
});

/** Takes the extra data out of an image's only snapshot, as QEMU before 1.7 wrote it. */
async function withoutExtra(path: string): Promise<void> {
  const storage = nodeFileStorage(path);
  const { runAsync } = await import('../../src/base/io.ts');
  const header = new Uint8Array(72);
  await runAsync(storage.read(0, header));
  const at = Number(new DataView(header.buffer).getBigUint64(64));
  const table = new Uint8Array(80);
  await runAsync(storage.read(at, table));
  const view = new DataView(table.buffer);
  const extra = view.getUint32(36);
  view.setUint32(36, 0);
  table.copyWithin(40, 40 + extra);
  await runAsync(storage.write(at, table));
  await runAsync(storage.close());
}
