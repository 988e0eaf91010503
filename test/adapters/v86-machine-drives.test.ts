/** `V86Drive` in the real v86: CDs and floppies that are exchanged while the machine stands, and failures told through the drive. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { V86 } from 'v86';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type V86Disk, V86Drive, type V86DriveOptions, type V86Slot } from '../../src/adapters/v86.ts';
import { Drive } from '../../src/drive/drive.ts';
import type { DriveErrorEvent, DriveEvent } from '../../src/drive/drive-events.ts';
import type { DriveOptions } from '../../src/drive/drive-options.ts';
import { expectBytes, get, memoryDisk, noSpace, pattern, SlowDisk, set } from './slow-disk.ts';

const WASM = fileURLToPath(new URL('v86.wasm', import.meta.resolve('v86')));
const FLOPPY = 1440 * 1024;

interface Devices {
  readonly ide: { readonly primary: { readonly master: { readonly buffer: unknown } } };
  readonly cdrom: { readonly buffer: unknown; readonly sector_count: number };
  readonly fdc: { readonly drives: readonly { readonly buffer: unknown; readonly max_track: number; readonly read_only: boolean }[] };
}

let emulator: V86 | undefined;
afterEach(async () => {
  await emulator?.destroy();
  emulator = undefined;
});

/** A machine without a BIOS that runs nothing, with these drives in its slots. */
async function machine(...slots: V86Drive[]): Promise<Devices> {
  const images = Object.fromEntries(slots.flatMap(({ name, image }) => (image ? [[name, image]] : [])));
  const started = new V86({
    wasm_fn: async (imports) => (await WebAssembly.instantiate(await readFile(WASM), imports)).instance.exports,
    memory_size: 16 * 2 ** 20,
    vga_memory_size: 2 ** 20,
    disable_speaker: true,
    autostart: false,
    ...images,
  });
  emulator = started;
  await new Promise<void>((resolve) => started.add_listener('emulator-ready', () => resolve()));
  for (const slot of slots) slot.connect(started);
  return (started as unknown as { v86: { cpu: { devices: Devices } } }).v86.cpu.devices;
}

const slow = async (size: number, seed: number) => new SlowDisk(await memoryDisk(pattern(size, seed)), 0);

async function slotWith(slot: V86Slot, disk: SlowDisk | undefined, options: DriveOptions = {}, adapter: V86DriveOptions = () => ({})) {
  const events: DriveEvent[] = [];
  const drive = new Drive({ name: slot, ...options });
  drive.on((event) => events.push(event));
  if (disk) drive.insert(disk);
  return { drive, events, slot: new V86Drive(drive, slot, adapter) };
}

const errors = (events: readonly DriveEvent[]): DriveErrorEvent[] => events.filter((event) => event.type === 'error');
const imageOf = (slot: V86Drive): V86Disk => {
  if (!slot.image) throw new Error(`${slot.name} is empty`);
  return slot.image;
};

describe('a CD drive', () => {
  it('follows its drive: empty, in, exchanged, out', async () => {
    const { drive, slot } = await slotWith('cdrom', undefined);
    const { cdrom } = await machine(slot);
    expect([cdrom.buffer ?? null, drive.guestBlockSize, drive.removable]).toEqual([null, 2048, true]);
    drive.insert(await slow(300_000, 1));
    await slot.ready;
    expect(cdrom.buffer).toBe(slot.image);
    expect(cdrom.sector_count).toBe(147);
    expectBytes(await get(imageOf(slot), 2048, 2048), pattern(300_000, 1).subarray(2048, 4096));
    await drive.change(await slow(500_000, 2));
    await slot.ready;
    expect(cdrom.buffer).toBe(slot.image);
    expect(cdrom.sector_count).toBe(245);
    expectBytes(await get(imageOf(slot), 2048, 2048), pattern(500_000, 2).subarray(2048, 4096));
    await drive.eject();
    expect([cdrom.buffer, slot.image]).toEqual([null, undefined]);
    await slot.detach();
    expect(drive.device).toBeUndefined();
  });

  it('has one at the start that v86 took itself', async () => {
    const { slot } = await slotWith('cdrom', await slow(300_000, 1));
    const image = slot.image;
    const { cdrom } = await machine(slot);
    expect(cdrom.buffer).toBe(image);
  });
});

