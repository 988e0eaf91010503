/** Devices, trays and media: who may take what when, and the order in which everybody hears of it. */
import { describe, expect, test } from 'vitest';
import { OptionSet } from '../../src/base/options.ts';
import { KiB } from '../../src/base/units.ts';
import { CdTray } from '../../src/drive/cd-tray.ts';
import { type DriveDevice } from '../../src/drive/device.ts';
import { Drive } from '../../src/drive/drive.ts';
import type { DriveEvent } from '../../src/drive/drive-events.ts';
import type { Medium } from '../../src/drive/medium.ts';
import { openGraph } from '../../src/graph/graph.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { pattern } from '../adapters/slow-disk.ts';
import { faultyDisk, faultyDrive, SIDES, settle } from './faulty.ts';

/** A device that writes down what it hears. */
function listening(order: string[], more: Partial<DriveDevice> = {}): DriveDevice {
  return {
    name: 'cd',
    mediumChanged: (loaded) => order.push(`device ${loaded ? 'load' : 'eject'}`),
    ejectRequested: (force) => order.push(`device asked${force ? ' by force' : ''}`),
    ...more,
  };
}

const written = (order: string[], drive: Drive): void => {
  drive.on((event: DriveEvent) => {
    if (event.type === 'change') order.push(`change ${event.loaded}`);
    if (event.type === 'tray') order.push(`tray ${event.open ? 'open' : 'closed'}`);
    if (event.type === 'resize') order.push(`resize ${event.size}`);
  });
};

describe('devices', () => {
  test('a drive has one at a time', async () => {
    const { drive } = await faultyDrive();
    const disk: DriveDevice = { name: 'ide0' };
    drive.attach(disk);
    expect(drive.device).toBe(disk);
    expect(() => drive.attach({ name: 'ide1' })).toThrow(expect.objectContaining({ kind: 'in-use' }));
    expect(() => drive.attach(disk)).toThrow(expect.objectContaining({ kind: 'in-use' }));
    expect(() => drive.detach({ name: 'ide1' })).toThrow(expect.objectContaining({ kind: 'refused', field: 'device' }));
    drive.detach(disk);
    expect(drive.device).toBeUndefined();
    expect(() => drive.detach(disk)).toThrow(expect.objectContaining({ kind: 'refused', field: 'device' }));
    drive.attach({ name: 'ide1' });
  });

  test("the guest's block size is 512 again when the device has gone", async () => {
    const { drive } = await faultyDrive();
    const cd = listening([]);
    drive.attach(cd);
    expect(drive.guestBlockSize).toBe(512);
    drive.guestBlockSize = 2048;
    expect(drive.guestBlockSize).toBe(2048);
    expect(() => {
      drive.guestBlockSize = 1000;
    }).toThrow(expect.objectContaining({ kind: 'refused', field: 'guestBlockSize' }));
    drive.detach(cd);
    expect(drive.guestBlockSize).toBe(512);
  });

  test('the medium is removable without a device, or with one that hears of changes', async () => {
    const { drive } = await faultyDrive();
    expect(drive.removable).toBe(true);
    const disk: DriveDevice = { name: 'ide0' };
    drive.attach(disk);
    expect(drive.removable).toBe(false);
    await expect(drive.eject()).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('not removable') });
    await expect(drive.eject({ force: true })).rejects.toMatchObject({ kind: 'refused' });
    await expect(drive.change((await faultyDisk()).disk)).rejects.toMatchObject({ kind: 'refused' });
    expect(drive.isInserted).toBe(true);
    drive.detach(disk);
    drive.attach(listening([]));
    expect(drive.removable).toBe(true);
    await drive.eject();
  });

  test('what a device leaves out is "no", or nothing to do', async () => {
    const { drive } = await faultyDrive();
    expect([drive.trayOpen, drive.mediumLocked]).toEqual([false, false]);
    drive.attach({ name: 'cd', mediumChanged: () => undefined, mediumLocked: () => true });
    expect([drive.trayOpen, drive.mediumLocked]).toEqual([false, true]);
    await expect(drive.eject()).rejects.toMatchObject({ kind: 'locked' });
    await drive.eject({ force: true });
  });
});

