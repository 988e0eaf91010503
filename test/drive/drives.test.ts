/** The list of drives, and what is asked of all of them at once. */
import { expect, test } from 'vitest';
import { KiB } from '../../src/base/units.ts';
import { Drives } from '../../src/drive/drives.ts';
import { pattern, SlowDisk } from '../adapters/slow-disk.ts';
import { faultyDisk } from './faulty.ts';

const names = (drives: Drives) => [...drives].map(({ name }) => name);

test('lists drives in the order in which they came, and finds them by their exact name', () => {
  const drives = new Drives();
  for (const name of ['hdb', 'cd0', 'hda', 'floppy0']) drives.add({ name });
  expect(names(drives)).toEqual(['hdb', 'cd0', 'hda', 'floppy0']);
  const hda = drives.find('hda');
  expect(hda?.name).toBe('hda');
  expect(drives.find('HDA') ?? drives.find('hd')).toBeUndefined();
  expect(() => drives.add({ name: 'cd0' })).toThrow(expect.objectContaining({ kind: 'in-use', field: 'name' }));
  const walked: string[] = [];
  for (let drive = drives.next(); drive; drive = drives.next(drive)) walked.push(drive.name);
  expect(walked).toEqual(names(drives));
});

test('anonymous drives are on no list', () => {
  const drives = new Drives();
  const first = drives.add();
  const second = drives.add();
  expect([names(drives), drives.find(''), first.name, second.name]).toEqual([[], undefined, '', '']);
  const hda = drives.add({ name: 'hda' });
  drives.makeAnonymous(hda);
  expect([names(drives), drives.find('hda'), hda.name]).toEqual([[], undefined, '']);
  drives.add({ name: 'hda' });
  expect(names(drives)).toEqual(['hda']);
});

test('a drive that a device or a job has is not removed', async () => {
  const drives = new Drives();
  const drive = drives.add({ name: 'hda' });
  const { disk } = await faultyDisk();
  drive.insert(disk);
  const device = { name: 'ide0' };
  drive.attach(device);
  await expect(drives.remove(drive)).rejects.toMatchObject({ kind: 'in-use' });
  drive.detach(device);
  drive.inUse = true;
  await expect(drives.remove(drive)).rejects.toMatchObject({ kind: 'in-use' });
  expect(drives.find('hda')).toBe(drive);
  drive.inUse = false;
  await drives.remove(drive);
  expect(drives.find('hda')).toBeUndefined();
  await expect(disk.read(0, 1)).rejects.toMatchObject({ kind: 'io' });
});

test('a drive that a job has keeps its size; use begins and ends in turn', async () => {
  const drives = new Drives();
  const drive = drives.add({ name: 'hda' });
  drive.insert((await faultyDisk()).disk);
  drive.inUse = true;
  expect(() => {
    drive.inUse = true;
  }).toThrow('assertion');
  await expect(drive.resize(4 * KiB)).rejects.toMatchObject({ kind: 'in-use' });
  drive.inUse = false;
  await drive.resize(4 * KiB);
  expect(drive.size).toBe(4 * KiB);
});

test('flushAll reaches every writable medium, and goes on after an error', async () => {
  const drives = new Drives();
  drives.add({ name: 'empty' });
  const made = await Promise.all(
    [{ name: 'a' }, { name: 'ro', readOnly: true }, {}, { name: 'b' }].map(async (options) => {
      const below = await faultyDisk('elsewhere');
      const drive = drives.add({ ...options, writeErrors: 'report' });
      drive.insert(below.disk);
      return { ...below, drive };
    }),
  );
  await drives.flushAll();
  const flushes = () => made.map(({ disk }) => disk instanceof SlowDisk && disk.count('flush'));
  expect(flushes()).toEqual([1, 0, 1, 1]);
  await made[0]?.drive.write(0, pattern(512));
  made[0]?.failNext('changes', 'no-space');
  await expect(drives.flushAll()).rejects.toMatchObject({ kind: 'no-space' });
  expect(flushes()).toEqual([2, 0, 2, 2]);
  await drives.closeAll();
  expect(made.map(({ drive }) => drive.isInserted)).toEqual([false, false, false, false]);
});

test('the events of all drives are heard in one place, until nobody listens', async () => {
  const drives = new Drives();
  const drive = drives.add({ name: 'cd0' });
  const heard: unknown[] = [];
  const stop = drives.on((event) => heard.push(event));
  drive.insert((await faultyDisk()).disk);
  stop();
  await drive.eject();
  expect(heard).toEqual([{ type: 'change', device: 'cd0', loaded: true }]);
});
