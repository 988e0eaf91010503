/**
 * Boots the guest in Node with v86 and a 64 MiB disk in RAM, and tries what
 * the e2e tests rely on: a file system made, written, unmounted, read back
 * with the same checksum; the emulator's state saved and restored; power off.
 * Prints the time of each step. Needs the set made by build.mjs and package v86.
 *
 *   node test/guest/boot-check.mjs [--pio]
 *
 * With --pio the guest's kernel uses no DMA on its disks.
 */

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { V86 } from 'v86';
import { GuestConsole, guestOptions } from './guest.mjs';

const MIB = 2 ** 20;
const GUEST = new URL('../../public/guest/', import.meta.url);
// The package's main file lies beside the machine's WebAssembly.
const WASM = fileURLToPath(new URL('v86.wasm', import.meta.resolve('v86')));

const PIO = process.argv.includes('--pio');

async function read(name) {
  const bytes = await readFile(new URL(name, GUEST));
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

async function timed(label, action) {
  const start = performance.now();
  const result = await action();
  console.log(`${((performance.now() - start) / 1000).toFixed(2).padStart(7)} s  ${label}`);
  return result;
}

function expect(condition, message) {
  if (!condition) throw new Error(message);
}

async function checkDisk(guest) {
  const sectors = (await guest.check('cat /sys/block/sda/size')).trim();
  expect(sectors === String((64 * MIB) / 512), `/dev/sda has ${sectors} sectors`);
  await guest.check('test -b /dev/sr0');
  const mode = (await guest.check('cat /sys/class/ata_device/dev1.0/dma_mode')).trim();
  expect(/DMA/.test(mode) === !PIO, `the disk's DMA mode is "${mode}"`);
  await timed('mkfs.ext4', () => guest.check('mkfs.ext4 -q -F /dev/sda'));
  await timed('mount', () => guest.check('mount /dev/sda /mnt'));
  await timed('write 8 MiB', () => guest.check('dd if=/dev/urandom of=/mnt/data bs=1M count=8'));
  const before = await timed('sha256sum', () => guest.check('sha256sum /mnt/data'));
  await timed('sync', () => guest.check('sync'));
  await timed('umount', () => guest.check('umount /mnt'));
  // Without the page cache, the next read is sure to come from the disk.
  await guest.check('echo 3 > /proc/sys/vm/drop_caches; mount /dev/sda /mnt');
  const after = await timed('sha256sum from the disk', () => guest.check('sha256sum /mnt/data'));
  expect(/^[0-9a-f]{64} /.test(before) && before === after, `checksums differ: ${before} ${after}`);
  return after;
}

async function checkState(emulator, guest, checksum) {
  await guest.check('echo old > /tmp/mark');
  const state = await timed('save_state', () => emulator.save_state());
  console.log(`           state: ${(state.byteLength / MIB).toFixed(1)} MiB, disk included`);
  await guest.check('echo new > /tmp/mark; rm /mnt/data; sync');
  await timed('restore_state', () => emulator.restore_state(state));
  const mark = (await guest.check('cat /tmp/mark')).trim();
  expect(mark === 'old', `after restore_state, /tmp/mark holds ${mark}`);
  const again = await guest.check('echo 3 > /proc/sys/vm/drop_caches; sha256sum /mnt/data');
  expect(again === checksum, 'after restore_state, the disk holds something else');
  await guest.check('umount /mnt && e2fsck -fn /dev/sda');
}

async function main() {
  const options = await guestOptions(read);
  if (PIO) options.cmdline += ' libata.dma=0';
  const emulator = new V86({
    ...options,
    wasm_path: WASM,
    hda: { buffer: new ArrayBuffer(64 * MIB) },
  });
  const guest = new GuestConsole(emulator);
  try {
    await timed('boot to the prompt', () => guest.ready());
    const checksum = await checkDisk(guest);
    await checkState(emulator, guest, checksum);
    await timed('power off', () => guest.powerOff());
    console.log('guest works');
  } finally {
    guest.close();
    await emulator.destroy();
  }
}

await main();
// v86 leaves timers behind in Node.
process.exit();
