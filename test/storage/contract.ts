/**
 * The contract of src/storage/storage.ts as one suite for every storage: each sentence has a test, and seeded random operations must
 * agree with a plain array, across reopening. A failing random test prints its seed.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { type Io, runAsync } from '../../src/base/io.ts';
import { readBytes, type Storage } from '../../src/storage/storage.ts';

/** A place for one storage, empty at first. */
export interface StoragePlace {
  /** Opens the storage, as whoever comes next would. */
  open(options?: { readOnly?: boolean }): Promise<Storage>;
  /** Removes it with all its bytes. */
  remove(): Promise<void>;
}

/** Around the borders of sectors, of IndexedDB's blocks and of pieces that caches keep. */
const OFFSETS = [0, 1, 511, 512, 4095, 32_767, 32_768, 32_769, 65_535, 98_304, 131_071, 262_143];
const LENGTHS = [0, 1, 2, 511, 513, 4096, 32_767, 32_768, 32_769, 65_537, 98_305];

const read = (storage: Storage, offset: number, length: number): Promise<Uint8Array> => runAsync(readBytes(storage, offset, length));
const write = (storage: Storage, offset: number, bytes: Uint8Array): Promise<void> => runAsync(storage.write(offset, bytes));

/** Bytes that differ from their neighbours and from each other's blocks; never a run of zeros. */
export function pattern(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let i = 0, state = seed * 2_654_435_761 + 1; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    bytes[i] = (state >>> 24) | 1;
  }
  return bytes;
}

