/** The block cache: the contract of storages over storages that answer at once and late, random requests beside each other, and failures below. */
import { describe, expect, test } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { type Io, runAsync, runSync } from '../../src/base/io.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { CacheStorage } from '../../src/layers/cache.ts';
import { CacheMemory } from '../../src/layers/cache-lines.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { readBytes, type Storage } from '../../src/storage/storage.ts';
import { LateStorage } from '../model/late-storage.ts';
import { Random } from '../random.ts';
import { expectBytes, pattern, readOnlyStorageContract, storageContract } from '../storage/contract.ts';

/** The smallest there is: 64 lines. */
const small = () => ({ memory: new CacheMemory(2 * MiB) });

for (const late of [false, true]) {
  let kept = memoryStorage();
  const below = (storage: Storage): Storage => (late ? new LateStorage(storage) : storage);
  storageContract(`a cache over a storage that is ${late ? 'late' : 'quick'}`, async () => {
    kept = memoryStorage();
    return {
      open: async ({ readOnly = false } = {}) => new CacheStorage(below(readOnly ? memoryStorage({ bytes: kept.bytes(), readOnly }) : kept), small()),
      remove: async () => undefined,
    };
  });
  readOnlyStorageContract(
    `a cache over a storage that is ${late ? 'late' : 'quick'}`,
    async (bytes) => new CacheStorage(below(memoryStorage({ bytes, readOnly: true })), small()),
  );
}

/** Counts calls, and fails those that it is told to. */
class Watched extends FilterStorage {
  readonly calls: string[] = [];
  failing: string | undefined;

  override *read(offset: number, into: Uint8Array): Io<void> {
    this.#note('read', offset, into.length);
    yield* super.read(offset, into);
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    this.#note('write', offset, bytes.length);
    yield* super.write(offset, bytes);
  }

  override *truncate(size: number): Io<void> {
    this.#note('truncate', size, 0);
    yield* super.truncate(size);
  }

  #note(verb: string, offset: number, length: number): void {
    this.calls.push(`${verb} ${offset} ${length}`);
    if (this.failing === verb) throw new DiskError('no-space', 'no room');
  }
}

function watched(bytes: Uint8Array): { below: Watched; cache: CacheStorage } {
  const below = new Watched(memoryStorage({ bytes: bytes.slice() }));
  return { below, cache: new CacheStorage(below, small()) };
}

