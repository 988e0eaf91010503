/** Two tabs want one image: one writer at a time, asking for the image, and handing it over with nothing lost. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import type { Engine, ImageEntry, RemoteDisk } from '../../src/index.ts';
import { Random } from '../random.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { newLibrary, openTab, removeLibrary, type Tab } from './engines.ts';

let library: string;
let one: Tab;
let two: Tab;

beforeEach(async () => {
  library = newLibrary();
  [one, two] = [await openTab(library), await openTab(library)];
});

afterEach(async () => {
  one.kill();
  two.kill();
  await removeLibrary(library);
});

/** Resolves when nobody has the image, as a page learns it: by looking at the list when told that it changed. */
function free(engine: Engine, id: string): Promise<void> {
  return new Promise((resolve) => {
    const look = async () => {
      const entry = (await engine.library.list()).find((each) => each.id === id);
      if (entry?.inUse) return;
      stop();
      resolve();
    };
    const stop = engine.library.onChange(() => void look());
    void look();
  });
}

for (const place of ['opfs', 'indexeddb'] as const) {
  describe(`an image in ${place} that another tab has`, () => {
    let entry: ImageEntry;

    beforeEach(async () => {
      entry = await one.engine.library.create({ name: 'wanted', format: 'qcow2', size: 2 * MiB, place });
    });

    test('stays with its holder if nobody there lets go', async () => {
      const heard: string[] = [];
      const stop = one.engine.onReleaseRequest((id) => heard.push(id));
      const disk = await one.engine.open(entry.id);
      await disk.write(0, pattern(5000, 1));
      await expect(two.engine.open(entry.id)).rejects.toMatchObject({ kind: 'locked', message: expect.stringContaining('ask for it') });
      expect(await two.engine.requestRelease(entry.id)).toBe(true);
      expect(heard).toEqual([entry.id]);
      expect(await kindOf(two.engine.open(entry.id))).toBe('locked');
      stop();
      expect(await two.engine.requestRelease(entry.id)).toBe(true);
      expect(heard).toEqual([entry.id]);
      await disk.write(5000, pattern(5000, 2));
      await disk.flush();
      const view = await two.engine.open(entry.id, { readOnly: true });
      expectBytes(await view.read(0, 10_000), new Uint8Array([...pattern(5000, 1), ...pattern(5000, 2)]));
    });

    test('goes back and forth on request with every write in it', async () => {
      const wanted = new Uint8Array(2 * MiB);
      const random = new Random(place.length);
      let holder = one;
      let disk: RemoteDisk = await holder.engine.open(entry.id);
      for (let round = 0; round < 12; round++) {
        const asker = holder === one ? two : one;
        // Not waited for and not flushed: closing takes care of that.
        const writes: Promise<void>[] = [];
        for (let i = 0; i < 8; i++) {
          const offset = random.between(0, 2 * MiB - 9000);
          const bytes = random.bytes(random.between(1, 9000));
          wanted.set(bytes, offset);
          writes.push(disk.write(offset, bytes));
        }
        const held = disk;
        const stop = holder.engine.onReleaseRequest((id) => {
          expect(id).toBe(entry.id);
          void Promise.all(writes).then(() => held.close());
        });
        const start = performance.now();
        expect(await asker.engine.requestRelease(entry.id)).toBe(true);
        await free(asker.engine, entry.id);
        disk = await asker.engine.open(entry.id);
        expect(performance.now() - start).toBeLessThan(2000);
        stop();
        expectBytes(await disk.read(0, 2 * MiB), wanted, `round ${round}:`);
        expect(await kindOf(held.read(0, 1))).toBe('io');
        holder = asker;
      }
      expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
    });

    test('never has two writers, however the tabs race', async () => {
      const random = new Random(place.length + 1);
      const counts = { opened: 0, locked: 0 };
      let writers = 0;
      const race = async (tab: Tab) => {
        for (let i = 0; i < 30; i++) {
          const disk = await tab.engine.open(entry.id).catch((error) => {
            expect(error).toMatchObject({ kind: 'locked' });
            return undefined;
          });
          if (!disk) {
            counts.locked++;
            continue;
          }
          expect(++writers).toBe(1);
          counts.opened++;
          await disk.write(0, random.bytes(512));
          await new Promise((resolve) => setTimeout(resolve, random.between(0, 20)));
          writers--;
          await disk.close();
        }
      };
      await Promise.all([race(one), race(two), race(one)]);
      expect(counts.opened).toBeGreaterThan(30);
      expect(counts.opened + counts.locked).toBe(90);
    });
  });
}

describe('asking', () => {
  test('for an image that nobody has open is answered at once, and for one that does not exist refused', async () => {
    const entry = await one.engine.library.create({ name: 'idle', format: 'raw', size: MiB });
    expect(await two.engine.requestRelease(entry.id)).toBe(true);
    expect(await kindOf(two.engine.requestRelease('none'))).toBe('not-found');
  });

  test('in the tab that has it reaches that tab too', async () => {
    const entry = await one.engine.library.create({ name: 'mine', format: 'raw', size: MiB });
    const heard: string[] = [];
    one.engine.onReleaseRequest((id) => heard.push(id));
    await one.engine.open(entry.id);
    expect(await one.engine.requestRelease(entry.id)).toBe(true);
    expect(heard).toEqual([entry.id]);
  });

  test('for an image that is locked without anybody to ask is told so', async () => {
    const entry = await one.engine.library.create({ name: 'exported', format: 'raw', size: 4 * MiB });
    const { stream } = await one.engine.library.export(entry.id, { format: 'raw' });
    expect(await two.engine.requestRelease(entry.id)).toBe(false);
    await stream.cancel();
    expect(await two.engine.requestRelease(entry.id)).toBe(true);
  });
});
