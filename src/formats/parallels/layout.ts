/** The header of Parallels' expanding disk, which its block allocation table (BAT) follows at once: bytes to values and back. Numbers are little-endian. */
import { divideUp, roundUp, setU64le, TWO_32, text, u64le, utf8, view } from '../../base/bytes.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import { SECTOR } from '../../base/units.ts';

export const FORMAT = 'parallels';
/** Entries of the BAT count sectors in images of the first kind, whole clusters in those of the second. */
export const MAGIC = { sectors: 'WithoutFreeSpace', clusters: 'WithouFreSpacExt' } as const;
export const VERSION = 2;
/** `inuse` of an image that is open for writing. */
export const IN_USE = 0x746f6e59;
export const HEADER_SIZE = 64;
/** The header and the BAT behind it are one table of 32-bit words: the BAT begins at this word, and `inuse` is that one. */
export const BAT_WORD = HEADER_SIZE / 4;
export const IN_USE_WORD = 11;
/** The most sectors of a cluster, and entries of a BAT. */
const MAX_TRACKS = 4_186_129;
export const MAX_ENTRIES = 2 ** 29 - 1;
/** What QEMU writes. */
const GEOMETRY = { heads: 16, sectors: 32 };

/** Where the 32-bit fields are; the two of 64 bits are below. */
const AT = { version: 16, heads: 20, cylinders: 24, tracks: 28, bat_entries: 32, inuse: 44, data_off: 48, flags: 52 } as const;
const SECTORS_AT = 36;
const EXTENSION_AT = 56;

/** Offsets and sizes are bytes. */
export interface Header {
  readonly size: number;
  readonly clusterSize: number;
  /** Bytes that an entry of the BAT counts in. */
  readonly entryUnit: number;
  readonly entries: number;
  /** Where the first cluster may be. */
  readonly dataStart: number;
  readonly inUse: boolean;
  /** There is a format extension: dirty bitmaps, mostly. */
  readonly extended: boolean;
}

/** Sectors of a track of hard disks, as programs count them: those of this format and QEMU, and all others. */
const USUAL_TRACKS = [GEOMETRY.sectors, 63];

/**
 * Cylinders and heads of a header that `parseHeader` has read, and the sectors of a track. The header has no field for these (`tracks` is the cluster size): they
 * follow from the size, if one of the usual numbers gives just the cylinders that are stated, else they are 0.
 */
export function statedGeometry(sector: Uint8Array, size: number): { cylinders: number; heads: number; sectors: number } {
  const [cylinders, heads] = [AT.cylinders, AT.heads].map((at) => view(sector).getUint32(at, true)) as [number, number];
  const sectors = USUAL_TRACKS.find((track) => Math.floor(size / SECTOR / heads / track) === cylinders) ?? 0;
  return { cylinders, heads, sectors };
}