describe('calls below', () => {
  test('what was read once is not read again, and a reader in order is read ahead of', () => {
    const bytes = pattern(MiB, 1);
    const { below, cache } = watched(bytes);
    for (let at = 0; at < 400 * KiB; at += 4096) expectBytes(runSync(readBytes(cache, at, 4096)), bytes.subarray(at, at + 4096));
    expect(below.calls.length).toBeLessThan(9);
    const { length } = below.calls;
    for (let at = 0; at < 400 * KiB; at += 4096) runSync(readBytes(cache, at, 4096));
    expect(below.calls.length).toBe(length);
  });

  test('small steps count as in order, jumps do not', () => {
    const { below, cache } = watched(pattern(4 * MiB, 2));
    for (let at = 0; at < MiB; at += 12 * KiB) runSync(readBytes(cache, at, 512));
    expect(below.calls.length).toBeLessThan(12);
    below.calls.length = 0;
    for (let i = 0; i < 20; i++) runSync(readBytes(cache, 1.5 * MiB + ((i * 7) % 20) * 128 * KiB, 4096));
    expect(below.calls).toHaveLength(20);
    for (const call of below.calls) expect(call).toMatch(/ 4096$/);
  });

  test('where calls wait, a reader in large steps is met at its next places, one that jumps is not', async () => {
    const bytes = pattern(16 * MiB, 7);
    const below = new Watched(memoryStorage({ bytes: bytes.slice() }));
    const cache = new CacheStorage(new LateStorage(below), { memory: new CacheMemory(8 * MiB) });
    let waits = 0;
    const read = async (at: number) => {
      const { length } = below.calls;
      expectBytes(await runAsync(readBytes(cache, at, 512)), bytes.subarray(at, at + 512));
      if (below.calls.length > length) waits++;
    };
    // Two readers in turn, each with steps of its own; the first three places of each tell the step.
    for (let i = 0; i < 60; i++) {
      await read(i * 100 * KiB);
      await read(10 * MiB + i * 68 * KiB);
    }
    expect(waits).toBeLessThan(20);
    // What is met too early is no more than what one reader is met at.
    expect(below.calls.length).toBeLessThan(120 + 2 * 16);
    below.calls.length = 0;
    const random = new Random(3);
    for (let i = 0; i < 40; i++) await read(random.between(0, 4000) * 4096);
    expect(below.calls.length).toBeLessThan(44);
    below.failing = 'read';
    await expect(read(15 * MiB)).rejects.toThrow('no room');
  });

  test('neighbours are written in one call, with what lies between, in order', () => {
    const { below, cache } = watched(pattern(4 * MiB, 3));
    for (let at = 256 * KiB; at >= 0; at -= 4 * KiB) runSync(cache.write(at, pattern(4096, at)));
    runSync(cache.write(272 * KiB, pattern(100, 1)));
    runSync(cache.write(2 * MiB, pattern(8192, 2)));
    expect(below.calls.filter((call) => call.startsWith('write'))).toEqual([]);
    runSync(cache.flush());
    expect(below.calls.filter((call) => call.startsWith('write'))).toEqual([`write 0 ${276 * KiB}`, `write ${2 * MiB} 8192`]);
    expectBytes(runSync(readBytes(below, 260 * KiB, 12 * KiB)), pattern(4 * MiB, 3).subarray(260 * KiB, 272 * KiB));
  });

  test('a long run is written in few calls, none of them of more than 1 MiB', () => {
    const below = new Watched(memoryStorage());
    const cache = new CacheStorage(below);
    const bytes = pattern(5 * MiB + 300, 8);
    for (let at = 0; at < bytes.length; at += 4096) runSync(cache.write(12 * KiB + at, bytes.subarray(at, at + 4096)));
    runSync(cache.flush());
    const writes = below.calls.filter((call) => call.startsWith('write')).map((call) => Number(call.split(' ')[2]));
    expect(writes.length).toBeLessThan(9);
    expect(Math.max(...writes)).toBe(MiB);
    expectBytes(runSync(readBytes(below, 12 * KiB, bytes.length)), bytes);
  });

  test('a pass over much does not drive out what is used again', () => {
    const { below, cache } = watched(pattern(16 * MiB, 4));
    const hot = [0, 5 * MiB, 9 * MiB, 13 * MiB];
    for (let round = 0; round < 2; round++) for (const at of hot) runSync(readBytes(cache, at, 4096));
    for (let at = 0; at < 16 * MiB; at += 64 * KiB) runSync(readBytes(cache, at + 8 * KiB, 4096));
    below.calls.length = 0;
    for (const at of hot) runSync(readBytes(cache, at, 4096));
    expect(below.calls).toEqual([]);
  });
});

test('caches share their memory, and give it back', () => {
  const memory = new CacheMemory(2 * MiB);
  const wanted = [1, 2, 3].map((seed) => pattern(3 * MiB, seed));
  const caches = wanted.map((bytes) => new CacheStorage(memoryStorage({ bytes: bytes.slice() }), { memory }));
  const random = new Random(5);
  for (let i = 0; i < 2000; i++) {
    const which = random.between(0, 2);
    const [cache, bytes] = [caches[which] as CacheStorage, wanted[which] as Uint8Array];
    const at = random.between(0, 3 * MiB - 9000);
    const length = random.between(1, 9000);
    if (random.chance(0.5)) expectBytes(runSync(readBytes(cache, at, length)), bytes.subarray(at, at + length));
    else {
      bytes.set(random.bytes(length), at);
      runSync(cache.write(at, bytes.slice(at, at + length)));
    }
    if (i === 1500) runSync(caches[2]?.flush() as Io<void>);
  }
  for (const [which, cache] of caches.entries()) {
    expect(Buffer.compare(runSync(readBytes(cache, 0, 3 * MiB)), wanted[which] as Uint8Array)).toBe(0);
    runSync(cache.close());
    expect(Buffer.compare(runSync(readBytes(cache.next, 0, 3 * MiB)), wanted[which] as Uint8Array)).toBe(0);
  }
  expect(memory.dirty).toBe(0);
});

