/** commit, commit-all and stream on the drives of a machine, and the name of a backing file. */
import { describe, expect, it } from 'vitest';
import { KiB } from '../../src/base/units.ts';
import {
  changeBackingFile,
  commitAll,
  commitDrive,
  type Disk,
  Drive,
  Drives,
  JobControl,
  memoryStorage,
  openDisk,
  streamDrive,
} from '../../src/index.ts';
import { pattern } from './fixtures.ts';
import { differsAt, Shelf } from './shelf.ts';

const SIZE = 200 * KiB;

/** An overlay of 30,000 bytes of its own, and its backing file. */
async function overlay(shelf: Shelf, name: string, seed: number): Promise<Disk> {
  const base = await shelf.image(`${name}-base`, { size: SIZE });
  await base.write(0, pattern(SIZE, seed));
  await base.close();
  const disk = await shelf.image(name, { size: SIZE, backing: `${name}-base` });
  await disk.write(50_000, pattern(30_000, seed + 1));
  await disk.close();
  return shelf.open(name, { writableBacking: 1 });
}

const rawContents = async (shelf: Shelf, name: string): Promise<Uint8Array> => {
  const disk = await shelf.open(name);
  return disk.read(0, disk.size);
};

async function own(disk: Disk): Promise<number> {
  let bytes = 0;
  for await (const { depth, present, length } of disk.map()) if (depth === 0 && present) bytes += length;
  return bytes;
}

describe('commit all', () => {
  it('commits each drive that has a backing file, in order, and passes over the others', async () => {
    const shelf = new Shelf();
    const drives = new Drives();
    const disks = [await overlay(shelf, 'one', 1), await overlay(shelf, 'two', 5)];
    const empty = drives.add({ name: 'cd' });
    drives.add({ name: 'vda' }).insert(disks[0] as Disk);
    drives.add({ name: 'alone' }).insert(await shelf.image('alone', { size: SIZE }));
    drives.add({ name: 'vdb' }).insert(disks[1] as Disk);
    const told: string[] = [];
    await commitAll(drives, { onProgress: (drive, done, total) => told.push(done === total ? drive : '') });
    expect(told.filter((name) => name !== '')).toEqual(['vda', 'vdb']);
    for (const [index, name] of ['one', 'two'].entries()) {
      expect(await own(disks[index] as Disk)).toBe(0);
      const wanted = pattern(SIZE, index * 4 + 1);
      wanted.set(pattern(30_000, index * 4 + 2), 50_000);
      expect(differsAt(await rawContents(shelf, `${name}-base`), wanted)).toBe(-1);
    }
    expect(empty.isInserted).toBe(false);
  });

  it('stops at the first that cannot be committed', async () => {
    const shelf = new Shelf();
    const drives = new Drives();
    const last = await overlay(shelf, 'last', 9);
    await overlay(shelf, 'first', 1);
    drives.add({ name: 'vda' }).insert(await shelf.open('first'));
    drives.add({ name: 'vdb' }).insert(last);
    await expect(commitAll(drives)).rejects.toMatchObject({ kind: 'read-only' });
    expect(await own(last)).toBeGreaterThan(0);
  });
});

describe('a job on a drive', () => {
  it('throws what is wrong, by kind', async () => {
    const shelf = new Shelf();
    const drive = new Drive({ name: 'vda' });
    await expect(commitDrive(drive)).rejects.toMatchObject({ kind: 'no-medium' });
    drive.insert(await shelf.image('alone', { size: SIZE }));
    await expect(commitDrive(drive)).rejects.toMatchObject({ kind: 'refused', field: 'backing_file' });
    const far = await shelf.image('far', { size: SIZE });
    const foreign = new Drive();
    // Not a disk of this thread, and without jobs of its own.
    foreign.insert(new Proxy(far, { getPrototypeOf: () => Object.prototype }));
    await expect(streamDrive(foreign)).rejects.toMatchObject({ kind: 'unsupported' });
  });

  it('has the drive to itself but for its guest', async () => {
    const shelf = new Shelf();
    const drives = new Drives();
    const drive = drives.add({ name: 'vda' });
    const disk = await overlay(shelf, 'top', 3);
    drive.insert(disk);
    const control = new JobControl();
    control.pause();
    const running = streamDrive(drive, { control });
    expect(drive.inUse).toBe(true);
    await expect(drive.resize(SIZE * 2)).rejects.toMatchObject({ kind: 'in-use' });
    await expect(drive.eject()).rejects.toMatchObject({ kind: 'in-use' });
    await expect(drives.remove(drive)).rejects.toMatchObject({ kind: 'in-use' });
    await expect(commitDrive(drive)).rejects.toMatchObject({ kind: 'in-use' });
    await drive.write(1000, pattern(2000, 8));
    control.resume();
    await running;
    expect(drive.inUse).toBe(false);
    expect(disk.files).toEqual(['top']);
    const wanted = pattern(SIZE, 3);
    wanted.set(pattern(30_000, 4), 50_000);
    wanted.set(pattern(2000, 8), 1000);
    expect(differsAt(await drive.read(0, SIZE), wanted)).toBe(-1);
    await drives.remove(drive);
  });
});

describe('the name of a backing file', () => {
  it('is changed in the image and nowhere else, and told as it is stored', async () => {
    const shelf = new Shelf();
    const disk = await overlay(shelf, 'top', 3);
    const contents = await disk.read(0, SIZE);
    expect(disk.backingFile).toEqual({ name: 'top-base', format: 'qcow2' });
    await changeBackingFile(disk, { name: '../elsewhere/./base', format: 'qcow2' });
    expect(disk.backingFile).toEqual({ name: '../elsewhere/./base', format: 'qcow2' });
    expect(differsAt(await disk.read(0, SIZE), contents)).toBe(-1);
    await expect(changeBackingFile(disk, { name: '', format: 'qcow2' })).rejects.toMatchObject({ kind: 'refused' });
    await expect(changeBackingFile(disk, { name: 'x'.repeat(1024) })).rejects.toMatchObject({ kind: 'refused', field: 'backing_file_size' });
    await disk.close();
    shelf.storages.set('../elsewhere/./base', shelf.storages.get('top-base') as never);
    shelf.storages.delete('top-base');
    const again = await shelf.open('top');
    expect(differsAt(await again.read(0, SIZE), contents)).toBe(-1);
    await changeBackingFile(again, { name: '' });
    expect(again.backingFile).toBeUndefined();
    await again.close();
    expect((await shelf.open('top')).files).toEqual(['top']);
  });

  it('has no room in a small header cluster, and no place in a raw image', async () => {
    const shelf = new Shelf();
    const small = await shelf.image('small', { size: SIZE, clusterSize: 512 });
    await expect(changeBackingFile(small, { name: 'n'.repeat(500) })).rejects.toMatchObject({ kind: 'no-space' });
    const raw = await openDisk(memoryStorage({ bytes: pattern(SIZE, 1) }), { format: 'raw' });
    await expect(changeBackingFile(raw, { name: 'base' })).rejects.toMatchObject({ kind: 'unsupported' });
    expect(raw.backingFile).toBeUndefined();
  });
});
