/**
 * Snapshots of a whole machine, over disks of this thread and disks that are asked by promises: what is saved and brought back, what is
 * refused before anything changes, what a failure leaves, and what QEMU makes of the images.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { Drives } from '../../src/drive/drives.ts';
import { deleteMachine, listMachines, loadMachine, readMachineState, saveMachine } from '../../src/drive/machine.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { SlowDisk } from '../adapters/slow-disk.ts';
import { filled, machineState } from '../crash/guest.ts';
import { FaultStorage } from '../layers/faults.ts';
import { firstDifference } from '../model/naive.ts';
import { qemuImg, qemuIo, requireClean } from '../oracle/qemu.ts';
import { faultyDisk, SIDES, type Side } from './faulty.ts';

const SIZE = 256 * KiB;

/** A machine with these qcow2 disks, each with its first sectors full of `1`. */
async function machine(names: readonly string[], side: Side = 'here') {
  const drives = new Drives();
  const disks = new Map<string, { disk: Disk; faults: FaultStorage; bytes: () => Uint8Array }>();
  for (const name of names) {
    const memory = memoryStorage();
    const faults = new FaultStorage(memory);
    const disk = await createDisk(faults, { format: 'qcow2', size: SIZE, cluster_size: 4096 });
    await disk.write(0, filled(9, 1));
    disks.set(name, { disk, faults, bytes: () => memory.bytes() });
    drives.add({ name }).insert(side === 'here' ? disk : new SlowDisk(disk, 0));
  }
  const of = (name: string) => disks.get(name) as { disk: Disk; faults: FaultStorage; bytes: () => Uint8Array };
  const stamps = () => Promise.all(names.map(async (name) => new Uint32Array((await of(name).disk.read(0, 4)).slice().buffer)[0]));
  const stamp = async (value: number) => {
    for (const name of names) await of(name).disk.write(0, filled(9, value));
  };
  /** Opens all disks again, as after a failure that condemned one. */
  const reopen = async () => {
    for (const name of names) {
      const drive = drives.find(name);
      await drive?.close({ force: true });
      const { faults, bytes } = of(name);
      const disk = await openDisk(faults, { format: 'qcow2' });
      disks.set(name, { disk, faults, bytes });
      drive?.insert(disk);
    }
  };
  return { drives, of, stamps, stamp, reopen };
}

const short = (sets: Awaited<ReturnType<typeof listMachines>>) =>
  sets.map(({ name, complete, missing, vmStateSize }) => [name, complete, missing.join(), vmStateSize]);

describe.each(SIDES)('over disks of a thread: %s', (side) => {
  it('all drives and the state come back together, as often as wanted', async () => {
    const { drives, stamps, stamp, of } = await machine(['hda', 'hdb', 'hdc'], side);
    const empty = drives.add({ name: 'cd0' });
    const readOnly = drives.add({ name: 'cd1', readOnly: true });
    readOnly.insert(await createDisk(memoryStorage(), { format: 'raw', size: SIZE }));
    const state = machineState('first', 9_000_000);
    const progress: number[] = [];
    const pieces = [state.subarray(0, 4096), state.subarray(4096, 5_000_000), state.subarray(5_000_000)];
    const saved = await saveMachine(drives, { name: 'first', state: pieces, vmClockNanoseconds: 5e9, onProgress: (done) => progress.push(done) });
    expect(saved).toMatchObject({ name: 'first', vmStateSize: 9_000_000, drives: ['hda', 'hdb', 'hdc'], missing: [], complete: true });
    expect(progress.at(-1)).toBe(9_000_000);
    await stamp(2);
    await saveMachine(drives, { name: 'second', state: machineState('second', 70_000) });
    await stamp(3);
    const dirty = drives.find('hdb')?.trackDirty(64 * KiB);
    const loaded = await loadMachine(drives, 'first');
    expect(firstDifference(loaded.state, state)).toBe(-1);
    expect(loaded.snapshot).toEqual(saved);
    expect(await stamps()).toEqual([1, 1, 1]);
    expect(dirty?.bytes).toBe(SIZE);
    expect(firstDifference((await loadMachine(drives, 'second', { offset: 10_000 })).state, machineState('second', 70_000).subarray(10_000))).toBe(
      -1,
    );
    expect(await stamps()).toEqual([2, 2, 2]);
    expect(firstDifference(await readMachineState(drives, saved, { offset: 4090, length: 9000 }), state.subarray(4090, 13_090))).toBe(-1);
    expect(short(await listMachines(drives))).toEqual([
      ['first', true, '', 9_000_000],
      ['second', true, '', 70_000],
    ]);
    await deleteMachine(drives, 'first');
    expect(short(await listMachines(drives))).toEqual([['second', true, '', 70_000]]);
    for (const name of ['hda', 'hdb', 'hdc']) {
      expect(await of(name).disk.snapshots.list()).toHaveLength(1);
      expect(await of(name).disk.check()).toMatchObject({ corruptions: 0, leaks: 0 });
    }
    expect(empty.canSnapshot || readOnly.canSnapshot).toBe(false);
  });
});

