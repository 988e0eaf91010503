/** The model test over the browser's storages: random operations on every format agree with a plain array, reopening included. */
import { afterAll, describe, expect, test } from 'vitest';
import { indexedDbStorage } from '../../src/storage/indexed-db.ts';
import { runCase } from '../model/run-case.ts';
import { StorageWorker } from './worker-storage.ts';

const worker = new StorageWorker();
let count = 0;

afterAll(async () => {
  worker.terminate();
  await (await navigator.storage.getDirectory()).removeEntry('model test', { recursive: true });
});

const storages = [
  [
    'OPFS',
    () => {
      const path = `model test/${++count}.img`;
      return () => worker.open(path, { create: 'if-missing' });
    },
  ],
  [
    'IndexedDB',
    () => {
      const name = `model test ${++count}`;
      return () => indexedDbStorage(name, { create: 'if-missing' });
    },
  ],
] as const;

const cases = [
  { format: 'raw', options: {} },
  { format: 'qcow2', options: { cluster_size: 512 } },
  { format: 'qcow2', options: { cluster_size: 4096, compat: '0.10' } },
  { format: 'qcow2', options: { cluster_size: 65536, refcount_bits: 64 } },
];

describe.each(storages)('over %s', (_, maker) => {
  test.each(cases)('$format $options agrees with a plain array', { timeout: 120_000 }, async ({ format, options }) => {
    for (const seed of [1, 2]) await runCase({ open: maker(), format, options, seed, rounds: 3, count: 40 });
    expect(count).toBeGreaterThan(0);
  });
});
