/**
 * Pages that come back after they were left, with images in IndexedDB on their own thread: they go on reading and writing, and what they kept aside in what
 * looked like their last turn brings nothing back that is past. And what becomes of it, and of adapters, where another writer takes the image over.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { type V86DiskEvent, v86Disk } from '../../src/adapters/v86.ts';
import { runAsync } from '../../src/base/io.ts';
import { KiB } from '../../src/base/units.ts';
import { createDisk, openDisk } from '../../src/index.ts';
import { type IndexedDbStorage, indexedDbStorage } from '../../src/storage/indexed-db.ts';
import { LastWordsStore } from '../../src/storage/indexed-db-last.ts';
import { readBytes } from '../../src/storage/storage.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';

const database = 'page return test';
const BLOCK = 32 * KiB;
let count = 0;
const create = async (options: { lockHeld?: boolean } = {}) => {
  const name = `image ${++count}`;
  return { name, storage: await indexedDbStorage(name, { create: 'must-not-exist', database, ...options }) };
};
const write = (storage: IndexedDbStorage, offset: number, bytes: Uint8Array) => runAsync(storage.write(offset, bytes));
const flush = (storage: IndexedDbStorage) => runAsync(storage.flush());
const read = (storage: IndexedDbStorage, offset: number, length: number) => runAsync(readBytes(storage, offset, length));
const leave = () => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));
const comeBack = () => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));

const words = new LastWordsStore(database);
/** What was said last about an image arrives a moment later. */
const said = (name: string) => expect.poll(async () => (await words.recall(name)) !== undefined);

afterAll(() => {
  words.close();
  for (const name of [database, `${database} last words`]) indexedDB.deleteDatabase(name);
});

/** What the next writer finds. */
async function found(name: string, length: number): Promise<Uint8Array> {
  const next = await indexedDbStorage(name, { database });
  const bytes = await read(next, 0, length);
  await runAsync(next.close());
  return bytes;
}

describe('a page that comes back', () => {
  test('goes on with its image, flushed or not, time and again', async () => {
    const { name, storage } = await create();
    const wanted = new Uint8Array(5 * BLOCK);
    const change = (offset: number, length: number, seed: number) => {
      wanted.set(pattern(length, seed), offset);
      return write(storage, offset, pattern(length, seed));
    };
    await change(0, 5 * BLOCK, 1);
    await flush(storage);
    for (let time = 0; time < 4; time++) {
      await change(time * BLOCK + 100, 1000, 10 + time);
      leave();
      // It may live on for a moment, and save.
      if (time % 2 === 0) await flush(storage);
      comeBack();
      expectBytes(await read(storage, 0, wanted.length), wanted, `${time}:`);
      await change(time * BLOCK + 50, 100, 20 + time);
      await flush(storage);
      expectBytes(await read(storage, 0, wanted.length), wanted, `${time}, saved:`);
    }
    await said(name).toBe(false);
    await runAsync(storage.close());
    expectBytes(await found(name, wanted.length), wanted);
  });

  test('in the middle of a commit', async () => {
    const { name, storage } = await create();
    const wanted = pattern(3 * BLOCK, 1);
    await write(storage, 0, wanted);
    const committing = flush(storage);
    leave();
    await committing;
    comeBack();
    wanted.set(pattern(1000, 2), BLOCK - 500);
    await write(storage, BLOCK - 500, pattern(1000, 2));
    leave();
    const again = flush(storage);
    comeBack();
    await again;
    expectBytes(await read(storage, 0, wanted.length), wanted);
    await runAsync(storage.close());
    expectBytes(await found(name, wanted.length), wanted);
  });

  test('with a guest on it', async () => {
    const { name, storage } = await create();
    const disk = await createDisk(storage, { format: 'qcow2', size: 1024 * KiB });
    const hda = v86Disk(disk, { saveDelay: 60_000 });
    hda.set(4096, pattern(4096, 1), () => undefined);
    leave();
    hda.set(8192, pattern(4096, 2), () => undefined);
    comeBack();
    hda.set(4608, pattern(512, 3), () => undefined);
    await hda.save();
    await disk.close();
    await hda.close();
    const again = await openDisk(await indexedDbStorage(name, { database }), { format: 'qcow2' });
    const wanted = new Uint8Array([...pattern(4096, 1), ...pattern(4096, 2)]);
    wanted.set(pattern(512, 3), 512);
    expectBytes(await again.read(4096, 8192), wanted);
    expect(await again.check()).toMatchObject({ corruptions: 0 });
    await again.close();
  });
});

