/** The header of Bochs' growing disk, a redo log of version 1 or 2, in its first sector. Numbers are little-endian. */
import { u64le, view } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import { SECTOR } from '../../base/units.ts';
import { hasText } from '../recognised.ts';

export const FORMAT = 'bochs';
/** A catalog entry of an extent that has no place. */
export const ABSENT = 0xffffffff;
const MAX_EXTENT = 0x800000;

const AT = { type: 32, subtype: 48, version: 64, header: 68, catalog: 72, bitmap: 76, extent: 80 } as const;
/** Where each version has the disk's bytes, in 64 bits. */
const DISK_AT: Readonly<Record<number, number>> = { 65536: 84, 131072: 88 };

/** Offsets and sizes are bytes. */
export interface Header {
  /** The disk. */
  readonly size: number;
  /** Where the catalog is: a 32-bit number for each extent. */
  readonly catalogOffset: number;
  readonly extents: number;
  /** Where the first extent in the file begins. */
  readonly dataOffset: number;
  /** Guest bytes of an extent. */
  readonly extentSize: number;
  /** In the file, in front of each extent's bytes: a bit for each sector, in whole sectors. */
  readonly bitmapSize: number;
}

/** True if these are the first bytes of a growing disk. */
export const isGrowing = (head: Uint8Array): boolean =>
  hasText(head, 0, 'Bochs Virtual HD Image') && hasText(head, AT.type, 'Redolog') && hasText(head, AT.subtype, 'Growing');

/** Reads the first sector. Throws `corrupt` or `unsupported`, naming the field. */
export function parseHeader(sector: Uint8Array): Header {
  if (sector.length < SECTOR) throw corrupt(FORMAT, 'the file ends inside the header', { field: 'magic', offset: 0 });
  if (!hasText(sector, 0, 'Bochs Virtual HD Image')) throw corrupt(FORMAT, 'Image not in Bochs format', { field: 'magic', offset: 0 });
  if (!isGrowing(sector)) throw unsupported(FORMAT, 'Image not in Bochs format: only growing redo logs are read', { field: 'type', offset: AT.type });
  const data = view(sector);
  const field = (name: keyof typeof AT): number => data.getUint32(AT[name], true);
  const bad = (name: keyof typeof AT, message: string) => corrupt(FORMAT, message, { field: name, offset: AT[name] });
  const version = field('version');
  const diskAt = DISK_AT[version];
  if (diskAt === undefined) throw unsupported(FORMAT, `version 0x${version.toString(16)} is unknown`, { field: 'version', offset: AT.version });
  const [catalogOffset, extents, bitmap, extentSize] = [field('header'), field('catalog'), field('bitmap'), field('extent')];
  if (catalogOffset < SECTOR || catalogOffset % SECTOR !== 0)
    throw bad('header', `the catalog is at 0x${catalogOffset.toString(16)}, where none can be`);
  if (extentSize < SECTOR) throw bad('extent', 'Extent size must be at least 512');
  if ((extentSize & (extentSize - 1)) !== 0) throw bad('extent', `Extent size ${extentSize} is not a power of two`);
  if (extentSize > MAX_EXTENT) throw bad('extent', `Extent size ${extentSize} is too large`);
  if (bitmap * 8 < extentSize / SECTOR) throw bad('bitmap', `a bitmap of ${bitmap} bytes is too small for extents of ${extentSize}`);
  if (bitmap > MAX_EXTENT) throw bad('bitmap', `a bitmap of ${bitmap} bytes is too large`);
  const size = Math.floor(u64le(data, diskAt, 'disk') / SECTOR) * SECTOR;
  if (extents < size / extentSize) throw corrupt(FORMAT, 'Catalog size is too small for this disk size', { field: 'catalog', offset: AT.catalog });
  const bitmapSize = Math.ceil(bitmap / SECTOR) * SECTOR;
  return { size, catalogOffset, extents, dataOffset: catalogOffset + extents * 4, extentSize, bitmapSize };
}
