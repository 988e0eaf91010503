/** The options of v86: the machine's settings in its words. */
import type { V86Options } from 'v86';
import type { Attached } from './drives.ts';
import type { GuestFiles, GuestParts } from './guest-files.ts';
import type { Boot, MachineSettings } from './machine-settings.ts';
import { loadV86, type V86Code } from './v86-code.ts';

const MiB = 1024 * 1024;
/** BIOS boot orders as v86 numbers them: 1 is the floppy, 2 the hard disk, 3 the CD, and the last digit is the first to be tried. */
const BOOT_ORDER: Record<Boot, number> = { guest: 0x132, disk: 0x132, cdrom: 0x123, fda: 0x321 };

/** All parts of a machine except its disks; kept while the machine is on, so that it restarts without the network. */
export interface MachineParts extends V86Code, GuestParts {
  readonly cmdline: string;
}

/** Loads v86, BIOS and kernel. Throws if they cannot be loaded. */
export async function loadParts(boot: Boot, files: GuestFiles): Promise<MachineParts> {
  const [code, parts] = await Promise.all([loadV86(), files.load(boot === 'guest' ? 'guest' : 'disk')]);
  return { ...code, ...parts, cmdline: files.cmdline };
}

/** The settings and parts in v86's words, with the present images of the drives. Throws if there is no BIOS. */
export function v86Options({ boot, memory }: MachineSettings, parts: MachineParts, drives: readonly Attached[]): V86Options {
  const { bios, vgaBios, kernel, initrd, cmdline, wasm } = parts;
  if (bios === undefined || vgaBios === undefined) throw new Error('There is no BIOS to start with: choose one under Run.');
  return {
    wasm_fn: wasm,
    memory_size: memory * MiB,
    vga_memory_size: 8 * MiB,
    bios: { buffer: bios },
    vga_bios: { buffer: vgaBios },
    // A copy, since v86 writes into its header.
    ...(kernel === undefined ? {} : { bzimage: { buffer: kernel.slice(0) }, cmdline }),
    ...(initrd === undefined ? {} : { initrd: { buffer: initrd } }),
    ...Object.fromEntries(drives.flatMap(({ slot, image }) => (image ? [[slot, image]] : []))),
    boot_order: BOOT_ORDER[boot],
    disable_speaker: true,
    autostart: false,
  };
}
