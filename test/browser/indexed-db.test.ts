/** Images in IndexedDB: the contract, one transaction a flush, fencing, early commits, lost connections. */
import { afterAll, describe, expect, test } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import { KiB, MiB, TiB } from '../../src/base/units.ts';
import { openOrCreate } from '../../src/disk/open.ts';
import { type IndexedDbStorage, indexedDbStorage } from '../../src/storage/indexed-db.ts';
import { deleteIndexedDbStorage, indexedDbNames, indexedDbSize } from '../../src/storage/indexed-db-blocks.ts';
import { readBytes } from '../../src/storage/storage.ts';
import { deleteImage, listImages } from '../../src/storage/stored-images.ts';
import { expectBytes, kindOf, pattern, storageContract } from '../storage/contract.ts';

const database = 'indexed-db test';
const BLOCK = 32 * KiB;
let count = 0;
const newName = () => `image ${++count}`;
const create = (name: string) => indexedDbStorage(name, { create: 'must-not-exist', database });
const open = (name: string, readOnly = false) => indexedDbStorage(name, { database, readOnly });
const write = (storage: IndexedDbStorage, offset: number, bytes: Uint8Array) => runAsync(storage.write(offset, bytes));
const read = (storage: IndexedDbStorage, offset: number, length: number) => runAsync(readBytes(storage, offset, length));

function removeDatabase(): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.deleteDatabase(database);
    request.onsuccess = () => resolve();
    request.onerror = () => reject(request.error);
  });
}

afterAll(removeDatabase);

storageContract('indexed-db', async () => {
  const name = newName();
  return {
    open: ({ readOnly = false } = {}) => indexedDbStorage(name, readOnly ? { readOnly, database } : { create: 'if-missing', database }),
    remove: () => deleteIndexedDbStorage(name, { database }),
  };
});

