/** `v86Disk` as v86 reads from it, over a disk of this thread and over one that answers later: attaching, hits and misses, preloading. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type V86Disk, type V86DiskOptions, v86Disk } from '../../src/adapters/v86.ts';
import { V86_FLOPPY_SIZES } from '../../src/adapters/v86-size.ts';
import { DiskError } from '../../src/base/errors.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { errorsOf, expectBytes, get, getNow, loaded, memoryDisk, pattern, SlowDisk } from './slow-disk.ts';

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

describe('attaching', () => {
  it('is an instance of a class and calls onload with an empty event', async () => {
    const { disk } = await slow();
    expect(Object.getPrototypeOf(disk)).not.toBe(Object.prototype);
    expect(await loaded(disk)).toEqual({});
    expect(disk.buffer).toBeUndefined();
    expect(disk.get_as_file).toBeUndefined();
    await disk.close();
  });

  it('has the first sector at hand after load, for the partition table', async () => {
    const { disk } = await slow();
    expect(disk.get_from_cache(0, 512)).toBeUndefined();
    await loaded(disk);
    expectBytes(disk.get_from_cache(0, 512), image.subarray(0, 512));
    await disk.close();
  });

  it('calls onload inside load when nothing waits', async () => {
    const disk = v86Disk(await memoryDisk(image));
    const onload = vi.fn();
    disk.onload = onload;
    expect(disk.load()).toBeUndefined();
    expect(onload).toHaveBeenCalledExactlyOnceWith({});
    await disk.close();
  });

  it('calls onload even when loading fails, and says so', async () => {
    const { disk, below } = await slow();
    const errors = errorsOf(disk);
    below.fault = () => {
      throw new Error('cable pulled');
    };
    await expect(disk.prepare()).rejects.toThrow('cable pulled');
    await loaded(disk);
    expect(errors.map(({ kind, message }) => [kind, message])).toEqual([['io', 'The disk cannot be read: cable pulled']]);
    below.fault = () => undefined;
    expectBytes(await get(disk, 0, 512), image.subarray(0, 512));
    await disk.close();
  });

  it('pads hard disks to 512, CDs to 2048 and floppies to a format, with zeros', async () => {
    const odd = await memoryDisk(pattern(100_001));
    for (const [kind, size] of [
      ['hd', 100_352],
      ['cdrom', 100_352],
      ['floppy', 163_840],
    ] as const) {
      const disk = v86Disk(odd, { kind });
      expect(disk.byteLength).toBe(size);
      await loaded(disk);
      const tail = await get(disk, 99_840, size - 99_840);
      expectBytes(tail.subarray(0, 161), pattern(100_001).subarray(99_840));
      expect(tail.subarray(161).every((byte) => byte === 0)).toBe(true);
      await disk.close();
    }
    expect(v86Disk(await memoryDisk(pattern(2049)), { kind: 'cdrom' }).byteLength).toBe(4096);
  });

  it('knows the floppies v86 knows', async () => {
    expect(V86_FLOPPY_SIZES[0]).toBe(160 * KiB);
    expect(V86_FLOPPY_SIZES.at(-1)).toBe(3840 * KiB);
    for (const size of V86_FLOPPY_SIZES) expect(v86Disk(await memoryDisk(new Uint8Array(size)), { kind: 'floppy' }).byteLength).toBe(size);
    expect(v86Disk(await memoryDisk(pattern(720 * KiB + 512)), { kind: 'floppy' }).byteLength).toBe(800 * KiB);
  });

  it('refuses what v86 cannot attach', async () => {
    const huge = await openDisk(memoryStorage(), { format: 'raw' });
    expect(() => v86Disk(huge)).toThrow(expect.objectContaining({ kind: 'unsupported', field: 'size' }));
    await huge.resize(2 ** 41);
    expect(v86Disk(huge).byteLength).toBe(2 ** 41);
    await huge.resize(2 ** 41 + 512);
    expect(() => v86Disk(huge)).toThrow('2 TiB');
    expect(() => v86Disk(huge, { kind: 'floppy' })).toThrow('No floppy holds');
  });
});

describe('reading', () => {
  it('answers later on a miss and inside the call on a hit', async () => {
    const { disk, below } = await slow();
    expect(getNow(disk, 5 * BLOCK + 512, 1024)).toBeUndefined();
    expectBytes(await get(disk, 5 * BLOCK + 512, 1024), image.subarray(5 * BLOCK + 512, 5 * BLOCK + 1536));
    const reads = below.count('read');
    expectBytes(getNow(disk, 5 * BLOCK + 2048, 4096), image.subarray(5 * BLOCK + 2048, 5 * BLOCK + 6144));
    expect(below.count('read')).toBe(reads);
    expect(disk.statistics).toMatchObject({ reads: 3, readBytes: 1024 + 1024 + 4096, hits: 1, waitingReads: 0 });
    await disk.close();
  });

  it('answers inside every call over a synchronous disk', async () => {
    const disk = v86Disk(await memoryDisk(image));
    for (const [start, length] of [
      [0, 512],
      [3 * BLOCK - 512, 1024],
      [1 * MiB, 1 * MiB],
      [image.length - 512, 512],
    ] as const)
      expectBytes(getNow(disk, start, length), image.subarray(start, start + length));
    await disk.close();
  });

  it('shares one load between requests that miss the same block', async () => {
    const { disk, below } = await slow();
    const answers = await Promise.all([0, 512, 4096, 512].map((start) => get(disk, 2 * BLOCK + start, 512)));
    for (const [index, start] of [0, 512, 4096, 512].entries())
      expectBytes(answers[index], image.subarray(2 * BLOCK + start, 2 * BLOCK + start + 512));
    expect(below.log.filter(({ offset }) => offset === 2 * BLOCK)).toHaveLength(1);
    await disk.close();
  });

  it('reads neighbours in one request, and ahead of a sequential reader', async () => {
    const { disk, below } = await slow();
    await get(disk, 8 * BLOCK, 4 * BLOCK);
    expect(below.log).toEqual([{ verb: 'read', offset: 8 * BLOCK, length: 4 * BLOCK }]);
    let late = 0;
    for (let start = 12 * BLOCK; start < 60 * BLOCK; start += 4096) {
      const bytes = getNow(disk, start, 4096);
      if (!bytes) late++;
      expectBytes(bytes ?? (await get(disk, start, 4096)), image.subarray(start, start + 4096));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(late).toBeLessThan(8);
    expect(below.count('read')).toBeLessThan(20);
    await disk.close();
  });

  it('does not read ahead of a random reader, nor when told not to', async () => {
    const { disk, below } = await slow();
    for (const block of [40, 3, 17, 29, 8]) await get(disk, block * BLOCK, 512);
    expect(below.log.map(({ length }) => length)).toEqual([BLOCK, BLOCK, BLOCK, BLOCK, BLOCK]);
    await disk.close();
    const plain = await slow({ readAhead: 0 });
    for (let block = 0; block < 10; block++) await get(plain.disk, block * BLOCK, BLOCK);
    expect(plain.below.log.map(({ length }) => length)).toEqual(Array(10).fill(BLOCK));
    await plain.disk.close();
  });

  it('keeps no more than its capacity', async () => {
    const { disk, below } = await slow({ cacheSize: 4 * BLOCK, readAhead: 0 });
    for (const block of [1, 2, 3, 4, 1, 5]) await get(disk, block * BLOCK, 512);
    expect(below.count('read')).toBe(5);
    expect(getNow(disk, 1 * BLOCK, 512)).toBeDefined();
    expect(getNow(disk, 2 * BLOCK, 512)).toBeUndefined();
    await disk.close();
  });

  it('leaves an answer alone while the guest looks at it, whatever it asks for meanwhile', async () => {
    const disk = v86Disk(await memoryDisk(image), { cacheSize: 2 * BLOCK, readAhead: 0 });
    for (const [start, length] of [
      [3 * BLOCK, 4096],
      [8 * BLOCK - 512, 1024],
    ] as const) {
      // In memory, so that the answer may be the cache's own bytes.
      getNow(disk, start, length);
      let looked = 0;
      disk.get(start, length, (bytes) => {
        // Twice: the second time it is the one that was found last.
        for (let block = 10; block < 30; block++) for (const _ of [1, 2]) getNow(disk, block * BLOCK - 256 * (block % 2), 512);
        expectBytes(bytes, image.subarray(start, start + length));
        looked++;
      });
      expect(looked).toBe(1);
    }
    await disk.close();
  });

  it('fills with zeros past the end', async () => {
    const { disk } = await slow({ kind: 'cdrom', preload: false });
    expect(disk.byteLength).toBe(2 * MiB + 4096);
    const bytes = await get(disk, 2 * MiB, 16 * KiB);
    expectBytes(bytes.subarray(0, 2560), image.subarray(2 * MiB));
    expectBytes(bytes.subarray(2560), new Uint8Array(16 * KiB - 2560));
    expectBytes(await get(disk, 10 * MiB, 2048), new Uint8Array(2048));
    await disk.close();
  });

  it('calls back once after an abort, outside of it', async () => {
    const { disk, below } = await slow();
    let open = () => undefined as void;
    below.gate = new Promise((resolve) => {
      open = resolve;
    });
    const controller = new AbortController();
    const answer = vi.fn();
    disk.get(9 * BLOCK, 512, answer, { signal: controller.signal });
    controller.abort();
    expect(answer).not.toHaveBeenCalled();
    await Promise.resolve();
    expect(answer).toHaveBeenCalledOnce();
    open();
    await get(disk, 9 * BLOCK, 512);
    expect(answer).toHaveBeenCalledOnce();
    expect(disk.statistics.waitingReads).toBe(0);
    await disk.close();
  });

  it('lets a read that failed wait, reports it, and repeats it on resume', async () => {
    const { disk, below } = await slow();
    const errors = errorsOf(disk);
    below.fault = (verb) => {
      if (verb === 'read') throw new DiskError('corrupt', 'qcow2: L2 entry 7 points past the end', { format: 'qcow2' });
    };
    const answer = vi.fn();
    disk.get(4 * BLOCK, 512, (bytes) => answer(bytes.slice()));
    await vi.waitFor(() => expect(errors).toHaveLength(1));
    expect(errors[0]).toMatchObject({ kind: 'corrupt' });
    expect(answer).not.toHaveBeenCalled();
    await disk.resume();
    await vi.waitFor(() => expect(errors).toHaveLength(2));
    below.fault = () => undefined;
    await disk.resume();
    await vi.waitFor(() => expect(answer).toHaveBeenCalledOnce());
    expect(answer).toHaveBeenCalledWith(image.subarray(4 * BLOCK, 4 * BLOCK + 512));
    await disk.close();
  });

  it('answers a read that failed with zeros if the user says so, and keeps none of them', async () => {
    const { disk, below } = await slow();
    const errors = errorsOf(disk);
    below.fault = (verb) => {
      if (verb === 'read') throw new Error('bad sector');
    };
    const answer = get(disk, 4 * BLOCK, 512);
    await vi.waitFor(() => expect(errors).toHaveLength(1));
    await disk.resume({ unreadable: 'zero' });
    expectBytes(await answer, new Uint8Array(512));
    below.fault = () => undefined;
    expectBytes(await get(disk, 4 * BLOCK, 512), image.subarray(4 * BLOCK, 4 * BLOCK + 512));
    await disk.close();
  });

  it('repeats a read that failed by itself', async () => {
    const { disk, below } = await slow();
    let failures = 1;
    below.fault = () => {
      if (failures-- > 0) throw new Error('hiccup');
    };
    expectBytes(await get(disk, 0, 1024), image.subarray(0, 1024));
    await disk.close();
  });
});

describe('preloading', () => {
  it('a floppy is in memory whole, and its buffer shows writes', async () => {
    const floppy = pattern(1440 * KiB, 5);
    const below = new SlowDisk(await memoryDisk(floppy));
    const progress: number[] = [];
    const disk = v86Disk(below, { kind: 'floppy', cacheSize: 64 * KiB, onProgress: (done) => progress.push(done) });
    await loaded(disk);
    expect(progress).toEqual([1440 * KiB]);
    const reads = below.count('read');
    expect(reads).toBe(2);
    for (let start = 0; start < floppy.length; start += 18 * 512)
      expectBytes(getNow(disk, start, 18 * 512), floppy.subarray(start, start + 18 * 512));
    const live = pattern(512 * 18, 8);
    disk.set(36 * 512, live, () => undefined);
    live.fill(0);
    floppy.set(pattern(512 * 18, 8), 36 * 512);
    expectBytes(new Uint8Array(disk.buffer as ArrayBuffer), floppy);
    const file = disk.get_as_file?.('disk.img') as File;
    expect(file.name).toBe('disk.img');
    expectBytes(new Uint8Array(await file.arrayBuffer()), floppy);
    const got = vi.fn();
    disk.get_buffer(got);
    expect(got).toHaveBeenCalledExactlyOnceWith(disk.buffer);
    expect(below.count('read')).toBe(reads);
    await disk.close();
    expectBytes(await below.inner.read(0, floppy.length), floppy);
  });

  it('a CD answers at once after load, past its end too', async () => {
    const { disk, below } = await slow({ kind: 'cdrom' });
    await loaded(disk);
    expect(below.count('read')).toBe(3);
    const bytes = getNow(disk, 2 * MiB - 2048, 8192) as Uint8Array;
    expectBytes(bytes.subarray(0, 4608), image.subarray(2 * MiB - 2048));
    expectBytes(bytes.subarray(4608), new Uint8Array(8192 - 4608));
    await disk.close();
  });

  it('is not needed for the CD of a synchronous disk, nor done for hard disks unless asked', async () => {
    expect(v86Disk(await memoryDisk(image), { kind: 'cdrom' }).buffer).toBeUndefined();
    const got = vi.fn();
    v86Disk(await memoryDisk(image)).get_buffer(got);
    expect(got).toHaveBeenCalledExactlyOnceWith();
    expect(v86Disk(await memoryDisk(image), { preload: true }).buffer?.byteLength).toBe(image.length);
  });

  it('that fails leaves the rest to be read on demand', async () => {
    const { disk, below } = await slow({ kind: 'cdrom' });
    const errors = errorsOf(disk);
    below.fault = (_verb, offset) => {
      if (offset === MiB) throw new Error('scratch');
    };
    await loaded(disk);
    expect(errors).toHaveLength(1);
    expectBytes(getNow(disk, 4096, 2048), image.subarray(4096, 6144));
    below.fault = () => undefined;
    expectBytes(await get(disk, MiB, 2048), image.subarray(MiB, MiB + 2048));
    await disk.close();
  });
});
