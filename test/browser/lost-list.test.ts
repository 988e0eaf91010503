/**
 * What browsers do to IndexedDB when they have been killed: Chromium deletes all of a site's. Here it is deleted on purpose, and the images
 * in OPFS are there with their names; the real thing is in test/kill.
 */
import { promisifyRequest } from 'idb-keyval';
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { blockStore, type Header } from '../../src/storage/indexed-db-blocks.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { ownLibrary, storedIds } from './engines.ts';

const own = ownLibrary();
const { newTab } = own;

/** Ends all tabs and deletes the library's databases. */
async function loseIndexedDb(): Promise<void> {
  own.kill();
  for (const database of [own.name, `${own.name}-library`])
    await new Promise<void>((resolve, reject) => {
      const request = indexedDB.deleteDatabase(database);
      request.onsuccess = () => resolve();
      request.onerror = () => reject(request.error);
    });
}

const noteFolder = async () => (await navigator.storage.getDirectory()).getDirectoryHandle(`${own.name}-notes`);

test('a list that was lost is made anew from its second copy', async () => {
  const { engine } = await newTab();
  const first = await engine.library.create({ name: 'first', format: 'qcow2', size: 2 * MiB, place: 'opfs' });
  const second = await engine.library.create({ name: 'second', format: 'raw', size: MiB, place: 'opfs' });
  const lost = await engine.library.create({ name: 'lost', format: 'raw', size: MiB, place: 'indexeddb' });
  const gone = await engine.library.create({ name: 'gone', format: 'raw', size: MiB, place: 'opfs' });
  await engine.library.delete(gone.id);
  await engine.library.rename(second.id, 'the second');
  const disk = await engine.open(first.id);
  await disk.write(70_000, pattern(100_000, 1));
  await disk.resize(3 * MiB);
  await disk.flush();
  const before = await engine.library.list();
  await loseIndexedDb();

  const { engine: next } = await newTab();
  const after = await next.library.list();
  expect(after.map(({ id, name, format, place, size }) => ({ id, name, format, place, size }))).toEqual(
    before.map(({ id, name, format, place, size }) => ({ id, name, format, place, size })),
  );
  const again = await next.open(first.id);
  expectBytes(await again.read(70_000, 100_000), pattern(100_000, 1));
  expect(again.size).toBe(3 * MiB);
  expect(await kindOf(next.open(lost.id))).toBe('not-found');
  await next.library.delete(lost.id);
  expect((await next.library.list()).map(({ name }) => name)).toEqual(['first', 'the second']);
});

test('an image whose second copy of the record was cut short is not taken for a leftover', async () => {
  const { engine } = await newTab();
  const { id } = await engine.library.create({ name: 'cut', format: 'raw', size: MiB, place: 'opfs' });
  await loseIndexedDb();
  const writer = await (await (await noteFolder()).getFileHandle(`${id}.json`)).createWritable({ keepExistingData: true });
  await writer.truncate(20);
  await writer.close();
  await newTab();
  expect(await storedIds(own.name)).toEqual([`${id}.img`]);
});

test('a name that is taken by then is not taken away', async () => {
  const { engine } = await newTab();
  const { id } = await engine.library.create({ name: 'same', format: 'raw', size: MiB, place: 'opfs' });
  const note = await (await (await (await noteFolder()).getFileHandle(`${id}.json`)).getFile()).text();
  await engine.library.delete(id);
  await engine.library.create({ name: 'same', format: 'raw', size: MiB, place: 'opfs' });
  const writer = await (await (await noteFolder()).getFileHandle(`${id}.json`, { create: true })).createWritable();
  await writer.write(note);
  await writer.close();
  const { engine: next } = await newTab();
  expect((await next.library.list()).map(({ name }) => name)).toEqual(['same', 'same (2)']);
});

test('an image in IndexedDB is marked until it is closed; whoever opens the library after a kill mends and leaves nothing else', async () => {
  const marks = async () => {
    const store = blockStore(own.name);
    const header = await store.use('readonly', async (blocks) => promisifyRequest<Header>(blocks.get([entry.id])));
    const records = await store.use('readonly', (blocks) => promisifyRequest(blocks.count()));
    store.close();
    return { open: header.open, records };
  };
  const { engine, kill } = await newTab();
  const entry = await engine.library.create({ name: 'marked', format: 'raw', size: MiB, place: 'indexeddb' });
  expect(await marks()).toMatchObject({ open: false });
  const disk = await engine.open(entry.id);
  await disk.write(0, pattern(100_000, 1));
  await disk.flush();
  const { records } = await marks();
  await newTab();
  // Somebody has it: there is nothing to mend.
  expect(await marks()).toEqual({ open: true, records });
  kill();
  await expect.poll(async () => (await navigator.locks.query()).held?.some(({ name }) => name?.includes(entry.id))).toBe(false);
  const { engine: next } = await newTab();
  expect(await marks()).toEqual({ open: false, records });
  const again = await next.open(entry.id);
  expectBytes(await again.read(0, 100_000), pattern(100_000, 1));
  await again.close();
  expect(await marks()).toEqual({ open: false, records });
});
