/**
 * Files that are not disk images but are often taken for some: packed images, images of CDs and floppies in other forms, leftovers of a failed
 * download, documents. A table of the bytes that identify each, its name, and advice for its owner. Text is recognised by text-files.ts.
 *
 * The bytes are from each format's own specification.
 */
import { fits, type Mark, type Sample, type Signature } from './sample.ts';

/** The kind of a file that is not a disk image. */
export interface ForeignFile {
  /** A short name, as programs use it: `zip`. */
  readonly name: string;
  /** For people, with its article: "a ZIP archive". */
  readonly title: string;
  /** Advice to the owner of the file, a sentence without its full stop. */
  readonly advice: string;
}

/** A row of the table. */
type Row = ForeignFile & Signature;

const UNPACK = 'Unpack it, and import the disk image inside';
const APPLIANCE = 'Unpack it as a tar archive, convert the disk inside (qemu-img convert -O qcow2), and import that';
const CD = 'Make an ISO image of it (bchunk and ccd2iso do), and import that';
const FLOPPY = 'Make an image of plain sectors of it (.img; the HxC tools and Greaseweazle do), and import that';
const STATE = 'It holds the state of a machine: import the disk image of that machine';
const RESTORE = 'Restore it to a plain disk image with the program that made it, and import that';
const EXPAND = 'Turn it into a plain disk image, and import that';
const NO_DISK = 'There is no disk in it';

const ZERO_BLOCK = /^0*$/;

/** True if the first 512 bytes are the header of a tar archive, old or new: its checksum fits. */
function isTar({ head }: Sample): boolean {
  const header = head.subarray(0, 512);
  const stated = String.fromCharCode(...header.subarray(148, 156))
    .replace(/[\0 ]+$/, '')
    .trim();
  if (header.length < 512 || !/^[0-7]{1,7}$/.test(stated) || ZERO_BLOCK.test(stated)) return false;
  const sum = header.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  return sum === Number.parseInt(stated, 8);
}

/** True if the first file of a tar archive is the description of a virtual machine. */
function isAppliance(sample: Sample): boolean {
  const name = String.fromCharCode(...sample.head.subarray(0, 100)).replace(/\0.*$/s, '');
  return isTar(sample) && /\.ovf$/i.test(name);
}

/** The checksum in the header of a Teledisk file: a CRC of 16 bits with the polynomial 0xa097, over its first 10 bytes. */
function isTeledisk({ head }: Sample): boolean {
  if (head.length < 12) return false;
  let sum = 0;
  for (const byte of head.subarray(0, 10)) {
    sum ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) sum = sum & 0x8000 ? ((sum << 1) ^ 0xa097) & 0xffff : sum << 1;
  }
  return sum === (head[10] as number) + (head[11] as number) * 256;
}

/** The place where the program proper begins in a file that begins as a program for DOS. */
function isProgram({ head, size }: Sample): boolean {
  const [low = 0, high = 0] = [head[2], head[3]];
  return head.length >= 64 && low + high * 256 < 512 && size >= 64;
}

const mark = (at: number, bytes: string): Mark => ({ at, bytes });

/** A row for files that begin with `bytes`. */
const begins = (name: string, title: string, advice: string, ...bytes: readonly string[]): Row => ({
  name,
  title,
  advice,
  marks: bytes.map((each) => mark(0, each)),
});

