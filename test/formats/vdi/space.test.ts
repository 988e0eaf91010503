/** VDI and Parallels: disks that grow, and units that are given back, as the real qemu-img judges them; VDI's old version. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Disk, inspect, openDisk } from '../../../src/index.ts';
import { type MemoryStorage, memoryStorage } from '../../../src/storage/memory.ts';
import { firstDifference, NaiveDisk } from '../../model/naive.ts';
import { requireSame, runOperations } from '../../model/operations.ts';
import { qemuImg } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';
import { usualFolder } from '../../temporary-folder.ts';
import { oldImage } from '../parallels/image.ts';
import { makeVdi, readChain } from './chain.ts';

const KiB = 1024;
const MiB = 2 ** 20;
const folder = mkdtempSync(join(usualFolder(), 'tabdisk-space-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);

/** Checked and read by QEMU. */
function judged(format: string, storage: MemoryStorage, naive: NaiveDisk): void {
  writeFileSync(file('image'), storage.bytes());
  writeFileSync(file('plain'), naive.bytes);
  qemuImg('check', '-q', '-f', format, file('image'));
  qemuImg('compare', '-q', '-f', format, '-F', 'raw', file('image'), file('plain'));
}

/** All blocks full, as far as there are `blocks`. */
function fullVdi(blocks: number, blockSize: number): Uint8Array {
  const random = new Random(blocks);
  const order = Array.from({ length: blocks }, (_, index) => (index * 7 + 3) % blocks);
  return makeVdi({ size: blocks * blockSize, blockSize, blocks: new Map(order.map((index) => [index, random.bytes(blockSize)])) });
}

/** A Parallels disk of the first kind whose clusters are not in a grid. */
async function scattered(): Promise<MemoryStorage> {
  const storage = memoryStorage({ bytes: oldImage(110 * 1024, 1024) });
  const disk = await openDisk(storage, { format: 'parallels' });
  await disk.write(0, new Random(3).bytes(110 * 1024));
  await disk.close();
  const bytes = storage.bytes();
  const moved = new Uint8Array(bytes.length + 512);
  moved.set(bytes.subarray(0, 1024));
  moved.set(bytes.subarray(512), 1024);
  const view = new DataView(moved.buffer);
  for (let index = 0; index < 110; index++) {
    const entry = view.getUint32(64 + index * 4, true);
    if (entry > 0) view.setUint32(64 + index * 4, entry + 1, true);
  }
  return memoryStorage({ bytes: moved });
}

const empty = async (format: string, options: string, size: number): Promise<MemoryStorage> => {
  const { readFileSync } = await import('node:fs');
  qemuImg('create', '-q', '-f', format, ...(options === '' ? [] : ['-o', options]), file('empty'), String(size));
  return memoryStorage({ bytes: readFileSync(file('empty')) });
};

describe.each<[string, string, number, () => MemoryStorage | Promise<MemoryStorage>]>([
  ['vdi', 'of QEMU, with room for a few blocks', MiB, () => empty('vdi', '', 3 * MiB + 512)],
  ['parallels', 'with a table as long as its room', 512, () => empty('parallels', 'cluster_size=512', 112 * 512)],
  ['parallels', 'of large clusters', 64 * KiB, () => empty('parallels', 'cluster_size=64k', 300 * KiB)],
  ['parallels', 'of the first kind, out of the grid', 0, scattered],
])('%s %s', (format, _, unit, make) => {
  it('grows and gives back, and is clean for QEMU', async () => {
    const storage = await make();
    const random = new Random(5);
    const first = await openDisk(storage, { format });
    const naive = new NaiveDisk(first.size);
    naive.bytes.set(await first.read(0, first.size));
    await first.close();
    for (let round = 0; round < 3; round++) {
      const disk = await openDisk(storage, { format });
      const allowed = { snapshots: 0, resize: true, growsOnly: true, sizeUnit: 512, discardUnit: unit };
      await runOperations(disk, naive, random, { count: 30, allowed });
      await requireSame(disk, naive, `round ${round}`);
      await disk.close();
      judged(format, storage, naive);
    }
  });
});

