/** Sockdrives as DOSBox-X uses them: ranges that come when they are there, sectors that are saved in the background, failures and power cuts. */
import { expect, test, vi } from 'vitest';
import { type SockdriveDrive, sockdrive } from '../../src/adapters/sockdrive.ts';
import { KiB } from '../../src/base/units.ts';
import { createDisk, DiskError, type DiskIo, memoryStorage } from '../../src/index.ts';
import { FaultStorage } from '../layers/faults.ts';
import { cutPower } from './power-cut.ts';
import { expectBytes, memoryDisk, pattern, SlowDisk } from './slow-disk.ts';

const RANGE = 256 * KiB;
const SIZE = 3 * RANGE + 63 * 512;
const URL = 'https://tabdisk/c';

/** A drive, and what is asked of it. */
class Dos {
  readonly errors: DiskError[] = [];
  readonly #waiting = new Map<number, (bytes: Uint8Array) => void>();
  drive!: SockdriveDrive;

  async open(disk: DiskIo): Promise<this> {
    const onError = (error: DiskError): void => void this.errors.push(error);
    const onNewRange = (range: number, bytes: Uint8Array): void => this.#waiting.get(range)?.(bytes);
    this.drive = await sockdrive({ [URL]: disk }, { onError })(URL, null, undefined, onNewRange);
    this.drive.ready();
    return this;
  }

  range(range: number): Promise<Uint8Array> {
    return new Promise((resolve) => {
      this.#waiting.set(range, resolve);
      this.drive.readRangeAsync(range);
    });
  }
}

test.each(['at once', 'after a while'])('hands out ranges and takes sectors (%s)', async (how) => {
  const image = pattern(SIZE, 4);
  const inner = await memoryDisk(image);
  const dos = await new Dos().open(how === 'at once' ? inner : new SlowDisk(inner));
  const { drive } = dos;
  expect(drive.info).toMatchObject({ url: URL, size: SIZE / KiB, sizeInBytes: SIZE, sector_size: 512, ahead_read: RANGE, range_count: 4 });
  expect([0, 511, 512, 1535].map((sector) => drive.range(sector))).toEqual([0, 0, 1, 2]);
  expectBytes(await dos.range(1), image.subarray(RANGE, 2 * RANGE));
  const last = new Uint8Array(RANGE);
  last.set(image.subarray(3 * RANGE));
  expectBytes(await dos.range(3), last);
  const reused = pattern(512, 9);
  for (const sector of [5, 6, SIZE / 512 - 1]) drive.write(sector, reused);
  reused.fill(0);
  expect(await drive.persist()).toBe(null);
  for (const sector of [5, 6, SIZE / 512 - 1]) image.set(pattern(512, 9), sector * 512);
  expectBytes(await inner.read(0, SIZE), image);
  expectBytes(await dos.range(0), image.subarray(0, RANGE));
  expect(drive.info).toMatchObject({ writeInBytes: 3 * 512 });
  expect(dos.errors).toEqual([]);
});

test('saves by itself', async () => {
  const inner = await memoryDisk(new Uint8Array(SIZE));
  const dos = await new Dos().open(inner);
  dos.drive.write(7, pattern(512, 1));
  await vi.waitFor(async () => expectBytes(await inner.read(7 * 512, 512), pattern(512, 1)));
});

test('what lies outside of the disk is not written, and told', async () => {
  const inner = await memoryDisk(pattern(SIZE));
  const dos = await new Dos().open(inner);
  dos.drive.readRangeAsync(4);
  dos.drive.readRangeAsync(-1);
  for (const sector of [SIZE / 512, -1, 0.5]) dos.drive.write(sector, new Uint8Array(512));
  await dos.drive.persist();
  expect(dos.errors.map(({ kind }) => kind)).toEqual(Array(5).fill('out-of-bounds'));
  expectBytes(await inner.read(0, SIZE), pattern(SIZE));
});

test('a save that fails is told, loses nothing, and works later', async () => {
  const faults = new FaultStorage(memoryStorage());
  const disk = await createDisk(faults, { format: 'qcow2', size: SIZE });
  const dos = await new Dos().open(disk);
  dos.drive.write(9, pattern(512, 2));
  faults.fault = { call: faults.calls.changes + 1, of: 'changes', kind: 'no-space' };
  await expect(dos.drive.persist()).rejects.toMatchObject({ kind: 'no-space' });
  expect(dos.errors).toEqual([expect.any(DiskError)]);
  faults.fault = undefined;
  await dos.drive.persist();
  expectBytes(await disk.read(9 * 512, 512), pattern(512, 2));
});

test('the geometry is the one of the partition table, or the one that the caller names', async () => {
  const disk = await memoryDisk(new Uint8Array(63 * 16 * 20 * 512));
  const { info } = await sockdrive({ [URL]: disk })(URL, null, undefined, () => undefined);
  expect(info).toMatchObject({ heads: 16, sectors: 63, cylinders: 20 });
  const geometry = { cylinders: 10, heads: 8, sectors: 32 };
  const named = await sockdrive({ [URL]: disk }, { geometry })(URL, null, undefined, () => undefined);
  expect(named.info).toMatchObject({ heads: 8, sectors: 32, cylinders: 10 });
});

test('other addresses go to the function that was there, or are not found', async () => {
  const disk = await memoryDisk(new Uint8Array(SIZE));
  await expect(sockdrive({ [URL]: disk })('https://else', null, undefined, () => undefined)).rejects.toMatchObject({
    kind: 'not-found',
    field: 'url',
  });
  const otherwise = vi.fn(async () => ({}) as SockdriveDrive);
  await sockdrive({ [URL]: disk }, { otherwise })('https://else', null, 'all', () => undefined, '/root');
  expect(otherwise).toHaveBeenCalledWith('https://else', null, 'all', expect.any(Function), '/root');
  expect(() => sockdrive({ [URL]: 5 } as never)).toThrow(expect.objectContaining({ kind: 'refused', field: URL }));
});

test('after a power cut the image is whole and has everything up to the last save', async () => {
  const states = await cutPower(async (disk) => {
    const { drive } = await new Dos().open(disk);
    const write = (at: number, bytes: Uint8Array): void => {
      for (let done = 0; done < bytes.length; done += 512) drive.write((at + done) / 512, bytes.subarray(done, done + 512));
    };
    return { write, flush: () => drive.persist() };
  });
  expect(states).toBeGreaterThan(100);
});
