/**
 * The site's data is cleared while images are open, in each state that a disk can be in, on both stores: every call comes back, says what
 * happened, what can still be read is exported, and the engine goes on serving.
 */
import { describe, expect, test } from 'vitest';
import { type V86Disk, V86Drive, v86Disk } from '../../src/adapters/v86.ts';
import { runAsync } from '../../src/base/io.ts';
import { MiB } from '../../src/base/units.ts';
import { createDisk, DiskError, Drive, type ImageEntry, memoryStorage, openDisk, type RemoteDisk } from '../../src/index.ts';
import { expectBytes, pattern } from '../storage/contract.ts';
import { clearSite, outcome } from './cleared.ts';
import { collect, ownLibrary } from './engines.ts';

const own = ownLibrary();
const SIZE = 4 * MiB;
/** Adapters that save by themselves only after the test. */
const LATE = { saveDelay: 60_000, saveRetry: 60_000 } as const;

/** The kind that a promise rejects with; a call that never answers fails the test. */
const kindOf = (promise: Promise<unknown>): Promise<string> =>
  outcome(
    promise.then(
      () => 'none',
      (error) => (error instanceof DiskError ? error.kind : String(error)),
    ),
  );

for (const place of ['opfs', 'indexeddb'] as const) {
  const start = async (format: 'qcow2' | 'raw' = 'qcow2') => {
    const { engine } = await own.newTab();
    const entry = await engine.library.create({ name: 'open', format, size: SIZE, place });
    return { engine, entry };
  };

  /** Other images can be made, written, read, listed and deleted in the same engine, and a new tab finds the site as it is. */
  const goesOn = async (engine: Awaited<ReturnType<typeof start>>['engine']) => {
    const entry = await outcome(engine.library.create({ name: 'after', format: 'qcow2', size: SIZE, place }));
    const disk = await outcome(engine.open(entry.id));
    await outcome(disk.write(70_000, pattern(100_000, 9)));
    await outcome(disk.flush());
    await outcome(disk.close());
    const again = await outcome(engine.open(entry.id));
    expectBytes(await outcome(again.read(70_000, 100_000)), pattern(100_000, 9));
    await outcome(again.close());
    expect((await outcome(engine.library.list())).map(({ name }) => name)).toEqual(['after']);
    await outcome(engine.library.delete(entry.id));
    const { engine: next } = await own.newTab();
    expect(await outcome(next.library.list())).toEqual([]);
  };

  /** Exports what is left, and compares the disk. */
  const exported = async (
    engine: Awaited<ReturnType<typeof start>>['engine'],
    { id }: ImageEntry,
    wanted: Uint8Array,
    options: { format: 'qcow2' | 'raw'; salvage?: boolean; compressed?: boolean },
  ) => {
    const { stream, missing = 0 } = await outcome(engine.library.export(id, options));
    const bytes = await outcome(collect(stream));
    const storage = memoryStorage();
    await runAsync(storage.write(0, bytes));
    const disk = await openDisk(storage, { format: options.format });
    expectBytes(await disk.read(0, wanted.length), wanted, `${options.format}:`);
    if (options.format === 'qcow2') expect(await disk.check()).toMatchObject({ corruptions: 0, checkErrors: 0 });
    const snapshots = options.format === 'qcow2' ? (await disk.snapshots.list()).map(({ name }) => name) : [];
    await disk.close();
    return { missing, snapshots };
  };

  describe(`cleared under an image in ${place}`, () => {
    test('that is idle: it is told of at once, refuses changes, is exported whole with its snapshots, and closed when it is given up', async () => {
      const { engine, entry } = await start();
      const disk = await engine.open(entry.id);
      const wanted = new Uint8Array(SIZE);
      await disk.write(0, pattern(300_000, 1));
      await disk.snapshots.create({ name: 'kept' });
      await disk.write(100_000, pattern(300_000, 2));
      wanted.set(pattern(300_000, 1));
      wanted.set(pattern(300_000, 2), 100_000);
      await disk.flush();
      const told = new Promise<DiskError>((resolve) => void disk.onLost(resolve));
      await clearSite('opfs', 'indexeddb');
      expect(await outcome(told)).toMatchObject({ kind: 'lost' });
      expect(await kindOf(disk.write(0, pattern(10, 3)))).toBe('lost');
      expect(await kindOf(disk.flush())).toBe('lost');
      expectBytes(await outcome(disk.read(0, 400_000)), wanted.slice(0, 400_000));
      // What is in IndexedDB is gone, and with it the snapshot; what the disk reads as was in memory.
      expect((await exported(engine, entry, wanted, { format: 'qcow2' })).snapshots).toEqual(place === 'opfs' ? ['kept'] : []);
      await exported(engine, entry, wanted, { format: 'raw' });
      expect(await kindOf(disk.close())).toBe('lost');
      // It is still open, for another try.
      await exported(engine, entry, wanted, { format: 'raw' });
      await outcome(disk.close({ discard: true }));
      expect(await kindOf(disk.read(0, 10))).toBe('io');
      await goesOn(engine);
    });

    test('that has unsaved writes: the flush says so, and what was unsaved is exported', async () => {
      const { engine, entry } = await start();
      const disk = await engine.open(entry.id);
      await disk.write(0, pattern(200_000, 1));
      await disk.flush();
      await disk.write(50_000, pattern(1_000_000, 2));
      const wanted = new Uint8Array(SIZE);
      wanted.set(pattern(200_000, 1));
      wanted.set(pattern(1_000_000, 2), 50_000);
      await clearSite('opfs', 'indexeddb');
      const error = await outcome(disk.flush().catch((reason) => reason));
      expect(error).toMatchObject({ kind: 'lost', message: expect.stringMatching(/removed|deleted/) });
      for (const format of ['qcow2', 'raw'] as const) await exported(engine, entry, wanted, { format });
      await outcome(disk.close({ discard: true }));
      await goesOn(engine);
    });

    test('of the format raw', async () => {
      const { engine, entry } = await start('raw');
      const disk = await engine.open(entry.id);
      await disk.write(5, pattern(300_000, 1));
      await disk.flush();
      await disk.write(200_000, pattern(300_000, 2));
      const wanted = new Uint8Array(SIZE);
      wanted.set(pattern(300_000, 1), 5);
      wanted.set(pattern(300_000, 2), 200_000);
      await clearSite('opfs', 'indexeddb');
      expect(await kindOf(disk.flush())).toBe('lost');
      // Of blocks that IndexedDB never had, nobody knows that any more.
      const salvage = place === 'indexeddb';
      if (salvage) expect(await kindOf(engine.library.export(entry.id, { format: 'raw' }))).toBe('lost');
      for (const format of ['qcow2', 'raw'] as const) {
        const { missing } = await exported(engine, entry, wanted, { format, salvage });
        expect(missing > 0).toBe(salvage);
      }
      await outcome(disk.close({ discard: true }));
      await goesOn(engine);
    });

    test('below adapters that hold what the guest wrote: it is exported, and passes for saved nowhere', async () => {
      const { engine, entry } = await start();
      const disk = await engine.open(entry.id);
      const wanted = new Uint8Array(SIZE);
      const guest = (hda: V86Disk, offset: number, length: number, seed: number) => {
        hda.set(offset, pattern(length, seed), () => undefined);
        wanted.set(pattern(length, seed), offset);
      };
      const hda = v86Disk(disk, LATE);
      const events: string[] = [];
      hda.on(({ type }) => events.push(type));
      guest(hda, 0, 300_032, 1);
      await disk.snapshots.create({ name: 'then' });
      // In clusters that the disk has, that it has not, and over the end of both; then what a drive keeps over that.
      guest(hda, 199_680, 512_000, 2);
      guest(hda, MiB + 512, 4096, 3);
      guest(hda, SIZE - 4096, 4096, 4);
      const drive = new Drive({ name: 'hda' });
      await drive.insert(disk);
      const slot = new V86Drive(drive, 'hda', () => LATE);
      slot.on(({ type }) => events.push(`drive ${type}`));
      const heard = events.length;
      guest(slot.image as V86Disk, 409_600, 1024, 5);
      const unsaved = [hda, slot.image as V86Disk].map(({ statistics }) => statistics.dirtyBytes);
      expect(unsaved).toEqual([520_192, 1024]);
      const told = new Promise((resolve) => void disk.onLost(resolve));
      await clearSite('opfs', 'indexeddb');
      await outcome(told);
      guest(hda, 2 * MiB, 512, 6);

      const { snapshots } = await exported(engine, entry, wanted, { format: 'qcow2' });
      expect(snapshots).toEqual(place === 'opfs' ? ['then'] : []);
      expect(await exported(engine, entry, wanted, { format: 'raw' })).toMatchObject({ missing: 0 });
      expect(await exported(engine, entry, wanted, { format: 'raw', salvage: true })).toMatchObject({ missing: 0 });
      expect(await exported(engine, entry, wanted, { format: 'qcow2', compressed: true })).toMatchObject({ missing: 0 });
      if (place === 'opfs') {
        const { stream } = await outcome(engine.library.export(entry.id, { format: 'qcow2', since: { snapshot: 'then' } }));
        const changes = await openDisk(memoryStorage({ bytes: await outcome(collect(stream)) }), {
          format: 'qcow2',
          readOnly: true,
          noBacking: true,
        });
        expectBytes(await changes.read(199_680, 512_000), wanted.slice(199_680, 711_680));
      }
      // The guest goes on, and the next export has that too.
      guest(hda, 3 * MiB, 512, 7);
      await exported(engine, entry, wanted, { format: 'raw' });

      expect(events.slice(heard).filter((type) => type.endsWith('saved'))).toEqual([]);
      expect(events.slice(heard)).toEqual(expect.arrayContaining(['lost', 'drive lost']));
      expect(hda.statistics.dirtyBytes).toBe(520_192 + 1024);
      expect(await kindOf(hda.save())).toBe('lost');
      expect(await kindOf(disk.flush())).toBe('lost');
      // Closing leaves all as it is, twice; then it is given up.
      expect(await kindOf(engine.close())).toBe('lost');
      expect(await kindOf(disk.close())).toBe('lost');
      await exported(engine, entry, wanted, { format: 'raw' });
      await outcome(disk.close({ discard: true }));
      expect(await kindOf(hda.save())).toBe('lost');
      await outcome(hda.close({ discard: true }));
      await outcome(engine.close());
    });

    test('of the format raw, below an adapter: what it holds is not missing', async () => {
      const { engine, entry } = await start('raw');
      const disk = await engine.open(entry.id);
      await disk.write(0, pattern(200_000, 1));
      const hda = v86Disk(disk, LATE);
      hda.set(99_840, pattern(102_400, 2), () => undefined);
      hda.set(2 * MiB + 512, pattern(1024, 3), () => undefined);
      const wanted = new Uint8Array(SIZE);
      wanted.set(pattern(200_000, 1));
      wanted.set(pattern(102_400, 2), 99_840);
      wanted.set(pattern(1024, 3), 2 * MiB + 512);
      await clearSite('opfs', 'indexeddb');
      for (const format of ['qcow2', 'raw'] as const) {
        const { missing } = await exported(engine, entry, wanted, { format, salvage: true });
        // Blocks of 32 KiB from the first that was never here, without the sectors that the adapter has.
        expect(missing).toBe(place === 'opfs' ? 0 : SIZE - 7 * 32_768 - 1024);
      }
      await outcome(disk.close({ discard: true }));
      await hda.close({ discard: true });
      await goesOn(engine);
    });

    test('encrypted, below an adapter: its own format leaves without the passphrase', async () => {
      const { engine } = await own.newTab();
      const secret = 'between us';
      const entry = await engine.library.create({ name: 'secret', format: 'qcow2', size: SIZE, place, secret, iterTime: 10 });
      const disk = await engine.open(entry.id, { secret });
      const hda = v86Disk(disk, LATE);
      hda.set(99_840, pattern(102_400, 2), () => undefined);
      await clearSite('opfs', 'indexeddb');
      expect(await kindOf(hda.save())).toBe('lost');
      const wishes = place === 'opfs' ? [{}] : [{ secret, iterTime: 10 }];
      for (const wish of wishes) {
        const { stream } = await outcome(engine.library.export(entry.id, { format: 'qcow2', ...wish }));
        const image = memoryStorage({ bytes: await outcome(collect(stream)) });
        const copy = await openDisk(image, { format: 'qcow2', secret });
        expectBytes(await copy.read(99_840, 102_400), pattern(102_400, 2));
        await copy.close();
      }
      await outcome(disk.close({ discard: true }));
      await hda.close({ discard: true });
      await outcome(engine.close());
    });

    test('of the format luks: what is left of it leaves in that format', async () => {
      const { engine } = await own.newTab();
      const secret = 'between us';
      const made = memoryStorage();
      await (await createDisk(made, { format: 'luks', size: SIZE, secret, 'iter-time': 1 })).close();
      const file = new Blob([new Uint8Array(made.bytes())]);
      const entry = await engine.library.import(file, { name: 'luks', place });
      const disk = await engine.open(entry.id, { secret });
      await disk.write(70_000, pattern(5000, 3));
      await disk.flush();
      const wanted = await disk.read(70_000, 5000);
      await clearSite('opfs', 'indexeddb');
      const { stream } = await outcome(engine.library.export(entry.id, { format: 'luks', secret, iterTime: 1, salvage: true }));
      const copy = await openDisk(memoryStorage({ bytes: await outcome(collect(stream)) }), { format: 'luks', secret });
      if (place === 'opfs') expectBytes(await copy.read(70_000, 5000), wanted);
      await copy.close();
      await outcome(disk.close({ discard: true }));
      await outcome(engine.close());
    });

    test('below an adapter, and a temporary disk of it below another: each has only its own', async () => {
      const { engine, entry } = await start();
      const first = await engine.open(entry.id);
      await first.write(0, pattern(1000, 1));
      await first.close();
      const temporary = await engine.open(entry.id, { snapshot: place });
      const scrap = v86Disk(temporary, LATE);
      scrap.set(0, pattern(4096, 9), () => undefined);
      await temporary.close();
      await scrap.close({ discard: true });
      const disk = await engine.open(entry.id);
      const hda = v86Disk(disk, LATE);
      hda.set(512, pattern(512, 2), () => undefined);
      const reader = await engine.open(entry.id, { readOnly: true });
      const cdrom = v86Disk(reader, { ...LATE, kind: 'hd' });
      cdrom.set(0, pattern(512, 8), () => undefined);
      await clearSite('opfs', 'indexeddb');
      const wanted = new Uint8Array(4096);
      wanted.set(pattern(1000, 1));
      wanted.set(pattern(512, 2), 512);
      await exported(engine, entry, wanted, { format: 'raw', salvage: true });
      await outcome(disk.close({ discard: true }));
      await reader.close().catch(() => undefined);
      await outcome(engine.close());
    });

    test('that is being written, flushed and closed: every call comes back', async () => {
      for (const doing of ['writing', 'flushing', 'closing'] as const) {
        const { engine, entry } = await start();
        const disks: RemoteDisk[] = [await engine.open(entry.id)];
        const [disk] = disks as [RemoteDisk];
        const calls: Promise<string>[] = [];
        for (let at = 0; at < SIZE; at += 64 * 1024) {
          calls.push(kindOf(disk.write(at, pattern(64 * 1024, at))));
          if (doing === 'flushing') calls.push(kindOf(disk.flush()));
        }
        if (doing === 'closing') calls.push(kindOf(disk.close()));
        await clearSite('opfs', 'indexeddb');
        for (const call of calls) expect(['none', 'lost']).toContain(await call);
        // Closed before, it came to no harm; else it says so.
        const closing = await kindOf(disk.close());
        expect(doing === 'closing' ? ['none', 'lost'] : ['lost']).toContain(closing);
        await outcome(disk.close({ discard: true }));
        await goesOn(engine);
        own.kill();
      }
    });

    test('that is open read-only, as a temporary disk, and below an overlay', async () => {
      const { engine, entry } = await start();
      const base = await engine.open(entry.id);
      await base.write(0, pattern(300_000, 1));
      await base.close();
      const over = await engine.library.overlay(entry.id, { name: 'over' });
      const temporary = await engine.open(entry.id, { snapshot: place });
      await temporary.write(100, pattern(200_000, 2));
      const reader = await engine.open(entry.id, { readOnly: true });
      await reader.read(0, 1000);
      const overlay = await engine.open(over.id);
      await overlay.write(100_000, pattern(100_000, 3));
      const wanted = new Uint8Array(SIZE);
      wanted.set(pattern(300_000, 1));
      wanted.set(pattern(100_000, 3), 100_000);
      expectBytes(await overlay.read(0, 400_000), wanted.slice(0, 400_000));
      await clearSite('opfs', 'indexeddb');
      expect(['none', 'lost', 'in-use']).toContain(await kindOf(reader.read(0, 1000)));
      await outcome(reader.close());
      expect(await kindOf(overlay.flush())).toBe('lost');
      // Of the image below, in IndexedDB, only what was read is left.
      expect(await exported(engine, over, wanted, { format: 'raw' })).toMatchObject({ missing: 0 });
      expect(['none', 'lost']).toContain(await kindOf(temporary.flush()));
      await outcome(temporary.close());
      expect(await kindOf(overlay.close())).toBe('lost');
      await outcome(overlay.close({ discard: true }));
      await goesOn(engine);
    });

    test('that is open with others: engine.close comes back, then closes when they are given up', async () => {
      const { engine, entry } = await start();
      const disk = await engine.open(entry.id);
      await disk.write(0, pattern(1000, 1));
      await clearSite('opfs', 'indexeddb');
      expect(await kindOf(engine.close())).toBe('lost');
      await outcome(disk.close({ discard: true }));
      await outcome(engine.close());
    });

    test('while it is imported, exported and streamed', async () => {
      const { engine, entry } = await start();
      const disk = await engine.open(entry.id);
      for (let at = 0; at < SIZE; at += MiB) await disk.write(at, pattern(MiB, at));
      await disk.close();
      const over = await engine.library.overlay(entry.id, { name: 'over' });
      const overlay = await engine.open(over.id);
      await overlay.write(0, pattern(1000, 7));
      const closed = await engine.library.create({ name: 'closed', format: 'raw', size: 4 * MiB, place });
      const big = new Blob(Array.from({ length: 40 }, (_, i) => pattern(MiB, i)));
      let begun = (): void => undefined;
      const first = new Promise<void>((resolve) => {
        begun = resolve;
      });
      const importing = kindOf(engine.library.import(new File([big], 'big.img'), { name: 'big', format: 'raw', place, onProgress: () => begun() }));
      await first;
      const streaming = kindOf(overlay.stream({ rate: 1_000_000 }));
      const { stream } = await engine.library.export(closed.id, { format: 'raw' });
      await clearSite('opfs', 'indexeddb');
      expect(await importing).toMatch(/^(lost|not-found)$/);
      expect(['none', 'lost', 'in-use', 'io', 'not-found']).toContain(await kindOf(collect(stream)));
      expect(['lost', 'in-use', 'io', 'not-found']).toContain(await streaming);
      expect(await kindOf(overlay.close())).toBe('lost');
      await outcome(overlay.close({ discard: true }));
      await goesOn(engine);
    });
  });
}

