/**
 * Floppy formats: the table of QEMU's floppy controller in its order (the order decides which of two formats of one size is
 * meant), the choice of a format for a medium and of a drive for it (QEMU 7.2's preferences), and sector numbers.
 * Pure. Sizes are in sectors of 512 bytes.
 */

import { assert } from '../base/errors.ts';
import type { Chs } from './chs.ts';

/** Drive types by QEMU's names: 1.44 MB and 2.88 MB (3.5 inch), 1.2 MB (5.25 inch). */
export type FloppyDriveType = '144' | '288' | '120';

/** A drive as configured: a type, or `auto` for one that follows its first medium. */
export type FloppyDriveChoice = FloppyDriveType | 'auto';

/** The controller's numbers for drive types, as stored in saved states; 3 is "no drive". */
export const FLOPPY_DRIVE_CODES: Readonly<Record<FloppyDriveType | 'none', number>> = { '144': 0, '288': 1, '120': 2, none: 3 };

/** One way to format a floppy. */
export interface FloppyFormat {
  readonly drive: FloppyDriveType;
  readonly sectorsPerTrack: number;
  readonly tracks: number;
  readonly heads: 1 | 2;
  /** Kilobits per second. */
  readonly rate: 250 | 300 | 500 | 1000;
}

/** Rows of one drive and rate: sectors per track, tracks, and heads where it is 1. */
type Row = readonly [sectorsPerTrack: number, tracks: number, heads?: 1];

const rows = (drive: FloppyDriveType, rate: FloppyFormat['rate'], list: readonly Row[]): FloppyFormat[] =>
  list.map(([sectorsPerTrack, tracks, heads]) => ({ drive, sectorsPerTrack, tracks, heads: heads ?? 2, rate }));

/** Every format, in order of preference. */
export const FLOPPY_FORMATS: readonly FloppyFormat[] = [
  ...rows('144', 500, [
    [18, 80],
    [20, 80],
    [21, 80],
    [21, 82],
    [21, 83],
    [22, 80],
    [23, 80],
    [24, 80],
  ]),
  ...rows('288', 1000, [
    [36, 80],
    [39, 80],
    [40, 80],
    [44, 80],
    [48, 80],
  ]),
  ...rows('144', 250, [
    [9, 80],
    [10, 80],
    [10, 82],
    [10, 83],
    [13, 80],
    [14, 80],
  ]),
  ...rows('120', 500, [
    [15, 80],
    [18, 80],
    [18, 82],
    [18, 83],
    [20, 80],
  ]),
  ...rows('120', 250, [
    [9, 80],
    [11, 80],
  ]),
  ...rows('120', 300, [
    [9, 40],
    [9, 40, 1],
    [10, 41],
    [10, 42],
  ]),
  ...rows('120', 250, [
    [8, 40],
    [8, 40, 1],
  ]),
  // 360 KiB on a 3.5 inch disk: last, so that the 5.25 inch format of the same size is found first.
  ...rows('144', 250, [[9, 80, 1]]),
];

/** The type that an `auto` drive gets when its medium matches no format. */
const FALLBACK_DRIVE: FloppyDriveType = '288';

/** Sectors that a format holds. */
export const formatSectors = ({ sectorsPerTrack, tracks, heads }: FloppyFormat): number => sectorsPerTrack * tracks * heads;

/** A format's geometry in the terms used for hard disks. */
export const formatChs = ({ sectorsPerTrack, tracks, heads }: FloppyFormat): Chs => ({ cylinders: tracks, heads, sectors: sectorsPerTrack });

/** The largest floppy there is, in sectors. */
export const FLOPPY_LIMIT_SECTORS = Math.max(...FLOPPY_FORMATS.map(formatSectors));

/** The first format of exactly this size, or `undefined`. */
export const exactFloppyFormat = (sectors: number): FloppyFormat | undefined => FLOPPY_FORMATS.find((format) => formatSectors(format) === sectors);

/** Every format of exactly this size, in order of preference. */
export const floppyFormatsOfSize = (sectors: number): readonly FloppyFormat[] => FLOPPY_FORMATS.filter((format) => formatSectors(format) === sectors);

/** The disk that fits a drive: 3.5 inch (`144`, `288`) or 5.25 inch (`120`). */
const mediumOf = (drive: FloppyDriveType): '3.5' | '5.25' => (drive === '120' ? '5.25' : '3.5');

/** The format chosen for a medium, and whether the medium has its size. */
export interface FloppyChoice {
  readonly format: FloppyFormat;
  readonly exact: boolean;
}

/**
 * The format of a medium in a drive: a format of its size for this drive, else one of its size for this drive's size of disk, else the first for the
 * drive. An `auto` drive takes any format of its size, else the first for a 2.88 MB drive.
 */
export function chooseFloppyFormat(sectors: number, drive: FloppyDriveChoice = 'auto'): FloppyChoice {
  const fitting = floppyFormatsOfSize(sectors);
  const type = drive === 'auto' ? (fitting[0]?.drive ?? FALLBACK_DRIVE) : drive;
  const exact = fitting.find((format) => format.drive === type) ?? fitting.find((format) => mediumOf(format.drive) === mediumOf(type));
  if (exact) return { format: exact, exact: true };
  const first = FLOPPY_FORMATS.find((format) => format.drive === type);
  assert(first, 'the table has formats for every drive type');
  return { format: first, exact: false };
}

/** The type of a drive: as configured, or for `auto` the type that suits the medium (2.88 MB if none does, or if it is empty). */
export function chooseFloppyDrive(drive: FloppyDriveChoice, sectors?: number): FloppyDriveType {
  if (drive !== 'auto') return drive;
  return sectors === undefined ? FALLBACK_DRIVE : chooseFloppyFormat(sectors).format.drive;
}

/** The geometry that a user may state for a floppy. It counts only if all three are there and not zero. */
export interface FloppyHints {
  readonly cylinders?: number;
  readonly heads?: number;
  readonly sectors?: number;
}

/** A floppy's geometry and drive, for an emulator that presents one. */
export interface FloppyGeometry {
  readonly chs: Chs;
  readonly drive: FloppyDriveType;
  /** The medium has exactly the size of this geometry. */
  readonly exact: boolean;
}

/** The geometry hint for a floppy of `sectors` sectors: the user's if complete, else the chosen format's. */
export function floppyGeometry(sectors: number, drive: FloppyDriveChoice = 'auto', hints: FloppyHints = {}): FloppyGeometry {
  const { cylinders = 0, heads = 0, sectors: perTrack = 0 } = hints;
  if (cylinders > 0 && heads > 0 && perTrack > 0)
    return {
      chs: { cylinders, heads, sectors: perTrack },
      drive: chooseFloppyDrive(drive, sectors),
      exact: cylinders * heads * perTrack === sectors,
    };
  const { format, exact } = chooseFloppyFormat(sectors, drive);
  return { chs: formatChs(format), drive: drive === 'auto' ? format.drive : drive, exact };
}

/** A place on a floppy; the sector counts from 1. */
export interface FloppyAddress {
  readonly track: number;
  readonly head: number;
  readonly sector: number;
}

/** The number of a sector, counted from 0 over the whole medium. */
export const floppySector = ({ sectorsPerTrack, heads }: FloppyFormat, { track, head, sector }: FloppyAddress): number =>
  (track * heads + head) * sectorsPerTrack + sector - 1;
