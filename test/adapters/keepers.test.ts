/**
 * What an adapter or a cache holds above a disk is in everything that the disk is asked about its contents: each verb, over a disk that answers at once
 * and one that takes a while. What cannot be brought there fails the verb; a revert makes the adapter forget.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type V86Disk, V86Drive, v86Disk } from '../../src/adapters/v86.ts';
import { runAsync } from '../../src/base/io.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { bitmapsOf } from '../../src/disk/bitmaps.ts';
import { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { Drives } from '../../src/drive/drives.ts';
import { listMachines, saveMachine } from '../../src/drive/machine.ts';
import { commit } from '../../src/jobs/commit.ts';
import { compare } from '../../src/jobs/compare.ts';
import { convert, countData } from '../../src/jobs/convert.ts';
import { writeIncrement } from '../../src/jobs/increment.ts';
import { measure } from '../../src/jobs/measure.ts';
import { rebase } from '../../src/jobs/rebase.ts';
import { stream } from '../../src/jobs/stream.ts';
import { CacheStorage } from '../../src/layers/cache.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { mapSummary } from '../../src/worker/map-summary.ts';
import { errorsOf, expectBytes, getNow, noSpace, pattern, SlowDisk } from './slow-disk.ts';

const SIZE = 2 * MiB;
const AT = 128 * KiB;
const WRITTEN = pattern(4 * KiB, 5);
const LATE = { saveDelay: 60_000, saveRetry: 60_000 } as const;

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** A qcow2 disk over a backing file, with a snapshot `before` and a bitmap `since`, and a guest that has written what the adapter holds. */
async function written(kind: 'at once' | 'later', write = true) {
  const base = memoryStorage({ name: 'base' });
  await (await createDisk(base, { format: 'qcow2', size: SIZE })).close();
  const storage = memoryStorage({ name: 'top' });
  const backing = { name: 'base', format: 'qcow2' };
  const resolve = async () => ({ storage: memoryStorage({ bytes: base.bytes() }) });
  await (await createDisk(storage, { format: 'qcow2', size: SIZE, backing, resolve })).close();
  const disk = await openDisk(storage, { format: 'qcow2', resolve, writableBacking: 1 });
  const below = new SlowDisk(disk, 1);
  const hda = v86Disk(kind === 'later' ? below : disk, LATE);
  closing.push(() => hda.close({ discard: true }));
  const guestWrites = () => hda.set(AT, WRITTEN, () => undefined);
  if (write) guestWrites();
  return { disk, below, hda, storage, guestWrites };
}

type Case = Awaited<ReturnType<typeof written>>;

/** Bytes that another look at the same file finds. */
async function inFile({ storage }: Case): Promise<Uint8Array> {
  const look = await openDisk(memoryStorage({ bytes: storage.bytes() }), { format: 'qcow2', readOnly: true, noBacking: true });
  return look.read(AT, WRITTEN.length);
}

/** Where the first byte is that a bitmap calls dirty. */
const noted = async ({ node }: Disk, name: string): Promise<number | undefined> =>
  (await runAsync((await runAsync(bitmapsOf(node))).runs(name).next(0)))?.start;