test('cleared under an image in indexeddb that is too large to be in memory: what is left is exported if that is asked for', async () => {
  const { engine } = await own.newTab();
  const entry = await engine.library.create({ name: 'large', format: 'qcow2', size: 64 * MiB, place: 'indexeddb' });
  const disk = await engine.open(entry.id);
  const whole = pattern(MiB, 1);
  for (let at = 0; at < 40; at++) await disk.write(at * MiB, whole);
  await disk.flush();
  await disk.write(39 * MiB, pattern(MiB, 2));
  await clearSite('indexeddb');
  expect(await kindOf(disk.flush())).toBe('lost');
  const error = await outcome(engine.library.export(entry.id, { format: 'raw' }).catch((reason) => reason));
  expect(error).toMatchObject({ kind: 'lost' });
  const { stream, missing } = await outcome(engine.library.export(entry.id, { format: 'raw', salvage: true }));
  expect(missing).toBeGreaterThan(MiB);
  const bytes = await outcome(collect(stream));
  expect(bytes.length).toBe(64 * MiB);
  // What no flush had saved is there, and the rest is as it was or zeros.
  expectBytes(bytes.subarray(39 * MiB, 40 * MiB), pattern(MiB, 2));
  for (let at = 0; at < 39 * MiB; at += 512) expect([whole[at % MiB], 0]).toContain(bytes[at]);
  await outcome(disk.close({ discard: true }));
});

test('only the list is cleared: images that are open go on, and are listed again', async () => {
  const { engine } = await own.newTab();
  const entry = await engine.library.create({ name: 'stays', format: 'qcow2', size: SIZE, place: 'opfs' });
  const disk = await engine.open(entry.id);
  await disk.write(0, pattern(1000, 1));
  await clearSite('indexeddb');
  await disk.write(1000, pattern(1000, 2));
  await outcome(disk.flush());
  await expect.poll(async () => (await engine.library.list()).map(({ name }) => name), { timeout: 20_000 }).toEqual(['stays']);
  await outcome(disk.close());
  const again = await outcome(engine.open(entry.id));
  expectBytes(await again.read(0, 2000), new Uint8Array([...pattern(1000, 1), ...pattern(1000, 2)]));
});
