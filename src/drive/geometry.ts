/**
 * Hard-disk geometry as a PC sees it: the guess from the partition table, the default for a size, the BIOS translation, the CMOS
 * bytes, and the geometry that v86 will present. The rules are QEMU 7.2's, so that a disk keeps its geometry when it moves to QEMU
 * and back. Pure functions over the first sector and the number of sectors; only `diskGeometry` reads.
 */

import { COUNT, check, type Kind, listOf, maybe, needed, objectWith, oneOf, optionsOf } from '../base/arguments.ts';
import { divideUp, view } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { SECTOR } from '../base/units.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import type { Chs } from './chs.ts';
import { exactFloppyFormat, FLOPPY_LIMIT_SECTORS, type FloppyDriveType, formatChs } from './floppy.ts';

/** How a BIOS turns the disk's geometry into the one that programs see through INT 13h. */
export type Translation = 'auto' | 'none' | 'lba' | 'large' | 'rechs';

/** The numbers QEMU and the CMOS use for translations. */
export const TRANSLATION_CODES: Readonly<Record<Translation, number>> = { auto: 0, none: 1, lba: 2, large: 3, rechs: 4 };

/** The geometry that a user may state. Give all three of cylinders, heads and sectors or none; `auto` translation means "choose". */
export interface GeometryHints {
  /** 1 to 16383. */
  readonly cylinders?: number;
  /** 1 to 16. */
  readonly heads?: number;
  /** Sectors per track, 1 to 63. */
  readonly sectors?: number;
  /** Default `auto`. */
  readonly translation?: Translation;
}

const TRANSLATION = oneOf('auto', 'none', 'lba', 'large', 'rechs');
export const GEOMETRY_HINTS: Kind = optionsOf<GeometryHints>({ cylinders: COUNT, heads: COUNT, sectors: COUNT, translation: TRANSLATION });
const CHS = optionsOf<Chs>({ cylinders: needed(COUNT), heads: needed(COUNT), sectors: needed(COUNT) });

/** The facts that the page's Geometry tab shows. */
export interface GeometryReport {
  /** Sectors of 512 bytes. */
  readonly totalSectors: number;
  /** The disk's own geometry. */
  readonly chs: Chs;
  /** How a BIOS should translate it. */
  readonly translation: Translation;
  /** The source of the geometry. */
  readonly source: 'hint' | 'partition-table' | 'default';
  /** The geometry that the partition table was written for, if it shows one; more than 16 heads mean a translating BIOS. */
  readonly partitionTable?: Chs;
  /** The geometry that v86 presents for a hard disk: the partition table's up to 16 heads, else n/16/63. */
  readonly v86: Chs;
  /** The geometry that the image's own header states (VDI, VHD, VMDK, Parallels). Its program presents that to its guests; QEMU and v86 do not look at it. */
  readonly header?: Chs;
  /** Facts that a guest needs to know if it addresses by cylinder, head and sector, in whole sentences. */
  readonly warnings: readonly string[];
  /** Set if the size is that of a floppy. */
  readonly floppy?: { readonly chs: Chs; readonly drive: FloppyDriveType; readonly exact: boolean };
}

/** The largest values that a hint may state, and that an ATA disk can report. */
export const GEOMETRY_LIMITS: Chs = { cylinders: 16383, heads: 16, sectors: 63 };

const PARTITION_TABLE = 0x1be;
const PARTITION_ENTRY_SIZE = 16;
const PARTITION_ENTRIES = 4;
const SIGNATURE_AT = 510;

/** Up to so many cylinders INT 13h reaches a disk of 16 heads and 63 sectors without translation. */
const INT13_CYLINDERS = 1024;
/** Cylinders x heads that the LARGE translation can fold into 1024 cylinders of at most 128 heads. */
const LARGE_TRACKS = 131072;
/** Cylinders that the revised translation can spread over 15 heads without leaving 16 bits. */
const REVISED_CYLINDERS = 61439;