describe('an image that is taken over from a page that was left', () => {
  test('has what that page kept aside, if that is the latest', async () => {
    const { name, storage } = await create();
    await write(storage, 0, pattern(BLOCK, 1));
    await flush(storage);
    await write(storage, 100, pattern(200, 2));
    leave();
    await said(name).toBe(true);
    const next = await indexedDbStorage(name, { database, takeOver: true });
    const wanted = pattern(BLOCK, 1);
    wanted.set(pattern(200, 2), 100);
    expectBytes(await read(next, 0, BLOCK), wanted);
    comeBack();
    // The page has the image no more, and says so.
    expect(await kindOf(write(storage, 0, pattern(10, 3)))).toBe('lost');
    expect(await kindOf(flush(storage))).toBe('lost');
    expect(await kindOf(runAsync(storage.close()))).toBe('lost');
    await write(next, 0, pattern(10, 4));
    wanted.set(pattern(10, 4));
    await runAsync(next.close());
    expectBytes(await found(name, BLOCK), wanted);
  });

  test('has what that page saved since, not what it kept aside before', async () => {
    const { name, storage } = await create();
    await write(storage, 0, pattern(BLOCK, 1));
    leave();
    await said(name).toBe(true);
    await write(storage, 0, pattern(BLOCK, 2));
    await flush(storage);
    const next = await indexedDbStorage(name, { database, takeOver: true });
    expectBytes(await read(next, 0, BLOCK), pattern(BLOCK, 2));
    comeBack();
    await runAsync(next.close());
    expect(await kindOf(runAsync(storage.close()))).toBe('lost');
  });

  test('keeps what the new writer kept aside, whenever the old one comes back, also where there are no locks', async () => {
    const { name, storage } = await create({ lockHeld: true });
    await write(storage, 0, pattern(BLOCK, 1));
    await flush(storage);
    leave();
    await said(name).toBe(true);
    const next = await indexedDbStorage(name, { database, lockHeld: true });
    await write(next, 0, pattern(BLOCK, 2));
    // The new page ends with that.
    leave();
    await expect.poll(async () => (await words.recall(name))?.changes.get(0)).toEqual(pattern(BLOCK, 2));
    next.abandon();
    comeBack();
    await write(storage, 0, pattern(1, 1));
    expect(await kindOf(flush(storage))).toBe('lost');
    storage.abandon();
    expectBytes(await found(name, BLOCK), pattern(BLOCK, 2));
  });
});

test('an adapter on a disk that is taken over: the disk closes, the guest is told once, and its bytes can be saved elsewhere', async () => {
  const { name, storage } = await create();
  const disk = await createDisk(storage, { format: 'qcow2', size: 1024 * KiB });
  await disk.flush();
  const hda = v86Disk(disk, { saveDelay: 60_000, saveRetry: 60_000 });
  const events: V86DiskEvent['type'][] = [];
  hda.on(({ type }) => events.push(type));
  hda.set(4096, pattern(4096, 1), () => undefined);
  const next = await indexedDbStorage(name, { database, takeOver: true });
  await expect.poll(() => events).toEqual(['lost']);
  expect(await kindOf(disk.close())).toBe('lost');
  await disk.close();
  expect(await kindOf(hda.save())).toBe('lost');
  expect(hda.statistics.dirtyBytes).toBe(4096);
  expect(events).toEqual(['lost']);
  const other = await openDisk(next, { format: 'qcow2' });
  await hda.resume({ disk: other });
  expect(events).toEqual(['lost', 'saved']);
  expectBytes(await other.read(4096, 4096), pattern(4096, 1));
  await hda.close();
  await other.close();
});