describe.each(SIDES)('media, a disk %s', (side) => {
  test('come and go, and everybody hears of it in order', async () => {
    const order: string[] = [];
    const { drive, disk, contents } = await faultyDrive(side);
    drive.attach(listening(order));
    written(order, drive);
    await drive.write(0, pattern(512, 4));
    await drive.eject();
    expect(order).toEqual(['device eject', 'change false']);
    expect([drive.isInserted, drive.size, drive.sectors, drive.medium]).toEqual([false, 0, 0, undefined]);
    await expect(disk.read(0, 512)).rejects.toMatchObject({ kind: 'io' });
    expect(contents().subarray(0, 512)).toEqual(pattern(512, 4));
    await drive.eject();
    expect(order).toHaveLength(2);
    const next = await faultyDisk(side, 8 * KiB);
    drive.insert(next.disk);
    expect(order.slice(2)).toEqual(['device load', 'change true']);
    expect([drive.isInserted, drive.size, drive.sectors]).toEqual([true, 8 * KiB, 16]);
    expect(() => drive.insert(next.disk)).toThrow(expect.objectContaining({ kind: 'in-use' }));
    expect(order).toHaveLength(4);
    const third = await faultyDisk(side, 4 * KiB);
    await drive.change(third.disk);
    expect(order.slice(4)).toEqual(['device eject', 'change false', 'device load', 'change true']);
    expect(drive.size).toBe(4 * KiB);
  });

  test('requests without one fail, but for flush', async () => {
    const drive = new Drive();
    for (const request of [
      drive.read(0, 1),
      drive.write(0, new Uint8Array(1)),
      drive.zero(0, 1),
      drive.discard(0, 1),
      drive.resize(512),
      drive.geometry(),
    ])
      await expect(request).rejects.toMatchObject({ kind: 'no-medium' });
    expect(() => drive.readSync(0, 1)).toThrow(expect.objectContaining({ kind: 'no-medium' }));
    await drive.flush();
    drive.flushSync();
  });

  test('stay while they cannot be flushed, unless forced', async () => {
    const order: string[] = [];
    const { drive, failNext } = await faultyDrive(side);
    written(order, drive);
    await drive.write(0, pattern(512));
    failNext('changes', 'no-space');
    await expect(drive.eject()).rejects.toMatchObject({ kind: 'no-space' });
    expect([drive.isInserted, order]).toEqual([true, []]);
    failNext('changes', 'no-space');
    await drive.eject({ force: true });
    expect(order).toEqual(['change false']);
  });

  test('take what was kept for them along', async () => {
    const { drive, failNext } = await faultyDrive(side, { readErrors: 'stop' });
    failNext('reads', 'io');
    const read = drive.read(0, 512);
    const outcome = expect(read).rejects.toMatchObject({ kind: 'no-medium' });
    await settle();
    await expect(drive.eject()).rejects.toMatchObject({ kind: 'in-use' });
    await drive.eject({ force: true });
    await outcome;
    const next = await faultyDisk(side);
    drive.insert(next.disk);
    drive.resume();
    await settle();
    expect(next.faults.calls.reads).toBe(0);
  });

  test('may stay open, for who put them in', async () => {
    const { disk } = await faultyDisk(side);
    const drive = new Drive();
    drive.insert(disk, { keepOpen: true });
    await drive.eject();
    await disk.read(0, 512);
    await disk.close();
  });

  test('running requests end before the medium is closed', async () => {
    const { drive } = await faultyDrive(side);
    const read = drive.read(0, 512);
    const ejected = drive.eject();
    expect(await read).toHaveLength(512);
    await ejected;
  });
});

