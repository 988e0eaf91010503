/** Differencing VHDX images: chains under random operations and jobs, judged by a naive reader and by libvhdi, and what may be wrong with a parent. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import type { Reference } from '../../../src/disk/reference.ts';
import { commit, type Disk, inspect, type OpenOptions, rebase, stream } from '../../../src/index.ts';
import { type MemoryStorage, memoryStorage } from '../../../src/storage/memory.ts';
import { firstDifference } from '../../model/naive.ts';
import { Random } from '../../random.ts';
import { linkageOf, makeChild, readChain } from './child.ts';

const MiB = 2 ** 20;
const SIZE = 4 * MiB + 1024;
const NOBODY = '{00000000-0000-0000-0000-000000000000}';
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-avhdx-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Images by name. */
class Shelf {
  readonly files = new Map<string, MemoryStorage>();
  readonly asked: Reference[] = [];

  readonly resolve = (reference: Reference): MemoryStorage => {
    this.asked.push(reference);
    const found = this.files.get(reference.name);
    if (!found) throw new Error(`there is no ${reference.name}`);
    return found;
  };

  put(name: string, bytes: Uint8Array): void {
    this.files.set(name, memoryStorage({ name, bytes: bytes.slice() }));
  }

  bytes(name: string): Uint8Array {
    return (this.files.get(name) as MemoryStorage).bytes();
  }

  open(name: string, options: OpenOptions = {}): Promise<Disk> {
    return openDisk(this.files.get(name) as MemoryStorage, { resolve: this.resolve, ...options });
  }

  /** A new image over another one, or none. */
  async make(name: string, options: { size?: number; below?: string; block_size?: number }): Promise<void> {
    const { below, size, block_size = MiB } = options;
    this.put(name, new Uint8Array());
    const backing = below === undefined ? {} : { backing: { name: below, format: 'vhdx' } };
    const disk = await createDisk(this.files.get(name) as MemoryStorage, {
      format: 'vhdx',
      resolve: this.resolve,
      block_size,
      ...(size === undefined ? {} : { size }),
      ...backing,
    });
    await disk.close();
  }

  /** What the chain reads as by the specification. */
  read(...names: string[]): Uint8Array {
    return readChain(names.map((name) => this.bytes(name)));
  }
}

/** Random changes of a disk and of what it is to read as. */
async function change(disk: Disk, expected: Uint8Array, random: Random, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const offset = random.between(0, disk.size - 1);
    const length = Math.min(disk.size - offset, random.between(1, random.chance(0.2) ? 2 * MiB : 4000));
    if (random.chance(0.2)) {
      await disk.zero(offset, length, { unmap: true });
      expected.fill(0, offset, offset + length);
    } else {
      const bytes = random.bytes(length);
      await disk.write(offset, bytes);
      expected.set(bytes, offset);
    }
    if (random.chance(0.2)) await disk.flush();
  }
  expect(firstDifference(await disk.read(0, disk.size), expected)).toBe(-1);
}

/** `base.vhdx` with data here and there. */
async function withBase(shelf: Shelf, seed: number, size = SIZE): Promise<void> {
  await shelf.make('base.vhdx', { size });
  const disk = await shelf.open('base.vhdx');
  const random = new Random(seed);
  for (let i = 0; i < 5; i++) await disk.write(random.between(0, size - 90_000), random.bytes(random.between(1, 90_000)));
  await disk.close();
}

const sectorsOf = (random: Random, count: number, most: number, run = 1): Map<number, Uint8Array> => {
  const found = new Map<number, Uint8Array>();
  for (let i = 0; i < count; i++) {
    const first = random.between(0, Math.floor(most / run) - 1) * run;
    for (let at = first; at < first + run; at++) found.set(at, random.bytes(512));
  }
  return found;
};

/** `child.vhdx` and `top.vhdx` over the base, laid down by the specification. */
function withChildren(shelf: Shelf, seed: number, { mixed = false, run = 1 }: { mixed?: boolean; run?: number }): void {
  const random = new Random(seed);
  const make = (parent: string) => {
    const blocks = new Map<number, Uint8Array | number>(
      mixed
        ? [
            [1, random.pick([1, 2, 3])],
            [3, random.bytes(MiB)],
          ]
        : [],
    );
    return makeChild(shelf.bytes(parent), {
      size: SIZE,
      names: { relative_path: `.\\${parent}` },
      sectors: sectorsOf(random, 40, SIZE / 512, run),
      blocks,
    });
  };
  shelf.put('child.vhdx', make('base.vhdx'));
  shelf.put('top.vhdx', make('child.vhdx'));
}

