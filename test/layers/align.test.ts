/** Requests of any alignment over a storage that takes whole blocks only: the contract, changes that share blocks, and what reaches the storage. */
import { describe, expect, test } from 'vitest';
import { type Io, runAsync, runSync } from '../../src/base/io.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { type AlignEvent, AlignStorage, anyAlignment, RequestAligner } from '../../src/layers/align.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { readBytes } from '../../src/storage/storage.ts';
import { BlockMedium } from '../model/block-medium.ts';
import { LateStorage } from '../model/late-storage.ts';
import { expectBytes, numbers, pattern, storageContract } from '../storage/contract.ts';

let kept = memoryStorage();
storageContract('aligned to 4096', async () => {
  kept = memoryStorage();
  return {
    open: async ({ readOnly = false } = {}) =>
      anyAlignment(new BlockMedium(new LateStorage(readOnly ? memoryStorage({ bytes: kept.bytes(), readOnly }) : kept), 4096)),
    remove: async () => undefined,
  };
});

describe('changes that share blocks', () => {
  test.each([1, 2])('do not lose each other, at once (seed %d)', async (seed) => {
    const medium = new BlockMedium(new LateStorage(memoryStorage({ bytes: pattern(40_960, seed) })), 4096);
    const storage = anyAlignment(medium);
    const wanted = pattern(40_960, seed);
    const random = numbers(seed);
    const requests: Promise<unknown>[] = [];
    let at = random(300);
    for (let step = 0; at < 40_000; step++) {
      const length = Math.min(1 + random(2500), 40_960 - at);
      const zeros = random(3) === 0;
      const bytes = zeros ? new Uint8Array(length) : pattern(length, seed * 1000 + step);
      wanted.set(bytes, at);
      requests.push(runAsync(zeros ? storage.zero(at, length) : storage.write(at, bytes)));
      if (random(2) === 0) requests.push(runAsync(readBytes(storage, at, length)));
      at += length;
    }
    await Promise.all(requests);
    expectBytes(await runAsync(readBytes(storage, 0, 40_960)), wanted);
    expect(medium.asked.length).toBeGreaterThan(20);
  });

  test('the bytes of one write lie in one request, and what it covers in part is read before', () => {
    const medium = new BlockMedium(memoryStorage({ bytes: pattern(65_536, 3) }), 4096);
    const events: AlignEvent[] = [];
    const storage = new AlignStorage(medium, 4096, {
      *onEvent(event) {
        events.push(event);
        medium.asked.push(event.slice('pwritev_rmw_'.length));
      },
    });
    const asked = (request: Io<void>) => {
      medium.asked.length = 0;
      runSync(request);
      return medium.asked;
    };
    expect(asked(storage.write(4096, new Uint8Array(8192)))).toEqual(['write 4096 8192']);
    expect(asked(storage.write(5000, new Uint8Array(10)))).toEqual(['head', 'tail', 'read 4096 4096', 'after_head', 'after_tail', 'write 4096 4096']);
    expect(asked(storage.write(4096, new Uint8Array(10)))).toEqual(['tail', 'read 4096 4096', 'after_tail', 'write 4096 4096']);
    expect(asked(storage.write(5000, new Uint8Array(4096)))).toEqual([
      'head',
      'tail',
      'read 4096 8192',
      'after_head',
      'after_tail',
      'write 4096 8192',
    ]);
    expect(asked(storage.write(5000, new Uint8Array(10_000)))).toEqual([
      ...['head', 'read 4096 4096', 'after_head', 'tail', 'read 12288 4096', 'after_tail'],
      'write 4096 12288',
    ]);
    expect(asked(storage.zero(5000, 10_000))).toEqual([
      ...['head', 'read 4096 4096', 'after_head', 'tail', 'read 12288 4096', 'after_tail'],
      ...['write 4096 4096', 'zero 8192 4096', 'write 12288 4096'],
    ]);
    expect(asked(storage.discard(5000, 12_000))).toEqual(['discard 8192 8192']);
    expect(asked(storage.discard(5000, 3000))).toEqual([]);
    expect(asked(storage.write(70_000, new Uint8Array(0)))).toEqual([]);
    expect(events.length).toBe(4 + 2 + 4 + 4 + 4);
  });
});

test('the last block of a target of fixed size ends with it', () => {
  const disk = new BlockMedium(memoryStorage({ bytes: pattern(10_000, 4) }), 4);
  const aligner = new RequestAligner(disk, 4096, { fixedSize: true });
  runSync(aligner.write(9000, new Uint8Array(1000)));
  runSync(aligner.write(9000, new Uint8Array(100)));
  runSync(aligner.discard(8192, 1808));
  expect(disk.asked).toEqual(['read 8192 1808', 'write 8192 1808', 'read 8192 1808', 'write 8192 1808', 'discard 8192 1808']);
  expect(disk.size).toBe(10_000);
});

test.each(['raw', 'qcow2'])('%s images and their backing files lie on such a medium', async (format) => {
  const base = new BlockMedium(memoryStorage({ bytes: pattern(100_000, 5) }), 4096);
  const medium = new BlockMedium(memoryStorage(), 4096);
  const backing = format === 'qcow2' ? { backing: { name: 'base', format: 'raw' }, resolve: () => base, cluster_size: 512 } : {};
  const disk = await createDisk(medium, { format, size: 100_000 - (100_000 % 512), ...backing });
  const wanted = new Uint8Array(disk.size);
  if (format === 'qcow2') wanted.set(pattern(100_000, 5).subarray(0, disk.size));
  const random = numbers(6);
  for (let step = 0; step < 40; step++) {
    const at = random(disk.size - 3000);
    const bytes = pattern(1 + random(3000), step);
    wanted.set(bytes, at);
    await disk.write(at, bytes);
    if (step % 10 === 0) await disk.flush();
  }
  await disk.close();
  const again = await openDisk(medium.next, { format, readOnly: true, ...(format === 'qcow2' ? { resolve: () => base } : {}) });
  expectBytes(await again.read(0, again.size), wanted);
  if (format === 'qcow2') expect(await again.check()).toMatchObject({ corruptions: 0, leaks: 0 });
});