/** The standard geometry for a size: n/16/63 with n from 2 to 16383. */
export function defaultGeometry(totalSectors: number): Chs {
  const { cylinders: most, heads, sectors } = GEOMETRY_LIMITS;
  return { cylinders: clamp(Math.floor(totalSectors / (heads * sectors)), 2, most), heads, sectors };
}

/**
 * The geometry that the partition table in `firstSector` was written for: the first entry in use whose end gives one with 1 to 16383
 * cylinders. Heads go up to 256. `undefined` without such an entry or without the signature 55 AA.
 */
export function partitionTableGeometry(firstSector: Uint8Array, totalSectors: number): Chs | undefined {
  if (firstSector.length < SECTOR || firstSector[SIGNATURE_AT] !== 0x55 || firstSector[SIGNATURE_AT + 1] !== 0xaa) return undefined;
  const data = view(firstSector);
  for (let entry = 0; entry < PARTITION_ENTRIES; entry++) {
    const at = PARTITION_TABLE + entry * PARTITION_ENTRY_SIZE;
    const endHead = data.getUint8(at + 5);
    const sectors = data.getUint8(at + 6) & 63;
    const used = data.getUint32(at + 12, true) !== 0;
    if (!used || endHead === 0 || sectors === 0) continue;
    const heads = endHead + 1;
    const cylinders = Math.floor(totalSectors / (heads * sectors));
    if (cylinders >= 1 && cylinders <= GEOMETRY_LIMITS.cylinders) return { cylinders, heads, sectors };
  }
  return undefined;
}

/** The meaning of `auto` when only the geometry is known. */
export const automaticTranslation = ({ cylinders, heads, sectors }: Chs): Translation =>
  cylinders <= INT13_CYLINDERS && heads <= 16 && sectors <= 63 ? 'none' : 'lba';

/** Geometry and translation of a disk, and their source. */
export interface GeometryGuess {
  readonly chs: Chs;
  readonly translation: Translation;
  readonly source: GeometryReport['source'];
  readonly partitionTable?: Chs;
}

/**
 * The geometry of a disk: the user's hints if there are any, else the partition table's, else the default for the size.
 * Throws `refused`, naming the field, if a hint is incomplete or out of range.
 */
export function guessGeometry(firstSector: Uint8Array, totalSectors: number, hints: GeometryHints = {}): GeometryGuess {
  const table = partitionTableGeometry(firstSector, totalSectors);
  const guess = { ...chooseGeometry(table, totalSectors, checkedHints(hints)), ...(table ? { partitionTable: table } : {}) };
  const stated = hints.translation ?? 'auto';
  return stated === 'auto' ? guess : { ...guess, translation: stated };
}

function chooseGeometry(table: Chs | undefined, totalSectors: number, hint: Chs | undefined): GeometryGuess {
  if (hint) return { chs: hint, translation: automaticTranslation(hint), source: 'hint' };
  const standard = defaultGeometry(totalSectors);
  if (!table) return { chs: standard, translation: automaticTranslation(standard), source: 'default' };
  if (table.heads <= GEOMETRY_LIMITS.heads) return { chs: table, translation: 'none', source: 'partition-table' };
  // More than 16 heads: a BIOS translated when the table was written, so the disk itself is a standard one.
  const large = standard.cylinders * standard.heads <= LARGE_TRACKS;
  return { chs: standard, translation: large ? 'large' : 'lba', source: 'partition-table' };
}

function checkedHints({ cylinders = 0, heads = 0, sectors = 0 }: GeometryHints): Chs | undefined {
  if (cylinders === 0 && heads === 0 && sectors === 0) return undefined;
  const hint = { cylinders, heads, sectors };
  for (const field of ['cylinders', 'heads', 'sectors'] as const) {
    const value = hint[field];
    if (!Number.isInteger(value) || value < 1 || value > GEOMETRY_LIMITS[field])
      throw new DiskError('refused', `A disk's ${field} must be between 1 and ${GEOMETRY_LIMITS[field]}, not ${value}: state all three or none`, {
        field,
      });
  }
  return hint;
}