function byLibvhdi(...chain: readonly Uint8Array[]): Uint8Array {
  const names = chain.map((bytes, index) => {
    const name = join(folder, `chain-${index}`);
    writeFileSync(name, bytes);
    return name;
  });
  const script = `
import pyvhdi, sys
files = []
for name in sys.argv[2:]:
    one = pyvhdi.file(); one.open(name); files.append(one)
for child, below in reversed(list(zip(files, files[1:]))): child.set_parent(below)
open(sys.argv[1], 'wb').write(files[0].read_buffer(files[0].get_media_size()))
`;
  execFileSync('/usr/bin/python3', ['-c', script, join(folder, 'out'), ...names]);
  return new Uint8Array(readFileSync(join(folder, 'out')));
}

describe('chains of three', () => {
  it.each([1, 2, 3, 4, 5])('are read and written as a naive reader reads them: seed %i', async (seed) => {
    const shelf = new Shelf();
    await withBase(shelf, seed);
    withChildren(shelf, seed, { mixed: true });
    const names = ['top.vhdx', 'child.vhdx', 'base.vhdx'];
    const expected = shelf.read(...names);
    const [child, base] = [shelf.bytes('child.vhdx'), shelf.bytes('base.vhdx')];
    const random = new Random(seed + 100);
    for (let round = 0; round < 2; round++) {
      const disk = await shelf.open('top.vhdx');
      expect(firstDifference(await disk.read(0, disk.size), expected)).toBe(-1);
      await change(disk, expected, random, 14);
      expect(await disk.check()).toMatchObject({ corruptions: 0 });
      await disk.close();
      expect(firstDifference(shelf.read(...names), expected)).toBe(-1);
    }
    expect(firstDifference(shelf.bytes('child.vhdx'), child)).toBe(-1);
    expect(firstDifference(shelf.bytes('base.vhdx'), base)).toBe(-1);
  });

  it('are committed, streamed and rebased, and read the same by the specification', async () => {
    for (const seed of [1, 2, 3]) {
      const shelf = new Shelf();
      await withBase(shelf, seed);
      await shelf.make('child.vhdx', { below: 'base.vhdx' });
      const middle = await shelf.open('child.vhdx');
      const random = new Random(seed + 10);
      const expected = shelf.read('base.vhdx');
      await change(middle, expected, random, 8);
      await middle.close();
      await shelf.make('top.vhdx', { below: 'child.vhdx', ...(seed === 2 ? { block_size: 2 * MiB } : {}) });
      const disk = await shelf.open('top.vhdx', { writableBacking: 1 });
      await change(disk, expected, random, 8);
      const child = shelf.bytes('child.vhdx');
      await commit(disk);
      expect(linkageOf(child)).not.toBe(linkageOf(shelf.bytes('child.vhdx')));
      expect((shelf.files.get('top.vhdx') as MemoryStorage).size).toBeLessThanOrEqual(4 * MiB);
      await change(disk, expected, random, 4);
      await disk.close();
      expect(firstDifference(shelf.read('top.vhdx', 'child.vhdx', 'base.vhdx'), expected)).toBe(-1);
      const again = await shelf.open('top.vhdx');
      await rebase(again, { to: { name: 'base.vhdx', format: 'vhdx' }, resolve: shelf.resolve });
      await change(again, expected, random, 3);
      await again.close();
      expect(firstDifference(shelf.read('top.vhdx', 'base.vhdx'), expected)).toBe(-1);
      const last = await shelf.open('top.vhdx');
      await stream(last);
      await change(last, expected, random, 3);
      await last.close();
      expect(await inspect(shelf.files.get('top.vhdx') as MemoryStorage)).toMatchObject({ features: ['dynamic'], references: [] });
      expect(firstDifference(shelf.read('top.vhdx'), expected)).toBe(-1);
      expect(firstDifference(byLibvhdi(shelf.bytes('top.vhdx')), expected)).toBe(-1);
    }
  });

  it('are read as libvhdi reads them, before and after writing', async () => {
    const shelf = new Shelf();
    await withBase(shelf, 7);
    withChildren(shelf, 7, { run: 8 });
    const chain = () => ['top.vhdx', 'child.vhdx', 'base.vhdx'].map((name) => shelf.bytes(name));
    const disk = await shelf.open('top.vhdx');
    expect(firstDifference(await disk.read(0, disk.size), byLibvhdi(...chain()))).toBe(-1);
    const random = new Random(7);
    for (let i = 0; i < 30; i++) await disk.write(random.between(0, SIZE / 4096 - 4) * 4096, random.bytes(random.between(1, 4) * 4096));
    const expected = await disk.read(0, disk.size);
    await disk.close();
    expect(firstDifference(byLibvhdi(...chain()), expected)).toBe(-1);
  });

  it.each([512, 4096])('with blocks in several chunks, of which the last is short, and sectors of %i bytes', async (logicalSector) => {
    const GiB = 1024 * MiB;
    const scale = logicalSector / 512;
    const shelf = new Shelf();
    const size = 9 * scale * GiB;
    shelf.put('base', makeChild(new Uint8Array(), { size, logicalSector, blockSize: 256 * MiB, linkage: NOBODY }));
    const bytes = shelf.bytes('base');
    // No parent, as far as the flag says.
    bytes[3 * MiB + 64 * 1024 + 4] = 0;
    shelf.put('base', bytes);
    shelf.put('top', makeChild(bytes, { size, logicalSector, blockSize: 256 * MiB, names: { relative_path: 'base' } }));
    const places = [3 * scale * GiB + 5, 4 * scale * GiB - 700, 8 * scale * GiB + 256 * MiB - 100, size - 5000];
    for (let round = 0; round < 2; round++) {
      const disk = await shelf.open('top');
      for (const [index, at] of places.entries()) {
        if (round === 0) await disk.write(at, new Uint8Array(1000).fill(index + 1));
        expect([...(await disk.read(at - 1, 1002))]).toEqual([0, ...new Uint8Array(1000).fill(index + 1), 0]);
      }
      expect(await disk.check()).toMatchObject({ corruptions: 0 });
      await disk.close();
    }
  });
});

