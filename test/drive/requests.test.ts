/** Requests of a drive: both sides, bounds, vectors, cancelling, flushing; block configuration. */
import { describe, expect, test, vi } from 'vitest';
import type { DiskError } from '../../src/base/errors.ts';
import { MiB } from '../../src/base/units.ts';
import { blockConfiguration, physicalExponent } from '../../src/drive/block-configuration.ts';
import { Drive } from '../../src/drive/drive.ts';
import { expectBytes, pattern, SlowDisk } from '../adapters/slow-disk.ts';
import { FILL, faultyDrive, SIDES, settle } from './faulty.ts';

describe.each(SIDES)('a disk %s', (side) => {
  test('reads, writes, zeros and discards at any alignment', async () => {
    const { drive, contents } = await faultyDrive(side);
    const model = contents();
    const bytes = pattern(3001, 5);
    await drive.write(511, bytes);
    model.set(bytes, 511);
    await drive.zero(1000, 77, { unmap: true });
    model.fill(0, 1000, 1077);
    await drive.discard(5000, 0);
    expectBytes(await drive.read(0, 8192), model.subarray(0, 8192));
    const into = new Uint8Array(100);
    expect(await drive.read(950, into)).toBe(into);
    expect(into).toEqual(model.subarray(950, 1050));
    expectBytes(contents(), model);
    expect([drive.size, drive.sectors, drive.readOnly, drive.synchronous]).toEqual([model.length, model.length / 512, false, side === 'here']);
  });

  test('refuses what lies outside, and writes where none are allowed', async () => {
    const { drive } = await faultyDrive(side);
    const { size } = drive;
    await drive.read(size, 0);
    for (const [offset, length] of [
      [size, 1],
      [-1, 1],
      [0, size + 1],
      [Number.MAX_SAFE_INTEGER, 1],
    ] as const)
      for (const request of [() => drive.read(offset, length), () => drive.zero(offset, length), () => drive.discard(offset, length)])
        await expect(request()).rejects.toMatchObject({ kind: 'out-of-bounds' });
    for (const [offset, length, field] of [
      [0.5, 1, 'offset'],
      [0, Number.NaN, 'length'],
    ] as const)
      for (const request of [() => drive.read(offset, length), () => drive.zero(offset, length), () => drive.discard(offset, length)])
        await expect(request()).rejects.toMatchObject({ kind: 'refused', field });
    const readOnly = await faultyDrive(side, { readOnly: true });
    for (const request of [readOnly.drive.write(0, pattern(1)), readOnly.drive.zero(0, 1), readOnly.drive.discard(0, 1), readOnly.drive.resize(512)])
      await expect(request).rejects.toMatchObject({ kind: 'read-only' });
    await readOnly.drive.flush();
  });

  test('refuses what only a host device can do', async () => {
    const { drive } = await faultyDrive(side);
    const before = drive.statistics;
    await expect(drive.ioctl(0x2285)).rejects.toMatchObject({ kind: 'unsupported', message: expect.stringContaining('0x2285 is for a host device') });
    expect([drive.statistics, drive.ioStatus]).toEqual([before, (await faultyDrive(side)).drive.ioStatus]);
  });

  test('vectors are one request', async () => {
    const { drive, disk, contents } = await faultyDrive(side);
    const parts = [pattern(10, 1), new Uint8Array(), pattern(600, 2), pattern(1, 3)];
    await drive.writeVectored(500, parts);
    expect(contents().subarray(500, 1111)).toEqual(Uint8Array.from(parts.flatMap((part) => [...part])));
    const into = [new Uint8Array(1), new Uint8Array(600), new Uint8Array(10)];
    await drive.readVectored(500, into);
    expect(into.flatMap((part) => [...part])).toEqual([...contents().subarray(500, 1111)]);
    await drive.writeVectored(0, []);
    await drive.readVectored(0, []);
    expect(drive.statistics).toMatchObject({ read: { operations: 2, bytes: 611 }, write: { operations: 2, bytes: 611 } });
    if (disk instanceof SlowDisk) expect([disk.count('read'), disk.count('write')]).toEqual([2, 2]);
  });

  test('a request cancelled before it begins never reaches the medium', async () => {
    const { drive, faults } = await faultyDrive(side);
    const before = { ...faults.calls };
    const signal = AbortSignal.abort('because');
    for (const request of [
      drive.read(0, 512, { signal }),
      drive.write(0, pattern(512), { signal }),
      drive.zero(0, 512, { signal }),
      drive.discard(0, 512, { signal }),
      drive.flush({ signal }),
      drive.readVectored(0, [new Uint8Array(1)], { signal }),
      drive.multiwrite([{ offset: 0, bytes: pattern(1) }], { signal }),
    ])
      await expect(request).rejects.toMatchObject({ kind: 'aborted', cause: 'because' });
    expect(faults.calls).toEqual(before);
  });

  test('a kept request that is cancelled ends at once, and is not repeated', async () => {
    const { drive, failNext, contents } = await faultyDrive(side);
    const abort = new AbortController();
    failNext('changes', 'no-space');
    const cancelled = drive.write(0, new Uint8Array(512).fill(1), { signal: abort.signal });
    await settle();
    failNext('changes', 'no-space');
    const other = drive.write(512, new Uint8Array(512).fill(2));
    await settle();
    expect(drive.keptRequests).toBe(2);
    abort.abort();
    await expect(cancelled).rejects.toMatchObject({ kind: 'aborted' });
    expect(drive.keptRequests).toBe(1);
    drive.resume();
    await other;
    expect([contents()[0], contents()[512]]).toEqual([FILL, 2]);
    abort.abort();
    await settle();
  });
});

