/**
 * Incremental exports: a full export at a snapshot, changes of every kind by us and by QEMU, then an increment. QEMU opens the increment over
 * the first export and must find the very disk; its check is clean, and the file is hardly larger than what changed.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { createDisk, type Disk, Drive, openDisk, type Since, writeIncrement } from '../../src/index.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Random } from '../random.ts';
import { qemuImg, qemuIo, requireClean } from './qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-increment-'));
afterAll(() => rmSync(folder, { recursive: true }));
let serial = 0;

const SIZE = 6 * MiB;
const open = (path: string): Promise<Disk> => openDisk(nodeFileStorage(path), { format: 'qcow2' });

async function change(disk: Disk, random: Random, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const offset = random.between(0, disk.size - 1);
    const length = Math.min(disk.size - offset, random.between(1, 150_000));
    const what = random.pick(['write', 'write', 'zero', 'discard', 'compressed'] as const);
    if (what === 'write') await disk.write(offset, random.bytes(length));
    else if (what === 'zero') await disk.zero(offset, length, { unmap: random.chance(0.5) });
    else if (what === 'discard') await disk.discard(offset, length);
    else {
      const unit = disk.node.driver.clusterSize;
      const start = Math.floor(offset / unit) * unit;
      await disk.writeCompressed(start, random.bytes(Math.min(unit, disk.size - start)));
    }
  }
}

interface Names {
  readonly disk: string;
  readonly base: string;
  readonly next: string;
}

const names = (): Names => {
  serial++;
  return { disk: join(folder, `${serial}.qcow2`), base: join(folder, `${serial}-base.qcow2`), next: join(folder, `${serial}-next.qcow2`) };
};

/** Writes the increment and asks QEMU about it. Returns bytes changed and the file's size. */
async function judge({ disk, base, next }: Names, since: Since): Promise<{ changed: number; fileSize: number }> {
  const source = await open(disk);
  const result = await writeIncrement(source, nodeFileStorage(next, { create: 'must-not-exist' }), {
    since,
    backing: { name: base, format: 'qcow2' },
  });
  await source.close();
  requireClean(next, 'the increment');
  requireClean(disk, 'the disk');
  qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', disk, next);
  expect(statSync(next).size).toBe(result.fileSize);
  return result;
}

describe.each([
  { options: { cluster_size: 4096 } as Record<string, unknown>, seed: 1 },
  { options: { cluster_size: 65_536 }, seed: 2 },
  { options: { cluster_size: 16_384, extended_l2: 'on' }, seed: 3 },
  { options: { cluster_size: 131_072, compat: '0.10' }, seed: 4 },
])('since a snapshot, with $options (seed $seed)', ({ options, seed }) => {
  it('is the disk over the earlier export, whoever wrote and whatever happened between', async () => {
    const random = new Random(seed);
    const files = names();
    const disk = await createDisk(nodeFileStorage(files.disk, { create: 'must-not-exist' }), { format: 'qcow2', size: SIZE, ...options });
    await change(disk, random, 12);
    await disk.snapshots.create({ name: 'A' });
    await disk.close();
    qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', '-l', 'snapshot.name=A', files.disk, files.base);

    expect((await judge(files, { snapshot: 'A' })).changed, 'nothing has changed yet').toBe(0);
    rmSync(files.next);

    // Between: we write, QEMU writes, another snapshot comes, the disk is reverted to it, shrinks and grows.
    const again = await open(files.disk);
    await change(again, random, 4);
    await again.snapshots.create({ name: 'B' });
    await change(again, random, 3);
    await again.snapshots.apply('B');
    if (options.compat === undefined) {
      await again.resize(SIZE - 700_416);
      await again.resize(SIZE + 300_032);
    }
    await again.write(SIZE - 1000, random.bytes(1000));
    await again.close();
    qemuIo(files.disk, 'qcow2', ['write -P 0x5a 2000k 70k', 'write -z 1M 130k', 'discard 3M 256k']);
    const { changed, fileSize } = await judge(files, { snapshot: 'A' });
    expect(changed).toBeGreaterThan(0);
    expect(fileSize).toBeLessThan(changed + 10 * 65_536 + changed / 50);

    // Back at A, but for the size, which a snapshot brings back as well.
    const reverted = await open(files.disk);
    await reverted.snapshots.apply('A');
    await reverted.close();
    rmSync(files.next);
    expect((await judge(files, { snapshot: 'A' })).changed).toBe(0);
  });
});

describe('since a bitmap', () => {
  it('that lies in the image, over several sessions', async () => {
    const random = new Random(7);
    const files = names();
    const disk = await createDisk(nodeFileStorage(files.disk, { create: 'must-not-exist' }), { format: 'qcow2', size: SIZE });
    await change(disk, random, 10);
    await disk.bitmaps.add({ name: 'since', granularity: 512 });
    await disk.close();
    qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', files.disk, files.base);
    const again = await open(files.disk);
    await change(again, random, 3);
    await again.close();
    // QEMU notes its own.
    qemuIo(files.disk, 'qcow2', ['write -P 0x77 5000k 3k']);
    await judge(files, { bitmap: 'since' });
  });

  it('of a drive, which a raw disk can have too', async () => {
    const random = new Random(8);
    const { disk, base, next } = names();
    const raw = await createDisk(nodeFileStorage(disk, { create: 'must-not-exist', locking: 'off' }), { format: 'raw', size: 3 * MiB + 1536 });
    await raw.write(100_000, random.bytes(900_000));
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', disk, base);
    const drive = new Drive();
    drive.insert(raw, { keepOpen: true });
    const tracked = drive.trackDirty(4096);
    await drive.write(200_000, random.bytes(10));
    await drive.zero(700_000, 100_000);
    await drive.write(3 * MiB + 1000, random.bytes(536));
    const { changed } = await writeIncrement(raw, nodeFileStorage(next, { create: 'must-not-exist' }), {
      since: { ranges: tracked },
      backing: { name: base, format: 'qcow2' },
    });
    await raw.close();
    expect(changed).toBe(4 * 65_536 + 1536);
    requireClean(next, 'the increment');
    qemuImg('compare', '-f', 'raw', '-F', 'qcow2', disk, next);
  });
});

it('increments stack, and QEMU merges them', async () => {
  const random = new Random(9);
  const files = names();
  const disk = await createDisk(nodeFileStorage(files.disk, { create: 'must-not-exist' }), { format: 'qcow2', size: SIZE });
  await change(disk, random, 6);
  await disk.snapshots.create({ name: 'A' });
  await disk.close();
  qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', files.disk, files.base);
  let below = files.base;
  let since = 'A';
  for (const name of ['B', 'C']) {
    const again = await open(files.disk);
    await change(again, random, 3);
    await again.snapshots.create({ name });
    await again.close();
    const next = join(folder, `${serial}-${name}.qcow2`);
    await judge({ ...files, base: below, next }, { snapshot: since });
    [below, since] = [next, name];
  }
  // Under another name the first export is told to the overlay, as whoever moved the files would do.
  qemuImg('rebase', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', join(folder, `${serial}-B.qcow2`), below);
  qemuImg('commit', '-f', 'qcow2', '-b', files.base, below);
  qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', files.disk, files.base);
});