/**
 * The geometry that v86 (0.5.462) gives a hard disk: it reads the partition table itself and uses it up to 16 heads.
 * Earlier versions, and v86 without access to sector 0, present n/16/63 for every disk.
 */
export function v86Geometry(firstSector: Uint8Array, totalSectors: number): Chs {
  return guessGeometry(firstSector, totalSectors).chs;
}

const CMOS_DRIVE: Kind = {
  ...objectWith('a drive, { chs, translation }', ['chs', 'translation']),
  inside: (where, value) => {
    const { chs, translation } = value as CmosDrive;
    check(where, 'chs', chs, CHS);
    check(where, 'translation', translation, TRANSLATION);
  },
};

/**
 * The geometry that programs see through INT 13h after a PC BIOS has translated: at most 1024 cylinders and 255 heads. `totalSectors` counts for LBA only.
 */
export function biosGeometry(drive: CmosDrive, totalSectors: number): Chs {
  check('biosGeometry', 'drive', drive, CMOS_DRIVE);
  check('biosGeometry', 'totalSectors', totalSectors, COUNT);
  const { chs, translation } = drive;
  const resolved = translation === 'auto' ? automaticTranslation(chs) : translation;
  const seen =
    resolved === 'lba' ? assistedGeometry(totalSectors) : resolved === 'none' ? chs : shiftedGeometry(resolved === 'rechs' ? revised(chs) : chs);
  return { ...seen, cylinders: Math.min(seen.cylinders, INT13_CYLINDERS) };
}

/** LBA: 63 sectors, and as few heads of a power of two (then 255) as leave 1024 cylinders. */
function assistedGeometry(totalSectors: number): Chs {
  const { sectors } = GEOMETRY_LIMITS;
  const needed = totalSectors / sectors / INT13_CYLINDERS;
  const heads = [16, 32, 64, 128].find((most) => needed <= most) ?? 255;
  return { cylinders: Math.floor(totalSectors / sectors / heads), heads, sectors };
}

/** LARGE: cylinders are halved and heads doubled until 1024 cylinders or 128 heads are reached. */
function shiftedGeometry({ cylinders, heads, sectors }: Chs): Chs {
  let shift = 0;
  while (cylinders >> shift > INT13_CYLINDERS && heads << shift < 128) shift++;
  return { cylinders: cylinders >> shift, heads: heads << shift, sectors };
}

/** Revised: 16 heads become 15 first, so that doubling ends at 240 instead of 256, which DOS cannot count. */
function revised({ cylinders, heads, sectors }: Chs): Chs {
  if (heads !== 16) return { cylinders, heads, sectors };
  return { cylinders: Math.floor((Math.min(cylinders, REVISED_CYLINDERS) * 16) / 15), heads: 15, sectors };
}

/** A drive's geometry and translation, as the CMOS describes them. */
export interface CmosDrive {
  /** The disk's own geometry. */
  readonly chs: Chs;
  /** How the BIOS translates it for programs. */
  readonly translation: Translation;
}

const CMOS_DISK_TYPES = 0x12;
const CMOS_TRANSLATION = 0x39;
const USER_TYPE = 47;
/** The places of the type byte and the geometry of the first two disks. */
const CMOS_DISKS = [
  { nibble: 0xf0, type: 0x19, geometry: 0x1b },
  { nibble: 0x0f, type: 0x1a, geometry: 0x24 },
];

/**
 * The CMOS bytes that describe IDE disks to a BIOS, by address: the types (0x12, 0x19, 0x1A) and geometries of the first
 * two, and two bits of translation for each of four (0x39). A missing drive is `undefined`; at most four.
 */