/** Reads the first sector. Throws `corrupt` or `unsupported`, naming the field. */
export function parseHeader(sector: Uint8Array): Header {
  const bad = (field: string, message: string, offset: number) => corrupt(FORMAT, message, { field, offset });
  const magic = text(sector.subarray(0, AT.version));
  if (sector.length < HEADER_SIZE || (magic !== MAGIC.sectors && magic !== MAGIC.clusters)) throw bad('magic', 'this is no Parallels disk', 0);
  const data = view(sector);
  const field = (name: keyof typeof AT) => data.getUint32(AT[name], true);
  if (field('version') !== VERSION) throw unsupported(FORMAT, `version ${field('version')} of the format`, { field: 'version', offset: AT.version });
  const [tracks, entries] = [field('tracks'), field('bat_entries')];
  if (tracks === 0) throw bad('tracks', 'Invalid image: Zero sectors per track', AT.tracks);
  if (tracks > MAX_TRACKS) throw bad('tracks', 'Invalid image: Too big cluster', AT.tracks);
  if (entries > MAX_ENTRIES) throw bad('bat_entries', 'Catalog too large', AT.bat_entries);
  const old = magic === MAGIC.sectors;
  const clusterSize = tracks * SECTOR;
  const sectors = old ? data.getUint32(SECTORS_AT, true) : u64le(data, SECTORS_AT, 'nb_sectors');
  if (sectors * SECTOR > entries * clusterSize)
    throw bad('nb_sectors', `a disk of ${sectors} sectors, and a table for ${entries} clusters of ${tracks}`, SECTORS_AT);
  if (sectors * SECTOR > Number.MAX_SAFE_INTEGER) throw bad('nb_sectors', `a disk of ${sectors} sectors is too large`, SECTORS_AT);
  const tableEnd = HEADER_SIZE + entries * 4;
  const dataStart = field('data_off') * SECTOR || roundUp(tableEnd, SECTOR);
  if (dataStart < tableEnd) throw bad('data_off', `the data is at 0x${dataStart.toString(16)}, inside the table`, AT.data_off);
  return {
    size: sectors * SECTOR,
    clusterSize,
    entryUnit: old ? SECTOR : clusterSize,
    entries,
    dataStart,
    inUse: field('inuse') === IN_USE,
    extended: data.getUint32(EXTENSION_AT, true) !== 0 || data.getUint32(EXTENSION_AT + 4, true) !== 0,
  };
}

/** The first sector of a new image. */
export function encodeHeader(given: Pick<Header, 'size' | 'clusterSize' | 'entries' | 'dataStart'>): Uint8Array {
  const sector = new Uint8Array(SECTOR);
  const data = view(sector);
  sector.set(utf8(MAGIC.clusters));
  const sectors = divideUp(given.size, SECTOR);
  const fields = {
    version: VERSION,
    heads: GEOMETRY.heads,
    cylinders: Math.floor(sectors / GEOMETRY.heads / GEOMETRY.sectors),
    tracks: given.clusterSize / SECTOR,
    bat_entries: given.entries,
    data_off: given.dataStart / SECTOR,
  };
  for (const [name, value] of Object.entries(fields)) data.setUint32(AT[name as keyof typeof fields], value, true);
  setU64le(data, SECTORS_AT, sectors);
  return sector;
}

/** The header of an image that grows, with the same start of its clusters. Throws `unsupported` or `refused` if it cannot. */
export function grownHeader(header: Header, wanted: number, { preallocation = 'off' }: { readonly preallocation?: string }): Header {
  const { clusterSize, entryUnit, extended } = header;
  const size = roundUp(wanted, SECTOR);
  const entries = Math.max(header.entries, divideUp(size, clusterSize));
  if (size < header.size) throw unsupported(FORMAT, 'an image cannot be made smaller', { field: 'size' });
  if (preallocation !== 'off') throw unsupported(FORMAT, `Unsupported preallocation mode '${preallocation}'`, { field: 'preallocation' });
  if (extended) throw unsupported(FORMAT, 'an image with a format extension cannot grow: its bitmaps have the old size', { field: 'ext_off' });
  if (entries > MAX_ENTRIES || (entryUnit < clusterSize && size / SECTOR >= TWO_32))
    throw new DiskError('refused', `${FORMAT}: Image size is too large for this cluster size`, { format: FORMAT, field: 'size' });
  return { ...header, size, entries };
}

/** The words of the table that say how large an image is, and where its clusters begin: all in the first sector. The first kind has 32 bits for the size. */
export function headerWords({ size, clusterSize, entryUnit, entries, dataStart }: Header): [word: number, value: number][] {
  const sectors = size / SECTOR;
  return [
    [AT.cylinders / 4, Math.floor(sectors / GEOMETRY.heads / GEOMETRY.sectors) % TWO_32],
    [AT.bat_entries / 4, entries],
    [SECTORS_AT / 4, sectors % TWO_32],
    ...(entryUnit < clusterSize ? [] : [[SECTORS_AT / 4 + 1, Math.floor(sectors / TWO_32)] satisfies [number, number]]),
    [AT.data_off / 4, dataStart / SECTOR],
  ];
}
