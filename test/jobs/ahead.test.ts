/** Reading ahead: over storages that wait, what is written is the same and in the same order, and failures come when their turn has come. */
import { describe, expect, it } from 'vitest';
import { type Io, runAsync, wait } from '../../src/base/io.ts';
import { MiB } from '../../src/base/units.ts';
import { convert, createDisk, memoryStorage, openDisk } from '../../src/index.ts';
import { Ahead } from '../../src/jobs/ahead.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { Random } from '../random.ts';
import { sparseBytes } from './fixtures.ts';

/** Answers requests in any order, after some turns of the event loop. */
class Slow extends FilterStorage {
  readonly #random: Random;
  underWay = 0;
  most = 0;
  /** Reads fail from here on. */
  brokenFrom = Number.POSITIVE_INFINITY;

  constructor(next: Storage, seed: number) {
    super(next);
    this.#random = new Random(seed);
  }

  override get synchronous(): boolean {
    return false;
  }

  override *read(offset: number, into: Uint8Array): Io<void> {
    yield* this.#pause();
    if (offset + into.length > this.brokenFrom) throw new Error('worn out');
    yield* super.read(offset, into);
  }

  override *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* this.#pause();
    yield* super.write(offset, bytes);
  }

  *#pause(): Io<void> {
    this.most = Math.max(this.most, ++this.underWay);
    for (let turns = this.#random.between(0, 4); turns > 0; turns--) yield* wait(new Promise((done) => setImmediate(done)));
    this.underWay--;
  }
}

const SIZE = 24 * MiB + 512;

describe('convert over storages that wait', () => {
  it.each([1, 2, 3])('writes what it writes over storages that do not (seed %i)', async (seed) => {
    const bytes = sparseBytes(seed, SIZE);
    const images = await Promise.all(
      [false, true].map(async (slow) => {
        const memory = memoryStorage();
        const from = memoryStorage({ bytes: bytes.slice() });
        const reading = slow ? new Slow(from, seed) : from;
        const source = await openDisk(reading, { format: 'raw', readOnly: true });
        const target = await createDisk(slow ? new Slow(memory, seed + 10) : memory, { format: 'qcow2', size: SIZE });
        await convert(source, target, { targetIsNew: true });
        await target.close();
        if (reading instanceof Slow) expect(reading.most).toBeGreaterThan(1);
        return memory.bytes();
      }),
    );
    expect(Buffer.compare(images[0] as Uint8Array, images[1] as Uint8Array)).toBe(0);
  });

  it('has written all that comes before what cannot be read, and nothing goes on when it ends', async () => {
    const bytes = sparseBytes(4, SIZE).map((byte) => byte | 1);
    const slow = new Slow(memoryStorage({ bytes }), 7);
    slow.brokenFrom = 13 * MiB;
    const source = await openDisk(slow, { format: 'raw', readOnly: true });
    const target = await createDisk(memoryStorage(), { format: 'raw', size: SIZE });
    await expect(convert(source, target)).rejects.toThrow('worn out');
    expect(slow.underWay).toBe(0);
    expect(Buffer.compare(await target.read(0, 12 * MiB), bytes.subarray(0, 12 * MiB))).toBe(0);
    expect(Buffer.compare(await target.read(12 * MiB, MiB), new Uint8Array(MiB))).toBe(0);
  });
});

describe('steps made ahead', () => {
  it('begin where the one before ends, as many at once as asked for, and fail in their turn', async () => {
    const made: number[] = [];
    const steps = new Ahead(
      function* (offset): Io<{ end: number }> {
        made.push(offset);
        if (offset === 30) throw new Error('here');
        return { end: offset + 10 };
      },
      { size: 100, depth: 2 },
    );
    expect(await runAsync(steps.next())).toEqual({ end: 10 });
    expect(made).toEqual([0, 10, 20]);
    expect(await runAsync(steps.next())).toEqual({ end: 20 });
    expect(await runAsync(steps.next())).toEqual({ end: 30 });
    await expect(runAsync(steps.next())).rejects.toThrow('here');
    await runAsync(steps.settle());
    // Nothing is made behind a step that failed.
    expect(made).toEqual([0, 10, 20, 30]);
  });

  it('end with the disk, also an empty one', async () => {
    const of = (size: number) => new Ahead((offset) => one(offset), { size, depth: 3 });
    const one = function* (offset: number): Io<{ end: number }> {
      return { end: offset + 10 };
    };
    const steps = of(15);
    const ends = [];
    for (let step = await runAsync(steps.next()); step; step = await runAsync(steps.next())) ends.push(step.end);
    expect(ends).toEqual([10, 20]);
    expect(await runAsync(of(0).next())).toBeUndefined();
  });
});
