/** The geometry that the boot sector of a floppy states, in the parameters of FAT's boot sectors (ECMA-107). Pure. */
import { BYTES, check } from '../base/arguments.ts';
import { view } from '../base/bytes.ts';
import { SECTOR } from '../base/units.ts';

/** See `floppyBoot`. */
export interface FloppyBoot {
  /** Sectors of 512 bytes on the whole floppy. */
  readonly sectors: number;
  /** Sectors in a track. */
  readonly sectorsPerTrack: number;
  /** Sides: 1 or 2. */
  readonly heads: number;
}

const MOST_PER_TRACK = 48;

/** The geometry that a first sector states; undefined if it states none, or none that a floppy can have. */
export function floppyBoot(sector: Uint8Array): FloppyBoot | undefined {
  check('floppyBoot', 'sector', sector, BYTES);
  if (sector.length < SECTOR) return undefined;
  const fields = view(sector);
  const [bytes, sectors, sectorsPerTrack, heads] = [11, 19, 24, 26].map((at) => fields.getUint16(at, true)) as [number, number, number, number];
  const jump = (sector[0] === 0xeb && (sector[1] as number) < 0x80) || sector[0] === 0xe9;
  const sound = bytes === SECTOR && sectors > 0 && sectorsPerTrack > 0 && sectorsPerTrack <= MOST_PER_TRACK && (heads === 1 || heads === 2);
  return jump && sound && (sector[21] as number) >= 0xf0 ? { sectors, sectorsPerTrack, heads } : undefined;
}
