/**
 * The kind of an image, as a medium of a PC: a CD, a floppy or a hard disk, and whether a BIOS can start from it. Found from the guest's bytes alone:
 * the volume descriptors of ISO 9660 (ECMA-119, clause 8), the boot record and catalogue of El Torito (1.0, sections 2 and 3), and the first
 * sector, which PCs load and run if it ends in 55 AA.
 */
import { V86_FLOPPY_SIZES } from '../adapters/v86.ts';
import type { AsyncDisk } from '../index.ts';
import type { Slot } from './drives.ts';

export interface MediumKind {
  /** The slot of a PC where it belongs. */
  readonly slot: Exclude<Slot, 'hdb'>;
  /** Whether a BIOS that reaches it would start something. */
  readonly starts: boolean;
}

/** The part of a disk that this reads. */
type Readable = Pick<AsyncDisk, 'size' | 'read'>;

const SECTOR = 512;
const CD_SECTOR = 2048;
/** Sectors of a CD before its volume descriptors. */
const SYSTEM_AREA = 16;
/** Volume descriptors that are read: few CDs have more than five. */
const MOST_DESCRIPTORS = 32;
const TERMINATOR = 255;
const EL_TORITO = 'EL TORITO SPECIFICATION';
/** Bytes of a boot sector before its partition table. */
const CODE = 440;
/** In the sector that mkfs.fat writes, whose code only prints this. */
const NOT_BOOTABLE = 'This is not a bootable disk';
/**
 * Reads an image's kind: a few small reads. An image with the size of a floppy is a floppy if it starts; else it is more useful as a small hard disk,
 * which does not need the time of a floppy drive.
 */
export async function mediumKind(disk: Readable): Promise<MediumKind> {
  const boot = await cdBoot(disk);
  if (boot !== undefined) return { slot: 'cdrom', starts: boot };
  const starts = disk.size >= SECTOR && hasBootCode(await disk.read(0, SECTOR));
  return { slot: starts && V86_FLOPPY_SIZES.includes(disk.size) ? 'fda' : 'hda', starts };
}

/** Whether a first sector is one that a BIOS would run, and more than a stand-in. */
export function hasBootCode(sector: Uint8Array): boolean {
  if (sector[510] !== 0x55 || sector[511] !== 0xaa) return false;
  // A table of partitions alone has zeros before it, and a formatted floppy may have the same byte everywhere.
  const code = sector.subarray(0, CODE);
  if (code[0] === 0 && code[1] === 0) return false;
  return code.some((byte) => byte !== code[0]) && !latin(sector).includes(NOT_BOOTABLE);
}

/** `undefined` if it is not a CD, else whether a BIOS can start it. */
async function cdBoot(disk: Readable): Promise<boolean | undefined> {
  const start = SYSTEM_AREA * CD_SECTOR;
  const length = Math.min(MOST_DESCRIPTORS * CD_SECTOR, Math.floor(disk.size / CD_SECTOR) * CD_SECTOR - start);
  if (length < CD_SECTOR) return undefined;
  const area = await disk.read(start, length);
  let isCd = false;
  for (let offset = 0; offset < length; offset += CD_SECTOR) {
    const descriptor = area.subarray(offset, offset + CD_SECTOR);
    if (latin(descriptor.subarray(1, 6)) !== 'CD001') break;
    isCd = true;
    const type = descriptor[0];
    if (type === TERMINATOR) break;
    if (type === 0 && latin(descriptor.subarray(7, 7 + EL_TORITO.length)) === EL_TORITO && (await hasBootEntry(disk, word32(descriptor, 0x47))))
      return true;
  }
  return isCd ? false : undefined;
}

/** Whether the boot catalogue in this sector has an entry to start from. */
async function hasBootEntry(disk: Readable, sector: number): Promise<boolean> {
  const offset = sector * CD_SECTOR;
  if (offset + CD_SECTOR > disk.size) return false;
  const catalogue = await disk.read(offset, CD_SECTOR);
  const valid = catalogue[0] === 1 && catalogue[30] === 0x55 && catalogue[31] === 0xaa;
  return valid && catalogue[32] === 0x88;
}

const latin = (bytes: Uint8Array): string => new TextDecoder('latin1').decode(bytes);

const word32 = (bytes: Uint8Array, offset: number): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true);
