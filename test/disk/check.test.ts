/** What a check's result is, whatever it finds: counts from zero, and a check that ran is no error. Formats without one say so. */
import { expect, it } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { check, createDisk, memoryStorage, openDisk } from '../../src/index.ts';

const CLEAN = { corruptions: 0, leaks: 0, checkErrors: 0, corruptionsFixed: 0, leaksFixed: 0, messages: [] };

/** An image with three clusters of data, and where its first L2 table is. */
async function image(): Promise<{ bytes: Uint8Array<ArrayBuffer>; table: number }> {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'qcow2', size: 4 * MiB });
  await disk.write(0, new Uint8Array(200_000).fill(3));
  const [table] = (await disk.metadata()).filter(({ what }) => what === 'L2 table');
  await disk.close();
  return { bytes: storage.bytes() as Uint8Array<ArrayBuffer>, table: table?.hostOffset ?? 0 };
}

it('finds nothing, leaks or corruptions, and resolves; after a repair it tells what was fixed', async () => {
  const { bytes, table } = await image();
  const whole = await openDisk(memoryStorage({ bytes: bytes.slice() }), { readOnly: true });
  expect(await whole.check()).toMatchObject({ ...CLEAN, totalClusters: 64, allocatedClusters: 4, compressedClusters: 0 });
  // What the last one found is forgotten.
  expect(await whole.check()).toEqual(await whole.check());

  const leaking = bytes.slice();
  leaking.fill(0, table + 8, table + 16);
  const disk = await openDisk(memoryStorage({ bytes: leaking }), { format: 'qcow2' });
  expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 1 });
  expect(await check(disk, { repair: 'leaks' })).toMatchObject({ leaks: 0, leaksFixed: 1, corruptionsFixed: 0 });
  expect(await disk.check()).toMatchObject({ ...CLEAN, allocatedClusters: 3 });
  await disk.close();

  const doubled = bytes.slice();
  doubled.copyWithin(table + 8, table, table + 8);
  const corrupt = await openDisk(memoryStorage({ bytes: doubled }), { format: 'qcow2', readOnly: true });
  const result = await corrupt.check();
  expect(result.corruptions).toBeGreaterThan(0);
  expect(result.messages.length).toBeGreaterThan(0);
  await corrupt.close();
});

it('an image without its key can be checked', async () => {
  const storage = memoryStorage();
  await (await createDisk(storage, { format: 'qcow2', size: MiB, 'encrypt.format': 'luks', 'encrypt.iter-time': 1, secret: 's' })).close();
  const disk = await openDisk(memoryStorage({ bytes: storage.bytes() }), { format: 'qcow2', keyLater: true });
  expect(await disk.check()).toMatchObject(CLEAN);
  await disk.close();
});

it('formats that have none refuse', async () => {
  const disk = await createDisk(memoryStorage(), { format: 'raw', size: MiB });
  await expect(disk.check()).rejects.toMatchObject({ kind: 'unsupported' });
  await disk.close();
});
