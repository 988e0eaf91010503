/**
 * Checking and mapping an image of 1 TiB whose clusters lie all over it, in Chromium. The anchor is to copy its file out, which reads all of it in order: a walk that asked for
 * each table by itself took more than a hundred times as long. Another disk of the engine is answered meanwhile.
 */
import { afterEach, describe, expect, test } from 'vitest';
import type { RemoteDisk } from '../../src/index.ts';
import { Random } from '../random.ts';
import { ownLibrary } from './engines.ts';

const TiB = 2 ** 40;
const CLUSTER = 4096;
const CLUSTERS = 3000;

const library = ownLibrary();
afterEach(library.kill);

/** Milliseconds that `work` takes, and those that a read of another disk takes beside it, in the median and at most. */
async function beside(other: RemoteDisk, work: () => Promise<unknown>): Promise<{ took: number; median: number; longest: number }> {
  const waits: number[] = [];
  let going = true;
  const asking = (async () => {
    while (going) {
      const asked = performance.now();
      await other.read(0, CLUSTER);
      waits.push(performance.now() - asked);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  const start = performance.now();
  await work();
  const took = performance.now() - start;
  going = false;
  await asking;
  waits.sort((a, b) => a - b);
  return { took, median: waits[waits.length >> 1] ?? 0, longest: waits.at(-1) ?? 0 };
}

describe.each(['opfs', 'indexeddb'] as const)('a scattered image in %s', (place) => {
  test('is looked over in a few times what reading its file takes, beside others, and can be called off', async () => {
    const { engine } = await library.newTab();
    const entry = await engine.library.create({ name: 'scattered', format: 'qcow2', size: TiB, place, clusterSize: CLUSTER });
    const made = await engine.open(entry.id);
    const random = new Random(11);
    for (let i = 0; i < CLUSTERS; i += 100) {
      const places = Array.from({ length: 100 }, () => random.between(0, TiB / CLUSTER - 1) * CLUSTER);
      await Promise.all(places.map((offset) => made.write(offset, new Uint8Array(CLUSTER).fill(1 + (i % 255)))));
    }
    await made.close();
    const small = await engine.library.create({ name: 'other', format: 'qcow2', size: 2 ** 26, place });
    const other = await engine.open(small.id);
    await other.write(0, new Uint8Array(CLUSTER).fill(1));
    const idle = await beside(other, () => new Promise((resolve) => setTimeout(resolve, 500)));

    const { took: anchor } = await beside(other, async () => {
      const { stream } = await engine.library.export(entry.id, { format: 'qcow2' });
      for (const reader = stream.getReader(); !(await reader.read()).done; );
    });
    const disk = await engine.open(entry.id, { readOnly: true });
    const told: number[] = [];
    // Alone: who is asked for something else meanwhile gives way.
    const timed = async (work: () => Promise<unknown>): Promise<number> => {
      const start = performance.now();
      await work();
      return performance.now() - start;
    };
    const mapTook = await timed(() => disk.mapSummary(2048, { onProgress: (done, total) => told.push(done / total) }));
    const checkTook = await timed(async () => {
      const result = await disk.check({ onProgress: (done, total) => told.push(1 + done / total) });
      expect(result).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
    });
    const mapped = await beside(other, () => disk.mapSummary(2048));
    const checked = await beside(other, () => disk.check());
    console.info(`${place}: reading ${Math.round(anchor)} ms, map ${mapTook} ms, check ${checkTook} ms; beside others`, mapped, checked, idle);
    expect(mapTook).toBeLessThan(500 + 12 * anchor);
    expect(checkTook).toBeLessThan(500 + 25 * anchor);
    for (const { median } of [mapped, checked]) expect(median).toBeLessThan(100 + 4 * idle.median);
    expect(told.every((part, i) => part >= (told[i - 1] ?? 0))).toBe(true);
    expect(told.at(-1)).toBe(2);

    const controller = new AbortController();
    const looks: ((signal: AbortSignal) => Promise<unknown>)[] = [
      (signal) => disk.check({ signal }),
      (signal) => disk.mapSummary(64, { signal }),
      async (signal) => {
        for await (const run of disk.map(0, TiB, { signal })) if (run.start > TiB / 2) controller.abort();
      },
    ];
    setTimeout(() => controller.abort(), 5);
    for (const look of looks) await expect(look(controller.signal)).rejects.toMatchObject({ kind: 'aborted' });
    expect(await disk.read(0, 16)).toHaveLength(16);
    await disk.close();
    const again = await engine.open(entry.id);
    await again.write(0, new Uint8Array(CLUSTER).fill(1));
    expect(await again.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    await engine.close();
  });
});
