/** Machine state across the worker: in pieces, larger than one, and as snapshots of a machine whose disks are in both places. */
import { beforeEach, expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { Drives, listMachines, loadMachine, type RemoteDisk, saveMachine } from '../../src/index.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { ownLibrary, type Tab } from './engines.ts';

const own = ownLibrary();
let tab: Tab;

beforeEach(async () => {
  tab = await own.newTab();
});

const sizeOf = async (id: string): Promise<number> => (await tab.engine.library.list()).find((entry) => entry.id === id)?.storedSize ?? 0;

test('a state goes over in pieces and comes back, as a snapshot and beside the disk', async () => {
  const entry = await tab.engine.library.create({ name: 'a disk', format: 'qcow2', size: 3 * MiB });
  const disk = await tab.engine.open(entry.id);
  expect(disk.snapshots.possible).toBe(true);
  const state = new Uint8Array(70 * MiB);
  for (let at = 0; at < state.length; at += 7 * MiB) state.set(pattern(300_000, at % 251), at + 12_345);
  const { id } = await disk.snapshots.create({ name: 'x', vmState: state, vmClockNanoseconds: 5e9, icount: 7 });
  expect(await disk.snapshots.list()).toMatchObject([{ id, name: 'x', vmStateSize: state.length, vmClockNanoseconds: 5e9, icount: 7 }]);
  // Zeros take no space.
  expect(await sizeOf(entry.id)).toBeLessThan(8 * MiB);
  expectBytes(await disk.snapshots.readVmState(id), state);
  expectBytes(await disk.snapshots.readVmState('x', { offset: 6 * MiB, length: 5 * MiB }), state.subarray(6 * MiB, 11 * MiB));
  expect(await kindOf(disk.snapshots.readVmState('x', { offset: 70 * MiB, length: 1 }))).toBe('out-of-bounds');
  expect(await kindOf(disk.snapshots.readVmState('y'))).toBe('not-found');
  await disk.snapshots.rename('x', 'y');
  await disk.snapshots.apply('y');
  expectBytes(await disk.readVmState(7 * MiB, 5 * MiB), state.subarray(7 * MiB, 12 * MiB));
  await disk.clearVmState();
  expectBytes(await disk.readVmState(7 * MiB, 5 * MiB), new Uint8Array(5 * MiB));
  await disk.close();

  const raw = await tab.engine.library.create({ name: 'raw', format: 'raw', size: MiB });
  const other = await tab.engine.open(raw.id);
  expect(other.snapshots.possible).toBe(false);
  expect(await kindOf(other.snapshots.create({ name: 'x', vmState: pattern(10, 3) }))).toBe('unsupported');
  await other.close();
});

test('a machine with a disk in each place goes back whole, and comes back after the worker is gone', async () => {
  const ids: string[] = [];
  for (const place of ['opfs', 'indexeddb'] as const)
    ids.push((await tab.engine.library.create({ name: place, format: 'qcow2', size: MiB, place })).id);
  const open = async (): Promise<{ drives: Drives; disks: RemoteDisk[] }> => {
    const drives = new Drives();
    const disks = await Promise.all(ids.map((id) => tab.engine.open(id)));
    for (const [index, disk] of disks.entries()) drives.add({ name: `hd${index}` }).insert(disk);
    return { drives, disks };
  };
  const first = await open();
  for (const disk of first.disks) await disk.write(1000, pattern(100_000, 3));
  await saveMachine(first.drives, { name: 'then', state: pattern(5 * MiB, 3) });
  for (const disk of first.disks) await disk.write(0, new Uint8Array(MiB).fill(7));
  expectBytes((await loadMachine(first.drives, 'then')).state, pattern(5 * MiB, 3));
  for (const disk of first.disks) expectBytes(await disk.read(1000, 100_000), pattern(100_000, 3));
  for (const disk of first.disks) await disk.write(0, new Uint8Array(MiB).fill(7));
  tab.kill();

  tab = await own.newTab();
  const second = await open();
  expect(await listMachines(second.drives)).toMatchObject([{ name: 'then', complete: true, drives: ['hd0', 'hd1'] }]);
  expectBytes((await loadMachine(second.drives, 'then')).state, pattern(5 * MiB, 3));
  for (const disk of second.disks) {
    expectBytes(await disk.read(1000, 100_000), pattern(100_000, 3));
    expect(await disk.check()).toMatchObject({ corruptions: 0 });
  }
  await second.drives.closeAll();
});
