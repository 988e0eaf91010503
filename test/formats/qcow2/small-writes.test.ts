/**
 * Small writes, many into clusters that nobody has written to: the way that waits for nothing leaves the very file that the other way leaves, and
 * QEMU reads it; a write that fails half-way leaves nothing.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createDisk } from '../../../src/disk/open.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { FaultStorage } from '../../layers/faults.ts';
import { LateStorage } from '../../model/late-storage.ts';
import { qemuImg, requireClean } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';

const SIZE = 3 * 1024 * 1024 + 512;

/** The file, and what the disk has, after random small writes over a storage that is late or not. */
async function written(options: Record<string, unknown>, over: (storage: Storage) => Storage): Promise<{ file: Uint8Array; contents: Uint8Array }> {
  const memory = memoryStorage();
  const disk = await createDisk(over(memory), { format: 'qcow2', size: SIZE, ...options });
  const contents = new Uint8Array(SIZE);
  const random = new Random(1);
  for (let i = 0; i < 300; i++) {
    const at = random.between(0, SIZE / 512 - 9) * 512 + random.pick([0, 0, 0, 100]);
    const bytes = random.bytes(random.pick([1, 412, 512, 1024, 4096]));
    await disk.write(at, bytes);
    contents.set(bytes, at);
    if (i % 40 === 10) await disk.discard(random.between(0, 40) * 65536, 131072);
    if (i % 40 === 10) contents.set(await disk.read(0, SIZE));
    if (i % 97 === 0) await disk.flush();
  }
  expect(Buffer.compare(await disk.read(0, SIZE), contents)).toBe(0);
  await disk.close();
  return { file: memory.bytes(), contents };
}

test.each([{}, { cluster_size: 4096 }, { extended_l2: true, cluster_size: 65536 }, { refcount_bits: 1, cluster_size: 512 }])(
  'both ways leave one file, which is sound: %o',
  async (options) => {
    const quick = await written(options, (storage) => storage);
    const late = await written(options, (storage) => new LateStorage(storage));
    expect(Buffer.compare(quick.file, late.file)).toBe(0);
    const folder = mkdtempSync(join(tmpdir(), 'tabdisk-small-'));
    try {
      writeFileSync(join(folder, 'disk'), quick.file);
      writeFileSync(join(folder, 'raw'), quick.contents);
      requireClean(join(folder, 'disk'), 'small writes');
      qemuImg('compare', '-f', 'qcow2', '-F', 'raw', join(folder, 'disk'), join(folder, 'raw'));
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);

test.each(['io', 'short'] as const)('a write to a new place that fails (%s) leaves nothing, not even beside the next one', async (kind) => {
  const faults = new FaultStorage(memoryStorage());
  const disk = await createDisk(faults, { format: 'qcow2', size: SIZE });
  disk.writeSync(0, new Uint8Array(512).fill(1));
  faults.fault = { call: faults.calls.changes + 1, of: 'changes', kind };
  expect(() => disk.writeSync(70_000, new Uint8Array(4096).fill(2))).toThrow('injected');
  expect(disk.readSync(65536, 65536).every((byte) => byte === 0)).toBe(true);
  disk.writeSync(131_072, new Uint8Array(512).fill(3));
  disk.flushSync();
  expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
  const cluster = disk.readSync(131_072, 65536);
  expect(cluster.subarray(0, 512).every((byte) => byte === 3)).toBe(true);
  expect(cluster.subarray(512).every((byte) => byte === 0)).toBe(true);
});
