/** What a page hears of its disks: failures, saves and losses, once each; and the console where nobody listens. */
import { afterEach, beforeEach, describe, expect, it, type Mock, vi } from 'vitest';
import { type V86Disk, type V86DiskEvent, V86Drive, v86Disk } from '../../src/adapters/v86.ts';
import { DiskError } from '../../src/base/errors.ts';
import { KiB } from '../../src/base/units.ts';
import { Drive } from '../../src/drive/drive.ts';
import { expectBytes, get, memoryDisk, noSpace, pattern, SlowDisk, set } from './slow-disk.ts';

const SIZE = 256 * KiB;

let console_: Mock;
beforeEach(() => {
  console_ = vi.spyOn(console, 'error').mockImplementation(() => undefined) as Mock;
});
afterEach(() => {
  vi.restoreAllMocks();
});

const said = (): string[] => console_.mock.calls.map(([text]) => String(text));
const newSlow = async (): Promise<SlowDisk> => new SlowDisk(await memoryDisk(pattern(SIZE)), 0);

function heard(disk: Pick<V86Disk, 'on'>): string[] {
  const events: string[] = [];
  disk.on((event: V86DiskEvent) =>
    events.push(
      event.type === 'saved'
        ? `saved ${event.bytes}`
        : event.type === 'lost'
          ? `lost ${event.bytes} ${event.error.kind}`
          : `${event.operation} ${event.error.kind}`,
    ),
  );
  return events;
}

describe('a disk without options', () => {
  it('tells the console that nothing is saved, once for a series of failures', async () => {
    const below = await newSlow();
    below.fault = (verb) => {
      if (verb === 'write') throw noSpace();
    };
    const disk = v86Disk(below, { saveRetry: 5 });
    disk.set(0, pattern(512, 2), () => undefined);
    await vi.waitFor(() => expect(below.count('write')).toBeGreaterThan(3));
    expect(said()).toHaveLength(1);
    expect(said()[0]).toContain('a write of a disk failed: The browser refuses more space');
    below.fault = () => undefined;
    await disk.save();
    below.fault = (verb) => {
      if (verb === 'write') throw noSpace();
    };
    disk.set(0, pattern(512, 2), () => undefined);
    await vi.waitFor(() => expect(said()).toHaveLength(2));
    await disk.close({ discard: true });
  });

  it('tells the console of a read that the guest waits for, once, and repeats it', async () => {
    vi.useFakeTimers();
    const below = await newSlow();
    below.fault = (verb) => {
      if (verb === 'read') throw new DiskError('corrupt', 'an entry points past the end');
    };
    const disk = v86Disk(below, { imageId: 'my pc' });
    const answer = vi.fn();
    disk.get(64 * KiB, 512, answer);
    await vi.advanceTimersByTimeAsync(4500);
    expect(below.count('read')).toBe(5);
    expect(said()).toEqual([expect.stringContaining('a read of my pc failed: an entry points past the end')]);
    below.fault = () => undefined;
    await vi.advanceTimersByTimeAsync(1000);
    expect(answer).toHaveBeenCalledOnce();
    vi.useRealTimers();
    await disk.close();
  });

  it('says nothing of failures to the console where somebody listens', async () => {
    const below = await newSlow();
    below.fault = (verb) => {
      if (verb === 'flush') throw new Error('device lost');
    };
    const disk = v86Disk(below, { saveRetry: 5 });
    const events = heard(disk);
    disk.set(0, pattern(512, 2), () => undefined);
    await vi.waitFor(() => expect(below.count('flush')).toBeGreaterThan(2));
    below.fault = () => undefined;
    await vi.waitFor(() => expect(events).toHaveLength(2));
    expect([events, said()]).toEqual([['write io', 'saved 512'], []]);
    await disk.close();
  });
});

