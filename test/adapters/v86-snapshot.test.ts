/** Snapshots of a machine in the real v86 (without a BIOS): memory and disks go back together, and what is refused changes nothing. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { V86 } from 'v86';
import { afterEach, expect, it } from 'vitest';
import { loadV86Machine, readV86Settings, saveV86Machine, V86Drive, type V86Slot } from '../../src/adapters/v86.ts';
import { DiskError } from '../../src/base/errors.ts';
import { MiB } from '../../src/base/units.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk } from '../../src/disk/open.ts';
import { Drives } from '../../src/drive/drives.ts';
import { deleteMachine, listMachines, saveMachine } from '../../src/drive/machine.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { expectBytes, memoryDisk, pattern, SlowDisk } from './slow-disk.ts';

const WASM = fileURLToPath(new URL('v86.wasm', import.meta.resolve('v86')));
const SIZE = 4 * MiB;

let emulator: V86 | undefined;
afterEach(async () => {
  await emulator?.destroy();
  emulator = undefined;
});

/** A machine that runs nothing, with a qcow2 disk in each slot. */
async function machine(names: readonly V86Slot[], more: Partial<Record<V86Slot, Disk>> = {}) {
  const mismatches: string[] = [];
  const drives = new Drives();
  const disks = new Map<string, SlowDisk>();
  const slots: V86Drive[] = [];
  for (const name of [...names, ...(Object.keys(more) as V86Slot[])]) {
    const disk = new SlowDisk(more[name] ?? (await createDisk(memoryStorage(), { format: 'qcow2', size: SIZE })), 0);
    const drive = drives.add({ name });
    drive.insert(disk);
    disks.set(name, disk);
    const options = { imageId: name, saveDelay: 60_000, saveRetry: 60_000, onStateMismatch: ({ what }: { what: string }) => mismatches.push(what) };
    slots.push(new V86Drive(drive, name, () => options));
  }
  await Promise.all(slots.map(({ ready }) => ready));
  const started = new V86({
    wasm_fn: async (imports) => (await WebAssembly.instantiate(await readFile(WASM), imports)).instance.exports,
    memory_size: 16 * MiB,
    vga_memory_size: MiB,
    disable_speaker: true,
    autostart: false,
    ...Object.fromEntries(slots.map(({ name, image }) => [name, image])),
  });
  emulator = started;
  await new Promise<void>((resolve) => started.add_listener('emulator-ready', () => resolve()));
  for (const slot of slots) slot.connect(started);
  const image = (name: V86Slot) => slots.find((slot) => slot.name === name)?.image as NonNullable<V86Drive['image']>;
  const disk = (name: V86Slot) => disks.get(name) as SlowDisk;
  const read = (name: V86Slot, at: number, length: number) =>
    new Promise<Uint8Array>((resolve) => image(name).get(at, length, (bytes) => resolve(bytes.slice())));
  return { started, drives, slots, image, disk, read, mismatches };
}

it('memory and disks go back together, and the guest goes on', async () => {
  const { started, drives, slots, image, disk, read, mismatches } = await machine(['hda', 'hdb']);
  started.write_memory(pattern(5000), 0x100000);
  image('hda').set(4096, pattern(70_000), () => undefined);
  image('hdb').set(0, pattern(512), () => undefined);
  await started.run();
  const settings = { memory: 16, images: { hda: 'a', hdb: 'b' }, note: 'x'.repeat(9000) };
  const saved = await saveV86Machine(started, slots, { name: 'then', settings });
  expect(started.is_running()).toBe(true);
  await started.stop();
  expectBytes(await disk('hda').inner.read(4096, 70_000), pattern(70_000));
  // The memory that is not zero, and no disk.
  expect(saved.vmStateSize).toBeLessThan(4 * MiB);
  expect(await readV86Settings(disk('hda'), 'then')).toEqual(settings);

  started.write_memory(new Uint8Array(5000).fill(1), 0x100000);
  image('hda').set(4096, new Uint8Array(70_000).fill(2), () => undefined);
  await image('hda').save();
  image('hda').set(0, new Uint8Array(4096).fill(3), () => undefined);
  image('hdb').set(0, new Uint8Array(512).fill(4), () => undefined);
  await loadV86Machine(started, slots, saved);
  expect(started.is_running()).toBe(false);
  expectBytes(started.read_memory(0x100000, 5000), pattern(5000));
  expectBytes(await read('hda', 4096, 69_632), pattern(69_632));
  expectBytes(await read('hda', 0, 4096), new Uint8Array(4096));
  expectBytes(await read('hdb', 0, 512), pattern(512));
  for (const name of ['hda', 'hdb'] as const) {
    await image(name).save();
    expect(image(name).statistics.dirtyBytes).toBe(0);
  }
  expectBytes(await disk('hdb').inner.read(0, 512), pattern(512));
  expect(mismatches).toEqual([]);
  await deleteMachine(drives, saved);
  expect(await listMachines(drives)).toEqual([]);
});

