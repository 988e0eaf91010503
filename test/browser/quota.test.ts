/**
 * A site with no more space, made so through the browser's own debugging protocol: nothing flushed is lost, what is in memory stays there,
 * closing and giving space back work by the reserve, and space helps.
 */
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cdp } from 'vitest/browser';
import { GiB, KiB, MiB } from '../../src/base/units.ts';
import type { RemoteDisk } from '../../src/index.ts';
import { browserError } from '../../src/storage/browser-errors.ts';
import { keyStore } from '../../src/storage/key-store.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { clearSite } from './cleared.ts';
import { newLibrary, openTab, removeLibrary, storedIds, type Tab } from './engines.ts';

let library: string;
let tab: Tab;

const setQuota = (quotaSize?: number): Promise<unknown> =>
  cdp().send('Storage.overrideQuotaForOrigin', { origin: location.origin, ...(quotaSize === undefined ? {} : { quotaSize }) });

/** Leaves about this many bytes. */
async function leave(bytes: number): Promise<void> {
  const { usage = 0 } = await navigator.storage.estimate();
  await setQuota(usage + bytes);
}

/** Room enough for everything in these tests. */
const ROOM = 24 * MiB;

/**
 * Leaves about this many bytes, and sees to it that IndexedDB knows: Chromium's goes by the room it saw up to half a minute ago, and looks again
 * when it is asked for more than that.
 */
async function leaveKnown(bytes: number): Promise<void> {
  await leave(bytes);
  const { use, close } = keyStore('quota probe', 'probe');
  // Chromium compresses values.
  const large = pattern(ROOM + MiB, 0);
  const asked = use('readwrite', (store) => Promise.resolve(store.put(large, 'probe')));
  expect(await kindOf(asked.catch((error) => Promise.reject(browserError('probe', error))))).toBe('no-space');
  close();
  await leave(bytes);
}

async function reserveSize(): Promise<number> {
  const root = await navigator.storage.getDirectory();
  const file = await root.getFileHandle(`${library}-reserve`).catch(() => undefined);
  return file ? (await file.getFile()).size : 0;
}

beforeEach(async () => {
  // LevelDB, below Chromium's IndexedDB, gives back the room of removed records at any moment. A cleared site has none of earlier tests: what can
  // come back is less than the few MiB that a test has written, and what must not fit is larger than that and the reserve together.
  await clearSite('opfs', 'indexeddb');
  library = newLibrary();
  await leave(ROOM);
  tab = await openTab(library);
});

afterEach(async () => {
  tab.kill();
  await removeLibrary(library);
});

afterAll(() => setQuota());

for (const place of ['opfs', 'indexeddb'] as const) {
  test(`with no space left, ${place} refuses what does not fit, keeps every flushed byte, and goes on when there is space`, {
    timeout: 120_000,
  }, async () => {
    const { engine } = tab;
    const { id } = await engine.library.create({ name: 'full', format: 'qcow2', size: 256 * MiB, place });
    const disk = await engine.open(id);
    await disk.write(0, pattern(2 * MiB, 1));
    await disk.flush();
    await leaveKnown(5 * MiB);
    // In steps, as a guest writes.
    let written = 2 * MiB;
    let accepted = true;
    let kind: string | undefined;
    while (kind === undefined && written < 80 * MiB) {
      kind = await kindOf(disk.write(written, pattern(MiB, written / MiB)));
      accepted = kind === undefined;
      kind ??= await kindOf(disk.flush());
      if (kind === undefined) written += MiB;
    }
    expect(kind).toBe('no-space');
    expectBytes(await disk.read(0, 2 * MiB), pattern(2 * MiB, 1));
    // What a flush had covered is there for whoever comes after a crash.
    const other = await openTab(library);
    const found = await other.engine.open(id, { readOnly: true });
    for (let at = 2 * MiB; at < written; at += MiB) expectBytes(await found.read(at, MiB), pattern(MiB, at / MiB), `at ${at}:`);
    // A new image finds no room either, and leaves nothing.
    const file = new File([pattern(40 * MiB, 2)], 'large.img');
    expect(await kindOf(other.engine.library.import(file, { name: 'large', format: 'raw', place }))).toBe('no-space');
    expect(await storedIds(library)).toHaveLength(1);
    expect((await other.engine.library.list()).map(({ name }) => name)).toEqual(['full']);
    other.kill();
    await leave(ROOM);
    // The request that failed, again: what was accepted and not flushed is not written a second time.
    if (!accepted) await disk.write(written, pattern(MiB, written / MiB));
    await disk.flush();
    const after = await openTab(library);
    const flushed = await after.engine.open(id, { readOnly: true });
    expectBytes(await flushed.read(written, MiB), pattern(MiB, written / MiB), 'after the flush:');
    after.kill();
    for (let at = 2 * MiB; at <= written; at += MiB) expectBytes(await disk.read(at, MiB), pattern(MiB, at / MiB), `at ${at}:`);
    expect(await disk.check()).toMatchObject({ corruptions: 0, checkErrors: 0 });
    await disk.close();
  });
}

