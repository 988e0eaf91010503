/** Multiwrite against the naive model: one write after another into an array. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DiskError } from '../../src/base/errors.ts';
import { KiB } from '../../src/base/units.ts';
import { Drive } from '../../src/drive/drive.ts';
import { mergeWrites } from '../../src/drive/multiwrite.ts';
import { expectBytes, SlowDisk } from '../adapters/slow-disk.ts';
import { Random } from '../random.ts';
import { FILL, faultyDrive, SIDES, settle } from './faulty.ts';

const at = (offset: number, length: number, value: number) => ({ offset, bytes: new Uint8Array(length).fill(value) });
const shape = (writes: ReturnType<typeof mergeWrites>) => writes.map(({ offset, bytes }) => [offset, bytes.length]);

describe('merging', () => {
  test.each([
    ['in sequence, out of order', [at(1024, 512, 3), at(0, 512, 1), at(512, 512, 2)], [[0, 1536]]],
    [
      'with a gap',
      [at(1024, 512, 3), at(0, 512, 1)],
      [
        [0, 512],
        [1024, 512],
      ],
    ],
    ['overlapping', [at(0, 1024, 1), at(512, 1024, 2)], [[0, 1536]]],
    // The request that encloses another keeps its tail.
    ['one inside another', [at(0, 4096, 1), at(512, 512, 2)], [[0, 4096]]],
    ['one around another', [at(512, 512, 2), at(0, 4096, 1)], [[0, 4096]]],
    ['the same place twice', [at(512, 512, 1), at(512, 512, 2)], [[512, 512]]],
    ['nothing', [], []],
  ])('%s', (_, writes, expected) => {
    const merged = mergeWrites(writes);
    expect(shape(merged)).toEqual(expected);
    const model = new Uint8Array(8192);
    for (const { offset, bytes } of writes) model.set(bytes, offset);
    const result = new Uint8Array(8192);
    for (const { offset, bytes } of merged) result.set(bytes, offset);
    expectBytes(result, model);
  });

  test('any writes: what one after another leaves, in order, disjoint, and none that could be one with its neighbour', () => {
    const size = 64;
    const write = fc.record({ offset: fc.nat(size), length: fc.nat(24) });
    const property = fc.property(fc.array(write, { maxLength: 12 }), fc.integer({ min: 2, max: 6 }), (shapes, limit) => {
      const writes = shapes.map(({ offset, length }, index) => at(offset, Math.min(length, size - offset), index + 1));
      const merged = mergeWrites(writes, limit);
      const [model, result] = [new Uint8Array(size), new Uint8Array(size)];
      for (const { offset, bytes } of writes) model.set(bytes, offset);
      for (const { offset, bytes } of merged) result.set(bytes, offset);
      expectBytes(result, model);
      const ends = merged.map(({ offset, bytes }) => offset + bytes.length);
      expect(merged.every(({ offset, bytes }, index) => bytes.length > 0 && offset >= (ends[index - 1] ?? 0))).toBe(true);
      // Without a limit on pieces neighbours are always one.
      const whole = mergeWrites(writes);
      expect(
        whole.every(({ offset }, index) => index === 0 || offset > (whole[index - 1]?.offset ?? 0) + (whole[index - 1]?.bytes.length ?? 0)),
      ).toBe(true);
    });
    // A failure names its seed and the smallest writes that fail.
    fc.assert(property, { numRuns: 500 });
  });

  test('a write that encloses a later one keeps its tail, wherever that lies', () => {
    const property = fc.property(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 40 }), (start, length) => {
      const merged = mergeWrites([at(8, 48, 1), at(8 + Math.min(start, 47), Math.min(length, 48 - Math.min(start, 47)), 2), at(56, 4, 3)]);
      const result = new Uint8Array(64);
      for (const { offset, bytes } of merged) result.set(bytes, offset);
      const model = new Uint8Array(64).fill(1, 8, 56).fill(3, 56, 60);
      model.fill(2, 8 + Math.min(start, 47), 8 + Math.min(start, 47) + Math.min(length, 48 - Math.min(start, 47)));
      expect([shape(merged), result]).toEqual([[[8, 52]], model]);
    });
    fc.assert(property, { numRuns: 100 });
  });

  test('never above 1024 pieces', () => {
    const writes = Array.from({ length: 2500 }, (_, index) => at(index, 1, index & 255));
    expect(mergeWrites(writes).map(({ bytes }) => bytes.length)).toEqual([1024, 1024, 452]);
  });
});

describe.each(SIDES)('a disk %s', (side) => {
  test('leaves what one write after another leaves', async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const random = new Random(seed);
    const size = 64 * KiB;
    const { drive, contents } = await faultyDrive(side, {}, size);
    const model = new Uint8Array(size).fill(FILL);
    for (let round = 0; round < 60; round++) {
      const writes = Array.from({ length: random.between(0, 12) }, () => {
        // Near each other, so that they touch and overlap; now and then on sector borders.
        const step = random.pick([1, 512, 4096]);
        const offset = random.between(0, 15) * step;
        const length = Math.min(size - offset, random.between(0, 6) * step + random.between(0, 2));
        return { offset, bytes: random.bytes(length) };
      });
      await drive.multiwrite(writes);
      for (const { offset, bytes } of writes) model.set(bytes, offset);
      try {
        expectBytes(contents(), model);
      } catch (error) {
        throw new Error(`seed ${seed}, round ${round}: ${(error as Error).message}`);
      }
    }
  });

  test('completes every request once, later, with the first error', async () => {
    const { drive, failNext, contents } = await faultyDrive(side);
    const completions: [number, string | undefined][] = [];
    const done = (index: number) => (error: DiskError | undefined) => completions.push([index, error?.kind]);
    failNext('changes', 'io');
    const batch = drive.multiwrite([
      { ...at(8192, 512, 1), done: done(0) },
      { ...at(0, 512, 2), done: done(1) },
      { ...at(512, 512, 3), done: done(2) },
    ]);
    expect(completions).toEqual([]);
    await expect(batch).rejects.toMatchObject({ kind: 'io' });
    expect(completions).toEqual([
      [0, 'io'],
      [1, 'io'],
      [2, 'io'],
    ]);
    // The other run was written all the same.
    expect(contents()[8192]).toBe(1);
    completions.length = 0;
    await drive.multiwrite([{ ...at(0, 512, 4), done: done(7) }]);
    expect(completions).toEqual([[7, undefined]]);
  });

  test('without a medium, and outside the disk', async () => {
    const completions: unknown[] = [];
    const done = (error: DiskError | undefined) => completions.push(error?.kind);
    const { drive, contents } = await faultyDrive(side, {}, 4096);
    await expect(
      drive.multiwrite([
        { ...at(0, 512, 1), done },
        { ...at(4000, 512, 1), done },
      ]),
    ).rejects.toMatchObject({ kind: 'out-of-bounds' });
    expect(contents()[0]).toBe(FILL);
    await drive.close();
    await expect(drive.multiwrite([{ ...at(0, 512, 1), done }])).rejects.toMatchObject({ kind: 'no-medium' });
    expect(completions).toEqual(['out-of-bounds', 'out-of-bounds', 'no-medium']);
    await drive.multiwrite([]);
  });
});

test('is fewer requests to the medium, counted as merged', async () => {
  const { drive, disk } = await faultyDrive('elsewhere');
  await drive.multiwrite(Array.from({ length: 10 }, (_, index) => at(index * 512, 512, index)));
  expect(disk instanceof SlowDisk && disk.log).toEqual([{ verb: 'write', offset: 0, length: 5120 }]);
  expect(drive.statistics).toMatchObject({ mergedWrites: 9, write: { operations: 1, bytes: 5120 } });
});

test('under stop, the batch waits and is then complete', async () => {
  const { drive, failNext, contents } = await faultyDrive('here', { writeErrors: 'stop' });
  const finished: string[] = [];
  failNext('changes', 'short');
  const batch = drive.multiwrite([
    { ...at(0, 1024, 5), done: () => finished.push('a') },
    { ...at(4096, 512, 6), done: () => finished.push('b') },
  ]);
  await settle();
  expect([finished, drive.keptRequests]).toEqual([[], 1]);
  drive.resume();
  await batch;
  expect(finished).toEqual(['a', 'b']);
  expect([contents()[1023], contents()[4096]]).toEqual([5, 6]);
});

test('an empty drive, an empty batch', async () => {
  await new Drive().multiwrite([]);
});