describe('the parent', () => {
  it('is known by the id of its contents: one that was written is refused, and opened when told so', async () => {
    const shelf = new Shelf();
    await withBase(shelf, 1);
    await shelf.make('top.vhdx', { below: 'base.vhdx' });
    expect(await inspect(shelf.files.get('top.vhdx') as MemoryStorage)).toMatchObject({
      features: ['differencing'],
      references: [{ kind: 'parent', name: 'base.vhdx', format: 'vhdx', identity: linkageOf(shelf.bytes('base.vhdx')).slice(1, -1).toUpperCase() }],
    });
    const expected = shelf.read('base.vhdx');
    const disk = await shelf.open('top.vhdx');
    expect(firstDifference(await disk.read(0, disk.size), expected)).toBe(-1);
    await disk.close();
    await (await shelf.open('base.vhdx')).close();
    await (await shelf.open('top.vhdx')).close();
    const base = await shelf.open('base.vhdx');
    await base.write(0, new Uint8Array(512));
    await base.close();
    await expect(shelf.open('top.vhdx')).rejects.toMatchObject({
      kind: 'refused',
      field: 'parent_linkage',
      message: expect.stringContaining('changedParent'),
    });
    const told: string[] = [];
    const again = await shelf.open('top.vhdx', { changedParent: true, onDamage: (message) => void told.push(message) });
    expect(told).toEqual([expect.stringContaining('it was changed since, or is another one')]);
    await again.write(0, new Uint8Array([1]));
    await rebase(again, { to: { name: 'base.vhdx', format: 'vhdx' }, resolve: shelf.resolve, unsafe: true });
    await (await shelf.open('top.vhdx')).close();
    await expect(openDisk(shelf.files.get('top.vhdx') as MemoryStorage)).rejects.toMatchObject({ kind: 'refused', field: 'parent' });
  });

  it('is looked for under its names in the order of the specification, by either id', async () => {
    const shelf = new Shelf();
    await withBase(shelf, 1);
    const names = {
      absolute_win32_path: '\\\\?\\d:\\disks\\base.vhdx',
      parent_linkage2: linkageOf(shelf.bytes('base.vhdx')).toUpperCase(),
      volume_path: '\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\base.vhdx',
      relative_path: '..\\up\\base.vhdx',
    };
    shelf.put('top', makeChild(new Uint8Array(), { size: SIZE, names, linkage: NOBODY }));
    shelf.put('d:\\disks\\base.vhdx', shelf.bytes('base.vhdx'));
    const disk = await shelf.open('top', { readOnly: true });
    expect(shelf.asked.map(({ name }) => name)).toEqual(['../up/base.vhdx', names.volume_path, 'd:\\disks\\base.vhdx']);
    expect(firstDifference(await disk.read(0, SIZE), shelf.read('base.vhdx'))).toBe(-1);
  });

  it('has the sectors that the child has, and the format', async () => {
    const shelf = new Shelf();
    await withBase(shelf, 1);
    shelf.put('top', makeChild(shelf.bytes('base.vhdx'), { size: 4 * MiB, logicalSector: 4096, names: { relative_path: 'base.vhdx' } }));
    for (const changedParent of [false, true])
      await expect(shelf.open('top', { changedParent })).rejects.toMatchObject({ kind: 'unsupported', field: 'logicalSector' });
    shelf.put('raw', new Uint8Array(SIZE));
    const make = (options: object) => createDisk(memoryStorage(), { format: 'vhdx', size: SIZE, resolve: shelf.resolve, ...options } as never);
    for (const [options, field] of [
      [{ backing: { name: 'raw', format: 'raw' } }, 'backing_file'],
      [{ backing: { name: 'base.vhdx', format: 'vhdx' }, subformat: 'fixed' }, 'subformat'],
      [{ backing: { name: 'base.vhdx', format: 'vhdx' }, resolve: undefined }, 'backing_file'],
    ] as const)
      await expect(make(options)).rejects.toMatchObject({ kind: 'refused', field });
    const alone = await shelf.open('base.vhdx');
    await expect(rebase(alone, { to: { name: 'top', format: 'vhdx' }, unsafe: true })).rejects.toMatchObject({
      kind: 'unsupported',
      field: 'parentLocator',
    });
  });

  it.each([
    ['parentLocator', 'another length', 4, (at: DataView) => at.setUint32(0, 10, true)],
    ['LocatorType', 'another type', 0, (at: DataView) => at.setUint32(0, 1, true)],
    ['parentLocator', 'too many pairs', 0, (at: DataView) => at.setUint16(18, 60, true)],
    ['parentLocator', 'a key outside', 0, (at: DataView) => at.setUint32(20, 0x7000_0000, true)],
    ['parentLocator', 'a value of an odd length', 0, (at: DataView) => at.setUint16(30, 7, true)],
    ['parentLocator', 'a key twice', 0, (at: DataView) => at.setUint32(44, at.getUint32(32, true), true)],
    ['parent_linkage', 'another key', 0, (at: DataView) => at.setUint16(at.getUint32(20, true), 0x41, true)],
    ['parent_linkage', 'no GUID', 0, (at: DataView) => at.setUint16(at.getUint32(24, true) + 4, 0x7a, true)],
    [
      'parentLocator',
      'no locator',
      8,
      (at: DataView) => {
        at.setUint32(0, 1, true);
        at.setUint32(24, 0, true);
      },
    ],
    ['BAT', 'a block without bits', 12, (at: DataView) => at.setUint32(0, 0, true)],
    ['BAT', 'bits in the headers', 12, (at: DataView) => at.setUint32(0, 6, true)],
    ['BAT', 'bits past the end', 12, (at: DataView) => at.setUint32(0, 0x7000_0006, true)],
    ['BAT', 'bits over a block', 16, (at: DataView) => at.setUint32(0, 5 * MiB + 6, true)],
  ] as const)('field %s: %s', async (field, _, where, damage) => {
    const shelf = new Shelf();
    await withBase(shelf, 1);
    const bytes = makeChild(shelf.bytes('base.vhdx'), {
      size: SIZE,
      sectors: new Map([[5, new Uint8Array(512)]]),
      names: { relative_path: 'base.vhdx', zelative_path: 'x' },
    });
    const at = { 0: 3 * MiB + 64 * 1024 + 8, 4: 3 * MiB + 32 + 32 + 20, 8: 3 * MiB + 32 + 32, 12: 2 * MiB + 4096 * 8, 16: 2 * MiB + 4096 * 8 }[where];
    damage(new DataView(bytes.buffer, at));
    shelf.put('top', bytes);
    const reading = async (options: OpenOptions) => {
      const disk = await shelf.open('top', options);
      await disk.read(0, 8192);
      if (field === 'BAT') expect(await disk.check()).not.toMatchObject({ corruptions: 0 });
      await disk.close();
    };
    await expect(reading({})).rejects.toMatchObject({ field });
    // What overlaps is seen where all blocks are looked at.
    if (where === 16) return;
    await expect(reading({ readOnly: true })).rejects.toMatchObject({ field });
  });
});
