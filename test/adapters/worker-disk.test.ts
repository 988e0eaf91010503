/** A disk in the shape of Infinite Mac's: against a naive disk, at its bounds, with failures and power cuts. */
import { expect, test, vi } from 'vitest';
import { emulatorWorkerDisk } from '../../src/adapters/worker-disk.ts';
import { MiB } from '../../src/base/units.ts';
import { createDisk, type Disk, DiskError, memoryStorage } from '../../src/index.ts';
import { FaultStorage } from '../layers/faults.ts';
import { Random } from '../random.ts';
import { cutPower } from './power-cut.ts';
import { expectBytes } from './slow-disk.ts';

const SIZE = MiB + 512;

async function makeDisk(): Promise<{ disk: Disk; faults: FaultStorage }> {
  const faults = new FaultStorage(memoryStorage());
  return { disk: await createDisk(faults, { format: 'qcow2', size: SIZE, clusterSize: 4096 }), faults };
}

test('reads and writes what an array would, and ends where the disk does', async () => {
  const { disk } = await makeDisk();
  const own = emulatorWorkerDisk(disk, { name: 'Macintosh HD' });
  expect(own).toMatchObject({ name: 'Macintosh HD', size: SIZE, isCDROM: false, isFloppy: false });
  const model = new Uint8Array(SIZE);
  const random = new Random(5);
  const memory = new Uint8Array(100_000);
  for (let i = 0; i < 300; i++) {
    const at = random.between(0, SIZE + 1000);
    const length = random.between(0, random.chance(0.1) ? memory.length : 4000);
    const count = Math.max(0, Math.min(length, SIZE - at));
    if (random.chance(0.5) && (count > 0 || length === 0)) {
      memory.set(random.bytes(length));
      expect(own.write(memory, at, length)).toBe(count);
      model.set(memory.subarray(0, count), at);
    } else {
      expect(own.read(memory, at, length)).toBe(count);
      expectBytes(memory.subarray(0, count), model.subarray(at, at + count));
    }
  }
  own.close();
  own.close();
  expectBytes(disk.readSync(0, SIZE), model);
});

test('refuses what does not fit, by name', async () => {
  const { disk } = await makeDisk();
  const own = emulatorWorkerDisk(disk);
  const sector = new Uint8Array(512);
  expect(() => own.write(sector, SIZE, 512)).toThrow(expect.objectContaining({ kind: 'no-space', offset: SIZE }));
  expect(() => own.read(sector, -1, 512)).toThrow(expect.objectContaining({ kind: 'refused', field: 'position' }));
  expect(() => own.read(sector, 0, -1)).toThrow(expect.objectContaining({ kind: 'refused', field: 'length' }));
  expect(() => own.write([1] as never, 0, 1)).toThrow(expect.objectContaining({ kind: 'refused', field: 'bytes' }));
  own.close();
  expect(() => own.read(sector, 0, 512)).toThrow(expect.objectContaining({ kind: 'io', message: expect.stringContaining('closed') }));
  const waiting = { size: 512, readOnly: false, synchronous: false, readSync: () => 0, writeSync: () => undefined, flushSync: () => undefined };
  expect(() => emulatorWorkerDisk(waiting)).toThrow(expect.objectContaining({ kind: 'refused', field: 'disk' }));
});

test('a CD is not written, unless the caller says so', async () => {
  const { disk } = await makeDisk();
  const sector = new Uint8Array(512);
  expect(() => emulatorWorkerDisk(disk, { isCDROM: true }).write(sector, 0, 512)).toThrow(expect.objectContaining({ kind: 'read-only' }));
  expect(emulatorWorkerDisk(disk, { isCDROM: true, readOnly: false }).write(sector, 0, 512)).toBe(512);
});

test('sync and close flush, and say why not; what was written stays', async () => {
  const { disk, faults } = await makeDisk();
  const flush = vi.spyOn(disk, 'flushSync');
  const told: DiskError[] = [];
  const own = emulatorWorkerDisk(disk, { flushIdle: 60_000, onError: (error) => told.push(error) });
  own.sync();
  expect(flush).toHaveBeenCalledTimes(0);
  own.write(new Uint8Array(512).fill(7), 512, 512);
  faults.fault = { call: faults.calls.changes + 1, of: 'changes', kind: 'io' };
  for (const verb of [() => own.sync(), () => own.close()]) {
    expect(verb).toThrow(expect.objectContaining({ kind: 'io' }));
    faults.fault = { call: faults.calls.changes + 1, of: 'changes', kind: 'io' };
  }
  expect(told).toEqual([expect.any(DiskError)]);
  faults.fault = undefined;
  own.close();
  expect(disk.readSync(512, 1)).toEqual(Uint8Array.of(7));
});

test('after a power cut the image is whole and has everything up to the last flush', async () => {
  const states = await cutPower((disk) => {
    const own = emulatorWorkerDisk(disk, { cache: 0 });
    return { write: (at, bytes) => own.write(bytes, at, bytes.length), flush: () => own.sync() };
  });
  expect(states).toBeGreaterThan(100);
});