/** Numbers from 0 up to, but not including, `limit`, the same for the same seed. */
export function numbers(seed: number): (limit: number) => number {
  let state = seed | 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

/** A large comparison that says where bytes differ instead of printing all of them. */
export function expectBytes(found: Uint8Array, wanted: Uint8Array, what = ''): void {
  const at = found.length === wanted.length ? found.findIndex((byte, i) => byte !== wanted[i]) : Math.min(found.length, wanted.length);
  if (at !== -1) expect.fail(`${what} byte ${at} is ${found[at]} and should be ${wanted[at]} (lengths ${found.length} and ${wanted.length})`);
}

/** Everything a storage must do that can be written. */
export function storageContract(name: string, makePlace: () => Promise<StoragePlace>): void {
  describe(`${name} keeps the contract of storages`, () => {
    let place: StoragePlace;
    let storage: Storage;

    beforeEach(async () => {
      place = await makePlace();
      storage = await place.open();
    });

    afterEach(async () => {
      await runAsync(storage.close());
      await place.remove();
    });

    const reopen = async () => {
      await runAsync(storage.close());
      storage = await place.open();
    };

    test('a new storage is empty, writable, and reads as zero', async () => {
      expect(storage.size).toBe(0);
      expect(storage.readOnly).toBe(false);
      const into = pattern(700, 1);
      await runAsync(storage.read(12_345, into));
      expectBytes(into, new Uint8Array(700));
    });

    test('any offset and length is read and written', async () => {
      let model = new Uint8Array(0);
      let seed = 0;
      for (const offset of OFFSETS)
        for (const length of LENGTHS) {
          const bytes = pattern(length, ++seed);
          await write(storage, offset, bytes);
          if (length > 0) model = put(model, offset, bytes);
          const from = Math.max(0, offset - 3);
          expectBytes(await read(storage, from, length + 6), slice(model, from, length + 6), `after ${length} bytes at ${offset}:`);
        }
      expect(storage.size).toBe(model.length);
      expectBytes(await read(storage, 0, model.length), model);
    });

    test('a gap that a write skips reads as zero', async () => {
      await write(storage, 10, pattern(5, 1));
      await write(storage, 300_001, pattern(7, 2));
      expect(storage.size).toBe(300_008);
      const model = put(put(new Uint8Array(0), 10, pattern(5, 1)), 300_001, pattern(7, 2));
      expectBytes(await read(storage, 0, 300_008), model);
    });

    test('a read across the end gets zeros for the rest', async () => {
      await write(storage, 0, pattern(40_000, 3));
      const into = pattern(20_000, 4);
      await runAsync(storage.read(30_000, into));
      expectBytes(into, slice(pattern(40_000, 3), 30_000, 20_000));
    });

    test('writing nothing changes nothing', async () => {
      await write(storage, 0, pattern(100, 1));
      await write(storage, 5000, new Uint8Array(0));
      expect(storage.size).toBe(100);
      await reopen();
      expect(storage.size).toBe(100);
    });

    test('the caller may reuse its bytes once a write has returned', async () => {
      const bytes = pattern(70_000, 5);
      const wanted = bytes.slice();
      await write(storage, 1000, bytes);
      bytes.fill(0xee);
      expectBytes(await read(storage, 1000, 70_000), wanted);
      await reopen();
      expectBytes(await read(storage, 1000, 70_000), wanted);
    });

    test('a part of a larger buffer is written and read as just that part', async () => {
      const large = pattern(200_000, 6);
      await write(storage, 0, large.subarray(50_000, 83_000));
      expect(storage.size).toBe(33_000);
      await reopen();
      const into = new Uint8Array(100_000);
      await runAsync(storage.read(1000, into.subarray(7, 32_007)));
      const wanted = new Uint8Array(100_000);
      wanted.set(large.subarray(51_000, 83_000), 7);
      expectBytes(into, wanted);
    });

    test('changes that overlap in time and share blocks all arrive', async () => {
      await write(storage, 0, pattern(200_000, 7));
      const model = pattern(200_000, 7);
      const running: Promise<void>[] = [];
      for (let i = 0; i < 40; i++) {
        const bytes = pattern(3001, 100 + i);
        model.set(bytes, i * 4999);
        running.push(write(storage, i * 4999, bytes));
      }
      running.push(runAsync(storage.flush()));
      await Promise.all(running);
      expectBytes(await read(storage, 0, 200_000), model);
      await reopen();
      expectBytes(await read(storage, 0, 200_000), model);
    });

    test('zero makes a range read as zero and leaves the size and the rest', async () => {
      for (const offset of [0, 1, 511, 32_768, 40_000, 65_535]) {
        for (const length of [0, 1, 513, 32_768, 70_001]) {
          const model = pattern(150_000, offset + length + 8);
          await write(storage, 0, model);
          await runAsync(storage.zero(offset, length));
          model.fill(0, offset, offset + length);
          expectBytes(await read(storage, 0, 150_000), model, `after zeroing ${length} at ${offset}:`);
        }
      }
      await runAsync(storage.zero(140_000, 50_000));
      expect(storage.size).toBe(150_000);
      await runAsync(storage.zero(500_000, 50_000));
      expect(storage.size).toBe(150_000);
    });

    test('discard leaves the size and everything outside its range', async () => {
      const model = pattern(150_000, 9);
      await write(storage, 0, model);
      await runAsync(storage.discard(20_001, 90_000));
      expect(storage.size).toBe(150_000);
      const after = await read(storage, 0, 150_000);
      for (let i = 20_001; i < 110_001; i++) if (after[i] === 0) model[i] = 0;
      expectBytes(after, model);
      await runAsync(storage.discard(149_000, 9000));
      expect(storage.size).toBe(150_000);
    });

    test('truncate cuts and grows, and what it adds reads as zero', async () => {
      await write(storage, 0, pattern(150_000, 10));
      let model = pattern(150_000, 10);
      for (const size of [149_999, 150_001, 70_000, 32_768, 98_304, 32_769, 5, 40_000, 0, 300_000]) {
        await runAsync(storage.truncate(size));
        model = slice(model, 0, Math.min(size, model.length));
        model = put(model, size, new Uint8Array(0));
        expect(storage.size).toBe(size);
        expectBytes(await read(storage, 0, size + 10), slice(model, 0, size + 10), `after truncating to ${size}:`);
      }
      await reopen();
      expect(storage.size).toBe(300_000);
      expectBytes(await read(storage, 0, 300_000), model);
    });

    test('map answers within what was asked, and what it calls zero is zero', async () => {
      await write(storage, 70_000, pattern(30_000, 11));
      await write(storage, 400_000, pattern(10_001, 12));
      await runAsync(storage.zero(75_000, 1000));
      const { size } = storage;
      const model = await read(storage, 0, size);
      for (const step of [0, 1]) {
        if (step === 1) await reopen();
        for (let at = 0; at < size; ) {
          const { length, zero } = await runAsync(storage.map(at, size - at));
          expect(length).toBeGreaterThanOrEqual(1);
          expect(at + length).toBeLessThanOrEqual(size);
          if (zero) expectBytes(model.subarray(at, at + length), new Uint8Array(length), `zero run at ${at}:`);
          at += length;
        }
        expect((await runAsync(storage.map(70_001, 3))).length).toBeLessThanOrEqual(3);
      }
    });

    test('what flush and close have covered is there when it is opened again', async () => {
      await write(storage, 3, pattern(100_000, 13));
      await runAsync(storage.barrier());
      await write(storage, 50_000, pattern(100_000, 14));
      await runAsync(storage.flush());
      await write(storage, 9, pattern(10, 15));
      const model = await read(storage, 0, storage.size);
      await reopen();
      expect(storage.size).toBe(150_000);
      expectBytes(await read(storage, 0, 150_000), model);
    });

    test('the identity is the same however often it is opened', async () => {
      const { identity } = storage;
      await reopen();
      expect(storage.identity).toBe(identity);
    });

    test('close may be called twice', async () => {
      await write(storage, 0, pattern(10, 16));
      await runAsync(storage.close());
      await runAsync(storage.close());
      storage = await place.open();
      expectBytes(await read(storage, 0, 10), pattern(10, 16));
    });

    test('open read-only it can be read and not changed', async () => {
      const bytes = pattern(100_001, 17);
      await write(storage, 0, bytes);
      await runAsync(storage.close());
      storage = await place.open({ readOnly: true });
      await expectReadOnly(storage, bytes);
    });

    test('allocated space counts what was written', async () => {
      await write(storage, 0, pattern(100_000, 18));
      await runAsync(storage.flush());
      if (storage.allocatedSize) expect(await runAsync(storage.allocatedSize())).toBeGreaterThanOrEqual(100_000);
    });

    for (const seed of [1, 20_260_101, 77]) {
      test(`random operations agree with an array (seed ${seed})`, async () => {
        const next = numbers(seed);
        let model = new Uint8Array(0);
        for (let step = 0; step < 250; step++) {
          const what = `seed ${seed}, step ${step}:`;
          const offset = next(2) ? next(400_000) : next(12) * 32_768 + next(3);
          const length = next(3) ? next(20_000) : next(150_000);
          const inside = Math.max(0, Math.min(length, model.length - offset));
          switch (next(9)) {
            case 0:
            case 1:
            case 2: {
              const bytes = next(5) ? pattern(length, step) : new Uint8Array(length);
              await write(storage, offset, bytes);
              if (length > 0) model = put(model, offset, bytes);
              break;
            }
            case 3:
              await runAsync(storage.zero(offset, length));
              model.fill(0, offset, offset + inside);
              break;
            case 4: {
              await runAsync(storage.discard(offset, length));
              const now = await read(storage, offset, inside);
              for (let i = 0; i < inside; i++) if (now[i] === 0) model[offset + i] = 0;
              expectBytes(now, slice(model, offset, inside), what);
              break;
            }
            case 5: {
              const size = next(4) ? offset : model.length + next(100);
              await runAsync(storage.truncate(size));
              model = put(slice(model, 0, Math.min(size, model.length)), size, new Uint8Array(0));
              break;
            }
            case 6:
              await runAsync(next(2) ? storage.flush() : storage.barrier());
              break;
            case 7:
              if (next(3) === 0) await reopen();
              break;
            default:
              expectBytes(await read(storage, offset, length), slice(model, offset, length), what);
          }
          expect(storage.size, what).toBe(model.length);
        }
        await reopen();
        expectBytes(await read(storage, 0, model.length), model, `seed ${seed}, in the end:`);
      });
    }
  });
}

/** Everything a storage must do that can only be read. */
export function readOnlyStorageContract(name: string, make: (bytes: Uint8Array<ArrayBuffer>) => Promise<Storage>): void {
  describe(`${name} keeps the contract of storages that are only read`, () => {
    test('any offset and length is read, with zeros past the end', async () => {
      const bytes = pattern(700_001, 19);
      const storage = await make(bytes);
      expect(storage.size).toBe(bytes.length);
      for (const offset of [...OFFSETS, 524_287, 699_990, 700_001, 800_000])
        for (const length of [...LENGTHS, 262_144, 600_000])
          expectBytes(await read(storage, offset, length), slice(bytes, offset, length), `${length} bytes at ${offset}:`);
      await runAsync(storage.close());
    });

    test('nothing changes it', async () => {
      const bytes = pattern(100_001, 20);
      const storage = await make(bytes);
      await expectReadOnly(storage, bytes);
      await runAsync(storage.close());
      await runAsync(storage.close());
    });

    test('an empty one is empty', async () => {
      const storage = await make(new Uint8Array(0));
      expect(storage.size).toBe(0);
      expectBytes(await read(storage, 0, 10), new Uint8Array(10));
      await runAsync(storage.close());
    });
  });
}

async function expectReadOnly(storage: Storage, bytes: Uint8Array): Promise<void> {
  expect(storage.readOnly).toBe(true);
  const changes: (() => Io<void>)[] = [
    () => storage.write(5, new Uint8Array(10)),
    () => storage.zero(5, 10),
    () => storage.discard(5, 10),
    () => storage.truncate(3),
  ];
  for (const change of changes) expect(await kindOf(runAsync(change()))).toBe('read-only');
  await runAsync(storage.barrier());
  await runAsync(storage.flush());
  expect(storage.size).toBe(bytes.length);
  expectBytes(await read(storage, 0, bytes.length), bytes);
}

/** The kind of the `DiskError` that a promise rejects with; `undefined` if it resolves. Anything else that is thrown stays thrown. */
export async function kindOf(promise: Promise<unknown>): Promise<string | undefined> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    if (error instanceof DiskError) return error.kind;
    throw error;
  }
}

/** The model's write: grows with zeros. */
function put(model: Uint8Array<ArrayBuffer>, offset: number, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const grown = offset + bytes.length > model.length ? new Uint8Array(offset + bytes.length) : model;
  if (grown !== model) grown.set(model);
  grown.set(bytes, offset);
  return grown;
}

/** The model's read: zeros past the end. */
function slice(model: Uint8Array, offset: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  bytes.set(model.subarray(offset, offset + length));
  return bytes;
}
