/**
 * The size that v86 must see for an image of a given size: whole sectors for hard disks and CDs, exactly the size of a format
 * for floppies (v86 itself pads others, into a copy without a connection to the disk).
 */
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { formatSize, SECTOR } from '../base/units.ts';
import { FLOPPY_FORMATS, formatSectors } from '../drive/floppy.ts';

/** The slot to which a disk is attached: `hda`/`hdb`, `cdrom`, or `fda`/`fdb`. */
export type V86DiskKind = 'hd' | 'cdrom' | 'floppy';

const CD_SECTOR = 2048;
/** v86 counts ATA sectors in 32 bits. */
const HD_LIMIT = 2 ** 32 * SECTOR;

/** Formats that v86's floppy controller knows beyond QEMU's, in sectors: 8 x 80 x 2, and 10 x 40 on one and on two sides. */
const OTHER_FLOPPIES = [8 * 80 * 2, 10 * 40, 10 * 40 * 2];

/** Sizes of the floppies v86 knows, in bytes, rising. */
export const V86_FLOPPY_SIZES: readonly number[] = [...new Set([...FLOPPY_FORMATS.map(formatSectors), ...OTHER_FLOPPIES])]
  .map((sectors) => sectors * SECTOR)
  .sort((a, b) => a - b);

/** Bytes that v86 sees of an image of `size` bytes; the difference reads as zero. Throws `unsupported` if v86 cannot attach it. */
export function v86ByteLength(kind: V86DiskKind, size: number): number {
  if (size === 0) throw new DiskError('unsupported', 'The disk has no sectors: v86 cannot attach it', { field: 'size' });
  if (kind === 'cdrom') return roundUp(size, CD_SECTOR);
  if (kind === 'hd') {
    if (size > HD_LIMIT)
      throw new DiskError('unsupported', `v86 addresses hard disks of up to 2 TiB, and this one has ${formatSize(size)}`, { field: 'size' });
    return roundUp(size, SECTOR);
  }
  const fitting = V86_FLOPPY_SIZES.find((bytes) => bytes >= size);
  if (fitting === undefined)
    throw new DiskError(
      'unsupported',
      `No floppy holds ${formatSize(size)}: the largest that v86 knows has ${formatSize(V86_FLOPPY_SIZES.at(-1) ?? 0)}`,
      {
        field: 'size',
      },
    );
  return fitting;
}