/** Runs over a disk and says what of it was written there, from all that the verb gives. */
const VERBS: Record<string, (made: Case) => Promise<unknown>> = {
  flush: async (made) => {
    await made.disk.flush();
    expectBytes(await inFile(made), WRITTEN);
  },
  close: async (made) => {
    await made.disk.close();
    expectBytes(await inFile(made), WRITTEN);
  },
  resize: async (made) => {
    await made.disk.resize(SIZE * 2);
    expectBytes(await made.disk.read(AT, WRITTEN.length), WRITTEN);
  },
  'snapshots.create': async ({ disk }) => {
    await disk.snapshots.create({ name: 'now' });
    const view = await disk.snapshots.open('now');
    expectBytes(await view.read(AT, WRITTEN.length), WRITTEN);
    await view.close();
  },
  'snapshots.changes': async ({ disk }) => {
    const runs: number[] = [];
    for await (const { start } of disk.snapshots.changes('before')) runs.push(start);
    expect(runs).toEqual([AT]);
  },
  map: async ({ disk }) => {
    const data: number[] = [];
    for await (const { start, depth, data: here } of disk.map()) if (here && depth === 0) data.push(start);
    expect(data).toEqual([AT]);
  },
  'mapSummary since': async ({ disk }) => {
    const { changed } = await mapSummary(disk, 16, { since: 'before' });
    expect(changed?.[1]).toBe(64 * KiB);
  },
  check: async (made) => {
    await made.disk.check();
    expectBytes(await made.disk.read(AT, WRITTEN.length), WRITTEN);
  },
  'bitmaps.add': async ({ disk }) => {
    // Written before it: nothing to note.
    await disk.bitmaps.add({ name: 'later' });
    await disk.flush();
    expect(await noted(disk, 'later')).toBeUndefined();
  },
  'bitmaps.disable': async ({ disk }) => {
    await disk.bitmaps.disable('since');
    expect(await noted(disk, 'since')).toBe(AT);
  },
  'bitmaps.merge': async ({ disk }) => {
    await disk.bitmaps.add({ name: 'all', enabled: false });
    await disk.bitmaps.merge('all', 'since');
    expect(await noted(disk, 'all')).toBe(AT);
  },
  convert: async ({ disk }) => {
    const target = await createDisk(memoryStorage(), { format: 'raw', size: SIZE });
    await convert(disk, target);
    expectBytes(await target.read(AT, WRITTEN.length), WRITTEN);
  },
  countData: async ({ disk }) => expect(await countData(disk)).toBe(64 * KiB),
  measure: async ({ disk }) => {
    const { required } = await measure(disk, { format: 'raw' });
    expect(required).toBe(SIZE);
    const empty = await measure(SIZE, { format: 'qcow2' });
    expect((await measure(disk, { format: 'qcow2' })).required - empty.required).toBeGreaterThanOrEqual(64 * KiB);
  },
  compare: async ({ disk }) => {
    const other = await createDisk(memoryStorage(), { format: 'raw', size: SIZE });
    expect(await compare(other, disk)).toMatchObject({ identical: false, offset: AT });
  },
  writeIncrement: async ({ disk }) => {
    const target = memoryStorage();
    await writeIncrement(disk, target, { since: { bitmap: 'since' }, backing: { name: 'full', format: 'qcow2' } });
    const look = await openDisk(target, { format: 'qcow2', readOnly: true, noBacking: true });
    expectBytes(await look.read(AT, WRITTEN.length), WRITTEN);
  },
  commit: async ({ disk }) => {
    await disk.snapshots.delete('before');
    await commit(disk, { keep: true });
    const { backing } = disk.node;
    expectBytes(await new Disk(backing as NonNullable<typeof backing>).read(AT, WRITTEN.length), WRITTEN);
  },
  stream: async (made) => {
    await made.disk.snapshots.delete('before');
    await stream(made.disk);
    expectBytes(await inFile(made), WRITTEN);
  },
  rebase: async (made) => {
    await made.disk.snapshots.delete('before');
    await rebase(made.disk);
    expectBytes(await inFile(made), WRITTEN);
  },
};

describe.each(['at once', 'later'] as const)('a guest’s write is in what is asked of a disk that answers %s', (kind) => {
  it.each(Object.keys(VERBS))('%s', async (verb) => {
    const made = await written(kind, false);
    const needs = verb !== 'resize' && verb !== 'commit' && verb !== 'stream' && verb !== 'rebase' && verb !== 'measure';
    if (needs || verb === 'commit' || verb === 'stream' || verb === 'rebase') await made.disk.snapshots.create({ name: 'before' });
    if (needs) await made.disk.bitmaps.add({ name: 'since' });
    made.guestWrites();
    expect(made.hda.statistics.dirtyBytes).toBe(WRITTEN.length);
    await VERBS[verb]?.(made);
    expect(made.hda.statistics.dirtyBytes).toBe(0);
  });
});

it('the synchronous verbs drain too', async () => {
  const made = await written('at once');
  made.disk.flushSync();
  expect(made.hda.statistics.dirtyBytes).toBe(0);
  made.guestWrites();
  made.disk.resizeSync(2 * SIZE);
  expect(made.hda.statistics.dirtyBytes).toBe(0);
  made.guestWrites();
  made.disk.closeSync();
  expectBytes(await inFile(made), WRITTEN);
});

it('two adapters of one disk are both drained, and do not wait for each other', async () => {
  const { below, hda, disk } = await written('later');
  const hdb = v86Disk(below, LATE);
  hdb.set(0, pattern(512, 8), () => undefined);
  // Both are saving while both are drained.
  const saves = [hda.save(), hdb.save()];
  hda.set(512, pattern(512, 9), () => undefined);
  await Promise.all([disk.snapshots.create({ name: 'both' }), disk.flush(), ...saves]);
  const view = await disk.snapshots.open('both');
  expectBytes(await view.read(AT, WRITTEN.length), WRITTEN);
  expectBytes(await view.read(0, 1024), Uint8Array.from([...pattern(512, 8), ...pattern(512, 9)]));
  await view.close();
  await hdb.close();
});