describe('lost is', () => {
  it('what the guest wrote to a disk that is closed below it', async () => {
    const below = await newSlow();
    const disk = v86Disk(below, { saveDelay: 60_000 });
    const events = heard(disk);
    disk.set(0, pattern(1024, 2), () => undefined);
    // As `close({ discard: true })` of a disk in a worker.
    below.keepers.gone(new DiskError('lost', 'given up'));
    expect(events).toEqual(['lost 1024 lost']);
    disk.set(4096, pattern(1024, 2), () => undefined);
    expect(events).toHaveLength(1);
    await expect(disk.save()).rejects.toMatchObject({ kind: 'lost' });
    await expect(disk.close()).rejects.toMatchObject({ kind: 'lost' });
    // A disk that is opened anew gets it all.
    const again = await newSlow();
    await disk.resume({ disk: again });
    expectBytes(await again.inner.read(4096, 1024), pattern(1024, 2));
    expect(events).toEqual(['lost 1024 lost', 'saved 2048']);
    await disk.close();
  });

  it('what the guest writes after the disk, or its adapter, was closed: told once', async () => {
    const below = await newSlow();
    const disk = v86Disk(below);
    const events = heard(disk);
    await set(disk, 0, pattern(512, 3));
    await below.inner.close();
    expect(events).toEqual(['saved 512']);
    await set(disk, 512, pattern(512, 3));
    await set(disk, 1024, pattern(512, 3));
    expect(events).toEqual(['saved 512', 'lost 512 lost']);

    const other = v86Disk(await newSlow());
    await other.close();
    await set(other, 512, pattern(512, 3));
    await set(other, 1024, pattern(512, 3));
    expect(said()).toEqual([expect.stringContaining('512 bytes that the guest wrote to a disk are lost: The adapter is closed')]);
  });

  it('what cannot be saved because the image is gone, and is not tried again', async () => {
    const below = await newSlow();
    const disk = v86Disk(below, { saveRetry: 1, unsavedLimit: 0 });
    const events = heard(disk);
    below.fault = (verb) => {
      if (verb === 'flush') throw new DiskError('lost', 'the site’s data was cleared');
    };
    await set(disk, 0, pattern(512, 2));
    await vi.waitFor(() => expect(events).toEqual(['lost 512 lost']));
    const flushes = below.count('flush');
    await set(disk, 512, pattern(512, 2));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(below.count('flush')).toBe(flushes);
    expectBytes(await get(disk, 0, 512), pattern(512, 2));
    await disk.close({ discard: true });
  });
});

describe('a drive', () => {
  it('whose requests stop for ever tells the console, unless somebody can resume them', async () => {
    const failing = async (options: ConstructorParameters<typeof Drive>[0], listen = false) => {
      const below = await newSlow();
      const drive = new Drive({ name: 'hda', writeErrors: 'stop', ...options });
      if (listen) drive.on(() => undefined);
      drive.insert(below);
      below.fault = (verb) => {
        if (verb === 'write') throw noSpace();
      };
      const writes = [0, 512].map((at) => drive.write(at, pattern(512)));
      await vi.waitFor(() => expect(drive.keptRequests).toBe(2));
      below.fault = () => undefined;
      drive.resume();
      await Promise.all(writes);
    };
    await failing({ pause: () => undefined });
    await failing({}, true);
    expect(said()).toEqual([]);
    await failing({});
    expect(said()).toEqual([expect.stringContaining('The drive "hda": a write failed and waits for resume(): The browser refuses more space')]);
  });

  it('tells what a slot of v86 saves and loses', async () => {
    const below = await newSlow();
    const drive = new Drive({ name: 'hda', pause: () => undefined });
    drive.insert(below, { keepOpen: true });
    const slot = new V86Drive(drive, 'hda');
    const events = heard(slot);
    await slot.ready;
    await set(slot.image as V86Disk, 0, pattern(512, 9));
    await vi.waitFor(() => expect(events).toEqual(['saved 512']));
    await below.close();
    await set(slot.image as V86Disk, 0, pattern(512, 9));
    expect(events).toEqual(['saved 512', 'lost 512 lost']);
    await slot.detach();
  });
});
