/** An image with damaged tables through the engine in its worker: imported, read, checked, not opened for writing, repaired, written. */
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { createDisk, memoryStorage } from '../../src/index.ts';
import { ownLibrary } from './engines.ts';

const library = ownLibrary();

async function damaged(): Promise<Uint8Array<ArrayBuffer>> {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'qcow2', size: 4 * MiB });
  await disk.write(MiB, new Uint8Array(100_000).fill(7));
  await disk.snapshots.create({ name: 'before' });
  await disk.close();
  const bytes = storage.bytes() as Uint8Array<ArrayBuffer>;
  const data = new DataView(bytes.buffer, bytes.byteOffset);
  // The refcount table is said to be far past the end, and there to be one snapshot more than there are.
  data.setBigUint64(48, 1n << 40n);
  data.setUint32(60, 2);
  return bytes;
}

test.each(['opfs', 'indexeddb'] as const)('a damaged image in %s is read, refused for writing, repaired and written', async (place) => {
  const { engine } = await library.newTab();
  const { id } = await engine.library.import(new Blob([await damaged()]), { name: 'damaged', place });
  const reader = await engine.open(id, { readOnly: true });
  expect(await reader.read(MiB, 100_000)).toEqual(new Uint8Array(100_000).fill(7));
  expect((await reader.snapshots.list()).map(({ name }) => name)).toEqual(['before']);
  expect((await reader.check()).corruptions).toBeGreaterThan(0);
  await reader.close();
  await expect(engine.open(id)).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining('check and repair') });

  const broken = await engine.open(id, { repair: true });
  await expect(broken.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'refused' });
  expect(await broken.check({ repair: 'all' })).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  await broken.close();

  const disk = await engine.open(id);
  await disk.write(0, new Uint8Array(512).fill(1));
  await disk.snapshots.apply('1');
  expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
  await disk.close();
});
