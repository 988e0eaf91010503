/**
 * The size that v86 must see for an image of a given size: whole sectors for hard disks and CDs, exactly the size of a format
 * for floppies (v86 itself pads others, into a copy without a connection to the disk).
 */
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { formatSize, MiB, SECTOR } from '../base/units.ts';
import type { DiskIo } from '../disk/async-disk.ts';
import { FLOPPY_FORMATS } from '../drive/floppy.ts';
import type { FloppyBoot } from '../drive/floppy-boot.ts';
import { syncFace } from './write-back.ts';

/** The slot to which a disk is attached: `hda`/`hdb`, `cdrom`, or `fda`/`fdb`. */
export type V86DiskKind = 'hd' | 'cdrom' | 'floppy';

const CD_SECTOR = 2048;
/** v86 counts ATA sectors in 32 bits. */
const HD_LIMIT = 2 ** 32 * SECTOR;

/** How v86 reads a floppy. */
type FloppyShape = Pick<(typeof FLOPPY_FORMATS)[number], 'sectorsPerTrack' | 'tracks' | 'heads'>;

/** The formats that v86's floppy controller knows: QEMU's, and 8 x 80 x 2, and 10 x 40 on one and on two sides. Of two with one size the first counts. */
const FLOPPIES: readonly FloppyShape[] = [
  ...FLOPPY_FORMATS,
  { sectorsPerTrack: 8, tracks: 80, heads: 2 },
  { sectorsPerTrack: 10, tracks: 40, heads: 1 },
  { sectorsPerTrack: 10, tracks: 40, heads: 2 },
];

const sectorsOf = ({ sectorsPerTrack, tracks, heads }: FloppyShape): number => sectorsPerTrack * tracks * heads;

/** Sizes of the floppies v86 knows, in bytes, rising. */
export const V86_FLOPPY_SIZES: readonly number[] = [...new Set(FLOPPIES.map(sectorsOf))].map((sectors) => sectors * SECTOR).sort((a, b) => a - b);

/**
 * Bytes that v86 sees of an image of `size` bytes; what the image has not reads as zero. Throws `unsupported` if v86 cannot attach it. A floppy whose size v86
 * does not know has the size that its boot sector states, or that of the format with as many sectors in a track on as many sides: the guest's sectors are then
 * where it looks for them.
 */
export function v86ByteLength(kind: V86DiskKind, size: number, boot?: FloppyBoot): number {
  if (size === 0) throw new DiskError('unsupported', 'The disk has no sectors: v86 cannot attach it', { field: 'size' });
  if (kind === 'cdrom') return roundUp(size, CD_SECTOR);
  if (kind === 'hd') {
    if (size > HD_LIMIT)
      throw new DiskError('unsupported', `v86 addresses hard disks of up to 2 TiB, and this one has ${formatSize(size)}`, { field: 'size' });
    return roundUp(size, SECTOR);
  }
  const fitting = (V86_FLOPPY_SIZES.includes(size) ? size : boot && sizeByBoot(size, boot)) ?? V86_FLOPPY_SIZES.find((bytes) => bytes >= size);
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

/** The size of a format with the tracks and sides of the boot sector: the smallest that has all sectors, else the largest. */
function sizeByBoot(size: number, boot: FloppyBoot): number | undefined {
  const wanted = Math.max(boot.sectors, Math.ceil(size / SECTOR));
  const like = FLOPPIES.filter(({ sectorsPerTrack, heads }) => sectorsPerTrack === boot.sectorsPerTrack && heads === boot.heads)
    .map(sectorsOf)
    .sort((a, b) => a - b);
  const fitting = like.find((sectors) => sectors >= wanted) ?? like.at(-1);
  return fitting === undefined ? undefined : fitting * SECTOR;
}

/**
 * What differs between the boot sector of a floppy and what v86 takes it for, given the bytes that v86 sees and those of the image: a sentence for people
 * without its full stop.
 */
export function v86FloppyWarning(byteLength: number, size: number, boot: FloppyBoot | undefined): string | undefined {
  const shape = FLOPPIES.find((one) => sectorsOf(one) * SECTOR === byteLength);
  if (!shape || !boot) return undefined;
  const sides = (heads: number) => (heads === 1 ? 'one side' : 'two sides');
  if (shape.sectorsPerTrack !== boot.sectorsPerTrack || shape.heads !== boot.heads)
    return `The floppy has ${boot.sectorsPerTrack} sectors in a track on ${sides(boot.heads)} by its boot sector, and v86 reads it with ${shape.sectorsPerTrack} on ${sides(shape.heads)}: a guest will look for its sectors in wrong places`;
  const missing = boot.sectors - sectorsOf(shape);
  if (missing <= 0 && size < byteLength)
    return `The image has ${size} of the ${byteLength} bytes of the floppy: the rest reads as zeros, and what a guest writes there is not kept unless the image is resized`;
  if (missing <= 0) return undefined;
  const tracks = Math.ceil(boot.sectors / (boot.sectorsPerTrack * boot.heads));
  return `The floppy has ${tracks} tracks by its boot sector, and v86 reaches ${shape.tracks} of them: a guest cannot read its last ${missing} sectors`;
}

/** Bytes of a CD that is preloaded by default. */
const PRELOAD_LIMIT = 1024 * MiB;

/** Whether v86 gets the whole image in memory before the machine starts: floppies always, CDs that it could not read at once otherwise. */
export function preloads(disk: DiskIo, { kind, preload }: { readonly kind?: V86DiskKind; readonly preload?: boolean }): boolean {
  if (kind === 'floppy') return true;
  return preload ?? (kind === 'cdrom' && syncFace(disk) === undefined && disk.size <= PRELOAD_LIMIT);
}
