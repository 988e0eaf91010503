/**
 * WebKitGTK keeps OPFS files and makes no handles of them through which a worker could write: for WebKit only. The reason is told, and the library keeps
 * its images in IndexedDB.
 */
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { expectBytes, pattern } from '../storage/contract.ts';
import { ownLibrary } from './engines.ts';
import { StorageWorker } from './worker-storage.ts';

const { newTab } = ownLibrary();

test('opening a file in OPFS says that this browser cannot, and what to do', async () => {
  const worker = new StorageWorker();
  await expect(worker.open('a disk.img', { create: 'if-missing' })).rejects.toMatchObject({
    kind: 'unsupported',
    message: expect.stringContaining('keep images in IndexedDB'),
  });
  worker.terminate();
});

test('the library has IndexedDB alone, by itself, and leaves nothing in OPFS', async () => {
  const tab = await newTab();
  expect((await tab.engine.library.storage()).places).toEqual(['indexeddb']);
  const entry = await tab.engine.library.create({ name: 'a disk', format: 'qcow2', size: 3 * MiB });
  expect(entry.place).toBe('indexeddb');
  const disk = await tab.engine.open(entry.id);
  await disk.write(70_001, pattern(500_000, 1));
  await disk.close();
  tab.kill();
  const again = await (await newTab()).engine.open(entry.id);
  expectBytes(await again.read(70_001, 500_000), pattern(500_000, 1));
  await again.close();
  const root = await navigator.storage.getDirectory();
  await expect(root.getFileHandle('tabdisk probe')).rejects.toMatchObject({ name: 'NotFoundError' });
});
