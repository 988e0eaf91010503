/**
 * A real Linux guest in the real v86 on a raw disk of ours: first with DMA over a disk that answers later, as one in a worker does, then with PIO
 * over one that answers at once. What the guest wrote must be in the disk, byte for byte, and found by the second boot.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { V86, type V86Options } from 'v86';
import { expect, it } from 'vitest';
import { v86Disk } from '../../src/adapters/v86.ts';
import { MiB } from '../../src/base/units.ts';
import type { AsyncDisk } from '../../src/disk/async-disk.ts';
import { createDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { SlowDisk } from './slow-disk.ts';

const GUEST = new URL('../../public/guest/', import.meta.url);
const WASM = fileURLToPath(new URL('v86.wasm', import.meta.resolve('v86')));
const SIZE = 16 * MiB;
/** Half of the disk, as by default of one of 64 MiB: what the guest reads again has to make room for other blocks meanwhile. */
const CACHE = 8 * MiB;

/** What test/guest/guest.mjs exports. */
interface GuestModule {
  guestOptions(read: (name: string) => Promise<ArrayBuffer>): Promise<V86Options & { cmdline: string }>;
  readonly GuestConsole: new (emulator: V86) => GuestConsole;
}
interface GuestConsole {
  ready(timeoutMs?: number): Promise<void>;
  /** Runs a line of shell; the output of a command that must succeed. */
  check(command: string, timeoutMs?: number): Promise<string>;
  close(): void;
}

async function read(name: string): Promise<ArrayBuffer> {
  const bytes = await readFile(new URL(name, GUEST));
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
}

/** Boots the guest with this disk, runs `session` at its shell, saves the disk and ends the machine. */
async function boot(disk: AsyncDisk, kernelArguments: string, session: (guest: GuestConsole) => Promise<void>): Promise<void> {
  if (!existsSync(new URL('manifest.json', GUEST)))
    throw new Error('The Linux guest is missing: run "npm run guest" (it needs apt-get with Debian sources), which builds it into public/guest/');
  const module = '../guest/guest.mjs';
  const { guestOptions, GuestConsole } = (await import(module)) as GuestModule;
  const options = await guestOptions(read);
  const hda = v86Disk(disk, { imageId: 'guest', cacheSize: CACHE });
  const emulator = new V86({
    ...options,
    cmdline: `${options.cmdline} ${kernelArguments}`,
    wasm_path: WASM,
    // v86's types know only its own images.
    hda: hda,
  });
  const guest = new GuestConsole(emulator);
  try {
    await guest.ready();
    await session(guest);
  } finally {
    guest.close();
    await emulator.destroy();
    await hda.close();
  }
  const { reads, writes, dirtyBytes } = hda.statistics;
  expect({ reads: reads > 0, writes: writes > 0, dirtyBytes }).toEqual({ reads: true, writes: true, dirtyBytes: 0 });
}

const checksum = async (guest: GuestConsole, file: string): Promise<string> => (await guest.check(`sha256sum < ${file}`)).slice(0, 64);

it('a file system that a guest makes, writes and checks is in the disk', async () => {
  const disk = await createDisk(memoryStorage(), { format: 'raw', size: SIZE });
  const wholeDisk = async () =>
    createHash('sha256')
      .update(await disk.read(0, SIZE))
      .digest('hex');
  let first = '';
  let inGuest = '';

  await boot(new SlowDisk(disk), '', async (guest) => {
    expect((await guest.check('cat /sys/block/sda/size')).trim()).toBe(String(SIZE / 512));
    expect(await guest.check('cat /sys/class/ata_device/dev1.0/xfer_mode')).toMatch(/DMA/);
    await guest.check('mkfs.ext4 -q -F /dev/sda && mount /dev/sda /mnt');
    await guest.check('dd if=/dev/urandom of=/mnt/data bs=64k count=64');
    first = await checksum(guest, '/mnt/data');
    // Without the page cache the next read comes from the disk.
    await guest.check('sync; umount /mnt; echo 3 > /proc/sys/vm/drop_caches; mount /dev/sda /mnt');
    expect(await checksum(guest, '/mnt/data')).toBe(first);
    await guest.check('umount /mnt; echo 3 > /proc/sys/vm/drop_caches');
    inGuest = await checksum(guest, '/dev/sda');
  });
  expect(await wholeDisk()).toBe(inGuest);

  await boot(disk, 'libata.dma=0', async (guest) => {
    expect(await guest.check('cat /sys/class/ata_device/dev1.0/xfer_mode')).toMatch(/PIO/);
    await guest.check('mount /dev/sda /mnt');
    expect(await checksum(guest, '/mnt/data')).toBe(first);
    await guest.check('dd if=/dev/urandom of=/mnt/more bs=64k count=32');
    const second = await checksum(guest, '/mnt/more');
    await guest.check('rm /mnt/data; sync; umount /mnt; echo 3 > /proc/sys/vm/drop_caches; mount /dev/sda /mnt');
    expect(await checksum(guest, '/mnt/more')).toBe(second);
    await guest.check('umount /mnt; e2fsck -fn /dev/sda; echo 3 > /proc/sys/vm/drop_caches');
    inGuest = await checksum(guest, '/dev/sda');
  });
  expect(await wholeDisk()).toBe(inGuest);
}, 600_000);
