/** Differencing VHDs: chains under random operations, judged by a naive reader and by libvhdi, and what may be wrong with a parent. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { DiskError } from '../../../src/base/errors.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import type { Reference } from '../../../src/disk/reference.ts';
import { commit, inspect } from '../../../src/index.ts';
import { type MemoryStorage, memoryStorage } from '../../../src/storage/memory.ts';
import { firstDifference } from '../../model/naive.ts';
import { Random } from '../../random.ts';
import { repairChecksum } from './checksum.ts';
import { type ChildOptions, makeChild, readChain } from './child.ts';

const MiB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-vhd-chain-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A parent with data here and there. */
async function parent(size: number, seed = 1): Promise<{ bytes: Uint8Array; guest: Uint8Array }> {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'vpc', size, force_size: true });
  const random = new Random(seed);
  for (let i = 0; i < 6; i++) await disk.write(random.between(0, size - 70_000), random.bytes(random.between(1, 70_000)));
  const guest = await disk.read(0, size);
  await disk.close();
  return { bytes: storage.bytes(), guest };
}

const sectors = (seed: number, count: number, most: number, run = 1): Map<number, Uint8Array> => {
  const random = new Random(seed);
  const found = new Map<number, Uint8Array>();
  for (let i = 0; i < count; i++) {
    const first = random.between(0, most / run - 1) * run;
    for (let at = first; at < first + run; at++) found.set(at, random.bytes(512));
  }
  return found;
};

/** Opens the first of `files`, which are by name. */
function openTop(files: ReadonlyMap<string, MemoryStorage>, name: string, options: { readOnly?: boolean; writableBacking?: number } = {}) {
  const asked: Reference[] = [];
  const resolve = (reference: Reference): MemoryStorage => {
    asked.push(reference);
    const found = files.get(reference.name);
    if (!found) throw new Error(`there is no ${reference.name}`);
    return found;
  };
  return { asked, opening: openDisk(files.get(name) as MemoryStorage, { resolve, ...options }) };
}

function byLibvhdi(...chain: readonly Uint8Array[]): Uint8Array {
  for (const [index, bytes] of chain.entries()) writeFileSync(join(folder, `chain-${index}`), bytes);
  const script = `
import pyvhdi, sys
files = []
for name in sys.argv[2:]:
    one = pyvhdi.file(); one.open(name); files.append(one)
for child, below in reversed(list(zip(files, files[1:]))): child.set_parent(below)
out = open(sys.argv[1], 'wb')
left = files[0].get_media_size()
while left > 0:
    part = files[0].read_buffer(min(left, 1 << 20)); out.write(part); left -= len(part)
`;
  const names = chain.map((_, index) => join(folder, `chain-${index}`));
  execFileSync('/usr/bin/python3', ['-c', script, join(folder, 'out'), ...names]);
  return new Uint8Array(readFileSync(join(folder, 'out')));
}

/** A grandchild, a child and their parent. */
async function threeOf(seed: number, { size = 5 * MiB + 512, run = 1, ...options }: ChildOptions & { run?: number } = {}) {
  const base = await parent(size, seed);
  const most = size / 512;
  const child = makeChild(base.bytes.slice(-512), { ...options, sectors: sectors(seed + 10, 40, most, run), names: { W2ru: '.\\base.vhd' } });
  const top = makeChild(child.slice(-512), { ...options, sectors: sectors(seed + 20, 40, most, run), names: { W2ru: '.\\child.vhd' } });
  return { base, child, top };
}

