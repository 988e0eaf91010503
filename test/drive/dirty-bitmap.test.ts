/** Dirty tracking: by itself against a naive set, and behind a drive. */
import { expect, test } from 'vitest';
import { GiB, KiB, MiB } from '../../src/base/units.ts';
import { DirtyBitmap } from '../../src/drive/dirty-bitmap.ts';
import { Random } from '../random.ts';
import { faultyDisk, faultyDrive, SIDES } from './faulty.ts';

test('marks, clears, counts and lists as a set of chunks does', () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = new Random(seed);
  for (const granularity of [512, 4096, MiB]) {
    // The last chunk is cut off; the chunks fill more than one page.
    let size = granularity * 70_000 + 100;
    const bitmap = new DirtyBitmap(size, granularity);
    const model = new Set<number>();
    for (let round = 0; round < 200; round++) {
      const offset = random.between(0, size);
      const length = random.between(0, 40 * granularity);
      const mark = random.chance(0.6);
      if (mark) bitmap.mark(offset, length);
      else bitmap.reset(offset, length);
      for (let at = offset - (offset % granularity); at < Math.min(offset + length, size) && length > 0; at += granularity)
        if (mark) model.add(at / granularity);
        else model.delete(at / granularity);
      if (round % 50 === 49) {
        size = granularity * random.between(60_000, 80_000) + random.between(0, granularity - 1);
        bitmap.resize(size);
        for (const chunk of model) if (chunk * granularity >= size) model.delete(chunk);
      }
      expect(bitmap.count, `seed ${seed}, round ${round}`).toBe(model.size);
    }
    const chunks = new Set<number>();
    let end = -1;
    for (const range of bitmap) {
      expect(range.start, `seed ${seed}`).toBeGreaterThan(end);
      end = range.end;
      for (let at = range.start; at < end; at += granularity) chunks.add(at / granularity);
    }
    expect(chunks).toEqual(model);
    expect(end).toBeLessThanOrEqual(size);
    bitmap.reset();
    expect([bitmap.count, bitmap.bytes, [...bitmap]]).toEqual([0, 0, []]);
  }
});

test('chunks are of 1 MiB unless asked otherwise; past the end nothing is dirty', () => {
  const bitmap = new DirtyBitmap(2.5 * MiB);
  expect(bitmap.granularity).toBe(MiB);
  bitmap.mark(MiB - 1, 2);
  expect([bitmap.count, bitmap.get(0), bitmap.get(2 * MiB - 1), bitmap.get(2 * MiB)]).toEqual([2, true, true, false]);
  bitmap.mark(2 * MiB, 10 * MiB);
  expect([bitmap.count, bitmap.bytes, [...bitmap]]).toEqual([3, 2.5 * MiB, [{ start: 0, end: 2.5 * MiB }]]);
  expect([bitmap.get(2.5 * MiB - 1), bitmap.get(2.5 * MiB), bitmap.get(100 * MiB)]).toEqual([true, false, false]);
  bitmap.reset(MiB + 5, 1);
  expect([...bitmap]).toEqual([
    { start: 0, end: MiB },
    { start: 2 * MiB, end: 2.5 * MiB },
  ]);
  for (const granularity of [0, 256, 1000, Number.NaN])
    expect(() => new DirtyBitmap(MiB, granularity)).toThrow(expect.objectContaining({ kind: 'refused', field: 'granularity' }));
});

test('a large disk costs what is dirty', () => {
  const bitmap = new DirtyBitmap(2048 * GiB, 512);
  bitmap.mark(2047 * GiB, 512);
  bitmap.mark(5, 1);
  expect([...bitmap]).toEqual([
    { start: 0, end: 512 },
    { start: 2047 * GiB, end: 2047 * GiB + 512 },
  ]);
});

test.each(SIDES)('a drive notes every change, also one that failed, on a disk %s', async (side) => {
  const { drive, failNext } = await faultyDrive(side, { writeErrors: 'report' });
  const bitmap = drive.trackDirty(4 * KiB);
  const dirty = () => [...bitmap].map(({ start, end }) => [start / KiB, end / KiB]);
  await drive.read(0, 64 * KiB);
  await drive.flush();
  expect(dirty()).toEqual([]);
  await drive.write(4 * KiB - 1, new Uint8Array(2));
  expect(dirty()).toEqual([[0, 8]]);
  failNext('changes', 'io');
  await expect(drive.write(16 * KiB, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' });
  expect(dirty()).toEqual([
    [0, 8],
    [16, 20],
  ]);
  await drive.zero(24 * KiB, 512);
  await drive.discard(32 * KiB, 4 * KiB);
  await drive.multiwrite([
    { offset: 44 * KiB, bytes: new Uint8Array(1) },
    { offset: 40 * KiB, bytes: new Uint8Array(4 * KiB) },
  ]);
  expect(dirty()).toEqual([
    [0, 8],
    [16, 20],
    [24, 28],
    [32, 36],
    [40, 48],
  ]);
  // What never reached the medium changed nothing.
  await expect(drive.write(127 * KiB, new Uint8Array(2 * KiB))).rejects.toMatchObject({ kind: 'out-of-bounds' });
  const other = drive.trackDirty();
  drive.stopTracking(bitmap);
  await drive.write(64 * KiB, new Uint8Array(1));
  expect([bitmap.count, other.count]).toEqual([7, 1]);
});

test('follows the size, and begins anew with another medium', async () => {
  const { drive } = await faultyDrive();
  const bitmap = drive.trackDirty(4 * KiB);
  await drive.write(60 * KiB, new Uint8Array(1));
  await drive.resize(32 * KiB);
  expect([bitmap.count, bitmap.size]).toEqual([0, 32 * KiB]);
  await drive.resize(96 * KiB);
  expect(bitmap.count).toBe(0);
  await drive.change((await faultyDisk('here', 8 * KiB)).disk);
  expect([...bitmap]).toEqual([{ start: 0, end: 8 * KiB }]);
});
