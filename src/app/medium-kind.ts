/**
 * The kind of an image, as a medium of a PC: a CD, a floppy or a hard disk, and whether a BIOS can start from it. Found from the guest's bytes alone: the
 * volume descriptors and boot catalogue of a CD, and the first sector, which PCs load and run if it ends in 55 AA.
 */
import { V86_FLOPPY_SIZES } from '../adapters/v86.ts';
import { type AsyncDisk, floppyBoot, readCd } from '../index.ts';
import type { Slot } from './drives.ts';

export interface MediumKind {
  /** The slot of a PC where it belongs. */
  readonly slot: Exclude<Slot, 'hdb'>;
  /** Whether a BIOS that reaches it would start something. */
  readonly starts: boolean;
  /** What a CD can start, by its boot catalogue (El Torito). */
  readonly boots?: readonly string[];
}

/** The part of a disk that this reads. */
type Readable = Pick<AsyncDisk, 'size' | 'read'>;

const SECTOR = 512;
const LARGEST_FLOPPY = V86_FLOPPY_SIZES.at(-1) ?? 0;
/** Bytes of a boot sector before its partition table. */
const CODE = 440;
/** In the sector that mkfs.fat writes, whose code only prints this. */
const NOT_BOOTABLE = 'This is not a bootable disk';
/**
 * Reads an image's kind: a few small reads. An image with the size of a floppy is a floppy if it starts; else it is more useful as a small hard disk,
 * which does not need the time of a floppy drive.
 */
export async function mediumKind(disk: Readable): Promise<MediumKind> {
  const cd = await readCd(disk);
  if (cd) return { slot: 'cdrom', starts: cd.boots.length > 0, ...(cd.boots.length > 0 ? { boots: cd.boots } : {}) };
  const sector = disk.size >= SECTOR ? await disk.read(0, SECTOR) : new Uint8Array(SECTOR);
  const starts = hasBootCode(sector);
  // A floppy of odd length says in its boot sector that it is one.
  const isFloppy = V86_FLOPPY_SIZES.includes(disk.size) || (disk.size <= LARGEST_FLOPPY && floppyBoot(sector) !== undefined);
  return { slot: starts && isFloppy ? 'fda' : 'hda', starts };
}

/** Whether a first sector is one that a BIOS would run, and more than a stand-in. */
export function hasBootCode(sector: Uint8Array): boolean {
  if (sector[510] !== 0x55 || sector[511] !== 0xaa) return false;
  // A table of partitions alone has zeros before it, and a formatted floppy may have the same byte everywhere.
  const code = sector.subarray(0, CODE);
  if (code[0] === 0 && code[1] === 0) return false;
  return code.some((byte) => byte !== code[0]) && !latin(sector).includes(NOT_BOOTABLE);
}

const latin = (bytes: Uint8Array): string => new TextDecoder('latin1').decode(bytes);
