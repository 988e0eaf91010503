/**
 * Overlays of the library, and their jobs in the worker: commit and stream while the page goes on reading and writing, with progress, paused,
 * cancelled, cut short by the end of the worker; and what an image is kept from while others lie over it.
 */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { type ImageEntry, JobControl, type RemoteDisk } from '../../src/index.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { ownLibrary, type Tab } from './engines.ts';

const SIZE = 3 * MiB;

const own = ownLibrary();
const { newTab } = own;

describe.each(['opfs', 'indexeddb'] as const)('in %s', (place) => {
  let tab: Tab;
  let base: ImageEntry;
  let top: ImageEntry;
  let contents: Uint8Array;

  const entry = async ({ id }: ImageEntry) => (await tab.engine.library.list()).find((each) => each.id === id);

  /** Bytes that the overlay itself holds. */
  const own = async (disk: RemoteDisk): Promise<number> => {
    let bytes = 0;
    for await (const { depth, present, length } of disk.map()) if (depth === 0 && present) bytes += length;
    return bytes;
  };

  const write = async (disk: RemoteDisk, offset: number, bytes: Uint8Array): Promise<void> => {
    contents.set(bytes, offset);
    await disk.write(offset, bytes);
  };

  beforeEach(async () => {
    tab = await newTab();
    const { library: images } = tab.engine;
    base = await images.create({ name: 'base', format: 'qcow2', size: SIZE, place });
    const disk = await tab.engine.open(base.id);
    contents = new Uint8Array(SIZE);
    await write(disk, 100_000, pattern(2 * MiB, 1));
    await disk.close();
    top = await images.overlay(base.id, { name: 'top' });
    expect(top).toMatchObject({ format: 'qcow2', backing: base.id, size: SIZE, place });
  });

  test('an overlay that is given up lets go of the image below it too', async () => {
    const disk = await tab.engine.open(top.id);
    await disk.write(0, pattern(1000, 2));
    await disk.close({ discard: true });
    await tab.engine.library.delete(top.id);
    const below = await tab.engine.open(base.id);
    expectBytes(await below.read(0, SIZE), contents);
    await below.close();
    await tab.engine.library.delete(base.id);
  });

  test('what others lie over is read, and not changed', async () => {
    expect(await kindOf(tab.engine.open(base.id))).toBe('in-use');
    expect(await kindOf(tab.engine.library.delete(base.id))).toBe('in-use');
    const view = await tab.engine.open(base.id, { readOnly: true });
    expectBytes(await view.read(0, SIZE), contents);
    await view.close();
    const disk = await tab.engine.open(top.id);
    expectBytes(await disk.read(0, SIZE), contents);
    const { stream } = await tab.engine.library.export(top.id, { format: 'raw' });
    expectBytes(new Uint8Array(await new Response(stream).arrayBuffer()), contents);
    await disk.close();
    await tab.engine.library.delete(top.id);
    await (await tab.engine.open(base.id)).close();
  });

  test('stream goes on beside the page, pauses, is cut short, and in the end the overlay stands alone', async () => {
    let disk = await tab.engine.open(top.id);
    const control = new JobControl();
    control.pause();
    const abort = new AbortController();
    const running = disk.stream({ control, signal: abort.signal, rate: 16 * KiB });
    const ended = expect(running).rejects.toMatchObject({ kind: 'aborted' });
    await write(disk, 2.5 * MiB, pattern(70_000, 2));
    expect(await kindOf(disk.resize(SIZE * 2))).toBe('in-use');
    expect(await kindOf(disk.snapshots.create({ name: 'early' }))).toBe('in-use');
    expect(await kindOf(disk.commit())).toBe('in-use');
    expectBytes(await disk.read(0, SIZE), contents);
    expect(await own(disk)).toBeLessThan(256 * KiB);
    control.resume();
    // The first piece is there, and the rate lets the second wait.
    await vi.waitUntil(async () => (await own(disk)) >= 512 * KiB, { timeout: 50_000 });
    abort.abort();
    await ended;
    const closing = disk.stream({ rate: 16 * KiB });
    const closed = expect(closing).rejects.toMatchObject({ kind: 'aborted' });
    await disk.close();
    await closed;
    disk = await tab.engine.open(top.id);
    expectBytes(await disk.read(0, SIZE), contents);
    void disk.stream({ rate: 16 * KiB }).catch(() => undefined);
    await write(disk, 300, pattern(1000, 3));
    await disk.flush();
    tab.kill();
    tab = await newTab();
    disk = await tab.engine.open(top.id);
    expectBytes(await disk.read(0, SIZE), contents);
    const told: number[] = [];
    await disk.stream({ onProgress: (done, total) => told.push(done / total) });
    expect(told.at(-1)).toBe(1);
    expect((await disk.info())['backing-filename']).toBeUndefined();
    await write(disk, MiB, pattern(5000, 4));
    await disk.close();
    expect((await entry(top))?.backing).toBeUndefined();
    await tab.engine.library.delete(base.id);
    disk = await tab.engine.open(top.id);
    expectBytes(await disk.read(0, SIZE), contents);
    expect(await disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    await disk.close();
  });

  test('commit empties the overlay into the image below it, while the page goes on', async () => {
    let disk = await tab.engine.open(top.id);
    await write(disk, 200, pattern(300_000, 5));
    await write(disk, 1.5 * MiB, pattern(500_000, 6));
    await disk.snapshots.create({ name: 'old' });
    expect(await kindOf(disk.commit())).toBe('refused');
    await disk.snapshots.delete('old');
    const other = await tab.engine.library.overlay(base.id, { name: 'other' });
    expect(await kindOf(disk.commit())).toBe('in-use');
    await tab.engine.library.delete(other.id);
    const abort = new AbortController();
    const cancelled = expect(disk.commit({ signal: abort.signal, rate: 16 * KiB })).rejects.toMatchObject({ kind: 'aborted' });
    await write(disk, 2 * MiB, pattern(1000, 7));
    expectBytes(await disk.read(0, SIZE), contents);
    abort.abort();
    await cancelled;
    expectBytes(await disk.read(0, SIZE), contents);
    const running = disk.commit();
    const during = write(disk, 1000, pattern(100, 8));
    await running;
    await during;
    await disk.commit();
    expect(await own(disk)).toBe(0);
    expectBytes(await disk.read(0, SIZE), contents);
    await disk.close();
    const view = await tab.engine.open(base.id, { readOnly: true });
    expectBytes(await view.read(0, SIZE), contents);
    expect(await view.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    await view.close();
    disk = await tab.engine.open(top.id);
    expectBytes(await disk.read(0, SIZE), contents);
    await disk.close();
  });

  test('of a chain of three, what lies in between comes up and can go', async () => {
    const middle = top;
    let disk = await tab.engine.open(middle.id);
    await write(disk, MiB, pattern(200_000, 9));
    await disk.close();
    top = await tab.engine.library.overlay(middle.id, { name: 'third' });
    expect(await kindOf(tab.engine.open(middle.id))).toBe('in-use');
    disk = await tab.engine.open(top.id);
    await disk.stream({ base: 2 });
    expect((await entry(top))?.backing).toBe(base.id);
    await tab.engine.library.delete(middle.id);
    expectBytes(await disk.read(0, SIZE), contents);
    await disk.close();
  });
});
