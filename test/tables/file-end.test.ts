/** The end of a file that grows by units: a truncation that waits cuts nothing off that is written meanwhile, and units that failed are used again. */
import { expect, it } from 'vitest';
import { type Io, wait } from '../../src/base/io.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { FileEnd } from '../../src/tables/file-end.ts';

const MiB = 2 ** 20;

/** Everything waits; a truncation longer than what others do meanwhile. */
class LateTruncation extends FilterStorage {
  override get synchronous(): boolean {
    return false;
  }

  override *truncate(size: number): Io<void> {
    yield* wait(new Promise((resolve) => setTimeout(resolve, 30)));
    yield* super.truncate(size);
  }
}

it('what is written beside a flush that makes the file longer is there afterwards', async () => {
  const memory = memoryStorage();
  await (await createDisk(memory, { format: 'vdi', size: 8 * MiB })).close();
  const disk = await openDisk(new LateTruncation(memory), { format: 'vdi' });
  await disk.write(0, new Uint8Array(512).fill(1));
  const flushed = disk.flush();
  const written = [1, 2, 3].map((block) => disk.write(block * MiB, new Uint8Array(MiB).fill(block + 1)));
  await Promise.all([flushed, ...written]);
  await disk.close();
  const again = await openDisk(memory, { format: 'vdi', readOnly: true });
  for (const block of [0, 1, 2, 3])
    expect(
      (await again.read(block * MiB, 512)).every((byte) => byte === block + 1),
      `block ${block}`,
    ).toBe(true);
  expect(await again.check()).toMatchObject({ corruptions: 0 });
});

it('hands out the lowest unit that is free, and calls untouched only what nothing was written to', () => {
  const storage = memoryStorage();
  const end = new FileEnd(storage, { base: 512, unit: 1024, used: new Set([0, 2]) });
  const taken = [1, 2, 3].map(() => end.take());
  expect(taken.map((unit) => unit?.index)).toEqual([1, 3, 4]);
  expect(taken.map((unit) => unit?.untouched)).toEqual([false, true, true]);
  const [, third, fourth] = taken;
  if (!third || !fourth) throw new Error('nothing was handed out');
  end.giveBack(fourth, true);
  expect(end.take()).toEqual({ index: 4, untouched: true });
  end.giveBack(fourth);
  const again = end.take();
  expect(again).toEqual({ index: 4, untouched: false });
  if (again) end.giveBack(again, true);
  expect(end.take()).toEqual({ index: 4, untouched: false });
  end.giveBack(third);
  expect([end.take()?.index, end.count]).toEqual([3, 5]);
});

it('a unit past the end is untouched where gaps cost nothing: in a sparse file, or if the format says so', () => {
  const taken = (gaps?: boolean) => {
    const storage = new (class extends FilterStorage {
      override get sparse(): boolean {
        return false;
      }
    })(memoryStorage());
    return new FileEnd(storage, { base: 512, unit: 512, used: new Set(), ...(gaps === undefined ? {} : { gaps }) }).take()?.untouched;
  };
  expect([taken(), taken(false), taken(true)]).toEqual([false, false, true]);
  expect(new FileEnd(memoryStorage(), { base: 512, unit: 512, used: new Set() }).take()?.untouched).toBe(true);
});

it('units that are released are holes, or the end comes nearer; the first ones can become the bytes of others', () => {
  const end = new FileEnd(memoryStorage(), { base: 512, unit: 1024, used: new Set([0, 1, 2, 3, 4]) });
  end.release([1, 3]);
  expect([end.count, end.lowestHole]).toEqual([5, 1]);
  end.release([4]);
  expect([end.count, end.lowestHole]).toEqual([3, 1]);
  expect([end.unitAt(512 + 1024), end.unitAt(513), end.unitAt(0)]).toEqual([1, undefined, undefined]);
  end.dropFirst(1);
  expect([end.offset(0), end.count, end.lowestHole]).toEqual([1536, 2, 0]);
  expect([end.take(), end.take()]).toEqual([
    { index: 0, untouched: false },
    { index: 2, untouched: false },
  ]);
});
