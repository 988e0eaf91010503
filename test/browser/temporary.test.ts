/** Opening with `snapshot` and cache modes through the engine, over OPFS and IndexedDB: what is thrown away, what stays, and who is kept out. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { v86Disk } from '../../src/adapters/v86.ts';
import { MiB } from '../../src/base/units.ts';
import type { ImageEntry } from '../../src/index.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { collect, newLibrary, openTab, removeLibrary, storedIds, type Tab } from './engines.ts';

let library: string;
let tab: Tab;
let other: Tab | undefined;

beforeEach(async () => {
  library = newLibrary();
  tab = await openTab(library);
  other = undefined;
});

afterEach(async () => {
  tab.kill();
  other?.kill();
  await removeLibrary(library);
});

const SIZE = 4 * MiB;
const OLD = pattern(300_000, 1);
const NEW = pattern(200_000, 2);

const make = async (format: 'qcow2' | 'raw', place: 'opfs' | 'indexeddb'): Promise<ImageEntry> => {
  const image = await tab.engine.library.create({ name: format, format, size: SIZE, place });
  const disk = await tab.engine.open(image.id);
  await disk.write(0, OLD);
  await disk.close();
  return image;
};

for (const place of ['opfs', 'indexeddb'] as const) {
  describe(`an image in ${place}`, () => {
    const file = async (image: ImageEntry) => collect((await tab.engine.library.export(image.id, { format: image.format })).stream);

    test.each([['qcow2', place] as const, ['raw', place === 'opfs' ? 'memory' : 'opfs'] as const])(
      'as %s, with its changes in %s, shows them until it is closed and is untouched afterwards',
      async (format, snapshot) => {
        const image = await make(format, place);
        const before = await file(image);
        const stored = await storedIds(library);
        const disk = await tab.engine.open(image.id, { snapshot });
        const guest = v86Disk(disk);
        guest.set(100_001, NEW, () => undefined);
        await guest.save();
        await guest.close();
        await disk.resize(2 * SIZE);
        expectBytes(await disk.read(100_001, NEW.length), NEW);
        expectBytes(await disk.read(0, 100_001), OLD.subarray(0, 100_001));
        expect((await storedIds(library)).length).toBe(stored.length + (snapshot === 'memory' ? 0 : 1));
        // What is read meanwhile by others is the image; and it can be taken out while it is in use.
        const view = await tab.engine.open(image.id, { readOnly: true });
        expectBytes(await view.read(100_001, 1000), OLD.subarray(100_001, 101_001));
        await view.close();
        expectBytes(await file(image), before);
        await disk.close();
        expectBytes(await file(image), before);
        expect(await storedIds(library)).toEqual(stored);
        expect(await tab.engine.library.list()).toMatchObject([{ size: SIZE, inUse: false }]);
      },
    );

    test('loses the changes of a tab that dies, and the next one sweeps what they lay in', async () => {
      const image = await make('qcow2', place);
      const stored = await storedIds(library);
      other = await openTab(library);
      const disk = await other.engine.open(image.id, { snapshot: place });
      await disk.write(0, NEW);
      await disk.flush();
      expect((await storedIds(library)).length).toBe(stored.length + 1);
      // In use: nobody may sweep it.
      (await openTab(library)).kill();
      expect((await storedIds(library)).length).toBe(stored.length + 1);
      other.kill();
      // The browser lets go of a worker's locks a little after it.
      await expect
        .poll(
          async () => {
            (await openTab(library)).kill();
            return storedIds(library);
          },
          { timeout: 20_000 },
        )
        .toEqual(stored);
      const again = await tab.engine.open(image.id);
      expectBytes(await again.read(0, OLD.length), OLD);
      await again.close();
    });

    test('keeps a write that resolved where the cache mode says so', async () => {
      const image = await make('qcow2', place);
      other = await openTab(library);
      const durable = async () => {
        const view = await (other as Tab).engine.open(image.id, { readOnly: true });
        const bytes = await view.read(3 * MiB, 3);
        await view.close();
        return [...bytes];
      };
      const disk = await tab.engine.open(image.id, { cache: 'writethrough' });
      await disk.write(3 * MiB, new Uint8Array([1, 2, 3]));
      expect(await durable()).toEqual([1, 2, 3]);
      await disk.close();
      const unsafe = await tab.engine.open(image.id, { cache: 'unsafe' });
      await unsafe.zero(3 * MiB, 65_536, { unmap: true });
      await unsafe.flush();
      expect(await durable()).toEqual([1, 2, 3]);
      await unsafe.close();
      expect(await durable()).toEqual([0, 0, 0]);
    });
  });
}

test('an image may be open so any number of times, while nobody can change it', async () => {
  const image = await make('qcow2', 'opfs');
  other = await openTab(library);
  const [one, two] = [await tab.engine.open(image.id, { snapshot: 'memory' }), await other.engine.open(image.id, { snapshot: 'indexeddb' })];
  await one.write(0, NEW);
  expectBytes(await two.read(0, OLD.length), OLD);
  for (const { engine } of [tab, other]) {
    expect(await kindOf(engine.open(image.id))).toBe('locked');
    expect(await kindOf(engine.library.delete(image.id))).toBe('locked');
  }
  const asked = new Promise<string>((heard) => tab.engine.onReleaseRequest(heard));
  expect([await other.engine.requestRelease(image.id), await asked]).toEqual([true, image.id]);
  await two.close();
  await one.close();
  const writer = await other.engine.open(image.id);
  expect(await kindOf(tab.engine.open(image.id, { snapshot: 'memory' }))).toBe('locked');
  await writer.close();
});