export function cmosBytes(drives: readonly (CmosDrive | undefined)[]): ReadonlyMap<number, number> {
  check('cmosBytes', 'drives', drives, listOf(maybe(CMOS_DRIVE), 'an array of drives'));
  const bytes = new Map<number, number>([[CMOS_DISK_TYPES, 0]]);
  for (const [index, { nibble, type, geometry }] of CMOS_DISKS.entries()) {
    const drive = drives[index];
    if (!drive) continue;
    const { cylinders, heads, sectors } = drive.chs;
    bytes.set(CMOS_DISK_TYPES, (bytes.get(CMOS_DISK_TYPES) ?? 0) | nibble);
    bytes.set(type, USER_TYPE);
    const low = cylinders & 0xff;
    const high = cylinders >> 8;
    const control = 0xc0 | (heads > 8 ? 8 : 0);
    for (const [at, byte] of [low, high, heads, 0xff, 0xff, control, low, high, sectors].entries()) bytes.set(geometry + at, byte);
  }
  const translations = drives.slice(0, 4).map((drive) => (drive ? translationBits(drive) : 0));
  bytes.set(
    CMOS_TRANSLATION,
    translations.reduce((byte, bits, index) => byte | (bits << (index * 2)), 0),
  );
  return bytes;
}

/** The two bits of CMOS byte 0x39 for one drive. */
const translationBits = ({ chs, translation }: CmosDrive): number =>
  TRANSLATION_CODES[translation === 'auto' ? automaticTranslation(chs) : translation] - 1;

/** How often the logical block (bytes) doubles to reach the physical one; ATA and virtio report this number. */
export function physicalBlockExponent(logical: number, physical: number): number {
  let exponent = 0;
  for (let size = physical; size > logical; size /= 2) exponent++;
  return exponent;
}

/**
 * Reads the first sector of a disk and reports its geometry; `stated` tells what the image's header states. Throws `refused` for a bad hint, and the errors of
 * the storage.
 */
export function* diskGeometry(storage: Storage, hints: GeometryHints = {}, stated?: Io<Chs | undefined>): Io<GeometryReport> {
  const totalSectors = divideUp(storage.size, SECTOR);
  const firstSector = yield* readBytes(storage, 0, SECTOR);
  return describeGeometry(firstSector, totalSectors, hints, stated && (yield* stated));
}

/** `diskGeometry` for a first sector that was read already. */
export function describeGeometry(firstSector: Uint8Array, totalSectors: number, hints: GeometryHints = {}, header?: Chs): GeometryReport {
  const guess = guessGeometry(firstSector, totalSectors, hints);
  const v86 = v86Geometry(firstSector, totalSectors);
  const format = totalSectors <= FLOPPY_LIMIT_SECTORS ? exactFloppyFormat(totalSectors) : undefined;
  return {
    totalSectors,
    ...guess,
    v86,
    ...(header ? { header } : {}),
    warnings: warningsFor(guess, v86, totalSectors, header),
    ...(format ? { floppy: { chs: formatChs(format), drive: format.drive, exact: true } } : {}),
  };
}

function warningsFor({ chs, partitionTable, source }: GeometryGuess, v86: Chs, totalSectors: number, header: Chs | undefined): string[] {
  const warnings: string[] = [];
  // A partition table shows what its system was told, and v86 follows it: only where none does, the header's word is of use.
  if (header && source === 'default' && (header.heads !== v86.heads || header.sectors !== v86.sectors))
    warnings.push(
      `The image's header states ${show(header)}, v86 presents ${show(v86)}, and there is no partition table to tell which of them the disk was written under.`,
    );
  if (chs.heads !== v86.heads || chs.sectors !== v86.sectors)
    warnings.push(
      `v86 presents ${show(v86)} where this geometry is ${show(chs)}: DOS and other guests that address by cylinder, head and sector misread the disk there.`,
    );
  if (source === 'hint' && partitionTable && (partitionTable.heads !== chs.heads || partitionTable.sectors !== chs.sectors))
    warnings.push(
      `The partition table was written for ${partitionTable.heads} heads and ${partitionTable.sectors} sectors, the hint says ${chs.heads} and ${chs.sectors}.`,
    );
  const reach = v86.cylinders * v86.heads * v86.sectors;
  if (reach > totalSectors) warnings.push(`The geometry that v86 presents ends ${reach - totalSectors} sectors past the end of this small disk.`);
  return warnings;
}

const show = ({ cylinders, heads, sectors }: Chs): string => `${cylinders}/${heads}/${sectors}`;

const clamp = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most);
