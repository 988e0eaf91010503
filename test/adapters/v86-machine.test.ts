/** What the real v86 makes of a `v86Disk`: that it attaches in every slot, and the geometry it presents. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { V86, type V86Image } from 'v86';
import { afterEach, describe, expect, it } from 'vitest';
import { type V86Disk, v86Disk } from '../../src/adapters/v86.ts';
import { V86_FLOPPY_SIZES } from '../../src/adapters/v86-size.ts';
import { describeGeometry } from '../../src/drive/geometry.ts';
import { expectBytes, memoryDisk, pattern, SlowDisk } from './slow-disk.ts';

const WASM = fileURLToPath(new URL('v86.wasm', import.meta.resolve('v86')));

/** The parts of v86's machine that these tests look at; the names survive in its module builds. */
interface Machine {
  readonly v86: { readonly cpu: { readonly devices: Devices } };
}
interface Devices {
  readonly ide: { readonly primary: { readonly master: Drive; readonly slave: Drive } };
  readonly cdrom: Drive;
  readonly fdc: { readonly drives: readonly FloppyDrive[] };
}
interface Drive {
  readonly buffer: unknown;
  readonly sector_count: number;
  readonly cylinder_count: number;
  readonly head_count: number;
  readonly sectors_per_track: number;
}
interface FloppyDrive {
  readonly buffer: unknown;
  readonly max_track: number;
  readonly max_head: number;
  readonly max_sect: number;
  insert_disk(disk: V86Disk, readOnly?: boolean): boolean;
}

let emulator: V86 | undefined;
afterEach(async () => {
  await emulator?.destroy();
  emulator = undefined;
});

/** A machine without a BIOS that runs nothing, with these disks. */
async function machine(disks: Partial<Record<'hda' | 'hdb' | 'cdrom' | 'fda' | 'fdb', V86Disk>>): Promise<Devices> {
  const started = new V86({
    wasm_fn: async (imports) => (await WebAssembly.instantiate(await readFile(WASM), imports)).instance.exports,
    memory_size: 16 * 2 ** 20,
    vga_memory_size: 2 ** 20,
    disable_speaker: true,
    autostart: false,
    // v86's types know only its own images.
    ...(disks as Partial<Record<keyof typeof disks, V86Image>>),
  });
  emulator = started;
  await new Promise<void>((resolve) => started.add_listener('emulator-ready', () => resolve()));
  return (started as unknown as Machine).v86.cpu.devices;
}

/** A disk of `sectors` sectors whose partition table ends at this head and sector. */
async function partitioned(sectors: number, endHead: number, endSector: number): Promise<SlowDisk> {
  const first = new Uint8Array(512);
  first.set([0x80, 1, 1, 0, 6, endHead, endSector, 0x20, 63, 0, 0, 0, 0x10, 0x27, 0, 0], 0x1ce);
  first.set([0x55, 0xaa], 510);
  const disk = await memoryDisk(new Uint8Array(512));
  await disk.resize(sectors * 512);
  await disk.write(0, first);
  return new SlowDisk(disk);
}

describe('hard disks', () => {
  it.each([
    ['no table', 204_800, 0, 0],
    ['16 heads, 63 sectors', 204_800, 15, 63],
    ['8 heads, 32 sectors', 204_800, 7, 32],
    ['255 heads', 4_194_304, 254, 63],
    ['255 heads on a large disk', 33_554_432, 254, 63],
    ['a small disk', 1500, 0, 0],
    ['beyond 16383 cylinders', 20_000_000, 0, 0],
  ])('%s: the geometry is what the report says', async (_name, sectors, endHead, endSector) => {
    const below = await partitioned(sectors, endHead, endSector);
    const { ide } = await machine({ hda: v86Disk(below) });
    const { master } = ide.primary;
    const { v86 } = describeGeometry(await below.inner.read(0, 512), sectors);
    expect({ cylinders: master.cylinder_count, heads: master.head_count, sectors: master.sectors_per_track }).toEqual(v86);
    expect(master.sector_count).toBe(sectors);
  });
});

it('every slot takes a disk, each used as it is', async () => {
  const make = async (size: number, kind: 'hd' | 'cdrom' | 'floppy') => v86Disk(new SlowDisk(await memoryDisk(pattern(size))), { kind });
  const disks = {
    hda: await make(1_000_001, 'hd'),
    hdb: await make(2 ** 20, 'hd'),
    cdrom: await make(300_000, 'cdrom'),
    fda: await make(1440 * 1024, 'floppy'),
    fdb: await make(700_000, 'floppy'),
  };
  const { ide, cdrom, fdc } = await machine(disks);
  expect(ide.primary.master.buffer).toBe(disks.hda);
  expect(ide.primary.master.sector_count).toBe(1954);
  expect(ide.primary.slave.buffer).toBe(disks.hdb);
  expect(cdrom.buffer).toBe(disks.cdrom);
  expect(cdrom.sector_count).toBe(147);
  expect(fdc.drives[0]?.buffer).toBe(disks.fda);
  expect(fdc.drives[0]).toMatchObject({ max_track: 80, max_head: 2, max_sect: 18 });
  // A size between two formats: v86 would have made a copy of its own.
  expect(fdc.drives[1]?.buffer).toBe(disks.fdb);
  const { get_disk_fda: contents } = emulator as unknown as { get_disk_fda(): Uint8Array };
  expectBytes(contents.call(emulator), pattern(1440 * 1024));
});

it('every floppy size is accepted as it is, by a drive that changes its medium', async () => {
  const { fdc } = await machine({ fda: v86Disk(await memoryDisk(pattern(360 * 1024)), { kind: 'floppy' }) });
  const [drive] = fdc.drives;
  for (const size of V86_FLOPPY_SIZES) {
    const disk = v86Disk(await memoryDisk(pattern(size)), { kind: 'floppy' });
    expect(drive?.insert_disk(disk)).toBe(true);
    expect(drive?.buffer).toBe(disk);
  }
});

it('an emulator state holds ids, and is compared when restored', async () => {
  const mismatches: string[] = [];
  const size = 64 * 2 ** 20;
  const below = await memoryDisk(new Uint8Array(512));
  await below.resize(size);
  const hda = v86Disk(below, { imageId: 'system', onStateMismatch: ({ what }) => mismatches.push(what) });
  await machine({ hda });
  const state = (await emulator?.save_state()) as ArrayBuffer;
  // The memory of the machine, but not the disk.
  expect(state.byteLength).toBeLessThan(size / 2);
  expect(new TextDecoder('latin1').decode(state.slice(0, 2 ** 16))).toContain('"system"');
  await emulator?.restore_state(state);
  expect(mismatches).toEqual([]);
  hda.set(0, pattern(512), () => undefined);
  await emulator?.restore_state(state);
  expect(mismatches).toEqual(['generation']);
});