test('a request that runs completes with its own result, once', async () => {
  const { drive, disk, contents } = await faultyDrive('elsewhere');
  if (!(disk instanceof SlowDisk)) throw new Error('not a slow disk');
  let open = () => {};
  disk.gate = new Promise((resolve) => {
    open = resolve;
  });
  const abort = new AbortController();
  const completed = vi.fn();
  const done = vi.fn<(error: DiskError | undefined) => void>();
  const write = drive.write(0, pattern(512, 9), { signal: abort.signal }).then(completed, completed);
  const batch = drive.multiwrite([{ offset: 1024, bytes: pattern(512, 8), done }], { signal: abort.signal });
  abort.abort();
  await settle();
  expect(completed).not.toHaveBeenCalled();
  open();
  await Promise.all([write, batch]);
  expect(completed.mock.calls).toEqual([[undefined]]);
  expect(done.mock.calls).toEqual([[undefined]]);
  expectBytes(contents().subarray(0, 512), pattern(512, 9));
});

test('one that fails after it was cancelled does not stop the emulator', async () => {
  const pause = vi.fn();
  const { drive, failNext } = await faultyDrive('elsewhere', { writeErrors: 'stop', pause });
  const abort = new AbortController();
  failNext('changes', 'io');
  const write = drive.write(0, pattern(512), { signal: abort.signal });
  abort.abort();
  await expect(write).rejects.toMatchObject({ kind: 'aborted', cause: { kind: 'io' } });
  expect([pause.mock.calls.length, drive.keptRequests]).toEqual([0, 0]);
});

test('without waiting below there is no waiting here', async () => {
  const { drive, contents } = await faultyDrive('here');
  drive.writeSync(3, pattern(5, 1));
  drive.flushSync();
  expect(drive.readSync(3, 5)).toEqual(pattern(5, 1));
  expect(contents().subarray(3, 8)).toEqual(pattern(5, 1));
  const slow = await faultyDrive('elsewhere');
  expect(() => slow.drive.readSync(0, 1)).toThrow(expect.objectContaining({ kind: 'would-wait' }));
  expect(slow.drive.keptRequests).toBe(0);
});

describe('block configuration', () => {
  test("QEMU's defaults, and what is stated", () => {
    const plain = { logicalBlockSize: 512, physicalBlockSize: 512, minimumIo: 0, optimalIo: 0, bootIndex: -1, discardGranularity: 0 };
    expect(new Drive().configuration).toEqual(plain);
    const given = { logicalBlockSize: 4096, physicalBlockSize: MiB, minimumIo: 4096, optimalIo: 65536, bootIndex: 0, discardGranularity: 4096 };
    expect(new Drive({ configuration: given }).configuration).toEqual(given);
    expect(new Drive({ configuration: { bootIndex: 3 } }).configuration).toEqual({ ...plain, bootIndex: 3 });
  });

  test.each([
    ['logicalBlockSize', { logicalBlockSize: 256 }],
    ['logicalBlockSize', { logicalBlockSize: 1536 }],
    ['physicalBlockSize', { physicalBlockSize: 4 * MiB }],
    ['physicalBlockSize', { logicalBlockSize: 4096 }],
    ['minimumIo', { minimumIo: 100 }],
    ['optimalIo', { optimalIo: -512 }],
    ['discardGranularity', { discardGranularity: 0.5 }],
    ['bootIndex', { bootIndex: -2 }],
  ])('a bad %s is refused: %o', (field, configuration) => {
    expect(() => new Drive({ configuration })).toThrow(expect.objectContaining({ kind: 'refused', field }));
  });

  test.each([
    [512, 512, 0],
    [512, 4096, 3],
    [512, 2 * MiB, 12],
    [4096, 4096, 0],
    [2048, 8192, 2],
  ])('%i in %i is an exponent of %i', (logicalBlockSize, physicalBlockSize, exponent) => {
    expect(physicalExponent(blockConfiguration({ logicalBlockSize, physicalBlockSize }))).toBe(exponent);
  });
});