/** Makes every request of a disk wait until the result is called. */
function shut(disk: SlowDisk): () => void {
  let open = (): void => undefined;
  disk.gate = new Promise((resolve) => {
    open = resolve;
  });
  return open;
}

it('a read that is under way is waited for when saving, and answered when its time is gone', async () => {
  const { started, slots, image, disk, mismatches } = await machine(['hda']);
  const order: string[] = [];
  const open = shut(disk('hda'));
  image('hda').get(MiB, 512, () => order.push('read'));
  const saving = saveV86Machine(started, slots, { name: 'then' }).then(() => order.push('saved'));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(order).toEqual([]);
  open();
  await saving;
  expect(order).toEqual(['read', 'saved']);

  const openAgain = shut(disk('hda'));
  image('hda').get(2 * MiB, 512, (bytes) => {
    order.push(`zeros ${bytes.every((byte) => byte === 0)}`);
    openAgain();
  });
  await loadV86Machine(started, slots, 'then');
  expect(order.at(-1)).toBe('zeros true');
  expect(image('hda').statistics.waitingReads).toBe(0);
  expect(mismatches).toEqual([]);
});

it('after a failure half-way the emulator is left stopped, and whoever drives it knows', async () => {
  const { started, slots, disk } = await machine(['hda', 'hdb']);
  await started.run();
  await saveV86Machine(started, slots, { name: 'then' });
  const { snapshots } = disk('hdb').inner;
  const { apply } = snapshots;
  snapshots.apply = () => Promise.reject(new DiskError('io', 'no longer readable'));
  const told: string[] = [];
  const loading = loadV86Machine(started, slots, 'then', { onRevert: () => told.push('reverting') });
  await expect(loading).rejects.toThrow('no longer readable (reverted to "then": hda; not reverted: hdb: load it again)');
  expect([started.is_running(), told]).toEqual([false, ['reverting']]);
  snapshots.apply = apply;
  await loadV86Machine(started, slots, 'then');
});

it('what is refused changes nothing, and the guest goes on with what it wrote', async () => {
  const { started, drives, slots, image, disk, read } = await machine(['hda', 'hdb']);
  await started.run();
  await saveMachine(drives, { name: 'foreign', state: pattern(5000) });
  await saveMachine(drives, { name: 'short', state: pattern(50) });
  await saveV86Machine(started, slots, { name: 'part' });
  await disk('hdb').inner.snapshots.delete('part');
  await saveV86Machine(started, slots, { name: 'marked' });
  await disk('hdb').inner.bitmaps.add({ name: 'b' });
  image('hda').set(0, pattern(512), () => undefined);
  const refusals = [
    ['nowhere', 'not-found'],
    ['foreign', 'wrong-format'],
    ['short', 'wrong-format'],
    ['part', 'refused'],
    ['marked', 'refused'],
  ] as const;
  for (const [name, kind] of refusals) await expect(loadV86Machine(started, slots, name), name).rejects.toMatchObject({ kind });
  await disk('hdb').inner.bitmaps.remove('b');
  await disk('hdb').inner.resize(2 * SIZE);
  await expect(loadV86Machine(started, slots, 'marked')).rejects.toThrow(/hdb: the disk had 4194304 bytes and has 8388608 now/);
  expect(started.is_running()).toBe(true);
  expectBytes(await read('hda', 0, 512), pattern(512));
  expect(image('hda').statistics.dirtyBytes).toBe(512);
});

it('a disk whose changes are in memory only cannot be saved, once there are some', async () => {
  const below = await memoryDisk(pattern(MiB));
  Object.defineProperty(below, 'readOnly', { value: true });
  const { started, slots, image, drives } = await machine(['hda'], { hdb: below });
  await saveV86Machine(started, slots, { name: 'untouched' });
  image('hdb').set(0, pattern(512), () => undefined);
  await expect(saveV86Machine(started, slots, { name: 'touched' })).rejects.toThrow(/^hdb: This disk keeps its changes in memory only/);
  expect((await listMachines(drives)).map(({ name, drives: of }) => [name, of])).toEqual([['untouched', ['hda']]]);
});