describe('chains of three', () => {
  it.each([1, 2, 3, 4, 5])('read and written at random, as a naive reader reads them: seed %i', { timeout: 60_000 }, async (seed) => {
    const blockSize = [2 * MiB, 512 * 1024, 4096, 16 * MiB, 65_536][seed - 1] as number;
    const { base, child, top } = await threeOf(seed, { blockSize });
    const files = new Map(
      Object.entries({ top, child, base: base.bytes }).map(([name, bytes]) => [name === 'top' ? name : `${name}.vhd`, memoryStorage({ bytes })]),
    );
    const expected = readChain([top, child, base.bytes]);
    const random = new Random(seed);
    for (let round = 0; round < 3; round++) {
      const disk = await openTop(files, 'top').opening;
      expect(firstDifference(await disk.read(0, disk.size), expected)).toBe(-1);
      for (let i = 0; i < 25; i++) {
        const offset = random.between(0, disk.size - 1);
        const bytes = random.bytes(Math.min(disk.size - offset, random.between(1, random.chance(0.2) ? 100_000 : 3000)));
        if (random.chance(0.1)) {
          await disk.zero(offset, bytes.length);
          bytes.fill(0);
        } else await disk.write(offset, bytes);
        expected.set(bytes, offset);
        if (random.chance(0.2)) await disk.flush();
      }
      await disk.close();
      const chain = ['top', 'child.vhd', 'base.vhd'].map((name) => (files.get(name) as MemoryStorage).bytes());
      expect(firstDifference(readChain(chain), expected)).toBe(-1);
      expect(firstDifference(chain[1] as Uint8Array, child)).toBe(-1);
      expect(firstDifference(chain[2] as Uint8Array, base.bytes)).toBe(-1);
    }
  });

  it('are read as libvhdi reads them, before and after writing', { timeout: 60_000 }, async () => {
    // libvhdi takes the rest of a bitmap's byte as set: so whole bytes are.
    const { base, child, top } = await threeOf(7, { run: 8, size: 5 * MiB });
    const files = new Map([
      ['top', memoryStorage({ bytes: top })],
      ['child.vhd', memoryStorage({ bytes: child })],
      ['base.vhd', memoryStorage({ bytes: base.bytes })],
    ]);
    const disk = await openTop(files, 'top').opening;
    expect(firstDifference(await disk.read(0, disk.size), byLibvhdi(top, child, base.bytes))).toBe(-1);
    const random = new Random(7);
    for (let i = 0; i < 40; i++) await disk.write(random.between(0, disk.size / 4096 - 4) * 4096, random.bytes(random.between(1, 4) * 4096));
    const expected = await disk.read(0, disk.size);
    await disk.close();
    expect(firstDifference(byLibvhdi((files.get('top') as MemoryStorage).bytes(), child, base.bytes), expected)).toBe(-1);
  });

  it('are committed into the parent', { timeout: 60_000 }, async () => {
    const { base, child } = await threeOf(3);
    const files = new Map([
      ['child', memoryStorage({ bytes: child })],
      ['base.vhd', memoryStorage({ bytes: base.bytes })],
    ]);
    const disk = await openTop(files, 'child', { writableBacking: 1 }).opening;
    const expected = await disk.read(0, disk.size);
    await commit(disk);
    expect(firstDifference(await disk.read(0, disk.size), expected)).toBe(-1);
    expect((files.get('child') as MemoryStorage).size).toBe(2048 + 512 + 512);
    const more = new Random(6).bytes(5000);
    await disk.write(700, more);
    await disk.close();
    const chain = ['child', 'base.vhd'].map((name) => (files.get(name) as MemoryStorage).bytes());
    expect(firstDifference(readChain(chain).subarray(700, 5700), more)).toBe(-1);
    const after = await openDisk(memoryStorage({ bytes: (files.get('base.vhd') as MemoryStorage).bytes() }), { format: 'vpc', readOnly: true });
    expect(firstDifference(await after.read(0, after.size), expected)).toBe(-1);
  });
});

