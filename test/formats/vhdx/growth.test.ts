/** VHDX images that grow and give blocks back, judged by the real qemu-img; and data that the file lacks. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { explore, requireSound } from '../../crash/explorer.ts';
import type { Files } from '../../crash/files.ts';
import { type LogEntry, RecorderStorage } from '../../layers/recorder.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, qemuIo } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';
import { readChain } from './child.ts';

const MiB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-vhdx-growth-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);

/** Compares an image with the bytes that it should have, by QEMU. */
function judge(image: Uint8Array, expected: Uint8Array): void {
  writeFileSync(file('image'), image);
  writeFileSync(file('plain'), expected);
  qemuImg('check', '-q', '-f', 'vhdx', file('image'));
  qemuImg('compare', '-q', '-f', 'vhdx', '-F', 'raw', file('image'), file('plain'));
}

const grown = (bytes: Uint8Array, size: number): Uint8Array => {
  const larger = new Uint8Array(size);
  larger.set(bytes);
  return larger;
};

describe('growing', () => {
  it('within the BAT: entries that were left behind the end are not believed, and the last block shows zeros', async () => {
    const storage = memoryStorage();
    let expected = new Random(1).bytes(3 * MiB + 512);
    const disk = await createDisk(storage, { format: 'vhdx', size: expected.length, block_size: MiB });
    await disk.write(0, expected);
    await disk.flush();
    const bytes = storage.bytes();
    await disk.close();
    // What the last block has behind the disk's end, and an entry of a block that the disk does not have.
    const data = new DataView(bytes.buffer);
    const last = data.getUint32(2 * MiB + 24, true) - 6;
    bytes.fill(9, last + 512, last + MiB);
    data.setUint32(2 * MiB + 5 * 8, last + 6, true);
    data.setUint32(2 * MiB + 700 * 8, last + 6, true);
    const again = memoryStorage({ bytes });
    const other = await openDisk(again, { format: 'vhdx' });
    for (const size of [3 * MiB + 1024, 6 * MiB + 512, 1800 * MiB]) {
      await other.resize(size);
      expect(other.size).toBe(size);
      if (size > 20 * MiB) break;
      expected = grown(expected, size);
      const more = new Random(size).bytes(70_000);
      await other.write(size - more.length, more);
      expected.set(more, size - more.length);
      expect(firstDifference(await other.read(0, size), expected)).toBe(-1);
    }
    expect(await other.read(700 * MiB, 512)).toEqual(new Uint8Array(512));
    await other.close();
    writeFileSync(file('image'), again.bytes());
    qemuImg('check', '-q', '-f', 'vhdx', file('image'));
    writeFileSync(file('plain'), expected);
    // QEMU compares disks of two sizes as if the shorter one went on with zeros.
    qemuImg('compare', '-q', '-f', 'vhdx', '-F', 'raw', file('image'), file('plain'));
  });

  it('with a BAT that has to be moved', async () => {
    const path = file('moved');
    qemuImg('create', '-q', '-f', 'vhdx', '-o', 'block_size=1M', path, '127G');
    qemuIo(path, 'vhdx', ['write -P 3 126G 64k']);
    const GiB = 1024 * MiB;
    const disk = await openDisk(nodeFileStorage(path), { format: 'vhdx' });
    await disk.write(5 * GiB - 10, new Uint8Array(100).fill(1));
    for (const size of [200, 300]) {
      await disk.resize(size * GiB);
      await disk.write((size - 1) * GiB, new Uint8Array(5000).fill(size / 50));
    }
    await disk.close();
    qemuImg('check', '-q', '-f', 'vhdx', path);
    qemuIo(path, 'vhdx', ['read -P 3 126G 64k', 'read -P 1 5368709110 100', 'read -P 4 199G 5000', 'read -P 6 299G 5000', 'read -P 0 150G 64k']);
    const again = await openDisk(nodeFileStorage(path), { format: 'vhdx' });
    await again.write(250 * GiB, new Uint8Array(5000).fill(8));
    expect(await again.check()).toMatchObject({ corruptions: 0 });
    await again.close();
    qemuIo(path, 'vhdx', ['read -P 8 250G 5000', 'read -P 6 299G 5000']);
  });

  it('with a BAT that has to be moved, cut off anywhere', { timeout: 120_000 }, async () => {
    const GiB = 1024 * MiB;
    const memory = memoryStorage({ name: 'disk' });
    const disk = await createDisk(memory, { format: 'vhdx', size: 127 * GiB, block_size: MiB });
    await disk.write(126 * GiB, new Uint8Array(512).fill(3));
    await disk.close();
    const start = new Map([['disk', memory.bytes()]]);
    const log: LogEntry[] = [];
    const grows = await openDisk(new RecorderStorage(memory, log), { format: 'vhdx' });
    const sizes = [127, 200, 300].map((size) => size * GiB);
    const timeline = [{ position: 0, right: sizes.slice(0, 1) }];
    for (let i = 1; i < sizes.length; i++) {
      timeline.push({ position: log.length, right: sizes.slice(i - 1, i + 1) });
      await grows.resize(sizes[i] as number);
      await grows.write((sizes[i] as number) - 512, new Uint8Array(512).fill(i));
      await grows.flush();
      timeline.push({ position: log.length, right: sizes.slice(i, i + 1) });
    }
    const judge = async (files: Files, { right }: { right: readonly number[] }): Promise<void> => {
      const cut = await openDisk(memoryStorage({ bytes: files.get('disk') as Uint8Array }), { format: 'vhdx' });
      const found = [cut.size, (await cut.read(126 * GiB, 1))[0]];
      for (const size of sizes.slice(1, sizes.indexOf(cut.size))) found.push((await cut.read(size - 1, 1))[0]);
      if (!right.includes(cut.size) || found[1] !== 3 || found.slice(2).some((byte, i) => byte !== i + 1))
        throw new Error(`${found}, right: ${right}`);
      await requireSound(cut.check());
      // What is allocated next lies over nothing that is used.
      await cut.write(cut.size - 700, new Uint8Array(600).fill(7));
      await cut.flush();
      await requireSound(cut.check());
      if ((await cut.read(126 * GiB, 1))[0] !== 3) throw new Error('a block was overwritten');
    };
    const limit = Math.ceil(Number(process.env.TABDISK_CRASH_STATES ?? 12_000) / 200);
    // Most of the states lie around the two moves of the table.
    expect(await explore({ start, log, timeline, random: new Random(1), subsets: 1, limit, judge })).toBeGreaterThan(20);
  });

  it('of a child beyond its parent: it reads zeros there, whatever a longer parent has', async () => {
    const parent = memoryStorage();
    const made = await createDisk(parent, { format: 'vhdx', size: 4 * MiB, block_size: MiB });
    await made.write(0, new Uint8Array(4 * MiB).fill(7));
    await made.close();
    const storage = memoryStorage();
    const resolve = () => parent;
    const child = await createDisk(storage, {
      format: 'vhdx',
      size: 2 * MiB + 1024,
      block_size: MiB,
      backing: { name: 'parent', format: 'vhdx' },
      resolve,
    });
    await child.write(2 * MiB, new Uint8Array(512).fill(1));
    await child.resize(6 * MiB);
    const expected = new Uint8Array(6 * MiB).fill(7, 0, 2 * MiB + 1024).fill(1, 2 * MiB, 2 * MiB + 512);
    expect(firstDifference(await child.read(0, child.size), expected)).toBe(-1);
    await child.write(5 * MiB - 100, new Uint8Array(200).fill(2));
    expected.fill(2, 5 * MiB - 100, 5 * MiB + 100);
    await child.close();
    expect(firstDifference(readChain([storage.bytes(), parent.bytes()]), expected)).toBe(-1);
  });

  it.each([
    [3 * MiB, {}, 'unsupported', 'size'],
    [9 * MiB + 100, {}, 'refused', 'size'],
    [65 * 2 ** 40, {}, 'refused', 'size'],
    [9 * MiB, { preallocation: 'full' }, 'unsupported', 'preallocation'],
  ] as const)('to %i bytes with %o is refused', async (size, options, kind, field) => {
    const disk = await createDisk(memoryStorage(), { format: 'vhdx', size: 4 * MiB });
    await expect(disk.resize(size, options)).rejects.toMatchObject({ kind, field });
    expect(disk.size).toBe(4 * MiB);
  });
});

