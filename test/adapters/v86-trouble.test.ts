/** `v86Disk` when things go wrong or change underneath: failed saves, read-only disks, reverted snapshots, emulator states of another disk. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type V86Disk, type V86DiskOptions, type V86StateMismatch, v86Disk } from '../../src/adapters/v86.ts';
import { DiskError } from '../../src/base/errors.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { errorsOf, expectBytes, get, getNow, loaded, memoryDisk, noSpace, pattern, SlowDisk, set } from './slow-disk.ts';

const BLOCK = 32 * KiB;

let image: Uint8Array;
beforeEach(() => {
  image = pattern(2 * MiB + 512 * 5, 7);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function slow(options: V86DiskOptions = {}): Promise<{ disk: V86Disk; below: SlowDisk }> {
  const below = new SlowDisk(await memoryDisk(image));
  return { disk: v86Disk(below, options), below };
}

describe('a disk that cannot be written', () => {
  const failing = async (fault: SlowDisk['fault'], options: V86DiskOptions = {}) => {
    const made = await slow({ saveDelay: 5, saveRetry: 20, ...options });
    const onSaved = vi.fn();
    made.disk.on(({ type }) => type === 'saved' && onSaved());
    made.below.fault = fault;
    return { ...made, errors: errorsOf(made.disk), onSaved };
  };
  const fullDisk = (verb: string) => {
    if (verb === 'write') throw noSpace();
  };

  it('keeps everything in memory, tells the page once, and saves when it can', async () => {
    const { disk, below, errors, onSaved } = await failing(fullDisk, { cacheSize: 8 * BLOCK });
    const callbacks = Array.from({ length: 12 }, (_, block) => {
      const callback = vi.fn();
      disk.set(block * BLOCK, pattern(4096, block), callback);
      return callback;
    });
    await vi.waitFor(() => expect(errors).toHaveLength(1));
    expect(errors[0]).toMatchObject({ kind: 'no-space' });
    expect(disk.statistics.failure).toMatchObject({ kind: 'no-space' });
    // Reads in between, of more blocks than the cache holds, must not push unsaved ones out.
    for (let block = 20; block < 40; block++) await get(disk, block * BLOCK, 512);
    for (let block = 0; block < 12; block++) expectBytes(getNow(disk, block * BLOCK, 4096), pattern(4096, block));
    expect(callbacks.map((callback) => callback.mock.calls.length)).toEqual([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    await expect(disk.save()).rejects.toMatchObject({ kind: 'no-space' });
    await expect(disk.resume()).rejects.toMatchObject({ kind: 'no-space' });
    expect(errors).toHaveLength(1);
    expect(disk.statistics.dirtyBytes).toBe(12 * 4096);
    below.fault = () => undefined;
    await disk.resume();
    expect(onSaved).toHaveBeenCalled();
    expect(disk.statistics).toMatchObject({ dirtyBytes: 0, failure: undefined });
    expect(callbacks.every((callback) => callback.mock.calls.length === 1)).toBe(true);
    for (let block = 0; block < 12; block++) expectBytes(await below.inner.read(block * BLOCK, 4096), pattern(4096, block));
    await disk.close();
  });

  it('tries again by itself, and says when it worked', async () => {
    const { disk, below, errors, onSaved } = await failing(fullDisk);
    disk.set(0, pattern(512, 4), () => undefined);
    await vi.waitFor(() => expect(below.count('write')).toBeGreaterThan(2));
    expect(errors).toHaveLength(1);
    below.fault = () => undefined;
    await vi.waitFor(() => expect(onSaved).toHaveBeenCalledOnce());
    expectBytes(await below.inner.read(0, 512), pattern(512, 4));
    await disk.close();
  });

  it('writes everything again after a flush that failed', async () => {
    let fail = true;
    const { disk, below } = await failing((verb) => {
      if (verb === 'flush' && fail) throw new Error('device lost');
    });
    disk.set(3 * BLOCK, pattern(2048, 8), () => undefined);
    await expect(disk.save()).rejects.toThrow('device lost');
    expect(disk.statistics.dirtyBytes).toBe(2048);
    below.log.length = 0;
    fail = false;
    await disk.save();
    expect(below.log).toEqual([
      { verb: 'write', offset: 3 * BLOCK, length: 2048 },
      { verb: 'flush', offset: 0, length: 0 },
    ]);
    await disk.close();
  });

  it('keeps what was written while a save was failing', async () => {
    let fail = true;
    const { disk, below } = await failing(
      (verb, offset) => {
        if (verb === 'write' && offset === 4 * BLOCK && fail) throw noSpace();
      },
      { saveDelay: 10_000, saveRetry: 20_000 },
    );
    for (const block of [0, 2, 4, 6]) disk.set(block * BLOCK, pattern(1024, block), () => undefined);
    const saved = disk.save();
    disk.set(4 * BLOCK + 512, pattern(1024, 44), () => undefined);
    await expect(saved).rejects.toMatchObject({ kind: 'no-space' });
    fail = false;
    await disk.save();
    const expected = image.slice();
    for (const block of [0, 2, 4, 6]) expected.set(pattern(1024, block), block * BLOCK);
    expected.set(pattern(1024, 44), 4 * BLOCK + 512);
    expectBytes(await below.inner.read(0, image.length), expected);
    await disk.close();
  });

  it('goes on with the same image opened again', async () => {
    const { disk } = await failing(() => {
      throw new DiskError('io', 'an earlier flush failed; open the image again to go on');
    });
    disk.set(512, pattern(512, 6), () => undefined);
    await expect(disk.save()).rejects.toThrow('open the image again');
    const again = new SlowDisk(await memoryDisk(image));
    await disk.resume({ disk: again });
    expectBytes(await again.inner.read(512, 512), pattern(512, 6));
    await expect(disk.resume({ disk: new SlowDisk(await memoryDisk(image.subarray(512))) })).rejects.toMatchObject({ kind: 'refused' });
    await disk.close();
  });

  it('stays open if closing cannot save, unless told to discard', async () => {
    const { disk, below } = await failing(fullDisk);
    disk.set(512, pattern(512, 6), () => undefined);
    await expect(disk.close()).rejects.toMatchObject({ kind: 'no-space' });
    expectBytes(getNow(disk, 512, 512), pattern(512, 6));
    await disk.close({ discard: true });
    await disk.close();
    expectBytes(await below.inner.read(512, 512), image.subarray(512, 1024));
  });
});

describe('a disk that may not be written', () => {
  it('keeps writes in memory, however many, and forgets them', async () => {
    const storage = memoryStorage({ bytes: image });
    const inner = await openDisk(storage, { format: 'raw', readOnly: true });
    const below = new SlowDisk(inner);
    const disk = v86Disk(below, { cacheSize: 4 * BLOCK, unsavedLimit: BLOCK, saveDelay: 1, saveRetry: 2 });
    const events = vi.fn();
    disk.on(events);
    for (let block = 0; block < 40; block++) await set(disk, block * BLOCK + 512, pattern(512, block + 1));
    await new Promise((resolve) => setTimeout(resolve, 20));
    for (let block = 0; block < 40; block++) {
      const expected = image.slice(block * BLOCK, block * BLOCK + 2048);
      expected.set(pattern(512, block + 1), 512);
      expectBytes(await get(disk, block * BLOCK, 2048), expected);
    }
    expect(below.count('write')).toBe(0);
    expect(events).not.toHaveBeenCalled();
    await expect(disk.save()).rejects.toMatchObject({ kind: 'read-only' });
    await expect(disk.invalidate()).rejects.toMatchObject({ kind: 'in-use' });
    await disk.invalidate({ discard: true });
    expectBytes(await get(disk, 512, 512), image.subarray(512, 1024));
    await disk.save();
    await disk.close();
    expectBytes(storage.bytes(), image);
  });

  it('can be asked for with a writable disk', async () => {
    const { disk, below } = await slow({ temporary: true });
    await set(disk, 0, pattern(512, 2));
    await disk.close();
    expectBytes(await below.inner.read(0, 512), image.subarray(0, 512));
  });
});

describe('after a snapshot was reverted', () => {
  it('the cache is dropped, reads that wait get the new contents', async () => {
    const { disk, below } = await slow({ generation: 'now' });
    await get(disk, 0, 512);
    await below.inner.write(0, pattern(4096, 77));
    expectBytes(getNow(disk, 0, 512), image.subarray(0, 512));
    let open = () => undefined as void;
    below.gate = new Promise((resolve) => {
      open = resolve;
    });
    const waiting = get(disk, 6 * BLOCK, 512);
    below.gate = undefined;
    await below.inner.write(6 * BLOCK, pattern(512, 78));
    await disk.invalidate({ generation: 'before' });
    expect(disk.get_state()).toEqual(['', 'before']);
    expectBytes(getNow(disk, 0, 512), pattern(4096, 77).subarray(0, 512));
    await below.inner.write(6 * BLOCK, pattern(512, 79));
    open();
    expectBytes(await waiting, pattern(512, 78));
    await new Promise((resolve) => setTimeout(resolve, 10));
    expectBytes(getNow(disk, 6 * BLOCK, 512), pattern(512, 78));
    await disk.close();
  });

  it('is refused while something is unsaved, or being saved', async () => {
    const { disk, below } = await slow();
    disk.set(0, pattern(512, 2), () => undefined);
    await expect(disk.invalidate()).rejects.toMatchObject({ kind: 'in-use' });
    const saved = disk.save();
    await expect(disk.invalidate()).rejects.toMatchObject({ kind: 'in-use' });
    disk.set(512, pattern(512, 3), () => undefined);
    await disk.invalidate({ discard: true });
    await saved;
    // The save under way was not torn: what it carried arrived, what came later is gone.
    expect(await below.inner.read(0, 1024)).toEqual(Uint8Array.from([...pattern(512, 2), ...image.subarray(512, 1024)]));
    expectBytes(getNow(disk, 512, 512), image.subarray(512, 1024));
    expect(disk.statistics.dirtyBytes).toBe(0);
    await disk.close();
  });

  it('a load that began before it is ignored', async () => {
    const { disk, below } = await slow({ kind: 'cdrom', preload: true });
    below.readsFirst = true;
    let open = () => undefined as void;
    below.gate = new Promise((resolve) => {
      open = resolve;
    });
    const waiting = get(disk, 6 * BLOCK, 512);
    await vi.waitFor(() => expect(below.count('read')).toBe(1));
    await below.inner.write(6 * BLOCK, pattern(512, 81));
    below.gate = undefined;
    await disk.invalidate();
    open();
    await new Promise((resolve) => setTimeout(resolve, 10));
    expectBytes(await waiting, pattern(512, 81));
    expectBytes(getNow(disk, 6 * BLOCK, 512), pattern(512, 81));
    await disk.close();
  });

  it('discarding waits for a save under way, which writes nothing else', async () => {
    const { disk, below } = await slow();
    const expected = image.slice();
    for (let block = 0; block < 18; block += 2) {
      disk.set(block * BLOCK, pattern(512, block), () => undefined);
      expected.set(pattern(512, block), block * BLOCK);
    }
    const saved = disk.save();
    await disk.invalidate({ discard: true });
    await saved;
    expectBytes(await below.inner.read(0, image.length), expected);
    await disk.close();
  });

  it('a preloaded image is loaded again', async () => {
    const { disk, below } = await slow({ kind: 'cdrom' });
    await loaded(disk);
    await below.inner.write(MiB, pattern(4096, 80));
    await disk.invalidate();
    expectBytes(getNow(disk, MiB, 4096), pattern(4096, 80));
    expectBytes(new Uint8Array(disk.buffer as ArrayBuffer, MiB, 4096), pattern(4096, 80));
    await disk.close();
  });

  it('another size is refused', async () => {
    const { disk, below } = await slow();
    await below.inner.resize(image.length + 512);
    await expect(disk.invalidate()).rejects.toMatchObject({ kind: 'refused', field: 'size' });
    await disk.close();
  });
});

it('activity is reported for a busy light', async () => {
  const onActivity = vi.fn();
  const { disk } = await slow({ onActivity });
  await get(disk, 0, 512);
  await get(disk, 512, 1024);
  disk.set(0, pattern(512), () => undefined);
  await disk.save();
  expect(onActivity.mock.calls.map(([activity]) => activity)).toEqual([
    { operation: 'read', bytes: 512, hit: false },
    { operation: 'read', bytes: 1024, hit: true },
    { operation: 'write', bytes: 512 },
    { operation: 'save', bytes: 512 },
  ]);
  await disk.close();
});

describe('emulator states', () => {
  it('hold ids only, and tell another disk or other contents', async () => {
    const mismatches: V86StateMismatch[] = [];
    const options = { imageId: 'disk-1', generation: 'snapshot-4', onStateMismatch: (one: V86StateMismatch) => mismatches.push(one) };
    const { disk } = await slow(options);
    const state = disk.get_state();
    expect(state).toEqual(['disk-1', 'snapshot-4']);
    disk.set_state(state);
    disk.set_state(null);
    expect(mismatches).toEqual([]);
    disk.set(0, pattern(512), () => undefined);
    disk.set_state(state);
    expect(mismatches).toEqual([{ what: 'generation', saved: state, present: ['disk-1', 'snapshot-4+1'] }]);
    disk.generation = 'snapshot-5';
    disk.set_state(['disk-1', 'snapshot-5']);
    disk.set_state(['disk-2', 'snapshot-5']);
    disk.set_state([new Uint8Array(3), 7]);
    expect(mismatches.slice(1).map(({ what }) => what)).toEqual(['image', 'unreadable']);
    await disk.close();
  });

  it('of an earlier visit never match by accident', async () => {
    const onStateMismatch = vi.fn();
    const first = await slow({ imageId: 'a' });
    const second = await slow({ imageId: 'a', onStateMismatch });
    second.disk.set_state(first.disk.get_state());
    expect(onStateMismatch).toHaveBeenCalledOnce();
    await first.disk.close();
    await second.disk.close();
  });
});
