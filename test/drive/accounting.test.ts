/** Accounting and what the monitor says: bytes, operations, times, histograms, `info block` and `info blockstats`. */
import { expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { CdTray } from '../../src/drive/cd-tray.ts';
import { Drive } from '../../src/drive/drive.ts';
import { Drives } from '../../src/drive/drives.ts';
import { blockInfo, blockInfoText, blockStats, blockStatsText } from '../../src/drive/report.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { faultyDrive, SIDES, settle } from './faulty.ts';

/** A clock that goes on by so many nanoseconds each time it is read. */
function ticking(steps: readonly number[]): () => number {
  let now = 1_000;
  let at = 0;
  return () => {
    now += steps[at++ % steps.length] ?? 0;
    return now;
  };
}

test.each(SIDES)('reads, writes and flushes are counted apart, on a disk %s', async (side) => {
  // Read twice a request: at its start and at its end.
  const { drive } = await faultyDrive(side, { clock: ticking([7, 500]) });
  await drive.read(0, 512);
  await drive.read(513, 1000);
  await drive.write(4096, new Uint8Array(1024));
  await drive.writeVectored(512, [new Uint8Array(10), new Uint8Array(20)]);
  await drive.flush();
  await drive.zero(0, 512);
  await drive.discard(0, 512);
  expect(drive.statistics).toMatchObject({
    read: { bytes: 1512, operations: 2, failedOperations: 0, totalTime: 1000 },
    write: { bytes: 1054, operations: 2, totalTime: 1000 },
    flush: { bytes: 0, operations: 1, totalTime: 500 },
    mergedWrites: 0,
  });
  expect(structuredClone(drive.statistics)).toEqual(drive.statistics);
});

test('the highest write is where its last sector begins', async () => {
  const { drive } = await faultyDrive();
  const highest = async (offset: number, length: number) => {
    await drive.write(offset, new Uint8Array(length));
    return drive.statistics.highestWriteOffset;
  };
  expect(await highest(0, 512)).toBe(0);
  expect(await highest(0, 513)).toBe(512);
  expect(await highest(8192, 1024)).toBe(8192 + 512);
  expect(await highest(100, 1)).toBe(8192 + 512);
  await drive.write(100_000, new Uint8Array());
  expect(drive.statistics.highestWriteOffset).toBe(8192 + 512);
});

test('a request that failed is no operation; one that was repeated is one', async () => {
  const { drive, failNext } = await faultyDrive();
  failNext('reads', 'io');
  await expect(drive.read(0, 512)).rejects.toMatchObject({ kind: 'io' });
  failNext('changes', 'no-space');
  const write = drive.write(0, new Uint8Array(512));
  await settle();
  drive.resume();
  await write;
  expect(drive.statistics).toMatchObject({
    read: { operations: 0, bytes: 0, failedOperations: 1 },
    write: { operations: 1, bytes: 512, failedOperations: 1 },
  });
});

test('latencies fall between boundaries', async () => {
  const times = [9_999, 10_000, 99_999, 5_000_000, 2_000_000_000];
  const { drive } = await faultyDrive('here', { clock: ticking(times.flatMap((time) => [1, time])) });
  for (const _ of times) drive.readSync(0, 1);
  const { boundaries, counts } = drive.statistics.read.latency;
  expect(boundaries).toEqual([10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000]);
  expect(counts).toEqual([1, 2, 0, 1, 0, 0, 1]);
  drive.accounting.setBoundaries('read', [10_000]);
  for (const _ of times) drive.readSync(0, 1);
  expect(drive.statistics.read.latency.counts).toEqual([1, 4]);
  expect(drive.statistics.read.operations).toBe(10);
  expect(() => drive.accounting.setBoundaries('write', [5, 5])).toThrow('assertion');
});

test('info block', async () => {
  const drives = new Drives();
  const base = memoryStorage({ name: 'base.img' });
  await (await createDisk(base, { format: 'raw', size: MiB })).close();
  const overlay = memoryStorage({ name: 'disk.qcow2' });
  const backing = { name: 'base.img', format: 'raw' };
  const resolve = async () => base;
  await (await createDisk(overlay, { format: 'qcow2', size: MiB, backing, resolve })).close();
  const hda = drives.add({ name: 'hda' });
  hda.attach({ name: 'ide0' });
  hda.enableIoStatus();
  hda.insert(await openDisk(overlay, { format: 'qcow2', resolve }));
  const cd = drives.add({ name: 'cd0' });
  new CdTray(cd).lock(true);
  cd.insert(await openDisk(memoryStorage({ name: 'cd.iso', bytes: new Uint8Array(2048) }), { format: 'raw', readOnly: true }));
  drives.add({ name: 'floppy0' });
  drives.add();
  const info = await drives.info();
  expect(info.map(blockInfoText)).toEqual([
    'hda: removable=0 io-status=ok file=disk.qcow2 backing_file=base.img ro=0 drv=qcow2 encrypted=0',
    'cd0: removable=1 locked=1 tray-open=0 file=cd.iso ro=1 drv=raw encrypted=0',
    'floppy0: removable=1 locked=0 tray-open=0 [not inserted]',
  ]);
  expect(info[0]).toEqual({
    device: 'hda',
    removable: false,
    locked: false,
    'io-status': 'ok',
    inserted: { file: 'disk.qcow2', ro: false, drv: 'qcow2', encrypted: false, backing_file: 'base.img' },
  });
  expect(info[2]).toEqual({ device: 'floppy0', removable: true, locked: false, tray_open: false });
  await drives.closeAll();
  expect(blockInfoText(await blockInfo(cd))).toBe('cd0: removable=1 locked=1 tray-open=1 [not inserted]');
});

test('info blockstats', async () => {
  const { drive } = await faultyDrive('here', { name: 'hda', clock: ticking([0, 250]) }, 64 * KiB);
  await drive.read(0, 4096);
  await drive.write(1024, new Uint8Array(512));
  await drive.flush();
  expect(blockStatsText(blockStats(drive))).toBe(
    'hda: rd_bytes=4096 wr_bytes=512 rd_operations=1 wr_operations=1 flush_operations=1 wr_total_time_ns=250 rd_total_time_ns=250 flush_total_time_ns=250',
  );
  expect(blockStats(drive).stats).toMatchObject({ wr_highest_offset: 1024, wr_merged: 0, failed_wr_operations: 0 });
  expect(blockStats(new Drive())).toMatchObject({ device: '', stats: { rd_bytes: 0, wr_highest_offset: 0 } });
});
