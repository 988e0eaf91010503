/** Compacting an image of a library in the browser's own stores: what is in use is refused, a tab that dies leaves the old image, and a full run the new one. */
import { describe, expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { ownLibrary, storedIds } from './engines.ts';

const own = ownLibrary();
/** The names of the bytes that are stored. */
const stored = async () => (await storedIds(own.name)).map((name) => name.replace(/\.img$/, ''));

describe.each(['opfs', 'indexeddb'] as const)('in %s', (place) => {
  test('an image takes less, reads the same, and can be written, overlaid and deleted', async () => {
    const { engine } = await own.newTab();
    const { id } = await engine.library.create({ name: 'a', format: 'qcow2', size: 8 * MiB, place });
    const disk = await engine.open(id);
    await disk.write(0, pattern(5 * MiB, 1));
    await disk.write(MiB, new Uint8Array(3 * MiB));
    const before = await disk.read(0, 8 * MiB);
    await disk.flush();
    const second = await own.newTab();
    expect(await kindOf(second.engine.library.compact(id))).toBe('locked');
    await disk.close();
    const abort = new AbortController();
    abort.abort();
    expect(await kindOf(engine.library.compact(id, { signal: abort.signal }))).toBe('aborted');
    expect(await stored()).toEqual([id]);
    const sizes = await engine.library.compact(id);
    // IndexedDB keeps no blocks of zeros anyway.
    expect(sizes.after).toBeLessThanOrEqual(place === 'opfs' ? sizes.before - 2 * MiB : sizes.before);
    const names = await stored();
    expect(names).toHaveLength(1);
    expect(names[0]).toMatch(new RegExp(`^${id}~\\d+$`));
    expect((await engine.library.list())[0]).toMatchObject({ id, storedSize: sizes.after, inUse: false });
    // Another tab, and the second copy of the list, know it too.
    const again = await second.engine.open(id);
    expectBytes(await again.read(0, 8 * MiB), before);
    await again.write(5, pattern(1000, 2));
    await again.close();
    const over = await second.engine.library.overlay(id, { name: 'b' });
    expect((await engine.library.compact(id)).after).toBeGreaterThan(0);
    const top = await engine.open(over.id);
    expectBytes(await top.read(5, 1000), pattern(1000, 2));
    await top.close();
    await engine.library.delete(over.id);
    await engine.library.delete(id);
    expect(await stored()).toEqual([]);
  });

  test('a tab that dies in the middle leaves the image as it was', async () => {
    const dying = await own.newTab();
    const { id } = await dying.engine.library.create({ name: 'a', format: 'qcow2', size: 16 * MiB, place });
    const disk = await dying.engine.open(id);
    await disk.write(0, pattern(12 * MiB, 1));
    await disk.close();
    await new Promise<void>((resolve) => {
      void dying.engine.library.compact(id, { onProgress: (done) => done > 0 && resolve() }).then(
        () => resolve(),
        () => resolve(),
      );
    });
    dying.kill();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const { engine } = await own.newTab();
    expect(await stored()).toHaveLength(1);
    const again = await engine.open(id);
    expectBytes(await again.read(0, 12 * MiB), pattern(12 * MiB, 1));
    await again.close();
  });
});
