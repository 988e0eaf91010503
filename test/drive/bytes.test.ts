/** Bytes at any place of a drive whose medium takes whole blocks only, and writes that are durable at once. */
import { describe, expect, test } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { Drive } from '../../src/drive/drive.ts';
import type { DriveOptions } from '../../src/drive/drive-options.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { SlowDisk } from '../adapters/slow-disk.ts';
import { FaultStorage } from '../layers/faults.ts';
import { Random } from '../random.ts';
import { expectBytes, pattern } from '../storage/contract.ts';

const SIZE = 10 * 4096 + 512;

/** A drive over a disk that notes its requests; `alignment`: what the medium itself asks for. */
async function noted(options: DriveOptions, alignment?: number) {
  const memory = memoryStorage({ bytes: pattern(SIZE, 1) });
  const disk = new SlowDisk(await openDisk(memory, { format: 'raw' }), 0);
  const drive = new Drive(options);
  drive.insert(alignment === undefined ? disk : Object.assign(disk, { requestAlignment: alignment }));
  return { drive, disk, memory };
}

describe.each([
  ['by logical blocks of 4096', { configuration: { logicalBlockSize: 4096, physicalBlockSize: 4096 } }, undefined],
  ['by what the medium asks for', {}, 4096],
] as const)('%s', (_name, options, alignment) => {
  test('the medium sees whole blocks, up to its end, and requests at once do not lose each other (seed 8)', async () => {
    const { drive, disk, memory } = await noted(options, alignment);
    const model = pattern(SIZE, 1);
    const random = new Random(8);
    const requests: Promise<unknown>[] = [];
    for (let at = 100; at < SIZE; ) {
      const length = Math.min(random.between(1, 3000), SIZE - at);
      const bytes = pattern(length, at);
      if (random.chance(0.2)) {
        model.fill(0, at, at + length);
        requests.push(drive.zero(at, length));
      } else {
        model.set(bytes, at);
        requests.push(drive.write(at, bytes));
      }
      if (random.chance(0.3)) requests.push(drive.read(at, length));
      at += length;
    }
    await Promise.all(requests);
    expectBytes(await drive.read(0, SIZE), model);
    expectBytes(memory.bytes(), model);
    for (const { verb, offset, length } of disk.log)
      expect([verb, offset % 4096, (offset + length) % 4096 === 0 || offset + length === SIZE]).toEqual([verb, 0, true]);
    expect(disk.count('write')).toBeGreaterThan(10);
    // What is counted is what was asked for.
    expect(drive.statistics.write.bytes).toBeLessThan(SIZE);
  });

  test('after a resize the last block ends where the disk does', async () => {
    const { drive, memory } = await noted(options, alignment);
    await drive.resize(4096 + 512);
    await drive.write(4096 + 500, pattern(12, 3));
    expect([memory.size, drive.size]).toEqual([4096 + 512, 4096 + 512]);
    expectBytes(await drive.read(4096 + 500, 12), pattern(12, 3));
  });
});

test('a medium that takes any request gets it as it is', async () => {
  const { drive, disk } = await noted({});
  await drive.write(1, pattern(10, 2));
  await drive.read(3, 5);
  expect(disk.log.map(({ verb, offset, length }) => [verb, offset, length])).toEqual([
    ['write', 1, 10],
    ['read', 3, 5],
  ]);
});

test('a durable write is flushed before it is done, and fails where that fails', async () => {
  const { drive, disk } = await noted({});
  await drive.write(7, pattern(9, 2), { durable: true });
  await drive.write(7, pattern(9, 2));
  expect(disk.log.map(({ verb }) => verb)).toEqual(['write', 'flush', 'write']);
  expect(drive.statistics).toMatchObject({ write: { operations: 2 }, flush: { operations: 0 } });
  const faults = new FaultStorage(memoryStorage());
  const failing = new Drive();
  failing.insert(await createDisk(faults, { format: 'raw', size: 4096 }));
  faults.fault = { of: 'changes', kind: 'io', call: faults.calls.changes + 2 };
  await expect(failing.write(0, pattern(10, 1), { durable: true })).rejects.toMatchObject({ kind: 'io' });
});