describe('a floppy drive', () => {
  it('saves what the guest wrote before the medium goes', async () => {
    const below = await slow(FLOPPY, 3);
    const { drive, slot } = await slotWith('fda', below);
    const { fdc } = await machine(slot);
    const [floppy] = fdc.drives;
    expect([floppy?.buffer === slot.image, floppy?.max_track]).toEqual([true, 80]);
    await set(imageOf(slot), 512, pattern(512, 9));
    // The drive closes it otherwise.
    const close = vi.spyOn(below, 'close').mockResolvedValue();
    await drive.eject();
    expect(floppy?.buffer).toBeNull();
    expect(close).toHaveBeenCalledOnce();
    expectBytes(await below.inner.read(512, 512), pattern(512, 9));
    const second = await slow(720 * 1024, 4);
    drive.insert(second);
    await slot.ready;
    expect(floppy?.buffer).toBe(slot.image);
    expectBytes(await get(imageOf(slot), 0, 512), pattern(720 * 1024, 4).subarray(0, 512));
  });

  it('keeps a medium that cannot be saved, unless it is taken by force', async () => {
    const below = await slow(FLOPPY, 3);
    const { drive, slot, events } = await slotWith('fda', below);
    const { fdc } = await machine(slot);
    const [floppy] = fdc.drives;
    below.fault = (verb) => {
      if (verb === 'write') throw noSpace();
    };
    await set(imageOf(slot), 512, pattern(512, 9));
    await expect(drive.eject()).rejects.toMatchObject({ kind: 'no-space' });
    expect([drive.isInserted, floppy?.buffer === slot.image, slot.image === undefined]).toEqual([true, true, false]);
    expect(events.filter(({ type }) => type === 'change')).toEqual([{ type: 'change', device: 'fda', loaded: true }]);
    await drive.eject({ force: true });
    expect([drive.isInserted, floppy?.buffer]).toEqual([false, null]);
    below.fault = () => undefined;
  });

  it('never writes to the next medium what was meant for the last', async () => {
    const below = await slow(FLOPPY, 3);
    const { drive, slot } = await slotWith('fda', below, {}, () => ({ saveDelay: 1, saveRetry: 2 }));
    await machine(slot);
    let open = () => {};
    below.gate = new Promise((resolve) => {
      open = resolve;
    });
    const old = imageOf(slot);
    for (let at = 0; at < 40; at++) old.set(at * 32768, pattern(512, 200), () => undefined);
    void old.save().catch(() => undefined);
    const ejected = drive.eject({ force: true });
    open();
    await ejected;
    const next = await slow(FLOPPY, 5);
    drive.insert(next);
    await slot.ready;
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(next.count('write')).toBe(0);
    expectBytes(await next.inner.read(0, FLOPPY), pattern(FLOPPY, 5));
  });

  it('is read-only if the drive is', async () => {
    const { slot, drive } = await slotWith('fdb', undefined, { readOnly: true });
    const { fdc } = await machine(slot);
    drive.insert(await slow(FLOPPY, 3));
    await slot.ready;
    expect(fdc.drives[1]).toMatchObject({ buffer: slot.image, read_only: true });
    expect(() => new V86Drive(drive, 'fda')).toThrow(expect.objectContaining({ kind: 'in-use' }));
  });
});