it('the same name is replaced, on every drive, whatever was left of it', async () => {
  const { drives, of, stamps, stamp } = await machine(['hda', 'hdb']);
  const date = new Date(1_700_000_000_000);
  await saveMachine(drives, { name: 'x', state: machineState('a', 5000), date });
  await of('hdb').disk.snapshots.create({ name: 'x' });
  await of('hdb').disk.snapshots.create({ name: 'x.tabdisk-new' });
  await stamp(2);
  // At the same moment: they are told apart all the same.
  await saveMachine(drives, { name: 'x', state: machineState('b', 6000), date });
  await stamp(3);
  for (const name of ['hda', 'hdb']) expect((await of(name).disk.snapshots.list()).map((snapshot) => snapshot.name)).toEqual(['x']);
  expect(firstDifference((await loadMachine(drives, 'x')).state, machineState('b', 6000))).toBe(-1);
  expect(await stamps()).toEqual([2, 2]);
});

it('without a name it is called by date and time', async () => {
  const { drives } = await machine(['hda']);
  const { name } = await saveMachine(drives, { state: new Uint8Array(1), date: new Date(2026, 0, 2, 3, 4, 5) });
  expect(name).toBe('vm-20260102030405');
});

describe('refused before anything changes', () => {
  it('drives that cannot have snapshots, each by name', async () => {
    const { drives, of } = await machine(['hda']);
    drives.add({ name: 'hdb' }).insert(await createDisk(memoryStorage(), { format: 'raw', size: SIZE }));
    const files = new Map([['data', memoryStorage()]]);
    const outside = { format: 'qcow2', size: SIZE, data_file: 'data', resolve: () => files.get('data') as ReturnType<typeof memoryStorage> };
    drives.add({ name: 'hdc' }).insert(await createDisk(memoryStorage(), outside));
    const before = of('hda').bytes();
    const saving = saveMachine(drives, { name: 'x', state: new Uint8Array(5000) });
    await expect(saving).rejects.toThrow('the drive "hdb" (raw), the drive "hdc" (qcow2) is writable and cannot have snapshots');
    await expect(saving).rejects.toMatchObject({ kind: 'unsupported' });
    expect(firstDifference(of('hda').bytes(), before)).toBe(-1);
    await of('hda').disk.snapshots.create({ name: 'y', vmState: new Uint8Array(9).fill(1) });
    expect(short(await listMachines(drives))).toEqual([['y', false, 'hdb,hdc', 9]]);
    await expect(loadMachine(drives, 'y')).rejects.toMatchObject({ kind: 'unsupported' });
  });

  it('machines without a writable drive, without a state, and with requests that failed', async () => {
    const none = new Drives();
    none.add({ name: 'cd0' });
    await expect(saveMachine(none, { state: new Uint8Array(1) })).rejects.toMatchObject({ kind: 'refused' });
    const { drives, of } = await machine(['hda']);
    await expect(saveMachine(drives, { state: [] })).rejects.toThrow('no state');
    await expect(saveMachine(drives, { name: '', state: new Uint8Array(1) })).rejects.toThrow('cannot be called ""');
    await expect(saveMachine(drives, { name: 'x.tabdisk-new', state: new Uint8Array(1) })).rejects.toMatchObject({ kind: 'refused' });
    const { disk, failNext } = await faultyDisk();
    const [first] = drives;
    const stopping = drives.add({ name: 'hdb', writeErrors: 'stop' });
    stopping.insert(disk);
    failNext('changes', 'io');
    const write = stopping.write(0, new Uint8Array(512));
    while (stopping.keptRequests === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    Object.defineProperty(disk, 'snapshots', { value: of('hda').disk.snapshots });
    await expect(saveMachine(drives, { state: new Uint8Array(1) })).rejects.toMatchObject({ kind: 'in-use' });
    stopping.resume();
    await write;
    expect(first?.name).toBe('hda');
    expect(await of('hda').disk.snapshots.list()).toEqual([]);
  });

  it('loading what is not there, or only in part, or not with a state, or past bitmaps', async () => {
    const { drives, of, stamp, stamps } = await machine(['hda', 'hdb']);
    await expect(loadMachine(drives, 'x')).rejects.toMatchObject({ kind: 'not-found' });
    await expect(deleteMachine(drives, 'x')).rejects.toMatchObject({ kind: 'not-found' });
    const date = new Date(1_700_000_000_000);
    for (const name of ['hda', 'hdb']) await of(name).disk.snapshots.create({ name: 'disks', date });
    await of('hda').disk.snapshots.create({ name: 'part', date, vmState: new Uint8Array(9).fill(1) });
    // The same name, but not the same moment.
    await of('hda').disk.snapshots.create({ name: 'mixed', date, vmState: new Uint8Array(9).fill(1) });
    await of('hdb').disk.snapshots.create({ name: 'mixed', date: new Date(date.getTime() + 1) });
    await saveMachine(drives, { name: 'whole', state: machineState('whole', 700) });
    await stamp(2);
    await expect(loadMachine(drives, 'disks')).rejects.toThrow('has no machine state');
    await expect(loadMachine(drives, 'part')).rejects.toThrow('is not on the drive "hdb"');
    await expect(loadMachine(drives, 'mixed')).rejects.toThrow('is not on the drive');
    await of('hdb').disk.bitmaps.add({ name: 'b' });
    await expect(loadMachine(drives, 'whole')).rejects.toThrow('the drive "hdb" has dirty bitmaps');
    expect(await stamps()).toEqual([2, 2]);
    await of('hdb').disk.bitmaps.remove('b');
    await loadMachine(drives, 'whole');
    expect(await stamps()).toEqual([1, 1]);
  });
});

describe('a failure in the middle', () => {
  it('of saving leaves what was there: at every change to either drive', async () => {
    for (const struck of ['hda', 'hdb'] as const) {
      let failures = 0;
      for (let call = 1; ; call += struck === 'hda' ? 3 : 1) {
        const { drives, of, stamp, stamps, reopen } = await machine(['hda', 'hdb']);
        await saveMachine(drives, { name: 'x', state: machineState('old', 30_000) });
        await stamp(2);
        const { faults } = of(struck);
        faults.fault = { of: 'changes', kind: 'no-space', call: faults.calls.changes + call };
        const failed = await saveMachine(drives, { name: 'x', state: machineState('new', 30_000) }).then(
          () => false,
          () => true,
        );
        faults.fault = undefined;
        if (!faults.struck) break;
        if (failed) failures++;
        const usable = await Promise.all(['hda', 'hdb'].map((name) => of(name).disk.flush())).then(
          () => true,
          () => false,
        );
        // An image that a failed switch condemned keeps what was taken until the next time.
        if (failed && usable) expect(short(await listMachines(drives))).toEqual([['x', true, '', 30_000]]);
        await reopen();
        const complete = (await listMachines(drives)).filter((set) => set.complete);
        // Where the old set could not be deleted any more, the new one goes first.
        expect([...new Set(complete.map(({ name }) => name))]).toEqual(['x']);
        const { state } = await loadMachine(drives, 'x');
        expect(firstDifference(state, machineState(failed ? 'old' : 'new', 30_000))).toBe(-1);
        expect(await stamps()).toEqual(failed ? [1, 1] : [2, 2]);
        // What was left over goes with the next.
        await saveMachine(drives, { name: 'x', state: machineState('again', 100) });
        expect(short(await listMachines(drives))).toEqual([['x', true, '', 100]]);
        for (const name of ['hda', 'hdb']) {
          await of(name).disk.flush();
          expect(await of(name).disk.check()).toMatchObject(usable ? { corruptions: 0, leaks: 0 } : { corruptions: 0 });
        }
      }
      expect(failures).toBeGreaterThan(3);
    }
  });

  it('of loading says which drives were reverted, and loading again works', async () => {
    const { drives, of, stamp, stamps } = await machine(['hda', 'hdb']);
    await saveMachine(drives, { name: 'x', state: machineState('x', 30_000) });
    await stamp(2);
    const { faults } = of('hdb');
    faults.fault = { of: 'changes', kind: 'no-space', call: faults.calls.changes + 3 };
    await expect(loadMachine(drives, 'x')).rejects.toThrow(/reverted to "x": hda; not reverted: hdb: load it again/);
    faults.fault = undefined;
    await loadMachine(drives, 'x');
    expect(await stamps()).toEqual([1, 1]);
  });
});

describe('QEMU', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-machine-'));
  const put = (name: string, bytes: Uint8Array): string => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };

  it('finds the images sound and lists their sizes, and a mostly empty state takes little room', async () => {
    const { drives, of } = await machine(['hda', 'hdb']);
    const state = new Uint8Array(64 * MiB);
    for (let at = 0; at < state.length; at += 8 * MiB) state.fill(1 + at / MiB, at, at + 5000);
    await saveMachine(drives, { name: 'mostly empty', state });
    expect(of('hda').bytes().length).toBeLessThan(2 * MiB);
    await drives.closeAll();
    for (const name of ['hda', 'hdb']) {
      const path = put(name, of(name).bytes());
      requireClean(path, name);
      expect(qemuImg('snapshot', '-l', path)).toMatch(name === 'hda' ? /1 +mostly empty +64 MiB / : /1 +mostly empty +0 B /);
      qemuImg('snapshot', '-a', 'mostly empty', path);
    }
    qemuIo(join(folder, 'hda'), 'qcow2', ['read -b -P 9 8M 4608', 'read -b -P 0 9M 7M', 'read -b -P 57 56M 4608']);
  });

  it('reads zeros of the state as zeros, over a backing file that reaches further than the disk', async () => {
    for (const compat of ['1.1', '0.10'] as const) {
      const base = memoryStorage({ name: `base-${compat}` });
      const below = await createDisk(base, { format: 'qcow2', size: 20 * MiB });
      await below.write(0, new Uint8Array(20 * MiB).fill(0xbb));
      await below.close();
      const top = memoryStorage();
      const backing = { backing: { name: `base-${compat}`, format: 'qcow2' }, resolve: () => base };
      const disk = await createDisk(top, { format: 'qcow2', size: MiB, cluster_size: 4096, compat, ...backing });
      const drives = new Drives();
      drives.add({ name: 'hda' }).insert(disk);
      await saveMachine(drives, { name: 'x', state: [new Uint8Array(70_144).fill(5), new Uint8Array(200_192)] });
      await drives.closeAll();
      put(`base-${compat}`, base.bytes());
      const path = put(`top-${compat}`, top.bytes());
      requireClean(path, compat);
      qemuImg('snapshot', '-a', 'x', path);
      qemuIo(path, 'qcow2', ['read -b -P 5 0 70144', 'read -b -P 0 70144 200192']);
    }
  });

  it("wrote sets that are ours to load: its savevm's", async () => {
    const storage = memoryStorage({ bytes: gunzipSync(readFileSync(join(import.meta.dirname, '../formats/qcow2/fixtures/savevm.qcow2.gz'))) });
    const drives = new Drives();
    drives.add({ name: 'hda' }).insert(await openDisk(storage, { format: 'qcow2' }));
    expect(short(await listMachines(drives))).toEqual([
      ['one', true, '', 765],
      ['two', true, '', 765],
    ]);
    const { state } = await loadMachine(drives, 'one');
    expect(new TextDecoder().decode(state.subarray(0, 4))).toBe('QEVM');
    rmSync(folder, { recursive: true });
  });
});
