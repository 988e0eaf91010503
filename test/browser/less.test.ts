/**
 * A library on a browser that gives it less for a time, in its worker: the list without IndexedDB, images that only that list knows, and leftovers where locks
 * end at the tab.
 */
import { afterEach, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { connectEngine, connectEngineHere, type Engine } from '../../src/index.ts';
import { indexedDbNames } from '../../src/storage/indexed-db-blocks.ts';
import { expectBytes, pattern } from '../storage/contract.ts';
import { collect, ownLibrary } from './engines.ts';

const own = ownLibrary();
const workers: Worker[] = [];

afterEach(() => {
  for (const worker of workers.splice(0)) worker.terminate();
});

async function without(...less: ('indexeddb' | 'opfs' | 'locks' | 'channel')[]): Promise<Engine> {
  const worker = new Worker(new URL('./less-worker.ts', import.meta.url), { type: 'module', name: less.join(' ') });
  workers.push(worker);
  return connectEngine(worker, { library: own.name });
}

const names = async ({ library }: Engine) => (await library.list()).map(({ name }) => name);

test('without IndexedDB the list is in OPFS; images that only the list in IndexedDB knows are not taken for leftovers', async () => {
  const first = await own.newTab();
  const known = await first.engine.library.create({ name: 'known', format: 'qcow2', size: 4 * MiB, place: 'opfs' });
  const unnoted = await first.engine.library.create({ name: 'unnoted', format: 'raw', size: 8 * KiB, place: 'opfs' });
  const blocks = await first.engine.library.create({ name: 'blocks', format: 'raw', size: 8 * KiB, place: 'indexeddb' });
  const disk = await first.engine.open(unnoted.id);
  await disk.write(0, pattern(4 * KiB, 1));
  await first.engine.close();
  const notes = await (await navigator.storage.getDirectory()).getDirectoryHandle(`${own.name}-notes`);
  for (const { id } of [unnoted, blocks]) await notes.removeEntry(`${id}.json`);

  const blocked = await without('indexeddb');
  expect(await blocked.library.storage()).toMatchObject({ places: ['opfs'], lacks: ['indexeddb'] });
  expect(await names(blocked)).toEqual(['known']);
  await expect(blocked.library.create({ name: 'known', format: 'raw', size: 512 })).rejects.toMatchObject({ kind: 'refused', field: 'name' });
  const made = await blocked.library.create({ name: 'made', format: 'qcow2', size: 4 * MiB });
  const writing = await blocked.open(made.id);
  await writing.write(100, pattern(70 * KiB, 2));
  await writing.close();
  await blocked.library.rename(known.id, 'renamed');
  expect(await names(blocked)).toEqual(['made', 'renamed']);
  await collect((await blocked.library.export(made.id, { format: 'qcow2' })).stream);
  const gone = await blocked.library.create({ name: 'gone', format: 'raw', size: 512 });
  await blocked.library.delete(gone.id);
  await blocked.close();
  // Another one finds what the first has done.
  const again = await without('indexeddb');
  expect(await names(again)).toEqual(['made', 'renamed']);
  await again.close();

  const after = (await own.newTab()).engine;
  expect(await names(after)).toEqual(['blocks', 'known', 'made', 'unnoted']);
  const found = await after.open(made.id);
  expectBytes(await found.read(100, 70 * KiB), pattern(70 * KiB, 2));
  await found.close();
  const kept = await after.open(unnoted.id);
  expectBytes(await kept.read(0, 4 * KiB), pattern(4 * KiB, 1));
  await kept.close();
});

test('where locks end at the tab, a library that is opened sweeps nothing that another tab may be at', async () => {
  const one = await without('opfs', 'locks', 'channel');
  expect((await one.library.storage()).lacks).toEqual(['opfs', 'web-locks', 'broadcast-channel']);
  const { id } = await one.library.create({ name: 'a disk', format: 'qcow2', size: 4 * MiB });
  const disk = await one.open(id, { snapshot: 'indexeddb' });
  await disk.write(0, pattern(300 * KiB, 1));
  await disk.flush();
  // The disk would go on with what it has in memory.
  const kept = await indexedDbNames({ database: own.name });
  expect(kept).toHaveLength(2);
  const two = await without('opfs', 'locks', 'channel');
  expect(await names(two)).toEqual(['a disk']);
  expect(await indexedDbNames({ database: own.name })).toEqual(kept);
  // Nobody answers there, and nobody is waited for.
  expect(await two.requestRelease(id)).toBe(true);
  await disk.write(300 * KiB, pattern(300 * KiB, 2));
  await disk.flush();
  expectBytes(await disk.read(0, 300 * KiB), pattern(300 * KiB, 1));
  await disk.close();
  // In one tab an image has one writer all the same.
  const writer = await one.open(id);
  await expect(one.open(id)).rejects.toMatchObject({ kind: 'locked' });
  await writer.close();
});

test('neither OPFS nor IndexedDB: refused, unless the page wants images in memory', async () => {
  await expect(without('opfs', 'indexeddb')).rejects.toMatchObject({ kind: 'unsupported' });
});

test('the engine on the page itself keeps images in IndexedDB, compresses here, and ends with its close', async () => {
  const engine = await connectEngineHere({ library: own.name });
  expect(await engine.library.storage()).toMatchObject({ places: ['indexeddb'], lacks: ['opfs'] });
  const { id } = await engine.library.create({ name: 'a disk', format: 'qcow2', size: 4 * MiB });
  const disk = await engine.open(id);
  await disk.write(70_001, pattern(200 * KiB, 1));
  const compressed = await collect((await engine.library.export(id, { format: 'qcow2', compressed: true })).stream);
  expect(compressed.length).toBeGreaterThan(0);
  await disk.close();
  await engine.close();
  await expect(engine.library.list()).rejects.toMatchObject({ kind: 'io' });
  const other = (await own.newTab()).engine;
  const found = await other.open(id);
  expectBytes(await found.read(70_001, 200 * KiB), pattern(200 * KiB, 1));
  await found.close();
});
