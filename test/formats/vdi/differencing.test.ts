/** VirtualBox's differencing VDIs: chains under random operations and jobs, judged by a naive reader; and how the parent is found by its UUID. */
import { describe, expect, it } from 'vitest';
import { commit, convert, createDisk, type Disk, inspect, type OpenOptions, openDisk, type Reference, rebase, stream } from '../../../src/index.ts';
import { type MemoryStorage, memoryStorage } from '../../../src/storage/memory.ts';
import { firstDifference, NaiveDisk } from '../../model/naive.ts';
import { runOperations } from '../../model/operations.ts';
import { Random } from '../../random.ts';
import { makeVdi, readChain, uuidsOf, uuidText } from './chain.ts';

const KiB = 1024;
const MiB = 2 ** 20;

/** Files at hand, of which a parent is found by its UUID. */
class Shelf {
  readonly files = new Map<string, MemoryStorage>();
  readonly asked: Reference[] = [];

  put(name: string, bytes: Uint8Array): void {
    this.files.set(name, memoryStorage({ name, bytes }));
  }

  bytes(...names: string[]): Uint8Array[] {
    return names.map((name) => (this.files.get(name) as MemoryStorage).bytes());
  }

  readonly resolve = async (reference: Reference): Promise<MemoryStorage> => {
    this.asked.push(reference);
    for (const [name, storage] of this.files)
      if (reference.name === '' ? (await inspect(storage)).identity === reference.identity : name === reference.name) return storage;
    throw new Error(`nothing here is ${reference.identity ?? reference.name}`);
  };

  open(name: string, options: OpenOptions = {}): Promise<Disk> {
    return openDisk(this.files.get(name) as MemoryStorage, { resolve: this.resolve, ...options });
  }

  /** A new image, over another one. */
  async create(name: string, size: number, below?: string): Promise<Disk> {
    const storage = memoryStorage({ name });
    this.files.set(name, storage);
    return await createDisk(storage, { format: 'vdi', size, resolve: this.resolve, ...(below ? { backing: { name: below, format: 'vdi' } } : {}) });
  }
}

const some = (random: Random, { count, most, blockSize }: { count: number; most: number; blockSize: number }) =>
  new Map(Array.from({ length: count }, () => [random.between(0, most), random.chance(0.3) ? ('zero' as const) : random.bytes(blockSize)] as const));

/** Three images as VirtualBox lays them down. */
function threeOf(seed: number, { size = 11 * 64 * KiB + 5 * 512, old = false, align = 512 } = {}): Shelf {
  const random = new Random(seed);
  const blockSize = 64 * KiB;
  const shape = { count: 6, most: 10, blockSize };
  const shelf = new Shelf();
  shelf.put('base', makeVdi({ size, align, create: 0x11, modify: 0x12, blocks: some(random, shape) }));
  shelf.put('child', makeVdi({ size, align, old, create: 0x21, modify: 0x22, parent: [0x11, 0x12], blocks: some(random, shape) }));
  shelf.put('top', makeVdi({ size, align, create: 0x31, modify: 0x32, parent: [0x21, 0x22], blocks: some(random, shape) }));
  return shelf;
}

const OPERATIONS = { snapshots: 0, resize: true, growsOnly: true, sizeUnit: 512, discardUnit: 64 * KiB };