describe('the parent', () => {
  const child = async (options: ChildOptions = {}) => {
    const base = await parent(3 * MiB);
    return { base, bytes: makeChild(base.bytes.slice(-512), { sectors: sectors(5, 9, 6000), ...options }) };
  };

  it('is looked for under each of its names, and taken only if it is the one', async () => {
    const names = { MacX: 'file://./mac%20name.vhd', W2ku: 'C:\\disks\\parent.vhd', W2ru: '..\\up\\parent.vhd' };
    for (const spaceInSectors of [false, true]) {
      const { base, bytes } = await child({ names, parentName: 'D:\\old\\plain.vhd', spaceInSectors });
      const other = await parent(3 * MiB, 9);
      const files = new Map([
        ['top', memoryStorage({ bytes })],
        ['C:\\disks\\parent.vhd', memoryStorage({ bytes: other.bytes })],
        ['plain.vhd', memoryStorage({ bytes: base.bytes })],
      ]);
      const { asked, opening } = openTop(files, 'top', { readOnly: true });
      const disk = await opening;
      expect(asked.map(({ name }) => name)).toEqual(['../up/parent.vhd', 'C:\\disks\\parent.vhd', 'mac name.vhd', 'plain.vhd']);
      expect(asked[0]).toMatchObject({ kind: 'parent', format: 'vpc', identity: expect.stringMatching(/^[0-9a-f]{32}$/) });
      expect(firstDifference(await disk.read(0, disk.size), readChain([bytes, base.bytes]))).toBe(-1);
    }
  });

  it('is refused by its id if it is another image', async () => {
    const { bytes } = await child();
    const files = new Map([
      ['top', memoryStorage({ bytes })],
      ['parent.vhd', memoryStorage({ bytes: (await parent(3 * MiB, 9)).bytes })],
    ]);
    await expect(openTop(files, 'top').opening).rejects.toMatchObject({ kind: 'refused', field: 'parentId' });
  });

  it('may be fixed, raw, or shorter than the child', async () => {
    const size = 3 * MiB;
    const content = new Random(4).bytes(size);
    const storage = memoryStorage();
    const fixed = await createDisk(storage, { format: 'vpc', size, subformat: 'fixed', force_size: true });
    await fixed.write(0, content);
    await fixed.close();
    for (const rawParent of [false, true]) {
      const below = rawParent ? content : storage.bytes();
      const bytes = makeChild(storage.bytes().slice(-512), { rawParent, size: size + 5 * 512, sectors: sectors(5, 9, 6000) });
      const files = new Map([
        ['top', memoryStorage({ bytes })],
        ['parent.vhd', memoryStorage({ bytes: below })],
      ]);
      const disk = await openTop(files, 'top').opening;
      const expected = readChain([bytes, content]);
      expect(firstDifference(await disk.read(0, disk.size), expected)).toBe(-1);
      await disk.write(size - 100, content.subarray(0, 1000));
      expected.set(content.subarray(0, 1000), size - 100);
      expect(firstDifference(await disk.read(0, disk.size), expected)).toBe(-1);
      await disk.close();
      expect(firstDifference(readChain([(files.get('top') as MemoryStorage).bytes(), content]), expected)).toBe(-1);
    }
  });

  it('is named by inspect, and never opened unasked', async () => {
    const { bytes } = await child();
    const report = await inspect(memoryStorage({ bytes }));
    expect(report).toMatchObject({ features: ['differencing'], references: [{ kind: 'parent', name: 'parent.vhd' }] });
    await expect(openDisk(memoryStorage({ bytes }))).rejects.toMatchObject({ kind: 'refused', field: 'parent' });
  });

  it('has no name where locators make no sense; the names there are never overwritten', async () => {
    const { base, bytes } = await child({ names: { W2ru: 'parent.vhd' }, parentName: '' });
    for (const damage of [
      (data: DataView) => data.setUint32(8, 5000),
      (data: DataView) => data.setBigUint64(16, 2n ** 60n),
      (data: DataView) => data.setUint32(4, 700),
    ]) {
      const damaged = bytes.slice();
      damage(new DataView(damaged.buffer, 512 + 576, 24));
      repairChecksum(damaged.subarray(512, 1536), 36);
      const { asked, opening } = openTop(new Map([['top', memoryStorage({ bytes: damaged })]]), 'top');
      await expect(opening).rejects.toBeInstanceOf(DiskError);
      expect(asked).toMatchObject([{ name: '', identity: expect.stringMatching(/^[0-9a-f]{32}$/) }]);
    }
    // A name behind all blocks, as programs put it that found no room in front.
    const late = new Uint8Array(bytes.length + 512);
    late.set(bytes.subarray(0, -512));
    late.set(bytes.subarray(2048, 2560), bytes.length - 512);
    late.set(bytes.subarray(-512), bytes.length);
    new DataView(late.buffer).setBigUint64(512 + 576 + 16, BigInt(bytes.length - 512));
    repairChecksum(late.subarray(512, 1536), 36);
    const files = new Map([
      ['top', memoryStorage({ bytes: late })],
      ['parent.vhd', memoryStorage({ bytes: base.bytes })],
    ]);
    for (let round = 0; round < 2; round++) {
      const disk = await openTop(files, 'top').opening;
      await disk.write(round * 2 * MiB, new Random(round).bytes(MiB));
      await disk.close();
    }
    expect(await inspect(memoryStorage({ bytes: (files.get('top') as MemoryStorage).bytes() }))).toMatchObject({
      references: [{ name: 'parent.vhd' }],
    });
  });
});
