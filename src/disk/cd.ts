/**
 * What a CD is: the label in its volume descriptors (ISO 9660, ECMA-119 clause 8), and what a PC can start from it, in its boot record and catalogue
 * (El Torito 1.0, sections 2 and 3; platform EF is UEFI's).
 */
import { check, objectWith } from '../base/arguments.ts';
import { text, untilZero, view } from '../base/bytes.ts';
import { type Io, runAsync, wait } from '../base/io.ts';
import type { AsyncDisk } from './async-disk.ts';

/** The facts about a CD. */
export interface CdFacts {
  /** The volume's label; may be empty. */
  readonly label: string;
  /** What can be started, an entry for each: "PC, without emulation", "PC, as a floppy of 1.44 MB", "UEFI". Empty if nothing can be. */
  readonly boots: readonly string[];
}

const SECTOR = 2048;
/** Sectors of a CD before its volume descriptors. */
const SYSTEM_AREA = 16;
/** Volume descriptors that are read: few CDs have more than five. */
const MOST_DESCRIPTORS = 32;
const TYPE = { boot: 0, primary: 1, terminator: 255 } as const;
const EL_TORITO = 'EL TORITO SPECIFICATION';
const PLATFORMS: Readonly<Record<number, string>> = { 0: 'PC', 1: 'PowerPC', 2: 'Macintosh', 239: 'UEFI' };
const MEDIA = ['without emulation', 'as a floppy of 1.2 MB', 'as a floppy of 1.44 MB', 'as a floppy of 2.88 MB', 'as a hard disk'];
const ENTRY = 32;
const MARK = { bootable: 0x88, header: 0x90, lastHeader: 0x91 } as const;

/** Bytes that can be read anywhere. */
interface Readable {
  readonly size: number;
  read(offset: number, into: Uint8Array): Io<void>;
}

const READABLE = objectWith('a disk', ['read']);

/** The facts about a CD on a disk; undefined if it is none. A few small reads. */
export function readCd(disk: Pick<AsyncDisk, 'size' | 'read'>): Promise<CdFacts | undefined> {
  check('readCd', 'disk', disk, READABLE);
  return runAsync(
    cdFacts({
      size: disk.size,
      *read(offset, into) {
        into.set(yield* wait(disk.read(offset, into.length)));
      },
    }),
  );
}

/** See `readCd`. */
export function* cdFacts(disk: Readable): Io<CdFacts | undefined> {
  const start = SYSTEM_AREA * SECTOR;
  const length = Math.min(MOST_DESCRIPTORS * SECTOR, Math.floor(disk.size / SECTOR) * SECTOR - start);
  if (length < SECTOR) return undefined;
  const area = new Uint8Array(length);
  yield* disk.read(start, area);
  let label: string | undefined;
  const boots: string[] = [];
  for (let offset = 0; offset < length; offset += SECTOR) {
    const descriptor = area.subarray(offset, offset + SECTOR);
    if (latin(descriptor.subarray(1, 6)) !== 'CD001') break;
    label ??= '';
    const type = descriptor[0];
    if (type === TYPE.terminator) break;
    if (type === TYPE.primary) label = text(untilZero(descriptor.subarray(40, 72))).trim();
    if (type === TYPE.boot && latin(descriptor.subarray(7, 7 + EL_TORITO.length)) === EL_TORITO)
      boots.push(...(yield* bootEntries(disk, view(descriptor).getUint32(0x47, true))));
  }
  return label === undefined ? undefined : { label, boots };
}

/** What the boot catalogue in this sector can start. */
function* bootEntries(disk: Readable, sector: number): Io<string[]> {
  const offset = sector * SECTOR;
  if (offset + SECTOR > disk.size) return [];
  const catalogue = new Uint8Array(SECTOR);
  yield* disk.read(offset, catalogue);
  if (catalogue[0] !== 1 || catalogue[30] !== 0x55 || catalogue[31] !== 0xaa) return [];
  const found: string[] = [];
  let platform = catalogue[1] as number;
  for (let at = ENTRY; at < SECTOR; at += ENTRY) {
    const mark = catalogue[at] as number;
    if (mark === MARK.header || mark === MARK.lastHeader) platform = catalogue[at + 1] as number;
    else if (mark === MARK.bootable) found.push(entryWords(platform, catalogue[at + 1] as number));
    else if (at > ENTRY) break;
  }
  return found;
}

function entryWords(platform: number, media: number): string {
  const name = PLATFORMS[platform] ?? `platform ${platform}`;
  return name === 'UEFI' ? name : `${name}, ${MEDIA[media & 15] ?? `as medium ${media & 15}`}`;
}

const latin = (bytes: Uint8Array): string => new TextDecoder('latin1').decode(bytes);
