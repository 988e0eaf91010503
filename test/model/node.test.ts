/** The model test over the storages of Node: every format agrees with a plain array under random operations. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { Random } from '../random.ts';
import { LateStorage } from './late-storage.ts';
import { firstDifference } from './naive.ts';
import { runCase } from './run-case.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-model-'));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
const makers: readonly [string, () => () => Storage][] = [
  [
    'memory',
    () => {
      const storage = memoryStorage();
      return () => storage;
    },
  ],
  [
    'memory, every call waiting',
    () => {
      const storage = memoryStorage();
      return () => new LateStorage(storage);
    },
  ],
  [
    'file',
    () => {
      const path = join(folder, `${files++}.img`);
      return () => nodeFileStorage(path, { create: 'if-missing' });
    },
  ],
];

const cases = [
  { format: 'raw', options: {} },
  { format: 'vdi', options: {} },
  { format: 'qed', options: { cluster_size: 4096, table_size: 2 } },
  { format: 'qcow', options: {} },
  { format: 'parallels', options: { cluster_size: 4096 } },
  { format: 'vpc', options: { force_size: true } },
  { format: 'vmdk', options: { zeroed_grain: 'on' } },
  { format: 'vhdx', options: { block_size: 1048576 } },
  { format: 'qcow2', options: { cluster_size: 512 } },
  { format: 'qcow2', options: { cluster_size: 4096, compat: '0.10' } },
  { format: 'qcow2', options: { cluster_size: 65536, refcount_bits: 64 } },
  { format: 'qcow2', options: { cluster_size: 512, refcount_bits: 1 } },
  { format: 'qcow2', options: { cluster_size: 2097152, refcount_bits: 4 } },
  { format: 'qcow2', options: { cluster_size: 16384, extended_l2: 'on' } },
];

describe.each(makers)('over %s', (_, maker) => {
  it.each(cases)('$format $options agrees with a plain array', async ({ format, options }) => {
    // Large clusters are mostly bytes to be copied.
    const seeds = 'cluster_size' in options && options.cluster_size > 1e6 ? [1] : [1, 2, 3];
    for (const seed of seeds) await runCase({ open: maker(), format, options, seed, rounds: 3, count: 60 });
  });
});

it('seeds that once found something', async () => {
  // A refcount table that outgrew the space just taken for its copy left that space counted.
  const storage = memoryStorage();
  await runCase({ open: () => storage, format: 'qcow2', options: { cluster_size: 512, refcount_bits: 64 }, seed: 1286, rounds: 2, count: 200 });
  expect((await openDisk(storage, { format: 'qcow2', readOnly: true })).size).toBeGreaterThan(0);
});

it('overlapping requests in flight keep to their order', async () => {
  const disk: Disk = await createDisk(new LateStorage(memoryStorage()), { format: 'qcow2', size: 1 << 20, cluster_size: 4096 });
  const random = new Random(7);
  const expected = new Uint8Array(disk.size);
  for (let round = 0; round < 20; round++) {
    const pending: Promise<unknown>[] = [];
    for (let i = 0; i < 12; i++) {
      const offset = random.between(0, 60_000);
      const bytes = random.bytes(random.between(1, 20_000));
      pending.push(disk.write(offset, bytes));
      expected.set(bytes, offset);
      if (i % 4 === 3) pending.push(disk.flush());
      const seen = expected.slice(offset, offset + 500);
      pending.push(disk.read(offset, 500).then((found) => expect(firstDifference(found, seen)).toBe(-1)));
    }
    await Promise.all(pending);
  }
  expect(firstDifference(await disk.read(0, disk.size), expected)).toBe(-1);
  expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
});

it('a disk over storage that waits refuses the synchronous verbs and goes on working', async () => {
  const memory = memoryStorage();
  await (await createDisk(memory, { format: 'qcow2', size: 1 << 20 })).close();
  const disk = await openDisk(new LateStorage(memory), { format: 'qcow2' });
  expect(disk.synchronous).toBe(false);
  expect(() => disk.writeSync(0, new Uint8Array(9))).toThrow(expect.objectContaining({ kind: 'would-wait' }));
  await disk.write(5, new Uint8Array([1, 2, 3]));
  expect(await disk.read(4, 5)).toEqual(new Uint8Array([0, 1, 2, 3, 0]));
});
