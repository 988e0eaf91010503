/** Opening with `snapshot`: the guest's writes last until the disk is closed, and the image stays byte for byte as it was. */
import { describe, expect, it, vi } from 'vitest';
import { v86Disk } from '../../src/adapters/v86.ts';
import { type Io, runSync } from '../../src/base/io.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { Drive } from '../../src/drive/drive.ts';
import { qcow2 } from '../../src/formats/qcow2/index.ts';
import { raw } from '../../src/formats/raw/index.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { temporaryStorage } from '../../src/layers/temporary.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import { expectBytes, pattern } from '../adapters/slow-disk.ts';
import { FaultStorage } from '../layers/faults.ts';

const SIZE = 4 * 1024 * 1024;
const FORMATS = ['qcow2', 'raw'] as const;

async function image(format: (typeof FORMATS)[number]): Promise<MemoryStorage> {
  const storage = memoryStorage({ name: 'disk' });
  const disk = await createDisk(storage, { format, size: SIZE });
  await disk.write(0, pattern(200_000, 1));
  await disk.close();
  return storage;
}

/** Counts what is closed. */
class Watched extends FilterStorage {
  closed = 0;

  override *close(): Io<void> {
    this.closed++;
    yield* super.close();
  }
}

describe.each(FORMATS)('a %s image', (format) => {
  it('shows a v86 guest its writes until it is closed, and is untouched afterwards', async () => {
    const storage = await image(format);
    const before = storage.bytes();
    const disk = await openDisk(storage, { format, snapshot: true });
    expect([disk.readOnly, disk.size, disk.synchronous]).toEqual([false, SIZE, true]);
    const guest = v86Disk(disk);
    guest.set(100_001, pattern(150_000, 2), () => undefined);
    await guest.save();
    await guest.close();
    const next = v86Disk(disk);
    const seen = await new Promise<Uint8Array>((done) => next.get(99_000, 160_000, (bytes) => done(bytes.slice())));
    const expected = new Uint8Array(160_000);
    expected.set(pattern(200_000, 1).subarray(99_000));
    expected.set(pattern(150_000, 2), 1001);
    expectBytes(seen, expected);
    await next.close();
    await disk.close();
    expectBytes(storage.bytes(), before);
    const again = await openDisk(storage, { format, readOnly: true });
    expectBytes(await again.read(0, 200_000), pattern(200_000, 1));
  });

  it('takes every change that a disk has', async () => {
    const storage = await image(format);
    const before = storage.bytes();
    const drive = new Drive({ name: 'hd0' });
    const disk = await openDisk(storage, { format, snapshot: true, cache: 'writethrough' });
    drive.insert(disk);
    await drive.write(SIZE - 512, pattern(512, 3));
    await drive.zero(1000, 70_000, { unmap: true });
    await drive.discard(131_072, 65_536);
    await drive.flush();
    await drive.resize(SIZE * 2);
    await drive.write(SIZE * 2 - 1, new Uint8Array([7]));
    await disk.snapshots.create({ name: 'gone soon' });
    expectBytes(
      await drive.read(999, 70_002),
      Uint8Array.from([...pattern(1000, 1).slice(999), ...new Uint8Array(70_000), pattern(200_000, 1)[71_000] ?? 0]),
    );
    await disk.close();
    expectBytes(storage.bytes(), before);
  });
});

describe('where the writes go', () => {
  const changes = async (disk: Disk) => {
    await disk.write(70_000, pattern(5000, 4));
    await disk.flush();
    expectBytes(await disk.read(70_000, 5000), pattern(5000, 4));
  };

  it('is a storage of the caller, which vanishes when the disk is closed', async () => {
    const storage = await image('qcow2');
    const place = new Watched(memoryStorage({ name: 'scratch' }));
    const remove = vi.fn(async () => undefined);
    const disk = await openDisk(storage, { snapshot: Promise.resolve(temporaryStorage(place, remove)) });
    await changes(disk);
    expect([place.size > 0, place.closed, remove.mock.calls.length]).toEqual([true, 0, 0]);
    await disk.close();
    await disk.close();
    expect([place.closed, remove.mock.calls.length]).toEqual([1, 1]);
  });

  it('may be full: the image and what was written stay, and closing needs no room', async () => {
    const storage = await image('raw');
    const before = storage.bytes();
    const faults = new FaultStorage(memoryStorage());
    const disk = await openDisk(storage, { format: 'raw', snapshot: faults });
    await changes(disk);
    faults.fault = { call: faults.calls.changes + 1, of: 'changes', kind: 'no-space' };
    await expect(disk.write(3_000_000, pattern(10))).rejects.toMatchObject({ kind: 'no-space' });
    expectBytes(await disk.read(70_000, 5000), pattern(5000, 4));
    const { changes: made } = faults.calls;
    await disk.close();
    expect(faults.calls.changes).toBe(made);
    expectBytes(storage.bytes(), before);
  });

  it('must be empty, and needs qcow2; what fails lets go of everything', async () => {
    for (const options of [{ snapshot: memoryStorage({ bytes: pattern(10) }) }, { snapshot: true, formats: [raw], format: 'raw' }]) {
      const storage = new Watched(await image('raw'));
      await expect(openDisk(storage, options)).rejects.toMatchObject({ field: options.formats ? 'format' : 'snapshot' });
      expect(storage.closed).toBeGreaterThan(0);
    }
  });

  it('is over the whole chain, in whole sectors', async () => {
    const base = memoryStorage({ name: 'base', bytes: pattern(10_001, 6) });
    const overlay = memoryStorage({ name: 'overlay' });
    await createDisk(overlay, { format: 'qcow2', size: 20_480, backing: { name: 'base', format: 'raw' }, resolve: () => base });
    const disk = await openDisk(overlay, { format: 'qcow2', snapshot: true, resolve: () => base, formats: [qcow2, raw] });
    expectBytes(await disk.read(0, 10_001), pattern(10_001, 6));
    expect(disk.files.slice(1)).toEqual(['overlay', 'base']);
    await disk.close();
    const odd = await openDisk(base, { format: 'raw', snapshot: true });
    expect(odd.size).toBe(10_240);
    odd.writeSync(10_000, pattern(240, 7));
    expect(odd.readSync(9999, 2)).toEqual(Uint8Array.from([pattern(10_001, 6)[9999] ?? 0, pattern(240, 7)[0] ?? 0]));
    odd.closeSync();
    expectBytes(base.bytes(), pattern(10_001, 6));
    expect(runSync(base.allocatedSize())).toBeGreaterThan(0);
  });
});
