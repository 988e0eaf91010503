/** Jobs over chains, snapshots and storage that waits. */
import { afterAll, describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { check, compare, convert, createDisk, type Disk, memoryStorage, openDisk, type Storage } from '../../src/index.ts';
import { pattern, sparseBytes } from './fixtures.ts';

const open: Disk[] = [];
const kept = async (disk: Promise<Disk>): Promise<Disk> => {
  open.push(await disk);
  return disk;
};
afterAll(() => Promise.all(open.map((disk) => disk.close())));

const rawDisk = (bytes: Uint8Array): Promise<Disk> => kept(openDisk(memoryStorage({ bytes, name: 'raw' }), { format: 'raw' }));

/** The same storage, but each read and write waits for a promise first. */
function slow(storage: Storage): Storage {
  return new Proxy(storage, {
    get(target, key) {
      if (key === 'synchronous') return false;
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      if (key !== 'read' && key !== 'write') return value.bind(target);
      return function* (...args: unknown[]) {
        yield Promise.resolve();
        return yield* (value as (...args: unknown[]) => Iterable<PromiseLike<unknown>>).apply(target, args);
      };
    },
  });
}

/** A backing file, an overlay over it that is larger, and what the overlay reads as. */
async function chain(seed: number): Promise<{ top: Disk; base: Uint8Array; contents: Uint8Array }> {
  const base = sparseBytes(seed, 3 * MiB);
  const top = await kept(
    createDisk(slow(memoryStorage({ name: 'top' })), {
      format: 'qcow2',
      size: 5 * MiB,
      clusterSize: 4 * KiB,
      backing: { name: 'base', format: 'raw' },
      resolve: () => memoryStorage({ bytes: base, name: 'base' }),
    }),
  );
  const contents = new Uint8Array(5 * MiB);
  contents.set(base);
  const change = async (offset: number, bytes: Uint8Array) => {
    await top.write(offset, bytes);
    contents.set(bytes, offset);
  };
  await change(4 * MiB + 100, pattern(70_001, seed));
  await change(MiB - 5000, pattern(30_000, seed + 1));
  await top.zero(2 * MiB, 300_000);
  contents.fill(0, 2 * MiB, 2 * MiB + 300_000);
  return { top, base, contents };
}

describe('over a backing chain', () => {
  it.each([31, 32])('convert flattens it (seed %i)', async (seed) => {
    const { top, contents } = await chain(seed);
    const target = await kept(createDisk(slow(memoryStorage()), { format: 'qcow2', size: 6 * MiB, clusterSize: 64 * KiB }));
    await convert(top, target);
    expect(Buffer.compare(await target.read(0, contents.length), contents)).toBe(0);
    expect(await compare(top, target)).toEqual({ identical: true, sizesDiffer: true });
    expect(await check(target)).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  });

  it('convert with topOnly copies what the source has itself', async () => {
    const { top, base, contents } = await chain(33);
    const other = base.slice();
    other.set(pattern(1000, 99), 1_700_000);
    const target = await kept(
      createDisk(memoryStorage(), {
        format: 'qcow2',
        size: 5 * MiB,
        backing: { name: 'other', format: 'raw' },
        resolve: () => memoryStorage({ bytes: other, name: 'other' }),
      }),
    );
    await convert(top, target, { topOnly: true });
    const expected = contents.slice();
    expected.set(pattern(1000, 99), 1_700_000);
    expect(Buffer.compare(await target.read(0, expected.length), expected)).toBe(0);
  });

  it('convert without topOnly covers a backing file that differs', async () => {
    const { top, contents } = await chain(34);
    const target = await kept(
      createDisk(memoryStorage(), {
        format: 'qcow2',
        size: 5 * MiB,
        backing: { name: 'noise', format: 'raw' },
        resolve: () => memoryStorage({ bytes: pattern(5 * MiB, 3), name: 'noise' }),
      }),
    );
    await convert(top, target);
    expect(Buffer.compare(await target.read(0, contents.length), contents)).toBe(0);
  });

  it('convert copies a snapshot while the disk goes on', async () => {
    const { top, contents } = await chain(35);
    await top.snapshots.create({ name: 'then' });
    await top.write(MiB, pattern(500_000, 9));
    const then = await top.snapshots.open('then');
    const target = await rawDisk(pattern(5 * MiB, 1));
    await convert(then, target);
    expect(Buffer.compare(await target.read(0, contents.length), contents)).toBe(0);
    await then.close();
    // The disk's own chain is still open.
    expect(Buffer.compare(await top.read(MiB, 500_000), pattern(500_000, 9))).toBe(0);
    expect(Buffer.compare(await top.read(2_500_000, 100_000), contents.subarray(2_500_000, 2_600_000))).toBe(0);
  });

  it('strict compare tells an allocated zero from an absent one', async () => {
    const zeroed = await kept(createDisk(memoryStorage(), { format: 'qcow2', size: 4 * MiB }));
    await zeroed.zero(128 * KiB, 64 * KiB);
    const empty = await kept(createDisk(memoryStorage(), { format: 'qcow2', size: 4 * MiB }));
    expect(await compare(zeroed, empty)).toMatchObject({ identical: true });
    // Only one of them has nothing up to its end: the first runs differ already, as QEMU sees it.
    expect(await compare(zeroed, empty, { strict: true })).toEqual({ identical: false, reason: 'status', offset: 0, sizesDiffer: false });
    await zeroed.zero(4 * MiB - 64 * KiB, 64 * KiB);
    await empty.zero(4 * MiB - 64 * KiB, 64 * KiB);
    expect(await compare(zeroed, empty, { strict: true })).toMatchObject({ identical: false, reason: 'status', offset: 128 * KiB });
  });
});

describe('check as a job', () => {
  it('reports progress and stops when cancelled', async () => {
    const top = await kept(createDisk(memoryStorage(), { format: 'qcow2', size: 2 * MiB, clusterSize: 512 }));
    await top.write(700, pattern(900_000, 36));
    await top.flush();
    const calls: [number, number][] = [];
    expect(await check(top, { onProgress: (done, total) => calls.push([done, total]) })).toMatchObject({ corruptions: 0, leaks: 0 });
    // Told at the start, some ten times a second, and at the end.
    expect(calls.length).toBeGreaterThan(1);
    expect(calls.every(([done, total], i) => total > 20 && done <= total && done >= (calls[i - 1]?.[0] ?? 0))).toBe(true);
    expect(calls.at(-1)).toEqual([calls[0]?.[1], calls[0]?.[1]]);
    await expect(check(top, { signal: AbortSignal.abort() })).rejects.toMatchObject({ kind: 'aborted' });
    const controller = new AbortController();
    await expect(check(top, { signal: controller.signal, onProgress: () => controller.abort() })).rejects.toMatchObject({ kind: 'aborted' });
  });

  it('says which format has no check', async () => {
    await expect(check(await rawDisk(pattern(5000, 1)))).rejects.toMatchObject({ kind: 'unsupported', format: 'raw' });
  });
});