describe('indexed-db', () => {
  test('makes images only when told to and never empties one by accident', async () => {
    const name = newName();
    expect(await kindOf(open(name))).toBe('not-found');
    expect(await kindOf(open(name, true))).toBe('not-found');
    const storage = await create(name);
    await write(storage, 0, pattern(99, 1));
    await runAsync(storage.close());
    expect(await kindOf(create(name))).toBe('refused');
    const again = await indexedDbStorage(name, { create: 'if-missing', database });
    expect(again.size).toBe(99);
    await runAsync(again.close());
    const emptied = await indexedDbStorage(name, { create: 'truncate', database });
    expect(emptied.size).toBe(0);
    expectBytes(await read(emptied, 0, 99), new Uint8Array(99));
    await runAsync(emptied.close());
  });

  test('nothing is seen of changes before the flush, and all of them after', async () => {
    const name = newName();
    const storage = await create(name);
    await write(storage, 0, pattern(100_000, 1));
    await runAsync(storage.flush());
    await write(storage, 5, pattern(50_000, 2));
    await runAsync(storage.zero(60_000, 10_000));
    await runAsync(storage.barrier());
    await write(storage, 200_000, pattern(10, 3));
    // What a tab that dies now leaves behind.
    const before = await open(name, true);
    expect(before.size).toBe(100_000);
    expectBytes(await read(before, 0, 100_000), pattern(100_000, 1));
    await runAsync(storage.flush());
    const wanted = new Uint8Array(200_010);
    wanted.set(pattern(100_000, 1));
    wanted.set(pattern(50_000, 2), 5);
    wanted.fill(0, 60_000, 70_000);
    wanted.set(pattern(10, 3), 200_000);
    const after = await open(name, true);
    expectBytes(await read(after, 0, 200_010), wanted);
    for (const each of [storage, before, after]) await runAsync(each.close());
  });

  test('a flush holds what was there when it began, and changes during it are kept for the next', async () => {
    const name = newName();
    const storage = await create(name);
    await write(storage, 0, pattern(5 * BLOCK, 1));
    const flushing = runAsync(storage.flush());
    await write(storage, 100, pattern(50, 2));
    await runAsync(storage.zero(3 * BLOCK, BLOCK));
    await runAsync(storage.truncate(5 * BLOCK - 9));
    const wanted = pattern(5 * BLOCK, 1).slice(0, 5 * BLOCK - 9);
    wanted.set(pattern(50, 2), 100);
    wanted.fill(0, 3 * BLOCK, 4 * BLOCK);
    expectBytes(await read(storage, 0, wanted.length), wanted);
    await flushing;
    expectBytes(await read(storage, 0, wanted.length), wanted);
    const first = await open(name, true);
    expect(first.size).toBe(5 * BLOCK);
    expectBytes(await read(first, 0, 5 * BLOCK), pattern(5 * BLOCK, 1));
    await runAsync(storage.close());
    const second = await open(name, true);
    expect(second.size).toBe(wanted.length);
    expectBytes(await read(second, 0, wanted.length), wanted);
    await runAsync(first.close());
    await runAsync(second.close());
  });

  test('a read-only opening sees one state, and throws when there is another', async () => {
    const name = newName();
    const storage = await create(name);
    await write(storage, 0, pattern(10 * BLOCK, 1));
    await runAsync(storage.flush());
    const view = await open(name, true);
    expectBytes(await read(view, 0, 100), pattern(100, 1));
    await write(storage, 9 * BLOCK, pattern(100, 2));
    expectBytes(await read(view, 9 * BLOCK, 100), pattern(10 * BLOCK, 1).slice(9 * BLOCK, 9 * BLOCK + 100));
    await write(storage, 5 * BLOCK, pattern(100, 3));
    await runAsync(storage.flush());
    expect(await kindOf(read(view, 5 * BLOCK, 100))).toBe('in-use');
    await runAsync(view.close());
    await runAsync(storage.close());
  });

  test('an image has one writer, in one page too: another is refused, unless it takes the image over by name', async () => {
    const name = newName();
    const writer = await create(name);
    await write(writer, 0, pattern(3 * BLOCK, 1));
    await runAsync(writer.flush());
    const refusal = await open(name).catch((error) => error);
    expect(refusal).toMatchObject({ kind: 'locked', message: expect.stringContaining('takeOver') });
    expect(await kindOf(indexedDbStorage(name, { database, create: 'truncate' }))).toBe('locked');
    expect(await kindOf(indexedDbStorage(name, { database, create: 'must-not-exist' }))).toBe('locked');
    expect(await kindOf(deleteIndexedDbStorage(name, { database }))).toBe('locked');
    // Readers are not kept out, nor writers of other images.
    const reader = await open(name, true);
    expectBytes(await read(reader, 0, 10), pattern(3 * BLOCK, 1).slice(0, 10));
    const other = await create(newName());
    await write(writer, 0, pattern(3 * BLOCK, 2));
    for (const each of [writer, reader, other]) await runAsync(each.close());
    const next = await open(name);
    expectBytes(await read(next, 0, 3 * BLOCK), pattern(3 * BLOCK, 2));
    next.abandon();
    await runAsync((await open(name)).close());
  });

  test('an opening that fails leaves no lock behind', async () => {
    const name = newName();
    for (let i = 0; i < 3; i++) expect(await kindOf(open(name))).toBe('not-found');
    await runAsync((await create(name)).close());
    for (let i = 0; i < 3; i++) expect(await kindOf(create(name))).toBe('refused');
    await runAsync((await open(name)).close());
  });

  test('a writer whose image is taken over hears of it at once, and reads what it had until the next one has saved something', async () => {
    const name = newName();
    const sleeper = await create(name);
    await write(sleeper, 0, pattern(3 * BLOCK, 1));
    await runAsync(sleeper.close());
    const holder = await open(name);
    const heard = new Promise((resolve) => void holder.onLost(resolve));
    await write(holder, 0, pattern(100, 2));
    const next = await indexedDbStorage(name, { database, takeOver: true });
    expect(await heard).toMatchObject({ kind: 'lost', message: expect.stringContaining('taken over') });
    const before = pattern(3 * BLOCK, 1);
    before.set(pattern(100, 2));
    for (const verb of [write(holder, 0, pattern(1, 1)), runAsync(holder.flush()), runAsync(holder.zero(0, 10)), runAsync(holder.truncate(5))])
      expect(await kindOf(verb)).toBe('lost');
    expectBytes(await read(holder, 0, 2 * BLOCK), before.slice(0, 2 * BLOCK));
    await write(next, 0, pattern(50, 3));
    await write(next, 2 * BLOCK, pattern(50, 4));
    await runAsync(next.flush());
    expectBytes(await read(holder, 0, 100), pattern(100, 2));
    expect(await kindOf(read(holder, 2 * BLOCK, 10))).toBe('lost');
    expect(await kindOf(runAsync(holder.close()))).toBe('lost');
    // Closing it does not let go of what is no longer its own.
    expect(await kindOf(open(name))).toBe('locked');
    before.set(pattern(3 * BLOCK, 1).slice(0, 100));
    before.set(pattern(50, 3));
    before.set(pattern(50, 4), 2 * BLOCK);
    expectBytes(await read(next, 0, before.length), before);
    await runAsync(next.close());
  });

  test('a writer that slept while its image was taken over, where there are no locks, can never write again', async () => {
    const name = newName();
    const sleeper = await indexedDbStorage(name, { create: 'must-not-exist', database, lockHeld: true });
    await write(sleeper, 0, pattern(3 * BLOCK, 1));
    await runAsync(sleeper.flush());
    await write(sleeper, 0, pattern(100, 2));
    const next = await open(name);
    await write(next, 0, pattern(50, 3));
    await runAsync(next.flush());
    await expect(runAsync(sleeper.flush())).rejects.toMatchObject({ kind: 'lost', message: expect.stringContaining('another writer') });
    expect(await kindOf(write(sleeper, 0, pattern(1, 1)))).toBe('lost');
    expect(await kindOf(runAsync(sleeper.close()))).toBe('lost');
    const wanted = pattern(3 * BLOCK, 1);
    wanted.set(pattern(50, 3));
    expectBytes(await read(next, 0, wanted.length), wanted);
    await runAsync(next.close());
  });

  test('a writer whose image was deleted does not bring parts of it back', async () => {
    const name = newName();
    const storage = await create(name);
    await write(storage, 0, pattern(100, 1));
    await runAsync(storage.flush());
    await write(storage, 0, pattern(100, 2));
    await deleteIndexedDbStorage(name, { database, takeOver: true });
    expect(await kindOf(runAsync(storage.flush()))).toBe('lost');
    expect(await indexedDbNames({ database })).not.toContain(name);
    expect(await kindOf(runAsync(storage.close()))).toBe('lost');
  });

  test('zero blocks take no space, whoever made them zero', async () => {
    const name = newName();
    const storage = await create(name);
    await write(storage, 0, pattern(20 * BLOCK, 1));
    await runAsync(storage.flush());
    expect(await runAsync(storage.allocatedSize())).toBe(20 * BLOCK);
    await runAsync(storage.zero(BLOCK, 2 * BLOCK));
    await runAsync(storage.discard(5 * BLOCK + 1, 2 * BLOCK));
    await write(storage, 10 * BLOCK, new Uint8Array(3 * BLOCK));
    await runAsync(storage.truncate(18 * BLOCK + 7));
    await runAsync(storage.flush());
    expect(await runAsync(storage.allocatedSize())).toBe((19 - 2 - 1 - 3) * BLOCK);
    await runAsync(storage.close());
    expect(await indexedDbSize(name, { database })).toBe(13 * BLOCK);
  });

  test('a terabyte of nothing costs nothing', async () => {
    const name = newName();
    const storage = await create(name);
    await runAsync(storage.truncate(TiB));
    await write(storage, TiB - 5, pattern(5, 1));
    await write(storage, 700 * MiB, pattern(5, 2));
    await runAsync(storage.flush());
    await runAsync(storage.discard(0, TiB / 2));
    await runAsync(storage.zero(TiB / 4, TiB / 2));
    await runAsync(storage.flush());
    expect(await runAsync(storage.allocatedSize())).toBe(BLOCK);
    expect(await runAsync(storage.map(12_345, TiB - 12_345))).toEqual({ length: TiB - BLOCK - 12_345, zero: true });
    expectBytes(await read(storage, TiB - 10, 10), new Uint8Array([0, 0, 0, 0, 0, ...pattern(5, 1)]));
    await runAsync(storage.close());
  });

  test('a change of many megabytes is committed early, as a prefix', async () => {
    const name = newName();
    const storage = await create(name);
    const chunk = pattern(MiB, 1);
    for (let i = 0; i < 50; i++) {
      chunk[0] = i + 1;
      await write(storage, i * MiB, chunk);
    }
    const view = await open(name, true);
    const found = view.size / MiB;
    expect(found).toBeGreaterThanOrEqual(32);
    expect(found).toBeLessThan(50);
    for (const i of [0, 17, found - 1]) expect((await read(view, i * MiB, 2)).slice(0, 1)).toEqual(new Uint8Array([i + 1]));
    for (let i = 0; i < 50; i++) {
      chunk[0] = i + 1;
      expectBytes(await read(storage, i * MiB, MiB), chunk, `chunk ${i}:`);
    }
    await runAsync(storage.close());
    await runAsync(view.close());
  });

  test('what is read ahead never hides a change, whatever is under way when it is made', async () => {
    const name = newName();
    const storage = await create(name);
    const wanted = pattern(200 * BLOCK, 1);
    await write(storage, 0, wanted);
    await runAsync(storage.truncate(64 * MiB));
    await runAsync(storage.close());
    const again = await open(name);
    const change = (offset: number, bytes: Uint8Array) => {
      wanted.set(bytes, offset);
      return write(again, offset, bytes);
    };
    const flushes: Promise<void>[] = [];
    for (let index = 0; index < 100; index += 2) {
      const reading = read(again, index * BLOCK, 2 * BLOCK);
      const before = wanted.slice(index * BLOCK, (index + 2) * BLOCK);
      // Ahead of the reader, where blocks are on their way: a part, a whole one, zeros, and now and then all of it durable at once.
      const changes = [change((index + 3) * BLOCK + 9, pattern(100, index)), change((index + 20) * BLOCK, pattern(BLOCK, index))];
      wanted.fill(0, (index + 41) * BLOCK, (index + 42) * BLOCK + 7);
      changes.push(runAsync(again.zero((index + 41) * BLOCK, BLOCK + 7)));
      if (index % 40 === 0) flushes.push(runAsync(again.flush()));
      expectBytes(await reading, before, `block ${index}:`);
      await Promise.all(changes);
    }
    await Promise.all(flushes);
    // So much that it is not noted block by block.
    const reading = read(again, 100 * BLOCK, 20 * BLOCK);
    await runAsync(again.zero(120 * BLOCK, 40 * MiB));
    await reading;
    wanted.fill(0, 120 * BLOCK);
    await runAsync(again.flush());
    expectBytes(await read(again, 0, wanted.length), wanted);
    await runAsync(again.close());
    const after = await open(name, true);
    expectBytes(await read(after, 0, wanted.length), wanted);
    await runAsync(after.close());
  });

  test('an image is deleted whole, its neighbours not at all', async () => {
    const names = [newName(), newName(), newName()];
    for (const [i, name] of names.entries()) {
      const storage = await create(name);
      await write(storage, 0, pattern(5 * BLOCK, i));
      await runAsync(storage.close());
    }
    await deleteIndexedDbStorage(names[1] as string, { database });
    const left = await indexedDbNames({ database });
    expect(left).toContain(names[0]);
    expect(left).not.toContain(names[1]);
    expect(left).toContain(names[2]);
    expect(new Set(left).size).toBe(left.length);
    expect(await indexedDbSize(names[0] as string, { database })).toBe(5 * BLOCK);
    expect(await indexedDbSize(names[1] as string, { database })).toBe(0);
  });

  test('an image of a newer version is refused by name', async () => {
    const name = newName();
    await runAsync((await create(name)).close());
    await new Promise<void>((resolve, reject) => {
      const request = indexedDB.open(database);
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const transaction = request.result.transaction('blocks', 'readwrite');
        transaction.objectStore('blocks').put({ version: 2, blockSize: BLOCK, size: 5, generation: 1, writer: 'x' }, [name]);
        transaction.oncomplete = () => {
          request.result.close();
          resolve();
        };
      };
    });
    await expect(open(name)).rejects.toMatchObject({ kind: 'unsupported', field: 'version' });
  });

  test('a connection that was closed is opened again, with nothing lost', async () => {
    const name = newName();
    const storage = await create(name);
    await write(storage, 0, pattern(3 * BLOCK, 1));
    await runAsync(storage.flush());
    await write(storage, BLOCK, pattern(BLOCK, 2));
    // An upgrade that is given up makes every connection close and changes nothing.
    await new Promise<void>((resolve) => {
      const request = indexedDB.open(database, 2);
      request.onupgradeneeded = () => request.transaction?.abort();
      request.onerror = () => resolve();
    });
    await runAsync(storage.flush());
    await runAsync(storage.close());
    const wanted = pattern(3 * BLOCK, 1);
    wanted.set(pattern(BLOCK, 2), BLOCK);
    const after = await open(name);
    expectBytes(await read(after, 0, 3 * BLOCK), wanted);
    await runAsync(after.close());
  });

  test('a database that a newer version has changed is refused in words', async () => {
    const other = 'indexed-db test of a newer version';
    await new Promise<void>((resolve) => {
      const request = indexedDB.open(other, 2);
      request.onsuccess = () => {
        request.result.close();
        resolve();
      };
    });
    await expect(indexedDbStorage('a', { create: 'if-missing', database: other })).rejects.toMatchObject({ kind: 'unsupported' });
    indexedDB.deleteDatabase(other);
  });

  test('a database that is deleted under an open image is seen as that', async () => {
    const name = newName();
    const storage = await create(name);
    await write(storage, 0, pattern(100, 1));
    await runAsync(storage.flush());
    await write(storage, 0, pattern(100, 2));
    await removeDatabase();
    await expect(runAsync(storage.flush())).rejects.toMatchObject({ kind: 'lost', message: expect.stringContaining('deleted') });
    expectBytes(await read(storage, 0, 100), pattern(100, 2));
    expect(await kindOf(runAsync(storage.close()))).toBe('lost');
  });
});

describe('what is stored', () => {
  test('is listed and removed by its names, while nobody writes it', async () => {
    const name = `stored ${Math.random()}`;
    const disk = await openOrCreate(indexedDbStorage(name, { create: 'if-missing' }), { format: 'raw', size: 512 });
    expect(await listImages('indexeddb')).toContain(name);
    expect(await kindOf(deleteImage('indexeddb', name))).toBe('locked');
    await disk.close();
    await deleteImage('indexeddb', name);
    await deleteImage('indexeddb', name);
    expect(await listImages('indexeddb')).not.toContain(name);
  });
});
