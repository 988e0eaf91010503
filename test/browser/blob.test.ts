/** Files that the user picked, read-only: the contract, and readers at the same time. */
import { expect, test } from 'vitest';
import { runAsync, together } from '../../src/base/io.ts';
import { blobStorage } from '../../src/storage/blob.ts';
import { readBytes } from '../../src/storage/storage.ts';
import { expectBytes, pattern, readOnlyStorageContract } from '../storage/contract.ts';

readOnlyStorageContract('blob', async (bytes) => blobStorage(new File([bytes], 'disk.img')));

test('it is named like the file', () => {
  expect(blobStorage(new File([], 'a disk.img')).name).toBe('a disk.img');
  expect(blobStorage(new Blob([])).name).toBe('blob');
});

test('reads at the same time share what they fetch and get their own bytes', async () => {
  const bytes = pattern(3_000_001, 1);
  const storage = blobStorage(new Blob([bytes]));
  const places = Array.from({ length: 200 }, (_, i) => (i * 7919 * 31) % 2_900_000);
  const found = await runAsync(together(places.map((at) => readBytes(storage, at, 1000 + (at % 500)))));
  for (const [i, at] of places.entries()) expectBytes(found[i] as Uint8Array, bytes.slice(at, at + 1000 + (at % 500)), `at ${at}:`);
});

test('readers in order, several at a time and in pieces of any size, get their bytes', async () => {
  const bytes = pattern(5_000_777, 4);
  const storage = blobStorage(new Blob([bytes]));
  const reader = async (start: number, length: number) => {
    for (let at = start; at < bytes.length; at += length) {
      const found = await runAsync(readBytes(storage, at, length));
      const wanted = new Uint8Array(length);
      wanted.set(bytes.subarray(at, at + length));
      expectBytes(found, wanted, `${length} at ${at}:`);
    }
  };
  await Promise.all([reader(0, 65_536), reader(1001, 300_001), reader(2_500_000, 20_000), reader(7, 3_000_000), reader(4_000_000, 65_536)]);
});