it('what cannot be saved fails the verb with why, and nothing has changed', async () => {
  const { below, hda, disk } = await written('later');
  const errors = errorsOf(hda);
  below.fault = (verb) => {
    if (verb === 'write') throw noSpace();
  };
  for (const verb of [
    () => disk.snapshots.create({ name: 'now' }),
    () => disk.flush(),
    () => disk.resize(2 * SIZE),
    () => disk.close(),
    () => disk.bitmaps.add({ name: 'b' }),
    () => commit(disk),
    () => stream(disk),
  ])
    await expect(verb()).rejects.toMatchObject({ kind: 'no-space' });
  expect([disk.size, (await disk.snapshots.list()).length, (await disk.bitmaps.list()).length, errors.length]).toEqual([SIZE, 0, 0, 1]);
  expect(hda.statistics.dirtyBytes).toBe(WRITTEN.length);
  below.fault = () => undefined;
  await disk.close();
  expect(hda.statistics.dirtyBytes).toBe(0);
});

describe('a revert', () => {
  it.each(['at once', 'later'] as const)('makes the adapter of a disk that answers %s forget, saved or not', async (kind) => {
    const { hda, disk, guestWrites } = await written(kind, false);
    await disk.snapshots.create({ name: 'before' });
    guestWrites();
    await hda.save();
    const saved = hda.generation;
    hda.set(0, pattern(512, 3), () => undefined);
    await disk.snapshots.apply('before');
    expect(hda.statistics.dirtyBytes).toBe(0);
    expect(hda.generation).not.toBe(saved);
    expectBytes(getNow(hda, 0, 512), new Uint8Array(512));
    expectBytes(await disk.read(0, SIZE), new Uint8Array(SIZE));
    await new Promise<void>((resolve) => hda.get(AT, 512, (bytes) => resolve(expectBytes(bytes, new Uint8Array(512)))));
  });

  it('is not overtaken by a save that was under way, nor by one that becomes due', async () => {
    const { hda, disk, below } = await written('later', false);
    await disk.snapshots.create({ name: 'before' });
    let open = () => undefined as void;
    below.gate = new Promise((resolve) => {
      open = resolve;
    });
    hda.set(AT, WRITTEN, () => undefined);
    const saved = hda.save();
    hda.set(0, pattern(512, 3), () => undefined);
    const later = hda.save();
    const reverted = disk.snapshots.apply('before');
    below.gate = undefined;
    open();
    await Promise.all([saved, later, reverted]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expectBytes(await disk.read(0, SIZE), new Uint8Array(SIZE));
    expect(hda.statistics.dirtyBytes).toBe(0);
  });

  it('works where nothing can be saved, and one that fails forgets nothing', async () => {
    const { hda, disk, below, guestWrites } = await written('later', false);
    await disk.snapshots.create({ name: 'before' });
    below.fault = (verb) => {
      if (verb === 'write') throw noSpace();
    };
    guestWrites();
    await expect(disk.snapshots.apply('other')).rejects.toMatchObject({ kind: 'not-found' });
    expect(hda.statistics.dirtyBytes).toBe(WRITTEN.length);
    await disk.snapshots.apply('before');
    expect(hda.statistics.dirtyBytes).toBe(0);
    below.fault = () => undefined;
    guestWrites();
    await hda.save();
    expectBytes(await disk.read(AT, WRITTEN.length), WRITTEN);
  });

  it('to another size is told to the page, which must restart the emulator', async () => {
    const { hda, disk } = await written('at once', false);
    await disk.snapshots.create({ name: 'small' });
    await disk.resize(2 * SIZE);
    const big = v86Disk(disk, LATE);
    closing.push(() => big.close({ discard: true }));
    const errors = errorsOf(big);
    await disk.snapshots.apply('small');
    expect(errors).toMatchObject([{ kind: 'refused', field: 'size' }]);
    expect(errorsOf(hda)).toEqual([]);
  });
});

describe('a drive', () => {
  const slot = async () => {
    const { disk, below } = await written('later', false);
    const drives = new Drives();
    const drive = drives.add({ name: 'hda' });
    drive.insert(below, { keepOpen: true });
    const device = new V86Drive(drive, 'hda', () => LATE);
    await device.ready;
    const image = device.image as V86Disk;
    image.set(AT, WRITTEN, () => undefined);
    return { disk, drives, drive, device, image };
  };

  it('and its medium have what the device holds: flush, resize, snapshots of the disk and of the machine', async () => {
    const { disk, drives, drive, device, image } = await slot();
    await drive.flush();
    expectBytes(await disk.read(AT, WRITTEN.length), WRITTEN);
    image.set(0, WRITTEN, () => undefined);
    await disk.snapshots.create({ name: 'disk' });
    image.set(64 * KiB, WRITTEN, () => undefined);
    await saveMachine(drives, { name: 'machine', state: pattern(512) });
    for (const [name, at] of [
      ['disk', 0],
      ['machine', 64 * KiB],
    ] as const) {
      const view = await disk.snapshots.open(name);
      expectBytes(await view.read(at, WRITTEN.length), WRITTEN);
      await view.close();
    }
    expect((await listMachines(drives)).map(({ name }) => name)).toEqual(['disk', 'machine']);
    image.set(0, pattern(512, 66), () => undefined);
    await drive.resize(SIZE + 512);
    expectBytes(await disk.read(0, 512), pattern(512, 66));
    await device.detach();
  });

  it('whose medium was opened again is known to that one', async () => {
    const { device, image, drive } = await slot();
    const again = await written('later', false);
    await device.resume({ medium: again.below });
    expectBytes(await again.disk.read(AT, WRITTEN.length), WRITTEN);
    image.set(0, WRITTEN, () => undefined);
    await again.disk.snapshots.create({ name: 'now' });
    expectBytes(await again.disk.read(0, WRITTEN.length), WRITTEN);
    await device.detach();
    await drive.close({ force: true });
  });
});

describe('a cache above a disk', () => {
  it('is drained, and forgets at a revert', async () => {
    const { disk } = await written('at once', false);
    await disk.snapshots.create({ name: 'before' });
    const cache = new CacheStorage(disk.storage);
    await runAsync(cache.write(AT, WRITTEN));
    expectBytes(await disk.read(AT, WRITTEN.length), new Uint8Array(WRITTEN.length));
    await disk.snapshots.create({ name: 'now' });
    expectBytes(await disk.read(AT, WRITTEN.length), WRITTEN);
    await runAsync(cache.write(0, WRITTEN));
    await disk.snapshots.apply('before');
    const into = new Uint8Array(WRITTEN.length);
    await runAsync(cache.read(0, into));
    expectBytes(into, new Uint8Array(WRITTEN.length));
    await runAsync(cache.flush());
    expectBytes(await disk.read(0, SIZE), new Uint8Array(SIZE));
  });

  it('below an adapter takes what that holds before it is drained itself', async () => {
    const { disk } = await written('at once', false);
    const cache = new CacheStorage(disk.storage);
    const upper = new CacheStorage(cache);
    await runAsync(upper.write(AT, WRITTEN));
    await disk.flush();
    expectBytes(await disk.read(AT, WRITTEN.length), WRITTEN);
  });

  it('and a cache over it, and an adapter: what is unsaved in all of them can be had, what lies above last, and stays unsaved', async () => {
    const { disk, hda } = await written('later');
    const cache = new CacheStorage(disk.storage);
    const upper = new CacheStorage(cache);
    await runAsync(cache.write(512, pattern(KiB, 6)));
    await runAsync(cache.write(SIZE - 100, pattern(100, 7)));
    await runAsync(upper.write(KiB, pattern(KiB, 8)));
    const wanted = new Uint8Array(SIZE);
    wanted.set(pattern(KiB, 6), 512);
    wanted.set(pattern(100, 7), SIZE - 100);
    wanted.set(pattern(KiB, 8), KiB);
    wanted.set(WRITTEN, AT);
    const unsaved = () => {
      const bytes = new Uint8Array(SIZE);
      for (const kept of disk.keepers.unsaved()) bytes.set(kept.bytes, kept.offset);
      return bytes;
    };
    expectBytes(unsaved(), wanted);
    expectBytes(await disk.read(0, SIZE), new Uint8Array(SIZE));
    expect(hda.statistics).toMatchObject({ dirtyBytes: WRITTEN.length, saves: 0 });
    // In the middle of a save: what is being saved, and what is newer.
    const saving = hda.save();
    hda.set(AT + 512, pattern(512, 9), () => undefined);
    wanted.set(pattern(512, 9), AT + 512);
    expectBytes(unsaved(), wanted);
    await saving;
    await disk.flush();
    expect(disk.keepers.unsaved()).toEqual([]);
    expectBytes(await disk.read(0, SIZE), wanted);
  });

  it('that was closed is asked no more', async () => {
    const { disk, hda } = await written('at once', false);
    await hda.close();
    const drained = vi.fn();
    const leave = disk.keepers.attach({
      *drain() {
        drained();
      },
      *hold() {
        return function* () {};
      },
      unsaved: () => [],
      gone: () => undefined,
    });
    await disk.flush();
    leave();
    await disk.flush();
    expect(drained).toHaveBeenCalledOnce();
  });
});