describe('blocks that are given back', () => {
  it('read as zero, and their places are used again once that is durable, also by a later opening', async () => {
    const storage = memoryStorage();
    const size = 8 * MiB;
    const expected = new Random(2).bytes(size);
    const disk = await createDisk(storage, { format: 'vhdx', size, block_size: MiB });
    await disk.write(0, expected);
    await disk.flush();
    const length = storage.size;
    await disk.discard(MiB - 5, 2 * MiB + 10);
    await disk.zero(5 * MiB, MiB, { unmap: true });
    expected.fill(0, MiB, 3 * MiB).fill(0, 5 * MiB, 6 * MiB);
    // What is durable still points at the places.
    await disk.write(MiB, new Uint8Array(MiB).fill(4));
    expect(storage.size).toBeGreaterThan(length);
    expected.fill(4, MiB, 2 * MiB);
    await disk.flush();
    const second = storage.size;
    await disk.write(2 * MiB, new Uint8Array(MiB).fill(5));
    expected.fill(5, 2 * MiB, 3 * MiB);
    await disk.flush();
    expect(storage.size).toBe(second);
    expect(firstDifference(await disk.read(0, size), expected)).toBe(-1);
    await disk.close();
    judge(storage.bytes(), expected);
    const again = await openDisk(storage, { format: 'vhdx' });
    await again.write(5 * MiB + 7, new Uint8Array(9).fill(6));
    expected.fill(6, 5 * MiB + 7, 5 * MiB + 16);
    await again.close();
    expect(storage.size).toBe(second);
    judge(storage.bytes(), expected);
  });

  it('are what a guest that writes zeros leaves with detectZeroes', async () => {
    const storage = memoryStorage();
    const disk = await createDisk(storage, { format: 'vhdx', size: 8 * MiB, block_size: MiB, detectZeroes: 'unmap' });
    const { size } = storage;
    await disk.write(0, new Uint8Array(8 * MiB));
    await disk.flush();
    expect(storage.size).toBe(size);
  });
});

it('a block that is cut off is an error, not zeros, wherever in the block the file ends', async () => {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'vhdx', size: 8 * MiB, block_size: 4 * MiB });
  await disk.write(0, new Uint8Array(8 * MiB).fill(3));
  await disk.close();
  for (const missing of [1, 512, MiB, 3 * MiB + 4096]) {
    const cut = memoryStorage({ bytes: storage.bytes().slice(0, -missing) });
    const open = (readOnly: boolean) => openDisk(cut, { format: 'vhdx', readOnly });
    await expect(open(false)).rejects.toMatchObject({ kind: 'corrupt', field: 'BAT' });
    const reading = await open(true);
    expect(await reading.read(8 * MiB - missing - 600, 512)).toEqual(new Uint8Array(512).fill(3));
    await expect(reading.read(8 * MiB - missing - 100, 101)).rejects.toMatchObject({ kind: 'corrupt', field: 'data cluster' });
    await expect(reading.read(8 * MiB - 1, 1)).rejects.toMatchObject({ kind: 'corrupt', field: 'data cluster' });
  }
});