test('change opens the next medium as writable as the last, once that is closed', async () => {
  const order: string[] = [];
  const drive = new Drive({ readOnly: true });
  const { disk } = await faultyDisk();
  drive.insert(disk);
  written(order, drive);
  await drive.change(async ({ readOnly }) => {
    order.push(`open ${readOnly}`);
    await expect(disk.read(0, 1)).rejects.toMatchObject({ kind: 'io' });
    return (await faultyDisk()).disk;
  });
  expect(order).toEqual(['change false', 'open true', 'change true']);
  await expect(drive.write(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'read-only' });
  await expect(drive.change(() => Promise.reject(new Error('no such file')))).rejects.toThrow('no such file');
  expect(drive.isInserted).toBe(false);
});

describe('a CD tray', () => {
  async function cd() {
    const order: string[] = [];
    const drive = new Drive({ name: 'cd0' });
    const tray = new CdTray(drive);
    written(order, drive);
    drive.insert((await faultyDisk()).disk);
    return { drive, tray, order };
  }

  test('is open while nothing is in it, and tells the guest once of each change', async () => {
    const { drive, tray, order } = await cd();
    expect(order).toEqual(['change true']);
    expect([tray.sense(), tray.sense(), tray.sense(), tray.sense()]).toEqual(['no-medium', 'changed', 'ready', 'ready']);
    expect([tray.pollEvent(), tray.pollEvent()]).toEqual(['new-medium', undefined]);
    await drive.eject();
    expect(order.slice(1)).toEqual(['change false', 'tray open']);
    expect([drive.trayOpen, tray.sense(), tray.sense()]).toEqual([true, 'no-medium', 'no-medium']);
    drive.insert((await faultyDisk()).disk);
    expect(order.slice(3)).toEqual(['change true', 'tray closed']);
    expect([tray.sense(), tray.sense(), tray.sense()]).toEqual(['no-medium', 'changed', 'ready']);
  });

  test('locked and closed, it asks the guest; force takes the medium', async () => {
    const { drive, tray, order } = await cd();
    tray.pollEvent();
    tray.lock(true);
    expect(drive.mediumLocked).toBe(true);
    await expect(drive.eject()).rejects.toMatchObject({ kind: 'locked', message: expect.stringContaining('cd0') });
    expect([tray.pollEvent(), drive.isInserted, drive.mediumLocked]).toEqual(['eject-request', true, true]);
    await expect(drive.change((await faultyDisk()).disk)).rejects.toMatchObject({ kind: 'locked' });
    await drive.eject({ force: true });
    expect([drive.isInserted, drive.mediumLocked]).toEqual([false, false]);
    expect(order).toEqual(['change true', 'change false', 'tray open']);
  });

  test('the guest moves it, unless it locked it', async () => {
    const { drive, tray, order } = await cd();
    tray.lock(true);
    expect(tray.moveTray(true)).toBe(false);
    tray.lock(false);
    expect(tray.moveTray(true)).toBe(true);
    // The medium lies in the open tray.
    expect([drive.trayOpen, drive.isInserted, tray.sense()]).toEqual([true, true, 'no-medium']);
    tray.lock(true);
    await drive.eject();
    expect(drive.isInserted).toBe(false);
    expect(tray.moveTray(false)).toBe(true);
    expect(order).toEqual(['change true', 'tray open', 'change false', 'tray closed']);
  });
});

test('media with a life of their own: is one there, was it exchanged, eject and lock', async () => {
  const { disk } = await faultyDisk();
  const plain = new Drive();
  expect(() => plain.mediaChanged()).toThrow(expect.objectContaining({ kind: 'unsupported' }));
  plain.insert(disk);
  expect(plain.isInserted).toBe(true);
  expect(() => plain.mediaChanged()).toThrow(expect.objectContaining({ kind: 'unsupported' }));
  plain.moveTray(true);
  plain.lockMedium(true);
  const heard: string[] = [];
  let there = false;
  const other = await faultyDisk('elsewhere');
  const medium: Medium = Object.assign(other.disk, {
    isInserted: () => there,
    mediaChanged: () => there,
    moveTray: (open: boolean) => heard.push(`tray ${open}`),
    lock: (locked: boolean) => heard.push(`lock ${locked}`),
  });
  const drive = new Drive();
  drive.insert(medium);
  expect([drive.isInserted, drive.mediaChanged()]).toEqual([false, false]);
  there = true;
  expect([drive.isInserted, drive.mediaChanged()]).toEqual([true, true]);
  drive.moveTray(true);
  drive.lockMedium(false);
  expect(heard).toEqual(['tray true', 'lock false']);
});