describe('a hard disk', () => {
  const failing = async (options: DriveOptions) => {
    const paused: string[] = [];
    const below = await slow(2 ** 20, 6);
    const pause = ({ operation, error }: DriveErrorEvent) => paused.push(`${operation} ${error.kind}`);
    const made = await slotWith('hda', below, { pause, ...options }, () => ({ saveDelay: 5, saveRetry: 60_000 }));
    return { ...made, below, paused };
  };

  it('may come when its slot is there already, before the machine starts', async () => {
    const { drive, slot } = await slotWith('hda', undefined);
    expect(slot.image).toBeUndefined();
    const below = await slow(2 ** 20, 6);
    drive.insert(below, { keepOpen: true });
    await slot.ready;
    const image = imageOf(slot);
    const { ide } = await machine(slot);
    expect(ide.primary.master.buffer).toBe(image);
    expectBytes(await get(image, 4096, 512), pattern(2 ** 20, 6).subarray(4096, 4608));
    await drive.close();
    expect(slot.image).toBeUndefined();
  });

  it('cannot be exchanged', async () => {
    const { drive } = await failing({});
    await expect(drive.eject()).rejects.toMatchObject({ kind: 'refused' });
  });

  it('a save without space pauses the machine, and resuming saves everything', async () => {
    const { drive, slot, events, below, paused } = await failing({});
    below.fault = (verb) => {
      if (verb === 'write') throw noSpace();
    };
    const image = imageOf(slot);
    await set(image, 1024, pattern(2048, 8));
    await vi.waitFor(() => expect(paused).toEqual(['write no-space']));
    expect(errors(events)).toMatchObject([{ device: 'hda', action: 'stop', operation: 'write', error: { kind: 'no-space' } }]);
    expect(drive.ioStatus).toBe('nospace');
    expectBytes(await get(image, 1024, 2048), pattern(2048, 8));
    await expect(slot.resume()).rejects.toMatchObject({ kind: 'no-space' });
    below.fault = () => undefined;
    await slot.resume();
    expect([drive.ioStatus, image.statistics.dirtyBytes]).toEqual(['ok', 0]);
    expectBytes(await below.inner.read(1024, 2048), pattern(2048, 8));
    await slot.detach();
  });

  it('what would be reported pauses too: v86 cannot tell its guest', async () => {
    const { drive, slot, below, paused, events } = await failing({ readErrors: 'report', writeErrors: 'report' });
    below.fault = () => {
      throw new Error('broken');
    };
    // The first sector is there already.
    const read = get(imageOf(slot), 2 ** 19, 512);
    await vi.waitFor(() => expect(paused).toEqual(['read io']));
    expect(errors(events)).toMatchObject([{ action: 'stop', operation: 'read' }]);
    below.fault = () => undefined;
    await slot.resume();
    expectBytes(await read, pattern(2 ** 20, 6).subarray(2 ** 19, 2 ** 19 + 512));
    await drive.close({ force: true });
  });

  it('ignoring errors, reads are zeros and writes are kept and tried again', async () => {
    const { slot, below, paused, events } = await failing({ readErrors: 'ignore', writeErrors: 'ignore' });
    below.fault = () => {
      throw new Error('broken');
    };
    expectBytes(await get(imageOf(slot), 2 ** 19, 512), new Uint8Array(512));
    await set(imageOf(slot), 0, pattern(512, 8));
    await vi.waitFor(() => expect(errors(events).map(({ action, operation }) => `${operation} ${action}`)).toContain('write ignore'));
    expect(errors(events)[0]).toMatchObject({ action: 'ignore', operation: 'read' });
    expect(paused).toEqual([]);
    expect(imageOf(slot).statistics.dirtyBytes).toBe(512);
    await slot.detach();
  });

  it('goes on with the same image opened again', async () => {
    const { drive, slot, below, paused, events } = await failing({ writeErrors: 'stop' });
    below.fault = (verb) => {
      if (verb !== 'read') throw new Error('an earlier flush failed');
    };
    await set(imageOf(slot), 0, pattern(512, 8));
    await vi.waitFor(() => expect(paused).toEqual(['write io']));
    const again = await slow(2 ** 20, 6);
    await expect(slot.resume({ medium: await slow(2 ** 20 + 512, 6) })).rejects.toMatchObject({ kind: 'refused', field: 'size' });
    await slot.resume({ medium: again });
    expect(drive.medium).toBe(again);
    expectBytes(await again.inner.read(0, 512), pattern(512, 8));
    expect(events.filter(({ type }) => type === 'change')).toHaveLength(1);
    await slot.detach();
  });
});
