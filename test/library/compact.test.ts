/**
 * An image of the library is written anew, and the tab ends at any operation: the next library has the image, old or new, whole, and nothing else. The list and
 * the place of these tests are in memory, and forget what was not durable.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import type { Io } from '../../src/base/io.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { Catalogue } from '../../src/library/catalogue.ts';
import { compactImage } from '../../src/library/compact.ts';
import type { ImagePlace } from '../../src/library/image-place.ts';
import { bytesOf, type ImageRecord } from '../../src/library/image-record.ts';
import { Library } from '../../src/library/library.ts';
import { Notes } from '../../src/library/list-copy.ts';
import type { ChainKeeper } from '../../src/library/overlays.ts';
import type { RecordStore } from '../../src/library/records.ts';
import { sweep } from '../../src/library/sweep.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import { firstDifference } from '../model/naive.ts';
import { Random } from '../random.ts';

const MiB = 2 ** 20;
const DAY = 24 * 60 * 60 * 1000;

// Where locks do not reach other tabs, as in Node, only what is old is swept.
beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'], now: 1_800_000_000_000 }));
afterEach(() => void vi.useRealTimers());
const daysLater = () => vi.setSystemTime(Date.now() + 2 * DAY);

const ID = '0c6c1d1e-1111-4222-8333-444455556666';
const RECORD: ImageRecord = { id: ID, name: 'a', format: 'qcow2', place: 'opfs', size: 3 * MiB, created: 1, changed: 1, state: 'ready' };

/** Ends everything at the operation of this number, and counts them. */
class Power {
  count = 0;
  readonly #last: number;
  readonly #kind: 'io' | 'no-space';

  constructor(last = Number.POSITIVE_INFINITY, kind: 'io' | 'no-space' = 'io') {
    this.#last = last;
    this.#kind = kind;
  }

  use(): void {
    if (++this.count > this.#last) throw new DiskError(this.#kind, 'the power was cut');
  }
}

/** A file whose changes are durable with a flush. */
class Kept extends FilterStorage {
  readonly #power: Power;
  readonly #settle: () => void;

  constructor(next: MemoryStorage, power: Power, settle: () => void) {
    super(next);
    this.#power = power;
    this.#settle = settle;
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    this.#power.use();
    yield* super.write(offset, bytes);
  }

  override *truncate(size: number): Io<void> {
    this.#power.use();
    yield* super.truncate(size);
  }

  override *flush(): Io<void> {
    this.#power.use();
    yield* super.flush();
    this.#settle();
  }

  override *close(): Io<void> {
    yield* this.flush();
  }
}

/** The files of a browser, as memory has them and as a cut leaves them. */
class Files {
  readonly durable = new Map<string, Uint8Array>();

