/** OPFS files through sync access handles, in a real worker: the contract, locks, leftovers, and what is refused. */
import { afterAll, describe, expect, test } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import { blobStorage } from '../../src/storage/blob.ts';
import { opfsStorage, opfsView } from '../../src/storage/opfs.ts';
import { readBytes } from '../../src/storage/storage.ts';
import { expectBytes, kindOf, pattern, storageContract } from '../storage/contract.ts';
import { StorageWorker } from './worker-storage.ts';

const worker = new StorageWorker();
let count = 0;
const newPath = () => `storage test/deeper/${++count}.img`;

afterAll(async () => {
  worker.terminate();
  await (await navigator.storage.getDirectory()).removeEntry('storage test', { recursive: true });
});

for (const [name, reserve] of [
  ['opfs', 0],
  ['opfs with a reserve', 70_001],
] as const)
  storageContract(name, async () => {
    const path = newPath();
    return {
      open: ({ readOnly = false } = {}) => worker.open(path, readOnly ? { readOnly, reserve } : { create: 'if-missing', reserve }),
      remove: async () => {
        await worker.ask({ verb: 'delete', path });
      },
    };
  });

describe('opfs', () => {
  test('is synchronous, and named by its path', async () => {
    const path = newPath();
    const storage = await worker.open(`/${path}`, { create: 'must-not-exist' });
    expect(storage.synchronousThere).toBe(true);
    expect(storage.identity).toBe(`opfs:${path}`);
    await runAsync(storage.close());
    expect(await worker.ask({ verb: 'names', path: 'storage test/deeper' })).toContain(`${count}.img`);
    await worker.ask({ verb: 'delete', path });
    await worker.ask({ verb: 'delete', path });
  });

  test('makes files only when told to and never empties one by accident', async () => {
    const path = newPath();
    expect(await kindOf(worker.open(path))).toBe('not-found');
    expect(await kindOf(worker.open('nowhere/at all.img'))).toBe('not-found');
    const storage = await worker.open(path, { create: 'must-not-exist' });
    await runAsync(storage.write(0, pattern(99, 1)));
    await runAsync(storage.close());
    expect(await kindOf(worker.open(path, { create: 'must-not-exist' }))).toBe('refused');
    const again = await worker.open(path, { create: 'if-missing' });
    expect(again.size).toBe(99);
    await runAsync(again.close());
    const emptied = await worker.open(path, { create: 'truncate' });
    expect(emptied.size).toBe(0);
    await runAsync(emptied.close());
  });

  test('paths that leave the directory or name nothing are refused', async () => {
    for (const path of ['', '/', '../a.img', 'a/../b.img', './a.img'])
      expect(await kindOf(worker.open(path, { create: 'if-missing' })), path).toBe('refused');
  });

  test('a directory in place of a file is refused', async () => {
    expect(await kindOf(worker.open('storage test', { create: 'if-missing' }))).toBe('refused');
  });

  test('a file that is open is locked for everybody else, and free once closed', async () => {
    const path = newPath();
    const other = new StorageWorker();
    const storage = await worker.open(path, { create: 'if-missing' });
    expect(await kindOf(other.open(path))).toBe('locked');
    expect(await kindOf(other.ask({ verb: 'delete', path }))).toBe('locked');
    await runAsync(storage.close());
    await runAsync((await other.open(path)).close());
    other.terminate();
  });

  test('what a worker wrote that was ended without closing is there, and its lock is not', async () => {
    const path = newPath();
    const doomed = new StorageWorker();
    const storage = await doomed.open(path, { create: 'if-missing' });
    await runAsync(storage.write(70_001, pattern(100_000, 2)));
    doomed.terminate();
    const after = await worker.open(path);
    expectBytes(await runAsync(readBytes(after, 70_001, 100_000)), pattern(100_000, 2));
    await runAsync(after.close());
  });

  test('outside a worker it says so', async () => {
    await expect(opfsStorage('a.img')).rejects.toMatchObject({ kind: 'unsupported', message: expect.stringContaining('dedicated worker') });
  });

  test('as a file that was changed it is not read on', async () => {
    const name = 'changed file.img';
    const handle = await (await navigator.storage.getDirectory()).getFileHandle(name, { create: true });
    // Replaced by another one, as files that the user picked are when they are saved.
    const fill = async (seed: number) => {
      const writable = await handle.createWritable();
      await writable.write(pattern(600_000, seed));
      await writable.close();
    };
    await fill(2);
    const { file, unchanged } = await opfsView(name);
    const storages = [blobStorage(file), blobStorage(file, { unchanged })];
    for (const storage of storages) expectBytes(await runAsync(readBytes(storage, 5, 100)), pattern(600_000, 2).slice(5, 105));
    await fill(3);
    for (const storage of storages) expect(await kindOf(runAsync(readBytes(storage, 300_000, 100)))).toBe('in-use');
    await worker.ask({ verb: 'delete', path: name });
  });
});
