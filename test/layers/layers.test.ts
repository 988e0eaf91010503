/** Layers by themselves, over storages that answer at once and late. What they do beside QEMU is in test/cli/syntax.test.ts. */
import { describe, expect, test } from 'vitest';
import { runAsync, runSync } from '../../src/base/io.ts';
import { createDisk } from '../../src/disk/open.ts';
import { CompressStorage } from '../../src/layers/compress.ts';
import { CopyOnReadStorage } from '../../src/layers/copy-on-read.ts';
import { NullStorage } from '../../src/layers/null.ts';
import { PreallocateStorage } from '../../src/layers/preallocate.ts';
import { VerifyStorage } from '../../src/layers/verify.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { readBytes } from '../../src/storage/storage.ts';
import { LateStorage } from '../model/late-storage.ts';
import { expectBytes, numbers, pattern, storageContract } from '../storage/contract.ts';

let kept = memoryStorage();
storageContract('preallocating', async () => {
  kept = memoryStorage();
  return {
    open: async ({ readOnly = false } = {}) =>
      new PreallocateStorage(readOnly ? memoryStorage({ bytes: kept.bytes(), readOnly }) : kept, { align: 4096, size: 10_000 }),
    remove: async () => undefined,
  };
});

describe('preallocate', () => {
  test('writes at the same time, each past the end, all stay', async () => {
    const below = memoryStorage();
    const storage = new PreallocateStorage(new LateStorage(below), { align: 4096, size: 8192 });
    const places = [70_000, 5, 20_000, 69_000, 100_000];
    await Promise.all(places.map((at, index) => runAsync(storage.write(at, pattern(900, index)))));
    expect([storage.size, below.size > 100_900]).toEqual([100_900, true]);
    await runAsync(storage.close());
    expect(below.size).toBe(100_900);
    for (const [index, at] of places.entries()) expectBytes(runSync(readBytes(below, at, 900)), pattern(900, index));
  });
});

describe.each([false, true])('over an image, late: %s', (late) => {
  const image = (options: object) => {
    const storage = memoryStorage();
    return createDisk(late ? new LateStorage(storage) : storage, { format: 'qcow2', cluster_size: 4096, ...options });
  };

  test('compressed writes that share clusters do not lose each other', async () => {
    const disk = await image({ size: 49_664 });
    const storage = new CompressStorage(disk.node, 4096);
    const size = disk.size;
    const wanted = new Uint8Array(size);
    const random = numbers(7);
    for (let round = 0; round < 6; round++) {
      // Neighbours, so that the edges meet in one cluster.
      const step = 1000 + random(2000);
      const requests: Promise<void>[] = [];
      for (let at = random(3000); at + step <= size; at += step) {
        const bytes = pattern(step, round * 100 + requests.length);
        wanted.set(bytes, at);
        requests.push(runAsync(storage.write(at, bytes)));
      }
      await Promise.all(requests);
      expectBytes(await disk.read(0, size), wanted);
    }
    expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    await disk.close();
  });

  test('a write wins over the copying of what is read at the same time', async () => {
    const base = pattern(60_000, 1);
    const disk = await image({
      size: 61_440,
      backing: { name: 'base', format: 'raw' },
      resolve: () => memoryStorage({ bytes: base.slice() }),
    });
    const storage = new CopyOnReadStorage(disk.node);
    const wanted = new Uint8Array(61_440);
    wanted.set(base);
    const requests: Promise<unknown>[] = [];
    for (let at = 0; at + 3000 <= 61_440; at += 3000) {
      requests.push(runAsync(readBytes(storage, at, 3000)));
      const bytes = pattern(700, at);
      wanted.set(bytes, at + 100);
      requests.push(runAsync(storage.write(at + 100, bytes)));
    }
    await Promise.all(requests);
    expectBytes(await disk.read(0, 61_440), wanted);
    for await (const run of disk.map()) expect(run.depth).toBe(0);
    expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    await disk.close();
  });
});

test('a difference between an image and its copy is told with its place', () => {
  const heard: string[] = [];
  const storage = new VerifyStorage(memoryStorage({ bytes: pattern(4096, 1) }), memoryStorage({ bytes: pattern(4096, 1) }), {
    onMismatch: (message) => heard.push(message),
  });
  expectBytes(runSync(readBytes(storage, 0, 4096)), pattern(4096, 1));
  runSync(storage.write(100, pattern(50, 2)));
  runSync(storage.test.write(130, Uint8Array.of(1, 2, 3)));
  expect(() => runSync(readBytes(storage, 0, 512))).toThrow('blkverify: read offset=0 bytes=512 contents mismatch at offset 130');
  expect(heard).toHaveLength(1);
});

test('nothing is kept where nothing is', () => {
  const storage = new NullStorage('null-co://', 1000);
  runSync(storage.write(0, pattern(1000, 1)));
  expectBytes(runSync(readBytes(storage, 0, 1000)), new Uint8Array(1000));
  expect(() => runSync(storage.write(999, new Uint8Array(2)))).toThrow('reach past the end');
});