  place(power: Power): ImagePlace {
    const now = new Map([...this.durable].map(([id, bytes]) => [id, memoryStorage({ name: id, bytes })]));
    const open = async (id: string) => {
      power.use();
      const storage = now.get(id);
      if (!storage) throw new DiskError('not-found', id);
      return new Kept(storage, power, () => this.durable.set(id, storage.bytes()));
    };
    return {
      async create(id) {
        power.use();
        now.set(id, memoryStorage({ name: id }));
        return open(id);
      },
      open,
      view: open,
      still: open,
      remove: async (id) => {
        power.use();
        now.delete(id);
        this.durable.delete(id);
      },
      storedSize: async (id) => now.get(id)?.size ?? 0,
      ids: async () => [...new Set([...now.keys(), ...this.durable.keys()])],
    };
  }
}

/** A list whose changes are atomic, durable, and counted. */
function catalogueOf(records: Map<string, ImageRecord>, power: Power): Catalogue {
  const store: RecordStore = {
    all: async () => [...records.values()],
    find: async (id) => records.get(id),
    put: async () => undefined,
    change: async (id, fields) => {
      power.use();
      const found = records.get(id);
      if (found) records.set(id, { ...found, ...fields });
    },
    remove: async (id) => void records.delete(id),
    close: () => undefined,
  };
  return new Catalogue(store, new Notes('none', { opfs: false }));
}

const keeperOf = (catalogue: Catalogue, place: ImagePlace): ChainKeeper => ({
  catalogue,
  place: () => place,
  lock: async () => ({ release: async () => undefined, stolen: new Promise(() => undefined) }),
});

interface Made {
  readonly format: ImageRecord['format'];
  readonly bytes: Uint8Array;
  readonly guest: Uint8Array;
}

async function image(format: Made['format'] = 'qcow2'): Promise<Made> {
  const storage = memoryStorage();
  const disk = await createDisk<string>(storage, { format, size: 3 * MiB, ...(format === 'vhdx' ? { block_size: MiB } : {}) });
  await disk.write(0, new Random(5).bytes(MiB));
  await disk.write(100_000, new Uint8Array(700_000));
  if (format === 'qcow2') await disk.bitmaps.add({ name: 'since' });
  await disk.write(2 * MiB, new Random(6).bytes(1000));
  const guest = await disk.read(0, disk.size);
  await disk.close();
  return { format, bytes: storage.bytes(), guest };
}

/** Compacts until the power is cut; then the next library is opened. Returns whether the image is the new one. */
async function cut(power: Power, { format, bytes, guest }: Made): Promise<boolean> {
  const files = new Files();
  files.durable.set(ID, bytes);
  const found = { ...RECORD, format };
  const records = new Map([[ID, found]]);
  const place = files.place(power);
  const spend = <T>(work: () => Promise<T>) => work();
  await compactImage(found, keeperOf(catalogueOf(records, power), place), { spend }).catch(() => undefined);
  daysLater();
  const after = new Power();
  const again = files.place(after);
  await sweep(catalogueOf(records, after), [again], { lockName: (id) => `test:${id}`, spared: () => false });
  const record = records.get(ID) as ImageRecord;
  expect(await again.ids()).toEqual([bytesOf(record)]);
  const disk = await openDisk(await again.open(bytesOf(record), { readOnly: true }), { format, readOnly: true });
  expect(firstDifference(await disk.read(0, disk.size), guest)).toBe(-1);
  if (format === 'qcow2') expect((await disk.bitmaps.list()).map(({ name }) => name)).toEqual(['since']);
  expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
  return record.replaced !== undefined;
}

describe('a cut at any operation', () => {
  it.each([
    ['qcow2', 'io', 1],
    ['qcow2', 'no-space', 1],
    ['vmdk', 'io', 3],
    ['vhdx', 'io', 3],
  ] as const)('leaves the image old or new, and nothing else: %s, %s', { timeout: 120_000 }, async (format, kind, step) => {
    const made = await image(format);
    const whole = new Power();
    expect(await cut(whole, made)).toBe(true);
    let replaced = 0;
    // Some cuts come after the change of the record, the last among them.
    for (let at = whole.count - 1; at >= 0; at -= step) if (await cut(new Power(at, kind), made)) replaced++;
    expect(replaced).toBeGreaterThan(0);
    expect(replaced).toBeLessThan(whole.count / 2);
  });

  it('a second copy of the list that is behind does not cost the image', async () => {
    const made = await image();
    const files = new Files();
    const power = new Power();
    files.durable.set(ID, made.bytes);
    const records = new Map([[ID, RECORD]]);
    await compactImage(RECORD, keeperOf(catalogueOf(records, power), files.place(power)), { spend: (work) => work() });
    records.set(ID, RECORD);
    daysLater();
    const place = files.place(power);
    await sweep(catalogueOf(records, power), [place], { lockName: (id) => `test:${id}`, spared: () => false });
    expect(await place.ids()).toEqual([bytesOf(records.get(ID) as ImageRecord)]);
  });
});

describe('in a library', () => {
  it('an image is compacted, also below others; what is open is refused; a full list of images stays', async () => {
    const library = await Library.open({ name: 'compacted', memoryIfBlocked: true });
    const { id } = await library.create({ name: 'a', format: 'qcow2', size: 4 * MiB });
    const image = await library.openImage(id);
    await image.disk.write(0, new Random(1).bytes(3 * MiB));
    await image.disk.write(0, new Uint8Array(2 * MiB));
    await expect(library.compact(id)).rejects.toMatchObject({ kind: 'locked' });
    await image.close();
    const over = await library.overlay(id, { name: 'b' });
    const user = await library.openImage(over.id);
    await expect(library.compact(id)).rejects.toMatchObject({ kind: 'locked' });
    const before = await user.disk.read(0, 4 * MiB);
    await user.close();
    const progress: [number, number][] = [];
    const sizes = await library.compact(id, { onProgress: (done, total) => void progress.push([done, total]) });
    expect(sizes.after).toBeLessThan(sizes.before - 1.5 * MiB);
    expect(progress.at(-1)).toEqual([8 * MiB, 8 * MiB]);
    expect((await library.list()).map(({ name, storedSize }) => [name, storedSize === sizes.after])).toEqual([
      ['a', true],
      ['b', false],
    ]);
    const again = await library.openImage(over.id);
    expect(firstDifference(await again.disk.read(0, 4 * MiB), before)).toBe(-1);
    await again.disk.write(5, new Uint8Array(3).fill(1));
    await again.close();
    expect(await library.compact(over.id)).toMatchObject({ before: expect.any(Number), after: expect.any(Number) });
    await library.delete(over.id);
    await library.delete(id);
    expect(await library.list()).toEqual([]);
    await library.close();
  });

  it('one that has snapshots, or cannot get smaller, is as it was', async () => {
    const library = await Library.open({ name: 'not compacted', memoryIfBlocked: true });
    const { id } = await library.create({ name: 'a', format: 'qcow2', size: 4 * MiB });
    const image = await library.openImage(id);
    await image.disk.snapshots.create({ name: 'kept' });
    await image.close();
    await expect(library.compact(id)).rejects.toMatchObject({ kind: 'refused', field: 'snapshots' });
    const raw = await library.create({ name: 'b', format: 'raw', size: MiB });
    await expect(library.compact(raw.id)).rejects.toMatchObject({ kind: 'unsupported', format: 'raw' });
    expect((await library.list()).map(({ name }) => name)).toEqual(['a', 'b']);
    const again = await library.openImage(id);
    expect((await again.disk.snapshots.list()).map(({ name }) => name)).toEqual(['kept']);
    await again.close();
    await library.close();
  });
});