test('the tables of an image take their memory from the lines, and give it back', async () => {
  const memory = new CacheMemory(8 * MiB);
  const file = memoryStorage();
  const reach = 8192 * 64 * KiB;
  const created = await createDisk(file, { format: 'qcow2', size: 12 * reach });
  for (let table = 0; table < 12; table++) await created.write(table * reach, pattern(64 * KiB, table));
  await created.flush();
  const below = new Watched(memoryStorage({ bytes: pattern(8 * MiB, 1) }));
  const filler = new CacheStorage(below, { memory });
  for (let at = 0; at < 8 * MiB; at += 16 * KiB) runSync(readBytes(filler, at, 16 * KiB));
  expect(memory.used).toBe(8 * MiB);
  const disk = await openDisk(new CacheStorage(file, { memory }), { format: 'qcow2' });
  // Each write brings a whole table into memory.
  for (let table = 0; table < 12; table++) disk.writeSync(table * reach, pattern(4096, table));
  disk.flushSync();
  expect(memory.used).toBeLessThanOrEqual(8 * MiB);
  below.calls.length = 0;
  for (let at = 0; at < 8 * MiB; at += 32 * KiB) runSync(readBytes(filler, at, 16 * KiB));
  expect(below.calls.length).toBeGreaterThan(0);
  await disk.close();
  runSync(filler.close());
  expect(memory.used).toBe(0);
});

describe('room', () => {
  test('a storage that cannot grow refuses the write, not the flush', () => {
    const { below, cache } = watched(new Uint8Array(8192));
    runSync(cache.write(0, pattern(100, 1)));
    below.failing = 'truncate';
    expect(() => runSync(cache.write(9000, pattern(100, 2)))).toThrow('no room');
    expect(cache.size).toBe(8192);
    below.failing = undefined;
    runSync(cache.write(9000, pattern(100, 2)));
    expect(below.size).toBe(MiB);
    runSync(cache.close());
    expect(below.size).toBe(9100);
    expectBytes(runSync(readBytes(below, 9000, 100)), pattern(100, 2));
  });

  test('a large file grows in larger steps, and is cut off at the end', () => {
    const below = new Watched(memoryStorage());
    runSync(below.truncate(32 * MiB));
    const cache = new CacheStorage(below, small());
    runSync(cache.write(32 * MiB, pattern(4096, 1)));
    expect([cache.size, below.size]).toEqual([32 * MiB + 4096, 37 * MiB]);
    below.calls.length = 0;
    for (let at = 33 * MiB; at < 36 * MiB; at += 100_000) runSync(cache.write(at, pattern(5000, at)));
    expect(below.calls.filter((call) => call.startsWith('truncate'))).toEqual([]);
    expectBytes(runSync(readBytes(cache, 32 * MiB, 8192)), Buffer.concat([pattern(4096, 1), new Uint8Array(4096)]));
    const { size } = cache;
    runSync(cache.close());
    expect(below.size).toBe(size);
  });

  test('what could not be written is kept, read, and written by the next flush', () => {
    const { below, cache } = watched(pattern(MiB, 5));
    const wanted = pattern(MiB, 5);
    for (let at = 100; at < MiB - 5000; at += 70_000) {
      runSync(cache.write(at, pattern(5000, at)));
      wanted.set(pattern(5000, at), at);
    }
    below.failing = 'write';
    expect(() => runSync(cache.flush())).toThrow('no room');
    expect(() => runSync(cache.write(0, pattern(200 * KiB, 6)))).toThrow('no room');
    expectBytes(runSync(readBytes(cache, 0, MiB)), wanted);
    below.failing = undefined;
    runSync(cache.flush());
    expectBytes(runSync(readBytes(below, 0, MiB)), wanted);
  });

  test('far more than the memory holds, in parts of pages', () => {
    const { below, cache } = watched(new Uint8Array(20 * MiB));
    const wanted = new Uint8Array(20 * MiB);
    const random = new Random(11);
    for (let i = 0; i < 3000; i++) {
      const at = random.between(0, 20 * MiB - 10_000);
      const bytes = pattern(random.between(1, 9000), i);
      runSync(cache.write(at, bytes));
      wanted.set(bytes, at);
    }
    expectBytes(runSync(readBytes(cache, 0, 20 * MiB)), wanted);
    runSync(cache.close());
    expectBytes(runSync(readBytes(below, 0, 20 * MiB)), wanted);
  });
});

