/** The storage in memory: the contract, and what only it has. */
import { expect, test } from 'vitest';
import { runSync } from '../../src/base/io.ts';
import { GiB, TiB } from '../../src/base/units.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import { readBytes } from '../../src/storage/storage.ts';
import { expectBytes, pattern, readOnlyStorageContract, storageContract } from './contract.ts';

storageContract('memory', async () => {
  let kept: MemoryStorage | undefined;
  return {
    // Nothing outlives the object, so opening again is having it still.
    open: async ({ readOnly = false } = {}) => {
      kept = readOnly ? memoryStorage({ bytes: kept?.bytes() ?? new Uint8Array(0), readOnly }) : (kept ?? memoryStorage());
      return kept;
    },
    remove: async () => undefined,
  };
});

readOnlyStorageContract('memory', async (bytes) => memoryStorage({ bytes, readOnly: true }));

test('a sparse terabyte costs what it holds', () => {
  const storage = memoryStorage();
  runSync(storage.truncate(TiB));
  runSync(storage.write(700 * GiB + 5, pattern(1000, 1)));
  expectBytes(runSync(readBytes(storage, 700 * GiB + 5, 1000)), pattern(1000, 1));
  expect(runSync(storage.allocatedSize())).toBe(64 * 1024);
  expect(runSync(storage.map(0, TiB))).toEqual({ length: 700 * GiB, zero: true });
  runSync(storage.zero(0, TiB));
  expect(runSync(storage.allocatedSize())).toBe(0);
});

test('a copy of what was cut off in the middle of its last chunk', () => {
  const storage = memoryStorage();
  runSync(storage.write(0, new Uint8Array(300_000).fill(1)));
  runSync(storage.truncate(1000));
  expect(storage.bytes()).toEqual(new Uint8Array(1000).fill(1));
});