describe('chains of three', () => {
  it.each([1, 2, 3])('read and written at random, as a naive reader reads them: seed %i', async (seed) => {
    const shelf = threeOf(seed, { old: seed === 2, align: seed === 3 ? MiB : 512 });
    const below = shelf.bytes('child', 'base');
    const expected = readChain(shelf.bytes('top', 'child', 'base'));
    const naive = new NaiveDisk(expected.length);
    naive.bytes.set(expected);
    const random = new Random(seed);
    for (let round = 0; round < 3; round++) {
      const disk = await shelf.open('top');
      expect(firstDifference(await disk.read(0, disk.size), naive.bytes)).toBe(-1);
      await runOperations(disk, naive, random, { count: 25, allowed: OPERATIONS });
      await disk.close();
      expect(firstDifference(readChain(shelf.bytes('top', 'child', 'base')), naive.bytes)).toBe(-1);
      for (const [index, bytes] of shelf.bytes('child', 'base').entries()) expect(firstDifference(bytes, below[index] as Uint8Array)).toBe(-1);
      const again = await shelf.open('top', { readOnly: true });
      expect(await again.check()).toMatchObject({ corruptions: 0, messages: [] });
      await again.close();
    }
  });

  it.each([1, 2])('go through commit, stream, rebase, convert and new overlays: seed %i', async (seed) => {
    const random = new Random(seed);
    const shelf = new Shelf();
    const size = 4 * MiB + 5 * 512;
    const naive = new NaiveDisk(size);
    let names = ['a'];
    await (await shelf.create('a', size)).close();
    const allowed = { ...OPERATIONS, resize: false, discardUnit: MiB };
    for (let step = 0; step < 10; step++) {
      const context = `seed ${seed}, step ${step}: ${names}`;
      const what = names.length < 3 ? 'overlay' : random.pick(['overlay', 'commit', 'keep', 'stream', 'rebase', 'convert'] as const);
      if (what === 'overlay') {
        const name = `o${step}`;
        await (await shelf.create(name, naive.size, names[0] as string)).close();
        names.unshift(name);
      }
      const disk = await shelf.open(names[0] as string, what === 'commit' || what === 'keep' ? { writableBacking: 1 } : {});
      await runOperations(disk, naive, random, { count: 8, allowed });
      if (what === 'commit' || what === 'keep') await commit(disk, { keep: what === 'keep' });
      if (what === 'stream') {
        const base = random.between(2, names.length - 1);
        await stream(disk, { base });
        names = [names[0] as string, ...names.slice(base)];
      }
      if (what === 'rebase') {
        await rebase(disk, { to: { name: names[2] as string, format: 'vdi' }, resolve: shelf.resolve });
        names.splice(1, 1);
      }
      if (what === 'convert') {
        const name = `c${step}`;
        const below = { name: names[1] as string, format: 'vdi' };
        const target = memoryStorage({ name });
        shelf.files.set(name, target);
        await (await createDisk(target, { format: 'vdi', size: naive.size, backing: below, resolve: shelf.resolve })).close();
        const to = await shelf.open(name);
        await convert(disk, to, { topOnly: true });
        await to.close();
        names[0] = name;
      }
      await runOperations(disk, naive, random, { count: what === 'convert' ? 0 : 4, allowed });
      await disk.close();
      expect(firstDifference(readChain(shelf.bytes(...names)), naive.bytes), context).toBe(-1);
      const again = await shelf.open(names[0] as string, { readOnly: true });
      expect([again.files, firstDifference(await again.read(0, again.size), naive.bytes)], context).toEqual([names, -1]);
      expect(await again.check(), context).toMatchObject({ corruptions: 0 });
      await again.close();
    }
  });
});