test.each([1, 2, 3])('requests beside each other over a late storage that sometimes fails, seed %i', async (seed) => {
  const random = new Random(seed);
  const size = 3 * MiB;
  const wanted = pattern(size, seed);
  const below = new Watched(memoryStorage({ bytes: wanted.slice() }));
  const cache = new CacheStorage(new LateStorage(below), small());
  for (let round = 0; round < 25; round++) {
    below.failing = random.chance(0.15) ? 'write' : undefined;
    // Each to a part of its own; several requests of one page belong to the same part or to neighbours.
    const lanes = random.between(1, 8);
    const lane = Math.floor(size / lanes);
    const undone: [number, number][] = [];
    const work = Array.from({ length: lanes }, async (_, index) => {
      for (let i = 0; i < 6; i++) {
        const at = index * lane + random.between(0, lane - 1);
        const length = Math.min((index + 1) * lane - at, random.pick([1, 512, 4096, 20_000, 150_000, 400_000]));
        const verb = random.pick(['read', 'read', 'write', 'write', 'zero', 'flush'] as const);
        if (verb === 'read') expect(Buffer.compare(await runAsync(readBytes(cache, at, length)), wanted.subarray(at, at + length))).toBe(0);
        else if (verb === 'flush') await runAsync(cache.flush()).catch(refusedForRoom);
        else {
          const bytes = verb === 'zero' ? new Uint8Array(length) : random.bytes(length);
          const made = verb === 'zero' ? runAsync(cache.zero(at, length, { unmap: true })) : runAsync(cache.write(at, bytes));
          // A failed write may have written any part: it is made again when there is room.
          await made.catch((error) => {
            refusedForRoom(error);
            undone.push([at, length]);
          });
          wanted.set(bytes, at);
        }
      }
    });
    const done = await Promise.allSettled(work);
    for (const result of done) if (result.status === 'rejected' && undone.length === 0) throw result.reason;
    below.failing = undefined;
    for (const [at, length] of undone) await runAsync(cache.write(at, wanted.slice(at, at + length)));
    expect(Buffer.compare(await runAsync(readBytes(cache, 0, size)), wanted), `round ${round}`).toBe(0);
  }
  await runAsync(cache.close());
  expectBytes(runSync(readBytes(below, 0, size)), wanted);
});

function refusedForRoom(error: unknown): void {
  if (!(error instanceof DiskError) || error.kind !== 'no-space') throw error;
}

test('a write whose first lines take the line of its last page, where memory is full, leaves the rest of that page as it was', () => {
  const size = 3 * MiB + 512;
  const below = memoryStorage({ bytes: new Uint8Array(size) });
  const cache = new CacheStorage(below, small());
  const model = new Uint8Array(size);
  // This seed comes to such a write.
  const random = new Random(7);
  for (let i = 0; i < 300; i++) {
    const at = random.between(0, size + 600);
    const length = Math.max(0, Math.min(random.between(0, random.chance(0.1) ? 150_000 : 3000), size - at));
    random.chance(0.5);
    if (random.chance(0.5)) {
      model.fill(random.between(0, 255), at, at + length);
      if (length > 0) runSync(cache.write(at, model.slice(at, at + length)));
    } else if (length > 0) runSync(readBytes(cache, at, length));
  }
  runSync(cache.flush());
  expectBytes(below.bytes(), model);
});