describe('a VDI that is full', () => {
  it.each([128, 131])('grows beyond the room for its map: %i blocks', async (blocks) => {
    const storage = memoryStorage({ bytes: fullVdi(blocks, 4096) });
    const naive = new NaiveDisk(blocks * 4096);
    naive.bytes.set(readChain([storage.bytes()]));
    let disk = await openDisk(storage);
    for (const more of [2000, 9000]) {
      await disk.resize(more * 4096);
      naive.resize(more * 4096);
      const bytes = new Random(more).bytes(9000);
      await disk.write(naive.size - 10_000, bytes);
      naive.bytes.set(bytes, naive.size - 10_000);
      await requireSame(disk, naive, `${more}`);
      await disk.close();
      expect(firstDifference(readChain([storage.bytes()]), naive.bytes)).toBe(-1);
      disk = await openDisk(storage);
      expect(await disk.check()).toMatchObject({ corruptions: 0 });
    }
    await disk.close();
  });

  it('takes a block that was given up again, though no place is left before the next flush', async () => {
    const storage = memoryStorage({ bytes: fullVdi(5, 4096) });
    const disk = await openDisk(storage);
    await disk.discard(4096, 4096);
    await disk.write(4096, new Uint8Array([1]));
    await disk.close();
    const again = await openDisk(storage, { readOnly: true });
    expect([(await again.read(4096, 2)).slice(), storage.size]).toEqual([new Uint8Array([1, 0]), 1024 + 5 * 4096]);
    expect(await again.check()).toMatchObject({ corruptions: 0, messages: [] });
  });

  it('becomes shorter by what is given back, and the count of its blocks is right', async () => {
    const storage = memoryStorage({ bytes: fullVdi(20, 4096) });
    const naive = new NaiveDisk(20 * 4096);
    naive.bytes.set(readChain([storage.bytes()]));
    const disk = await openDisk(storage, { detectZeroes: 'unmap' });
    for (const index of [2, 3, 9, 15]) await disk.discard(index * 4096, 4096);
    await disk.write(17 * 4096, new Uint8Array(8192));
    for (const index of [2, 3, 9, 15, 17, 18]) naive.bytes.fill(0, index * 4096, (index + 1) * 4096);
    await disk.close();
    expect(storage.size).toBe(1024 + 14 * 4096);
    expect(firstDifference(readChain([storage.bytes()]), naive.bytes)).toBe(-1);
    const again = await openDisk(storage, { readOnly: true });
    expect(await again.check()).toMatchObject({ corruptions: 0, messages: [] });
  });
});

it('what cannot grow, or shrink, says so', async () => {
  const whole = await openDisk(await empty('vdi', 'static=on', MiB));
  await expect(whole.resize(2 * MiB)).rejects.toMatchObject({ kind: 'unsupported', field: 'type' });
  for (const [format, bytes] of [
    ['vdi', fullVdi(3, 4096)],
    ['parallels', oldImage(10_240, 1024)],
  ] as const) {
    const disk = await openDisk(memoryStorage({ bytes }), { format });
    await expect(disk.resize(512)).rejects.toMatchObject({ kind: 'unsupported', field: 'size' });
    await expect(disk.resize(disk.size + 512, { preallocation: 'full' })).rejects.toMatchObject({ kind: 'unsupported', field: 'preallocation' });
    await expect(disk.resize(2 ** 52)).rejects.toMatchObject({ kind: 'refused', field: 'size' });
  }
  const extended = oldImage(10_240, 1024);
  new DataView(extended.buffer).setUint32(56, 1, true);
  const disk: Disk = await openDisk(memoryStorage({ bytes: extended }), { format: 'parallels', onDamage: () => undefined });
  await expect(disk.resize(20_480)).rejects.toMatchObject({ kind: 'unsupported', field: 'ext_off' });
});

it('a VDI that was left while it grew is opened, and its map brought forward before it is written', async () => {
  // The map lies behind the blocks: after the first of two headers of a growth.
  const front = fullVdi(6, 4096);
  const behind = new Uint8Array(front.length + 512);
  behind.set(front);
  behind.set(front.subarray(512, 1024), front.length);
  new DataView(behind.buffer).setUint32(340, front.length, true);
  behind.fill(0xee, 512, 1024);
  const expected = readChain([front]);
  const reading = await openDisk(memoryStorage({ bytes: behind }), { readOnly: true });
  expect(firstDifference(await reading.read(0, reading.size), expected)).toBe(-1);
  const storage = memoryStorage({ bytes: behind });
  const disk = await openDisk(storage);
  await disk.write(5, new Uint8Array([1]));
  expected[5] = 1;
  await disk.close();
  expect([firstDifference(readChain([storage.bytes()]), expected), new DataView(storage.bytes().buffer).getUint32(340, true), storage.size]).toEqual([
    -1,
    512,
    front.length,
  ]);
});

it('version 0.1 is read, and not written', async () => {
  const bytes = makeVdi({
    size: 300_000 - (300_000 % 512),
    old: true,
    blocks: new Map([
      [3, new Random(1).bytes(65_536)],
      [0, new Random(2).bytes(65_536)],
    ]),
  });
  const disk = await openDisk(memoryStorage({ bytes }), { readOnly: true });
  expect(firstDifference(await disk.read(0, disk.size), readChain([bytes]))).toBe(-1);
  expect(await disk.check()).toMatchObject({ corruptions: 0 });
  await expect(openDisk(memoryStorage({ bytes }))).rejects.toMatchObject({ kind: 'unsupported', field: 'version' });
  expect(await inspect(memoryStorage({ bytes }))).toMatchObject({ size: disk.size, features: ['dynamic', 'version 0.1'] });
});