for (const place of ['opfs', 'indexeddb'] as const) {
  describe(`with no space left at all in ${place}`, { timeout: 180_000 }, () => {
    const FAR = 32 * GiB;
    let id: string;
    let disk: RemoteDisk;
    /** Where the last write that was accepted ends. */
    let accepted: number;
    /** Changes in memory: tables of 64 KiB in OPFS, where data goes to the file at once; KiB of data in IndexedDB. */
    const [little, much] = place === 'opfs' ? [20, 120] : [1300, 12 * 1024];

    /** An image with 2 MiB flushed on a disk that is full; in OPFS the image has filled what room it had. */
    async function begin(): Promise<void> {
      ({ id } = await tab.engine.library.create({ name: 'full', format: 'qcow2', size: 128 * GiB, place }));
      disk = await tab.engine.open(id);
      expect(await reserveSize()).toBe(4 * MiB);
      accepted = 2 * MiB;
      await disk.write(0, pattern(accepted, 1));
      await disk.flush();
      await leaveKnown(0);
      if (place === 'indexeddb') return;
      while ((await kindOf(disk.write(accepted, pattern(64 * KiB, accepted)))) === undefined) accepted += 64 * KiB;
      expect(accepted).toBeGreaterThan(2 * MiB);
    }

    async function change(amount: number): Promise<void> {
      if (place === 'indexeddb') return disk.write(FAR, pattern(amount * KiB, 2));
      for (let table = 0; table < amount; table++) await disk.zero(FAR + table * 512 * MiB, 64 * KiB);
    }

    async function expectContents(found: RemoteDisk, amount: number): Promise<void> {
      expectBytes(await found.read(0, 2 * MiB), pattern(2 * MiB, 1), 'flushed before:');
      for (let at = 2 * MiB; at < accepted; at += 64 * KiB) expectBytes(await found.read(at, 64 * KiB), pattern(64 * KiB, at), `at ${at}:`);
      if (place === 'indexeddb') return expectBytes(await found.read(FAR, amount * KiB), pattern(amount * KiB, 2), 'changed:');
      for (let table = 0; table < amount; table++)
        for await (const { present, zero } of found.map(FAR + table * 512 * MiB, 64 * KiB))
          expect({ table, present, zero }).toEqual({ table, present: true, zero: true });
    }

    /** The image as whoever comes next finds it. */
    async function expectStored(amount: number): Promise<void> {
      const next = await openTab(library);
      const found = await next.engine.open(id);
      await expectContents(found, amount);
      expect(await found.check()).toMatchObject({ corruptions: 0, checkErrors: 0 });
      next.kill();
    }

    test('a write that does not fit is refused and goes through when there is space', async () => {
      await begin();
      const large = pattern(12 * MiB, 3);
      for (let attempt = 0; attempt < 3; attempt++) {
        const refused = await kindOf(disk.write(FAR, large));
        expect(refused).toBe(place === 'opfs' ? 'no-space' : undefined);
        expect(await kindOf(disk.flush())).toBe(place === 'opfs' ? undefined : 'no-space');
        if (place === 'indexeddb') expectBytes(await disk.read(FAR, 12 * MiB), large, 'in memory:');
      }
      await leave(ROOM);
      if (place === 'opfs') await disk.write(FAR, large);
      await disk.flush();
      const next = await openTab(library);
      expectBytes(await (await next.engine.open(id, { readOnly: true })).read(FAR, 12 * MiB), large, 'flushed:');
      next.kill();
      await disk.close();
      await expectStored(0);
    });

    test('closing works by the reserve and loses nothing, and the reserve is there again when there is space', async () => {
      await begin();
      await change(little);
      await disk.close();
      expect((await tab.engine.library.list())[0]).toMatchObject({ id, inUse: false });
      await expectStored(little);
      if (place === 'indexeddb') expect(await reserveSize()).toBeLessThan(4 * MiB);
      await leave(ROOM);
      const next = await openTab(library);
      await (await next.engine.open(id)).close();
      next.kill();
      expect(await reserveSize()).toBe(4 * MiB);
    });

    test('beyond the reserve closing is refused, everything stays open as it is, and closes when there is space', async () => {
      await begin();
      await change(much);
      for (let attempt = 0; attempt < 2; attempt++) expect(await kindOf(disk.close())).toBe('no-space');
      await expectContents(disk, much);
      const other = await openTab(library);
      expect(await kindOf(other.engine.open(id))).toBe('locked');
      other.kill();
      await leave(ROOM);
      await disk.close();
      await expectStored(much);
    });

    test('what cannot be flushed can be given up: the image is unlocked, and as the last flush left it or later', async () => {
      await begin();
      await disk.flush();
      await change(much);
      expect(await kindOf(disk.close())).toBe('no-space');
      await disk.close({ discard: true });
      expect((await tab.engine.library.list())[0]).toMatchObject({ id, inUse: false });
      await expectStored(0);
    });

    test('a discard works, and so does deleting', async () => {
      await begin();
      await disk.discard(0, MiB);
      await disk.flush();
      // The guest gets what it gave back; in IndexedDB only when the browser has tidied up.
      if (place === 'opfs') await disk.write(FAR, pattern(MiB / 2, 4));
      await disk.flush();
      expectBytes(await disk.read(0, MiB), new Uint8Array(MiB));
      expectBytes(await disk.read(MiB, MiB), pattern(2 * MiB, 1).slice(MiB));
      expect(await disk.check()).toMatchObject({ corruptions: 0, checkErrors: 0 });
      await disk.close();
      await tab.engine.library.delete(id);
      expect(await tab.engine.library.list()).toEqual([]);
      expect(await storedIds(library)).toEqual([]);
    });
  });
}

test('storage with no room for the reserve is reported as nearly full', async () => {
  await tab.engine.library.create({ name: 'a', format: 'raw', size: MiB });
  expect(await tab.engine.library.storage()).toMatchObject({ nearlyFull: false });
  await (await navigator.storage.getDirectory()).removeEntry(`${library}-reserve`);
  await leaveKnown(0);
  const next = await openTab(library);
  await next.engine.library.create({ name: 'b', format: 'raw', size: 512 }).catch(() => undefined);
  expect(await next.engine.library.storage()).toMatchObject({ nearlyFull: true });
  next.kill();
});
