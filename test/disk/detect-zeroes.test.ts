/** `detectZeroes` of an opened disk; beside QEMU it is looked at in test/cli/detect-zeroes.test.ts. */
import { expect, test } from 'vitest';
import { KiB } from '../../src/base/units.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import type { DetectZeroes } from '../../src/node/zero-range.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { expectBytes } from '../adapters/slow-disk.ts';

const CLUSTER = 64 * KiB;

/** What a disk says of its clusters after zeros were written over new ones and over old ones. */
async function clusters(detectZeroes: DetectZeroes | undefined): Promise<string[]> {
  const storage = memoryStorage();
  const made = await createDisk(storage, { format: 'qcow2', size: 4 * CLUSTER });
  await made.write(2 * CLUSTER, new Uint8Array(2 * CLUSTER).fill(1));
  await made.close();
  const disk = await openDisk(storage, { format: 'qcow2', ...(detectZeroes ? { detectZeroes } : {}) });
  for (const at of [0, 2]) await disk.write(at * CLUSTER, new Uint8Array(CLUSTER));
  // Only what is nothing but zeros.
  await disk.write(3 * CLUSTER, Uint8Array.of(0, 0, 0, 1));
  expectBytes(await disk.read(0, 3 * CLUSTER), new Uint8Array(3 * CLUSTER));
  const runs: string[] = [];
  for await (const { start, length, zero, data, offset } of disk.map())
    runs.push(`${start / CLUSTER}+${length / CLUSTER}${zero ? ' zero' : ''}${data ? ' data' : ''}${offset === undefined ? '' : ' stored'}`);
  await disk.close();
  return runs;
}

test('zeros are data, or zeros, or nothing at all', async () => {
  expect(await clusters(undefined)).toEqual(['0+1 data stored', '1+1 zero', '2+2 data stored']);
  expect(await clusters('on')).toEqual(['0+1 zero', '1+1 zero', '2+1 zero stored', '3+1 data stored']);
  expect(await clusters('unmap')).toEqual(['0+1 zero', '1+1 zero', '2+1 zero', '3+1 data stored']);
});

test('a new disk takes it as well; what was changed around it stays', async () => {
  const disk = await createDisk(memoryStorage(), { format: 'qcow2', size: 2 * CLUSTER, detectZeroes: 'unmap' });
  await disk.write(0, new Uint8Array(CLUSTER).fill(7));
  await disk.write(100, new Uint8Array(1000));
  const expected = new Uint8Array(CLUSTER).fill(7).fill(0, 100, 1100);
  expectBytes(await disk.read(0, CLUSTER), expected);
  disk.writeSync(CLUSTER, new Uint8Array(CLUSTER));
  expect(disk.readSync(CLUSTER, 4)).toEqual(new Uint8Array(4));
  await disk.close();
});