/** The table. The first row that fits counts. */
export const FOREIGN_FILES: readonly Row[] = [
  begins('zip', 'a ZIP archive', UNPACK, 'PK\x03\x04', 'PK\x05\x06', 'PK\x07\x08'),
  begins('gzip', 'a file packed with gzip', UNPACK, '\x1f\x8b\x08'),
  begins('bzip2', 'a file packed with bzip2', UNPACK, ...[...'123456789'].flatMap((level) => [`BZh${level}1AY&SY`, `BZh${level}\x17rE8P\x90`])),
  begins('xz', 'a file packed with xz', UNPACK, '\xfd7zXZ\0'),
  begins('zstd', 'a file packed with Zstandard', UNPACK, '\x28\xb5\x2f\xfd'),
  begins('lz4', 'a file packed with LZ4', UNPACK, '\x04\x22\x4d\x18'),
  begins('lzip', 'a file packed with lzip', UNPACK, 'LZIP\x01'),
  begins('lzop', 'a file packed with lzop', UNPACK, '\x89LZO\0\r\n\x1a\n'),
  begins('compress', 'a file packed with compress', UNPACK, '\x1f\x9d\x90', '\x1f\x9d\x8c'),
  begins('7z', 'a 7z archive', UNPACK, '7z\xbc\xaf\x27\x1c'),
  begins('rar', 'a RAR archive', UNPACK, 'Rar!\x1a\x07\0', 'Rar!\x1a\x07\x01\0'),
  begins('cab', 'a Cabinet archive', UNPACK, 'MSCF\0\0\0\0'),
  { name: 'ova', title: 'a virtual appliance (OVA)', advice: APPLIANCE, also: isAppliance },
  { name: 'tar', title: 'a tar archive', advice: UNPACK, also: isTar },
  begins('cpio', 'a cpio archive', UNPACK, '070701', '070702', '070707'),
  begins('ar', 'a package or library (ar)', NO_DISK, '!<arch>\n'),
  begins('rpm', 'an RPM package', NO_DISK, '\xed\xab\xee\xdb'),
  begins('wim', 'a Windows image (WIM)', 'It holds files and no disk: install from the ISO image that it came with', 'MSWIM\0\0\0'),
  begins('bin', 'a CD image of raw sectors (2352 bytes each)', CD, `\0${'\xff'.repeat(10)}\0`),
  {
    name: 'nrg',
    title: 'a CD image of Nero',
    advice: 'Make an ISO image of it (nrg2iso does), and import that',
    marks: [mark(-12, 'NER5'), mark(-8, 'NERO')],
  },
  begins(
    'mds',
    'the description of a CD image (MDS)',
    'The CD itself is in the .mdf file beside it. Make an ISO image of that, and import it',
    'MEDIA DESCRIPTOR',
  ),
  begins('cso', 'a compressed CD image (CISO)', EXPAND, 'CISO'),
  begins('daa', 'a compressed CD image (DAA)', EXPAND, 'DAA\0\0\0\0\0'),
  begins('chd', 'a compressed disk image of MAME (CHD)', 'Extract the disk with chdman, and import that', 'MComprHD'),
  begins('hfe', 'a floppy image of the HxC emulator (HFE)', FLOPPY, 'HXCPICFE', 'HXCHFEV3'),
  { name: 'imd', title: 'a floppy image of ImageDisk (IMD)', advice: FLOPPY, marks: [mark(0, 'IMD 0.'), mark(0, 'IMD 1.')] },
  { name: 'td0', title: 'a floppy image of Teledisk (TD0)', advice: FLOPPY, marks: [mark(0, 'TD\0'), mark(0, 'td\0')], also: isTeledisk },
  begins('scp', 'a floppy image of magnetic flux (SCP)', FLOPPY, 'SCP'),
  begins('ipf', 'a floppy image of magnetic flux (IPF)', FLOPPY, 'CAPS\0\0\0\x0c'),
  begins('86f', 'a floppy image of 86Box (86F)', FLOPPY, '86BF'),
  begins('mfi', 'a floppy image of MAME (MFI)', FLOPPY, 'MAMEFLOPPYIMAGE', 'MESSFLOPPYIMAGE'),
  begins('woz', 'a floppy image of an Apple II (WOZ)', FLOPPY, 'WOZ1\xff\n\r\n', 'WOZ2\xff\n\r\n'),
  begins('edsk', 'a floppy image of an Amstrad CPC (DSK)', FLOPPY, 'MV - CPC', 'EXTENDED CPC DSK'),
  begins('android-sparse', 'a sparse image of Android', 'Turn it into a plain image (simg2img does), and import that', '\x3a\xff\x26\xed'),
  begins('e01', 'a forensic image (EnCase)', 'Turn it into a plain image (ewfexport does), and import that', 'EVF\t\r\n\xff\0'),
  begins('partclone', 'a backup by Partclone', RESTORE, 'partclone-image'),
  begins('encrypted-dmg', 'an encrypted disk image of macOS', 'Convert it on a Mac (hdiutil convert -format UDTO), and import that', 'encrcdsa'),
  begins('sparseimage', 'a sparse disk image of macOS', 'Convert it on a Mac (hdiutil convert -format UDTO), and import that', 'sprs'),
  begins('v86-state', 'a saved state of v86', STATE, '\x76\x86\x76\x86'),
  begins('savevm', 'a saved state of QEMU', STATE, 'QEVM\0\0\0'),
  begins('torrent', 'a torrent', 'Download with it, and import what comes', 'd8:announce', 'd13:announce-list'),
  begins('pdf', 'a PDF document', NO_DISK, '%PDF-'),
  begins('png', 'a picture (PNG)', NO_DISK, '\x89PNG\r\n\x1a\n'),
  begins('jpeg', 'a picture (JPEG)', NO_DISK, '\xff\xd8\xff'),
  begins('gif', 'a picture (GIF)', NO_DISK, 'GIF87a', 'GIF89a'),
  begins('riff', 'a picture, sound or film (RIFF)', NO_DISK, 'RIFF'),
  { name: 'mp4', title: 'a film or sound (MP4)', advice: NO_DISK, marks: [mark(4, 'ftyp')] },
  begins('matroska', 'a film (Matroska)', NO_DISK, '\x1a\x45\xdf\xa3'),
  begins('ogg', 'a sound or film (Ogg)', NO_DISK, 'OggS\0'),
  begins('mp3', 'a sound (MP3)', NO_DISK, 'ID3\x02', 'ID3\x03', 'ID3\x04'),
  begins('elf', 'a program for Unix (ELF)', NO_DISK, '\x7fELF'),
  {
    name: 'linux-kernel',
    title: 'a Linux kernel',
    advice: 'It is started by a boot loader, or where a machine asks for a kernel. Import a disk that has a system on it',
    marks: [mark(514, 'HdrS')],
    also: ({ head }) => head[0] === 0x4d && head[1] === 0x5a,
  },
  { name: 'exe', title: 'a program for DOS or Windows', advice: NO_DISK, marks: [mark(0, 'MZ')], also: isProgram },
  begins('macho', 'a program for macOS or Java', NO_DISK, '\xcf\xfa\xed\xfe', '\xce\xfa\xed\xfe', '\xca\xfe\xba\xbe\0\0\0'),
  begins('wasm', 'a WebAssembly module', NO_DISK, '\0asm'),
  begins('ole', 'a document or installer of Microsoft Office or Windows', NO_DISK, '\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1'),
  begins('sqlite', 'a database (SQLite)', NO_DISK, 'SQLite format 3\0'),
  begins('ds-store', 'a file that macOS leaves in folders', NO_DISK, '\0\0\0\x01Bud1'),
  begins(
    'appledouble',
    'what macOS keeps beside a file',
    'Import the file that it belongs to: its name is the same without the leading "._"',
    '\0\x05\x16\x07',
  ),
];

/** Kinds whose disks are taken out, unless the file is damaged; here or in the table of texts. */
export const UNWRAPPED: ReadonlySet<string> = new Set(['zip', 'gzip', 'bzip2', 'xz', 'zstd', 'ova', 'tar', 'bin', 'ovf', 'cue']);

/** The kind of a file, if it is in the table. */
export function foreignFile(sample: Sample): ForeignFile | undefined {
  return FOREIGN_FILES.find((row) => fits(sample, row));
}
