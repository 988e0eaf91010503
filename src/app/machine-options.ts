/** What v86 is made with: the machine's settings in its words. */
import type { V86Image, V86Options } from 'v86';
import type { Attached } from './drives.ts';
import type { GuestFiles } from './guest-files.ts';
import type { Boot, MachineSettings } from './machine.ts';

const MiB = 1024 * 1024;
/** BIOS boot orders as v86 numbers them: 1 is the floppy, 2 the hard disk, 3 the CD, and the last digit is the first to be tried. */
const BOOT_ORDER: Record<Boot, number> = { guest: 0x132, disk: 0x132, cdrom: 0x123, fda: 0x321 };

/** Loads BIOS and kernel anew: v86 writes into the kernel that it is given. Throws if they cannot be had. */
export async function v86Options({ boot, memory }: MachineSettings, drives: readonly Attached[], files: GuestFiles): Promise<V86Options> {
  const parts = await files.load(boot === 'guest' ? 'guest' : 'disk');
  if (parts.bios === undefined || parts.vgaBios === undefined) throw new Error('There is no BIOS to start with: choose one under Run.');
  return {
    memory_size: memory * MiB,
    vga_memory_size: 8 * MiB,
    bios: { buffer: parts.bios },
    vga_bios: { buffer: parts.vgaBios },
    ...(parts.kernel === undefined ? {} : { bzimage: { buffer: parts.kernel }, cmdline: files.cmdline }),
    ...(parts.initrd === undefined ? {} : { initrd: { buffer: parts.initrd } }),
    ...Object.fromEntries(drives.flatMap(({ slot, image }) => (image ? [[slot, image as unknown as V86Image]] : []))),
    boot_order: BOOT_ORDER[boot],
    disable_speaker: true,
    autostart: false,
  };
}