test('a new size is told to the device, then to everybody', async () => {
  const order: string[] = [];
  const { drive, disk } = await faultyDrive();
  drive.attach({ name: 'ide0', resized: (size) => order.push(`device ${size}`) });
  written(order, drive);
  await drive.resize(8 * KiB);
  expect([drive.size, order]).toEqual([8 * KiB, ['device 8192', 'resize 8192']]);
  await drive.resize(8 * KiB);
  await disk.resize(4 * KiB);
  expect(order).toHaveLength(2);
  drive.noteSize();
  expect(order.slice(2)).toEqual(['device 4096', 'resize 4096']);
});

test('a size that the image refuses to change stays, and nobody hears of it', async () => {
  const order: string[] = [];
  const window = OptionSet.fromTree({ driver: 'raw', size: 8 * KiB, file: { driver: 'file', filename: 'whole' } });
  const disk = await openGraph({ options: window }, { readOnly: false, openFile: () => memoryStorage({ bytes: new Uint8Array(64 * KiB) }) });
  const drive = new Drive();
  drive.attach({ name: 'ide0', resized: (size) => order.push(`device ${size}`) });
  drive.insert(disk);
  written(order, drive);
  await expect(drive.resize(4 * KiB)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('fixed-size') });
  expect([drive.size, drive.sectors, order]).toEqual([8 * KiB, 16, []]);
  await drive.close();
  expect([drive.size, drive.sectors]).toEqual([0, 0]);
});

describe('a device that holds something back', () => {
  async function holding(save: () => Promise<void>) {
    const order: string[] = [];
    const { drive, disk } = await faultyDrive('elsewhere');
    const leaving = async () => {
      order.push('device saves');
      await save();
    };
    drive.attach(listening(order, { mediumLeaving: leaving }));
    written(order, drive);
    return { drive, disk, order };
  }

  test('saves before the medium goes', async () => {
    const { drive, order } = await holding(() => drive.write(0, pattern(512)));
    await drive.eject();
    expect(order).toEqual(['device saves', 'device eject', 'change false']);
  });

  test('keeps the medium by failing, unless it is taken by force', async () => {
    const { drive, order } = await holding(() => Promise.reject(new Error('not now')));
    await expect(drive.eject()).rejects.toThrow('not now');
    await expect(drive.close()).rejects.toThrow('not now');
    expect(order).toEqual(['device saves', 'device load', 'device saves', 'device load']);
    expect(drive.isInserted).toBe(true);
    await drive.eject({ force: true });
    expect(order.slice(4)).toEqual(['device eject', 'change false']);
  });
});

test('a medium opened again takes the place of the old one without a word', async () => {
  const order: string[] = [];
  const { drive, disk } = await faultyDrive();
  const bitmap = drive.trackDirty(4 * KiB);
  drive.attach(listening(order));
  written(order, drive);
  const again = await faultyDisk();
  drive.reopened(again.disk);
  expect([drive.medium === again.disk, order, bitmap.count]).toEqual([true, [], 0]);
  await drive.write(0, pattern(512, 6));
  expect(again.contents().subarray(0, 512)).toEqual(pattern(512, 6));
  await disk.read(0, 1);
  expect(() => drive.reopened(Object.create(disk, { size: { value: 512 } }) as Medium)).toThrow(
    expect.objectContaining({ kind: 'refused', field: 'size' }),
  );
  await drive.eject();
  expect(() => drive.reopened(disk)).toThrow(expect.objectContaining({ kind: 'refused' }));
});
