/**
 * The engine in its worker, end to end: images of both places and formats are made, written, killed, reopened, locked, mapped and
 * snapshotted through `connectEngine`, as a page does it.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { KiB, MiB, TiB } from '../../src/base/units.ts';
import { connectEngine, Drive, type ImageEntry, type MapRun, type Place } from '../../src/index.ts';
import { expectBytes, kindOf, numbers, pattern } from '../storage/contract.ts';
import { ownLibrary, type Tab } from './engines.ts';

const own = ownLibrary();
const { newTab } = own;

for (const place of ['opfs', 'indexeddb'] as const) {
  describe(`an engine with images in ${place}`, () => {
    for (const format of ['raw', 'qcow2'] as const) {
      const make = ({ engine }: Tab, name = 'a disk'): Promise<ImageEntry> => engine.library.create({ name, format, size: 3 * MiB, place });

      test(`${format}: what was flushed survives the end of the worker, and the list is right`, async () => {
        const tab = await newTab();
        const entry = await make(tab);
        expect(entry).toMatchObject({ name: 'a disk', format, place, size: 3 * MiB, inUse: false });
        const disk = await tab.engine.open(entry.id);
        expect(disk).toMatchObject({ size: 3 * MiB, format, readOnly: false, synchronous: false });
        await disk.write(70_001, pattern(500_000, 1));
        await disk.zero(100_000, 70_000);
        await disk.flush();
        expect((await tab.engine.library.list())[0]).toMatchObject({ id: entry.id, inUse: true });
        tab.kill();
        const next = await newTab();
        const again = await next.engine.open(entry.id);
        const wanted = new Uint8Array(3 * MiB);
        wanted.set(pattern(500_000, 1), 70_001);
        wanted.fill(0, 100_000, 170_000);
        expectBytes(await again.read(0, 3 * MiB), wanted);
        await again.close();
        const [listed] = await next.engine.library.list();
        expect(listed).toMatchObject({ id: entry.id, size: 3 * MiB, inUse: false });
        expect(listed?.storedSize).toBeGreaterThan(430_000);
      });

      test(`${format}: a second tab is told, may look, and gets it when the first lets go`, async () => {
        const [one, two] = [await newTab(), await newTab()];
        const entry = await make(one);
        const disk = await one.engine.open(entry.id);
        await disk.write(1000, pattern(5000, 2));
        await disk.flush();
        await expect(two.engine.open(entry.id)).rejects.toMatchObject({ kind: 'locked', message: expect.stringContaining('"a disk"') });
        expect(await kindOf(one.engine.open(entry.id))).toBe('locked');
        expect(await kindOf(two.engine.library.delete(entry.id))).toBe('locked');
        const view = await two.engine.open(entry.id, { readOnly: true });
        expectBytes(await view.read(1000, 5000), pattern(5000, 2));
        expect(await kindOf(view.write(0, pattern(1, 1)))).toBe('read-only');
        await disk.close();
        const second = await two.engine.open(entry.id);
        expectBytes(await second.read(1000, 5000), pattern(5000, 2));
        await second.close();
      });

      test(`${format}: a read-only view never shows a mixture; it says when it is out of date`, async () => {
        const [one, two] = [await newTab(), await newTab()];
        const entry = await make(one);
        const disk = await one.engine.open(entry.id);
        await disk.write(0, pattern(MiB, 3));
        await disk.flush();
        for (let round = 0; round < 8; round++) {
          const view = await two.engine.open(entry.id, { readOnly: true });
          expect((await view.read(round, 1))[0]).toBe((await disk.read(round, 1))[0]);
          // Elsewhere than what the view has read, and nowhere near it.
          await disk.write(600_000, pattern(3000, round));
          await disk.flush();
          expect(await kindOf(view.read(600_000, 10)), `round ${round}`).toBe('in-use');
          await view.close();
        }
        await disk.close();
      });

      test(`${format}: workers killed while they write leave whole images with all that was flushed`, async () => {
        const entry = await make(await newTab());
        const model = new Uint8Array(3 * MiB);
        const next = numbers(format.length + place.length);
        for (let round = 0; round < 4; round++) {
          const tab = await newTab();
          const disk = await tab.engine.open(entry.id);
          const write = (offset: number, seed: number) => disk.write(offset, pattern(4096, seed));
          for (let i = 0; i < 5; i++) {
            const offset = next(700) * 4096;
            await write(offset, round * 100 + i);
            model.set(pattern(4096, round * 100 + i), offset);
          }
          await disk.flush();
          // Not waited for: the worker dies somewhere in here. These sectors may hold either.
          for (let i = 0; i < 20; i++) {
            void write((700 + i) * 4096, 5000 + i).catch(() => undefined);
            if (i % 5 === 0) void disk.flush().catch(() => undefined);
          }
          await new Promise((resolve) => setTimeout(resolve, next(30)));
          tab.kill();
        }
        const disk = await (await newTab()).engine.open(entry.id);
        if (format === 'qcow2') expect(await disk.check()).toMatchObject({ corruptions: 0, checkErrors: 0 });
        expectBytes(await disk.read(0, 700 * 4096), model.slice(0, 700 * 4096));
        for (let i = 0; i < 20; i++) {
          const found = await disk.read((700 + i) * 4096, 4096);
          expectBytes(found, found[0] === 0 ? new Uint8Array(4096) : pattern(4096, 5000 + i), `sector group ${i}:`);
        }
        await disk.close();
      });
    }

    test('snapshots, sizes and checks work across the worker', async () => {
      const { engine } = await newTab();
      const entry = await engine.library.create({ name: 'snap', format: 'qcow2', size: 2 * MiB, place, clusterSize: 4096 });
      const disk = await engine.open(entry.id);
      expect((await disk.info())['cluster-size']).toBe(4096);
      await disk.write(5000, pattern(100_000, 4));
      const date = new Date(1_700_000_000_000);
      const taken = await disk.snapshots.create({ name: 'before', date });
      expect(taken).toMatchObject({ name: 'before', dateSeconds: 1_700_000_000, diskSize: 2 * MiB });
      await disk.resize(4 * MiB);
      expect(disk.size).toBe(4 * MiB);
      expect((await engine.library.list())[0]?.size).toBe(4 * MiB);
      await disk.write(5000, pattern(100_000, 5));
      await disk.snapshots.apply('before');
      expect(disk.size).toBe(2 * MiB);
      expectBytes(await disk.read(5000, 100_000), pattern(100_000, 4));
      expect((await engine.library.list())[0]?.size).toBe(2 * MiB);
      expect(await disk.snapshots.list()).toHaveLength(1);
      await disk.snapshots.delete(taken.id);
      expect(await disk.snapshots.list()).toHaveLength(0);
      expect(await kindOf(disk.snapshots.apply('before'))).toBe('not-found');
      expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
      await disk.close();
    });

    test('bitmaps work across the worker, and are kept when the disk is closed', async () => {
      const { engine } = await newTab();
      const entry = await engine.library.create({ name: 'bitmaps', format: 'qcow2', size: 2 * MiB, place, clusterSize: 4096 });
      let disk = await engine.open(entry.id);
      await disk.bitmaps.add({ name: 'noted', granularity: 512 });
      await disk.bitmaps.add({ name: 'gone' });
      await disk.bitmaps.disable('gone');
      await disk.write(5000, pattern(100_000, 4));
      await disk.bitmaps.merge('gone', 'noted');
      await disk.bitmaps.clear('gone');
      await disk.bitmaps.remove('gone');
      expect(await kindOf(disk.bitmaps.enable('gone'))).toBe('not-found');
      await disk.close();
      disk = await engine.open(entry.id);
      expect(await disk.bitmaps.list()).toEqual([{ name: 'noted', granularity: 512, enabled: true, inconsistent: false }]);
      expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
      await disk.close({ discard: true });
      disk = await engine.open(entry.id);
      expect(await disk.bitmaps.list()).toEqual([{ name: 'noted', granularity: 512, enabled: true, inconsistent: true }]);
      expect(await kindOf(disk.bitmaps.enable('noted'))).toBe('refused');
      await disk.bitmaps.remove('noted');
      expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
      await disk.close();
    });

    test('the map of a terabyte comes in pieces and in buckets, both quickly', async () => {
      const { engine } = await newTab();
      const entry = await engine.library.create({ name: 'huge', format: 'qcow2', size: TiB, place, clusterSize: 4096 });
      const disk = await engine.open(entry.id);
      // Every second cluster, so that no two runs merge; enough of them for several answers.
      for (let i = 0; i < 2500; i++) await disk.write(i * 8192 + 100, pattern(8, i));
      await disk.zero(500 * MiB, 8192);
      await disk.write(TiB - 5, pattern(5, 9));
      await disk.flush();
      const start = performance.now();
      const runs: MapRun[] = [];
      for await (const run of disk.map()) runs.push(run);
      expect(runs.filter(({ data }) => data)).toHaveLength(2501);
      let at = 0;
      for (const run of runs) {
        expect(run.start).toBe(at);
        at += run.length;
      }
      expect(at).toBe(TiB);
      const summary = await disk.mapSummary(1000);
      expect(summary.buckets.length).toBeLessThanOrEqual(1000);
      const sum = (state: 'data' | 'zero' | 'unallocated') => summary.buckets.reduce((total, bucket) => total + bucket[state], 0);
      expect(sum('data')).toBe(2501 * 4096);
      expect(sum('zero')).toBe(8192);
      expect(sum('data') + sum('zero') + sum('unallocated')).toBe(TiB);
      expect(summary.buckets[0]?.data).toBe(2500 * 4096);
      expect(summary.buckets.at(-1)?.data).toBe(4096);
      expect(summary.metadata.reduce((total, { length }) => total + length, 0)).toBeGreaterThan(4096);
      expect(performance.now() - start).toBeLessThan(10_000);
      await disk.close();
    });
  });
}

describe('an engine', () => {
  let tab: Tab;
  let entry: ImageEntry;

  beforeEach(async () => {
    tab = await newTab();
    entry = await tab.engine.library.create({ name: 'disk', format: 'qcow2', size: MiB });
  });

  test('chooses OPFS where there is one', () => {
    expect(entry.place).toBe('opfs');
  });

  test('copies what it writes before write returns, and counts requests', async () => {
    const disk = await tab.engine.open(entry.id);
    const bytes = pattern(10_000, 6);
    const writing = disk.write(3, bytes);
    bytes.fill(0xaa);
    await writing;
    const into = new Uint8Array(10_004);
    const part = into.subarray(2, 10_002);
    expect(await disk.read(3, part)).toBe(part);
    expectBytes(part, pattern(10_000, 6));
    expect([into[1], into[10_002]]).toEqual([0, 0]);
    await disk.flush();
    expect(await disk.statistics()).toMatchObject({
      read: { bytes: 10_000, operations: 1, failedOperations: 0 },
      write: { bytes: 10_000, operations: 1 },
      flush: { operations: 1 },
      highestWriteOffset: 9728,
    });
    expect(await disk.geometry()).toMatchObject({ totalSectors: 2048, source: 'default' });
    await disk.close();
  });

  test('has disks for drives: media come and go, changes are tracked, requests are counted', async () => {
    const other = await tab.engine.library.create({ name: 'other', format: 'raw', size: 2 * MiB });
    const drive = new Drive({ name: 'hda' });
    const heard: boolean[] = [];
    drive.on((event) => event.type === 'change' && heard.push(event.loaded));
    drive.insert(await tab.engine.open(entry.id));
    const dirty = drive.trackDirty(64 * KiB);
    const merged = [
      { offset: 70_000, bytes: pattern(3000, 1) },
      { offset: 71_000, bytes: pattern(500, 2) },
    ];
    await drive.multiwrite(merged);
    const expected = pattern(3000, 1);
    expected.set(pattern(500, 2), 1000);
    expectBytes(await drive.read(70_000, 3000), expected);
    expect(drive.statistics).toMatchObject({ mergedWrites: 1, write: { operations: 1, bytes: 3000 }, read: { operations: 1 } });
    expect([...dirty]).toEqual([{ start: 64 * KiB, end: 128 * KiB }]);
    expect(await drive.geometry()).toMatchObject({ totalSectors: 2048, source: 'default' });
    await drive.change(await tab.engine.open(other.id));
    expect([drive.size, dirty.count, heard]).toEqual([2 * MiB, 32, [true, false, true]]);
    await drive.eject();
    const again = await tab.engine.open(entry.id);
    expectBytes(await again.read(70_000, 3000), expected);
    await again.close();
  });

  test('answers requests out of range and on closed disks with errors that say so', async () => {
    const disk = await tab.engine.open(entry.id);
    expect(await kindOf(disk.read(MiB - 5, 10))).toBe('out-of-bounds');
    expect(await kindOf(disk.write(-1, new Uint8Array(1)))).toBe('refused');
    expect(await kindOf(disk.mapSummary(0))).toBe('refused');
    await disk.close();
    await disk.close();
    expect(await kindOf(disk.read(0, 1))).toBe('io');
    expect(await kindOf(tab.engine.open('no such image'))).toBe('not-found');
  });

  test('flushes every disk when asked, and when the page is hidden for good', async () => {
    const ids = [entry.id, (await tab.engine.library.create({ name: 'second', format: 'qcow2', size: MiB, place: 'indexeddb' })).id];
    const disks = await Promise.all(ids.map((id) => tab.engine.open(id)));
    const view = async (id: string) => {
      const disk = await (await newTab()).engine.open(id, { readOnly: true });
      return (await disk.read(5, 1))[0];
    };
    for (const disk of disks) await disk.write(5, new Uint8Array([7]));
    await tab.engine.flush();
    for (const id of ids) expect(await view(id)).toBe(7);
    for (const disk of disks) await disk.write(5, new Uint8Array([8]));
    dispatchEvent(new PageTransitionEvent('pagehide'));
    // The next answer comes after the flush was started; the one after it when it is done.
    await tab.engine.flush();
    for (const id of ids) expect(await view(id)).toBe(8);
  });

  test('is over after close, with everything flushed and unlocked', async () => {
    const disk = await tab.engine.open(entry.id);
    await disk.write(0, pattern(1000, 7));
    await tab.engine.close();
    expect(await kindOf(tab.engine.library.list())).toBe('io');
    expect(await kindOf(disk.read(0, 1))).toBe('io');
    const again = await (await newTab()).engine.open(entry.id);
    expectBytes(await again.read(0, 1000), pattern(1000, 7));
  });

  test('refuses what is no message of its own', async () => {
    const worker = new Worker(new URL('../../src/worker/index.ts', import.meta.url), { type: 'module' });
    const ask = (message: unknown) =>
      new Promise((resolve) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.postMessage(message);
      });
    expect(await ask({ type: 'call', id: 1, method: 'constructor', arguments: {} })).toMatchObject({
      type: 'error',
      id: 1,
      error: { kind: 'refused', field: 'method' },
    });
    expect(await ask({ type: 'call', id: 2, method: 'library.list', arguments: {} })).toMatchObject({ id: 2, error: { kind: 'refused' } });
    expect(await ask('hello')).toMatchObject({ id: -1, error: { kind: 'refused' } });
    expect(await ask({ type: 'call', id: 3, method: 'hello', arguments: { version: 99, library: own.name } })).toMatchObject({
      id: 3,
      error: { kind: 'unsupported' },
    });
    worker.terminate();
  });

  test('that cannot be loaded is an error, not a wait without end', async () => {
    await expect(connectEngine(new Worker('/no/such/script.js', { type: 'module' }))).rejects.toMatchObject({ kind: 'io' });
  });

  test('tells every tab of changes to the list', async () => {
    const other = await newTab();
    const heard = { here: 0, there: 0 };
    const stop = tab.engine.library.onChange(() => heard.here++);
    const told = new Promise<void>((resolve) => {
      other.engine.library.onChange(() => {
        heard.there++;
        resolve();
      });
    });
    await tab.engine.library.rename(entry.id, 'renamed');
    await told;
    expect(heard.here).toBeGreaterThan(0);
    expect((await other.engine.library.list())[0]?.name).toBe('renamed');
    stop();
    const before = heard.here;
    await tab.engine.library.delete(entry.id);
    expect(heard.here).toBe(before);
  });

  test('reports storage and persistence', async () => {
    const report = await tab.engine.library.storage();
    const places: readonly Place[] = ['opfs', 'indexeddb'];
    expect(report.places).toEqual(places);
    expect(report.quota).toBeGreaterThan(report.usage ?? Number.POSITIVE_INFINITY);
    expect(report.lacks).toEqual([]);
    expect(await tab.engine.library.persist()).toBe((await tab.engine.library.storage()).persisted);
  });
});
