/**
 * The beginnings of a raw disk's sectors: boot sectors, partition tables, file systems, volumes. A table of the bytes that identify each, from the
 * specifications and headers of the systems they belong to. A disk with contents from this table is accepted as a raw disk without a question.
 */
import { view } from '../base/bytes.ts';
import { KiB } from '../base/units.ts';
import { fits, type Sample, type Signature } from './sample.ts';

/** A row of the table. */
interface Row extends Signature {
  /** For people, with its article. */
  readonly title: string;
}

const row = (title: string, ...marks: readonly (readonly [at: number, bytes: string])[]): Row => ({
  title,
  marks: marks.map(([at, bytes]) => ({ at, bytes })),
});

/** Sizes of a page, at whose end a swap area has its mark. */
const PAGES = [4, 8, 16, 32, 64].map((size) => size * KiB);
/** Sectors that may have the label of a physical volume of LVM. */
const LABEL_SECTORS = [0, 512, 1024, 1536];
/** Sizes of floppies whose first sector may have no mark. */
const FLOPPIES = new Set([160, 180, 320, 360, 720, 1200, 1440, 2880].map((size) => size * KiB));

/** A boot sector of FAT whose signature is missing: its parameters make sense. */
function isFat({ head }: Sample): boolean {
  if (head.length < 512) return false;
  const fields = view(head);
  const sector = fields.getUint16(11, true);
  const cluster = fields.getUint8(13);
  const jump = (head[0] === 0xeb && head[2] === 0x90) || head[0] === 0xe9;
  const powers = [512, 1024, 2048, 4096].includes(sector) && cluster > 0 && (cluster & (cluster - 1)) === 0;
  return jump && powers && fields.getUint16(14, true) > 0 && [1, 2].includes(fields.getUint8(16)) && fields.getUint8(21) >= 0xf0;
}

/** A floppy of DOS 1, or of a program that left the first sector unchanged: its second sector is a table that begins with the kind of the floppy. */
function isOldFloppy({ head, size }: Sample): boolean {
  const [kind = 0, second, third] = head.subarray(512);
  return FLOPPIES.has(size) && kind >= 0xf0 && second === 0xff && third === 0xff;
}

/** The table. */
export const DISK_CONTENTS: readonly Row[] = [
  row('a boot sector', [510, '\x55\xaa']),
  row('a GUID partition table', [512, 'EFI PART'], [4096, 'EFI PART'], [-512, 'EFI PART']),
  { title: 'a FAT file system', also: (sample) => isFat(sample) || isOldFloppy(sample) },
  row('an NTFS file system', [3, 'NTFS    ']),
  row('an exFAT file system', [3, 'EXFAT   ']),
  row('a CD file system (ISO 9660)', [32_769, 'CD001']),
  row('a DVD file system (UDF)', [32_769, 'BEA01']),
  row('a CD file system (High Sierra)', [32_777, 'CDROM']),
  row('an ext2, ext3 or ext4 file system', [1080, '\x53\xef']),
  row('an XFS file system', [0, 'XFSB']),
  row('a Btrfs file system', [65_600, '_BHRfS_M']),
  row('a ReiserFS file system', [65_588, 'ReIsEr'], [8244, 'ReIsEr']),
  row('a JFS file system', [32_768, 'JFS1']),
  row('an F2FS file system', [1024, '\x10\x20\xf5\xf2']),
  row('a NILFS2 file system', [1030, '\x34\x34']),
  row('a Minix file system', [1040, '\x7f\x13'], [1040, '\x8f\x13'], [1040, '\x68\x24'], [1040, '\x78\x24'], [1048, '\x5a\x4d']),
  row('a SquashFS file system', [0, 'hsqs']),
  row('a CramFS file system', [0, '\x45\x3d\xcd\x28']),
  row('a romfs file system', [0, '-rom1fs-']),
  row('an EROFS file system', [1024, '\xe2\xe1\xf5\xe0']),
  row('a UFS file system', [9564, '\x54\x19\x01\x00'], [9564, '\x00\x01\x19\x54'], [66_908, '\x19\x01\x54\x19'], [66_908, '\x19\x54\x01\x19']),
  row('a file system of Xenix', [2040, '\x44\x55\x2b\0'], [2040, '\0\x2b\x55\x44']),
  row('an HFS or HFS+ file system', [1024, 'BD'], [1024, 'H+'], [1024, 'HX']),
  row('an MFS file system', [1024, '\xd2\xd7']),
  row('an APFS container', [32, 'NXSB']),
  row('a partition table of the Macintosh', [512, 'PM\0\0']),
  row('a file system of BeOS or Haiku', [32, '1SFB'], [544, '1SFB'], [544, 'BFS1']),
  row('a disk label of BSD', [512, '\x57\x45\x56\x82'], [64, '\x57\x45\x56\x82']),
  row('a disk label of Sun', [508, '\xda\xbe']),
  row('a disk label of SGI', [0, '\x0b\xe5\xa9\x41']),
  row('a disk of an Amiga', [0, 'DOS\0'], [0, 'DOS\x01'], [0, 'DOS\x02'], [0, 'DOS\x03'], [0, 'RDSK']),
  row('a bootable disk of a PC-98', [4, 'IPL1']),
  row('a physical volume of LVM', ...LABEL_SECTORS.map((at) => [at, 'LABELONE'] as const)),
  row('a member of a Linux RAID', [0, '\xfc\x4e\x2b\xa9'], [4096, '\xfc\x4e\x2b\xa9']),
  row('a swap area of Linux', ...PAGES.flatMap((size) => ['SWAPSPACE2', 'SWAP-SPACE'].map((text) => [size - 10, text] as const))),
];

/** The contents of a raw disk, in words for people, if they are known. */
export function diskContents(sample: Sample): string | undefined {
  return DISK_CONTENTS.find((each) => fits(sample, each))?.title;
}
