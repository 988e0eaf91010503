/** `v86Disk` as v86 writes to it: copies, read-your-writes, merged saves and when they happen, back-pressure. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type V86Disk, type V86DiskOptions, v86Disk } from '../../src/adapters/v86.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { expectBytes, get, getNow, memoryDisk, noSpace, pattern, SlowDisk } from './slow-disk.ts';

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

describe('writing', () => {
  it('takes a copy: v86 reuses the array at once', async () => {
    const { disk, below } = await slow();
    const reused = pattern(1536, 3);
    disk.set(512, reused, () => undefined);
    reused.fill(0xee);
    expectBytes(getNow(disk, 512, 1536), pattern(1536, 3));
    await disk.save();
    expectBytes(await below.inner.read(512, 1536), pattern(1536, 3));
    await disk.close();
  });

  it('shows a write to every read that follows, before the callback and over a load under way', async () => {
    const { disk, below } = await slow({ unsavedLimit: 0 });
    const early = get(disk, 0, BLOCK);
    const callback = vi.fn();
    disk.set(1024, pattern(512, 5), callback);
    expect(callback).not.toHaveBeenCalled();
    expectBytes(getNow(disk, 1024, 512), pattern(512, 5));
    const expected = image.slice(0, BLOCK);
    expected.set(pattern(512, 5), 1024);
    expectBytes(await early, expected);
    expectBytes(getNow(disk, 0, BLOCK), expected);
    await disk.save();
    expect(callback).toHaveBeenCalledOnce();
    expectBytes(await below.inner.read(0, BLOCK), expected);
    await disk.close();
  });

  it('does not read a block that is written whole', async () => {
    const { disk, below } = await slow();
    disk.set(BLOCK, pattern(2 * BLOCK, 9), () => undefined);
    expectBytes(getNow(disk, BLOCK + 512, BLOCK), pattern(2 * BLOCK, 9).subarray(512, 512 + BLOCK));
    await disk.save();
    expect(below.count('read')).toBe(0);
    await disk.close();
  });

  it('saves neighbouring writes as one, in order, then flushes', async () => {
    const { disk, below } = await slow();
    // Backwards, across a block's edge, and one apart.
    for (let sector = 80; sector >= 50; sector--) disk.set(sector * 512, pattern(512, sector), () => undefined);
    disk.set(100 * 512, pattern(1024, 100), () => undefined);
    await disk.save();
    expect(below.log).toEqual([
      { verb: 'write', offset: 50 * 512, length: 31 * 512 },
      { verb: 'write', offset: 100 * 512, length: 1024 },
      { verb: 'flush', offset: 0, length: 0 },
    ]);
    for (let sector = 50; sector <= 80; sector++) expectBytes(await below.inner.read(sector * 512, 512), pattern(512, sector));
    expect(disk.statistics).toMatchObject({ writes: 32, writtenBytes: 33 * 512, dirtyBytes: 0, saves: 1, savedBytes: 33 * 512 });
    await disk.close();
  });

  it('keeps whole blocks of zeros apart, for a disk that looks out for them', async () => {
    const { disk, below } = await slow();
    disk.set(0, pattern(BLOCK, 1), () => undefined);
    disk.set(BLOCK, new Uint8Array(3 * BLOCK), () => undefined);
    disk.set(4 * BLOCK, pattern(512, 2), () => undefined);
    // Part of a block.
    disk.set(4 * BLOCK + 512, new Uint8Array(512), () => undefined);
    await disk.save();
    expect(below.log.filter(({ verb }) => verb === 'write')).toEqual([
      { verb: 'write', offset: 0, length: BLOCK },
      { verb: 'write', offset: BLOCK, length: 3 * BLOCK },
      { verb: 'write', offset: 4 * BLOCK, length: 1024 },
    ]);
    await disk.close();
  });

  it('takes lengths that are no sectors', async () => {
    const { disk, below } = await slow();
    const expected = image.slice();
    for (const [start, length, seed] of [
      [512, 1, 1],
      [1024, 700, 2],
      [BLOCK - 512, 1000, 3],
    ] as const) {
      disk.set(start, pattern(length, seed), () => undefined);
      expected.set(pattern(length, seed), start);
    }
    expectBytes(await get(disk, 0, 2 * BLOCK), expected.subarray(0, 2 * BLOCK));
    await disk.save();
    expectBytes(await below.inner.read(0, image.length), expected);
    await disk.close();
  });

  it('keeps what is written to the padding, which the disk has no room for', async () => {
    const below = new SlowDisk(await memoryDisk(pattern(10_000)));
    const disk = v86Disk(below, { cacheSize: BLOCK });
    expect(disk.byteLength).toBe(10_240);
    disk.set(9728, pattern(512, 2), () => undefined);
    disk.set(10_240, pattern(512, 3), () => undefined);
    await disk.save();
    expectBytes(await get(disk, 9728, 512), pattern(512, 2));
    expectBytes(await below.inner.read(9728, 272), pattern(512, 2).subarray(0, 272));
    expect(below.size).toBe(10_000);
    await disk.close();
  });

  it('saves what was written during a save before it says so', async () => {
    const { disk, below } = await slow();
    disk.set(0, pattern(512, 2), () => undefined);
    const first = disk.save();
    disk.set(0, pattern(512, 3), () => undefined);
    disk.set(9 * BLOCK, pattern(512, 4), () => undefined);
    await Promise.all([disk.save(), disk.save()]);
    expectBytes(await below.inner.read(0, 512), pattern(512, 3));
    expectBytes(await below.inner.read(9 * BLOCK, 512), pattern(512, 4));
    expect(below.count('flush')).toBe(2);
    expect(disk.statistics.dirtyBytes).toBe(0);
    await first;
    await disk.close();
  });

  it('makes writers wait when unsaved data fills its memory', async () => {
    const { disk, below } = await slow({ unsavedLimit: 3 * BLOCK });
    let open = () => undefined as void;
    below.gate = new Promise((resolve) => {
      open = resolve;
    });
    const callbacks = [0, 2, 4, 6, 8].map((block) => {
      const callback = vi.fn();
      disk.set(block * BLOCK, pattern(512, block), callback);
      return callback;
    });
    expect(callbacks.map((callback) => callback.mock.calls.length)).toEqual([1, 1, 1, 0, 0]);
    expectBytes(getNow(disk, 8 * BLOCK, 512), pattern(512, 8));
    open();
    await vi.waitFor(() => expect(callbacks.map((callback) => callback.mock.calls.length)).toEqual([1, 1, 1, 1, 1]));
    await disk.close();
    for (const block of [0, 2, 4, 6, 8]) expectBytes(await below.inner.read(block * BLOCK, 512), pattern(512, block));
  });
});

describe('saving by itself', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });

  it('a moment after the first write, whatever is written next', async () => {
    const { disk, below } = await slow();
    disk.set(0, pattern(512, 2), () => undefined);
    await vi.advanceTimersByTimeAsync(15);
    disk.set(512, pattern(512, 3), () => undefined);
    expect(below.count('write')).toBe(0);
    await vi.advanceTimersByTimeAsync(15);
    expect(below.log.map(({ verb }) => verb)).toEqual(['write', 'flush']);
    expect(disk.statistics.dirtyBytes).toBe(0);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(below.count('flush')).toBe(1);
  });

  it('what was written during a save that takes long', async () => {
    const { disk, below } = await slow();
    let open = () => {};
    below.gate = new Promise((resolve) => {
      open = resolve;
    });
    disk.set(0, pattern(512, 2), () => undefined);
    await vi.advanceTimersByTimeAsync(2000);
    disk.set(512, pattern(512, 3), () => undefined);
    // Its time comes while the first save still waits.
    await vi.advanceTimersByTimeAsync(10_000);
    below.gate = undefined;
    open();
    await vi.advanceTimersByTimeAsync(5100);
    expect([below.count('write'), below.count('flush'), disk.statistics.dirtyBytes]).toEqual([2, 2, 0]);
  });

  it('a fifth of the time at most, where the guest writes on and on', async () => {
    const { disk, below } = await slow();
    below.delay = () => 50;
    for (let time = 0; time < 3000; time += 10) {
      disk.set(0, pattern(512, time + 1), () => undefined);
      await vi.advanceTimersByTimeAsync(10);
    }
    // A write and a flush take 100 ms, and then 400 ms pass.
    expect(below.count('flush')).toBeGreaterThanOrEqual(5);
    expect(below.count('flush')).toBeLessThanOrEqual(6);
  });

  it('what was written after a save of nothing that failed', async () => {
    const { disk, below } = await slow({ unsavedLimit: BLOCK });
    let broken = true;
    below.fault = () => {
      if (broken) throw noSpace();
    };
    const failed = disk.save();
    await Promise.all([expect(failed).rejects.toMatchObject({ kind: 'no-space' }), vi.advanceTimersByTimeAsync(100)]);
    broken = false;
    const done = vi.fn();
    disk.set(0, pattern(2 * BLOCK, 2), done);
    expect(done).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(5100);
    expect([done.mock.calls.length, disk.statistics.dirtyBytes]).toEqual([1, 0]);
  });

  it('when the page is hidden or left, all at once', async () => {
    const page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
    const frame = new EventTarget();
    vi.stubGlobal('document', page);
    vi.stubGlobal('addEventListener', frame.addEventListener.bind(frame));
    vi.stubGlobal('removeEventListener', frame.removeEventListener.bind(frame));
    const { disk, below } = await slow();
    for (let index = 0; index < 9; index++) disk.set(index * 2 * BLOCK, pattern(512, index), () => undefined);
    page.dispatchEvent(new Event('visibilitychange'));
    expect(below.log).toEqual([]);
    page.visibilityState = 'hidden';
    page.dispatchEvent(new Event('visibilitychange'));
    // Sent within the event: the page may hear no answer.
    expect(below.log.map(({ verb }) => verb)).toEqual([...Array(9).fill('write'), 'flush']);
    await vi.advanceTimersByTimeAsync(50);
    expect(disk.statistics).toMatchObject({ dirtyBytes: 0, saves: 1 });

    below.log.length = 0;
    disk.set(512, pattern(512, 99), () => undefined);
    frame.dispatchEvent(new Event('pagehide'));
    expect(below.log.map(({ verb }) => verb)).toEqual(['write', 'flush']);
    await vi.advanceTimersByTimeAsync(50);
    expectBytes(await below.inner.read(512, 512), pattern(512, 99));

    const closing = disk.close();
    await vi.advanceTimersByTimeAsync(50);
    await closing;
    below.log.length = 0;
    frame.dispatchEvent(new Event('pagehide'));
    page.dispatchEvent(new Event('visibilitychange'));
    expect(below.log).toEqual([]);
  });

  it('hurries a save that is under way when the page is left, and sends what was written since', async () => {
    const frame = new EventTarget();
    vi.stubGlobal('addEventListener', frame.addEventListener.bind(frame));
    const { disk, below } = await slow();
    for (let index = 0; index < 9; index++) disk.set(index * 2 * BLOCK, pattern(512, index), () => undefined);
    const saved = disk.save();
    expect(below.count('write')).toBe(4);
    disk.set(2 * BLOCK, pattern(1024, 77), () => undefined);
    frame.dispatchEvent(new Event('pagehide'));
    expect(below.log.map(({ verb }) => verb)).toEqual([...Array(9).fill('write'), 'flush', 'write', 'flush']);
    await vi.advanceTimersByTimeAsync(200);
    await saved;
    expectBytes(await below.inner.read(2 * BLOCK, 1024), pattern(1024, 77));
    expect(disk.statistics.dirtyBytes).toBe(0);
  });

  it('when the page is about to be left, and has the browser ask while something is unsaved', async () => {
    const page = new EventTarget();
    const frame = new EventTarget();
    vi.stubGlobal('document', page);
    vi.stubGlobal('addEventListener', frame.addEventListener.bind(frame));
    vi.stubGlobal('removeEventListener', frame.removeEventListener.bind(frame));
    const leave = () => {
      const event = new Event('beforeunload', { cancelable: true });
      frame.dispatchEvent(event);
      return event.defaultPrevented;
    };
    const { disk, below } = await slow();
    expect(leave()).toBe(false);
    disk.set(0, pattern(512, 1), () => undefined);
    expect(leave()).toBe(true);
    expect(below.log.map(({ verb }) => verb)).toEqual(['write', 'flush']);
    await vi.advanceTimersByTimeAsync(50);
    expect(leave()).toBe(false);
    disk.set(0, pattern(512, 1), () => undefined);
    page.dispatchEvent(new Event('freeze'));
    expect(below.count('write')).toBe(2);

    const quiet = await slow({ warnBeforeUnload: false });
    quiet.disk.set(0, pattern(512, 1), () => undefined);
    await vi.advanceTimersByTimeAsync(10);
    expect(leave()).toBe(false);
    expect(quiet.below.count('write')).toBe(1);

    // Synchronous disks have saved before the question.
    const sync = v86Disk(await memoryDisk(image));
    await vi.advanceTimersByTimeAsync(100);
    sync.set(0, pattern(512, 1), () => undefined);
    expect([leave(), sync.statistics.dirtyBytes]).toEqual([false, 0]);
    const forgetful = await slow({ temporary: true });
    forgetful.disk.set(0, pattern(512, 1), () => undefined);
    expect(leave()).toBe(false);
  });
});
