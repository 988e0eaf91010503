/** A backing file that is opened anew under its disk: for writing and back, while requests come in, and with storages that fail. */
import { expect, test } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import { KiB } from '../../src/base/units.ts';
import { reopenBacking } from '../../src/disk/reopen.ts';
import { commit, createDisk, type Disk, memoryStorage, openDisk, type Storage } from '../../src/index.ts';
import { FaultStorage } from '../layers/faults.ts';

const SIZE = 256 * KiB;

/** An overlay with `own` bytes of its own in front, over a base full of 7. */
async function overlay(): Promise<{ disk: Disk; bytes: () => Uint8Array; contents: Uint8Array }> {
  const base = memoryStorage({ name: 'base' });
  const full = await createDisk(base, { format: 'qcow2', size: SIZE });
  await full.write(0, new Uint8Array(SIZE).fill(7));
  await full.flush();
  const top = memoryStorage({ name: 'top' });
  // Each opening has bytes of its own, so that what was closed is really gone.
  let last = base.bytes();
  const resolve = (): Storage => memoryStorage({ name: 'base', bytes: last });
  const disk = await createDisk(top, { format: 'qcow2', size: SIZE, backing: { name: 'base', format: 'qcow2' }, resolve });
  await disk.write(0, new Uint8Array(1000).fill(1));
  const contents = await disk.read(0, SIZE);
  last = base.bytes();
  return { disk, bytes: () => last, contents };
}

const readAll = (disk: Disk): Promise<Uint8Array> => disk.read(0, SIZE);

test('it is committed into, and read-only again', async () => {
  const { disk, bytes, contents } = await overlay();
  const storage = memoryStorage({ name: 'base', bytes: bytes() });
  await expect(commit(disk)).rejects.toMatchObject({ kind: 'read-only' });
  const opening = runAsync(reopenBacking(disk.node, false, async () => storage));
  // Waits until it is open, and is served.
  const during = readAll(disk);
  await opening;
  expect(await during).toEqual(contents);
  await commit(disk);
  await runAsync(reopenBacking(disk.node, true, async () => memoryStorage({ name: 'base', bytes: storage.bytes(), readOnly: true })));
  expect(disk.node.backing?.readOnly).toBe(true);
  expect(await readAll(disk)).toEqual(contents);
  const alone = await openDisk(memoryStorage({ bytes: storage.bytes() }), { format: 'qcow2' });
  expect(await readAll(alone)).toEqual(contents);
});

test('that cannot be opened for writing is as it was', async () => {
  const { disk, bytes, contents } = await overlay();
  const open = async (readOnly: boolean): Promise<Storage> => {
    if (!readOnly) throw new Error('somebody has it');
    return memoryStorage({ name: 'base', bytes: bytes(), readOnly });
  };
  await expect(runAsync(reopenBacking(disk.node, false, open))).rejects.toThrow('somebody has it');
  expect(await readAll(disk)).toEqual(contents);
  const alone = await createDisk(memoryStorage(), { format: 'qcow2', size: SIZE });
  await expect(runAsync(reopenBacking(alone.node, false, open))).rejects.toMatchObject({ kind: 'refused' });
});

test('whose storage is full when it is closed leaves a disk that reads on', async () => {
  const { disk, bytes, contents } = await overlay();
  const full = new FaultStorage(memoryStorage({ name: 'base', bytes: bytes() }));
  await runAsync(reopenBacking(disk.node, false, async () => full));
  // Everything that comes after some copying finds no room.
  full.fault = { call: full.calls.changes + 1, of: 'changes', kind: 'no-space' };
  await expect(commit(disk)).rejects.toMatchObject({ kind: 'no-space' });
  full.fault = { call: full.calls.changes + 1, of: 'changes', kind: 'no-space' };
  const reopened = runAsync(reopenBacking(disk.node, true, async () => memoryStorage({ name: 'base', bytes: bytes(), readOnly: true })));
  await reopened.catch((error) => expect(error).toMatchObject({ kind: 'no-space' }));
  expect(await readAll(disk)).toEqual(contents);
  await disk.write(100_000, new Uint8Array(5).fill(9));
  contents.fill(9, 100_000, 100_005);
  expect(await readAll(disk)).toEqual(contents);
});