describe('the parent', () => {
  const block = (byte: number): Uint8Array => new Uint8Array(64 * KiB).fill(byte);
  const pair = (child: Partial<Parameters<typeof makeVdi>[0]> = {}, base: Partial<Parameters<typeof makeVdi>[0]> = {}): Shelf => {
    const shelf = new Shelf();
    const size = 5 * 64 * KiB;
    shelf.put(
      'base',
      makeVdi({
        size,
        create: 0x11,
        modify: 0x12,
        blocks: new Map([
          [0, block(1)],
          [1, block(2)],
          [4, block(5)],
        ]),
        ...base,
      }),
    );
    shelf.put(
      'top',
      makeVdi({
        size,
        create: 0x21,
        modify: 0x22,
        parent: [0x11, 0x12],
        blocks: new Map<number, Uint8Array | 'zero'>([
          [1, 'zero'],
          [2, block(3)],
        ]),
        ...child,
      }),
    );
    return shelf;
  };
  const firsts = async (disk: Disk): Promise<number[]> =>
    Promise.all([0, 1, 2, 3, 4].map(async (index) => (await disk.read(index * 64 * KiB, 1))[0] as number));

  it('is asked for by its UUID, and never opened unasked; a mark for zeros hides it', async () => {
    const shelf = pair();
    const disk = await shelf.open('top');
    expect(await firsts(disk)).toEqual([1, 0, 3, 0, 5]);
    expect(shelf.asked).toEqual([{ kind: 'parent', name: '', format: 'vdi', identity: uuidText(0x11), from: 'top' }]);
    const runs: unknown[] = [];
    for await (const { depth, zero, present } of disk.map()) runs.push([depth, zero, present]);
    expect(runs).toEqual([
      [1, false, true],
      [0, true, true],
      [0, false, true],
      [1, true, true],
      [1, false, true],
    ]);
    expect(await disk.info()).toMatchObject({ 'full-backing-filename': 'base', 'backing-filename-format': 'vdi' });
    expect(await disk.info()).not.toHaveProperty('backing-filename');
    await disk.close();
    await expect(openDisk(shelf.files.get('top') as MemoryStorage)).rejects.toMatchObject({ kind: 'refused', field: 'parent' });
    expect(await inspect(shelf.files.get('top') as MemoryStorage)).toMatchObject({
      identity: uuidText(0x21),
      features: ['differencing'],
      references: [{ kind: 'parent', name: '', identity: uuidText(0x11) }],
    });
    expect(await inspect(shelf.files.get('base') as MemoryStorage)).toMatchObject({ identity: uuidText(0x11), references: [] });
  });

  it('is refused by name if it was changed since, or is another one, and opened when told so', async () => {
    for (const [field, base] of [
      ['parent', { modify: 0x13 }],
      ['link', { create: 0x14 }],
    ] as const) {
      const shelf = pair({}, base);
      const resolve = () => shelf.files.get('base') as MemoryStorage;
      await expect(shelf.open('top', { resolve })).rejects.toMatchObject({ kind: 'refused', field, message: expect.stringContaining('base') });
      const told: string[] = [];
      const disk = await shelf.open('top', { resolve, changedParent: true, onDamage: (message) => told.push(message) });
      expect([await firsts(disk), told.length]).toEqual([[1, 0, 3, 0, 5], 1]);
      await disk.close();
    }
    const raw = pair();
    await expect(raw.open('top', { resolve: () => ({ storage: memoryStorage({ bytes: block(1) }), format: 'raw' }) })).rejects.toMatchObject({
      field: 'link',
    });
  });

  it('has another UUID of changes once it was written, and not when it was only opened', async () => {
    const shelf = pair();
    const opened = await shelf.open('base');
    await opened.read(0, 100);
    await opened.close();
    await (await shelf.open('top')).close();
    expect(uuidsOf(shelf.bytes('base')[0] as Uint8Array)[1]).toBe('12'.repeat(16));
    for (const change of [
      (disk: Disk) => disk.write(5, new Uint8Array(1)),
      (disk: Disk) => disk.discard(0, 64 * KiB),
      (disk: Disk) => disk.resize(10 * 64 * KiB),
    ]) {
      const changed = pair();
      const disk = await changed.open('base');
      await change(disk);
      await disk.close();
      expect(uuidsOf(changed.bytes('base')[0] as Uint8Array)).toEqual([
        '11'.repeat(16),
        expect.not.stringMatching(/^(12)+$/),
        '00'.repeat(16),
        '00'.repeat(16),
      ]);
      await expect(changed.open('top')).rejects.toMatchObject({ field: 'parent' });
    }
  });

  it('may be shorter than the child, which shows zeros there, also after it has grown over a longer one', async () => {
    const shelf = pair({ size: 7 * 64 * KiB });
    const disk = await shelf.open('top');
    expect(firstDifference(await disk.read(0, disk.size), readChain(shelf.bytes('top', 'base')))).toBe(-1);
    await disk.close();
    const short = pair({ size: 3 * 64 * KiB - 1024 });
    const grown = await short.open('top');
    await grown.resize(5 * 64 * KiB);
    expect(await firsts(grown)).toEqual([1, 0, 3, 0, 0]);
    await grown.close();
    expect(
      firstDifference(
        readChain(short.bytes('top', 'base')),
        readChain([
          makeVdi({
            size: 5 * 64 * KiB,
            blocks: new Map([
              [0, block(1)],
              [2, zeroed(block(3), 1024)],
            ]),
          }),
        ]),
      ),
    ).toBe(-1);
  });

  it('of a new overlay must be a VDI that is there, and an overlay does not become static', async () => {
    const shelf = pair();
    const backing = { name: 'base', format: 'vdi' };
    await expect(createDisk(memoryStorage(), { format: 'vdi', size: MiB, backing })).rejects.toMatchObject({
      kind: 'refused',
      field: 'backing_file',
    });
    await expect(createDisk(memoryStorage(), { format: 'vdi', size: MiB, backing, resolve: shelf.resolve, static: true })).rejects.toMatchObject({
      field: 'static',
    });
    await expect(
      createDisk(memoryStorage(), {
        format: 'vdi',
        size: MiB,
        backing: { name: 'raw', format: 'raw' },
        resolve: () => memoryStorage({ bytes: block(1) }),
      }),
    ).rejects.toMatchObject({ field: 'backing_file' });
    const top = await shelf.open('top');
    await expect(rebase(top, { to: { name: 'gone', format: 'vdi' }, unsafe: true })).rejects.toMatchObject({
      kind: 'refused',
      field: 'backing_file',
      message: expect.stringContaining('needs no rebase'),
    });
    await rebase(top);
    await top.close();
    const alone = await openDisk(shelf.files.get('top') as MemoryStorage);
    expect(await firsts(alone)).toEqual([1, 0, 3, 0, 5]);
    expect(uuidsOf(shelf.bytes('top')[0] as Uint8Array).slice(2)).toEqual(['00'.repeat(16), '00'.repeat(16)]);
    await alone.close();
  });
});

const zeroed = (bytes: Uint8Array, count: number): Uint8Array => bytes.fill(0, bytes.length - count);
