/**
 * Media that a BIOS can start, made by hand: a boot sector of our own, on a floppy, a hard disk or a CD (El Torito, no emulation). It prints its
 * message on the screen and on the first serial port, then does what letters on that port say: `w` writes a copy of itself to the second
 * sector and answers WRITTEN, `r` restarts the machine by its keyboard controller, `a` switches it off by APM, `h` halts with interrupts off, `t` provokes
 * a triple fault. All else it ignores.
 */

/**
 * The program; its message follows. In 16-bit code, loaded at 0x7c00:
 * 0x00 set up registers and stack, keep DL; 0x11 print; 0x27 wait for a letter; 0x47 write (INT 13h, AH=3); 0x5b halt; 0x5f APM off (INT 15h, AX=5307h);
 * 0x73 restart (0xfe to port 0x64); 0x79 protected mode without interrupt descriptors, then INT3; 0x8d descriptors; 0xb1 "WRITTEN".
 */
const PROGRAM = Buffer.from(
  [
    'fa31c08ed88ec08ed0bc007cfb52bebb7cac84c0741188c1b40ebb0700cd10ba',
    'f80388c8eeebeabafd03eca80174f8baf803ec3c6874243c6174243c7274343c',
    '7474363c7775e05a52b80103bb007cb90200b600cd13beb17cebb6faf4ebfcb8',
    '015331dbcd15b80753bb0100b90300cd15ebb4b0fee664ebfafa0f0116937c0f',
    '01e00c010f01f00f011e8d7ccc0000000000001700997c000000000000000000',
    '00ffff0000009acf00ffff00000092cf005752495454454e0d0a00',
  ].join(''),
  'hex',
);
const SECTOR = 512;
const CD_SECTOR = 2048;
const [DESCRIPTORS, CATALOGUE, PROGRAM_PLACE, CD_SECTORS] = [16, 19, 20, 200];

/** A boot sector that says `message`. */
export function bootSector(message: string): Buffer {
  const sector = Buffer.alloc(SECTOR);
  PROGRAM.copy(sector);
  sector.write(`${message}\r\n\0`, PROGRAM.length, 'latin1');
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** A disk or floppy of so many bytes that starts with it. */
export function bootDisk(message: string, size: number): Buffer {
  const disk = Buffer.alloc(size);
  bootSector(message).copy(disk);
  return disk;
}

/** A CD (ISO 9660 as far as a BIOS looks at it), with a boot record unless `message` is undefined. */
export function cd(message: string | undefined): Buffer {
  const image = Buffer.alloc(CD_SECTORS * CD_SECTOR);
  const descriptor = (index: number, type: number): Buffer => {
    const sector = image.subarray((DESCRIPTORS + index) * CD_SECTOR, (DESCRIPTORS + index + 1) * CD_SECTOR);
    sector[0] = type;
    sector.write('CD001\x01', 1, 'latin1');
    return sector;
  };
  const primary = descriptor(0, 1);
  primary.writeUInt32LE(CD_SECTORS, 80);
  primary.writeUInt32BE(CD_SECTORS, 84);
  descriptor(2, 255);
  if (message === undefined) {
    descriptor(1, 255);
    return image;
  }
  const record = descriptor(1, 0);
  record.write('EL TORITO SPECIFICATION', 7, 'latin1');
  record.writeUInt32LE(CATALOGUE, 0x47);
  const catalogue = image.subarray(CATALOGUE * CD_SECTOR, (CATALOGUE + 1) * CD_SECTOR);
  // The validation entry: its words add up to zero.
  catalogue[0] = 1;
  catalogue.writeUInt16LE(0xaa55, 30);
  catalogue.writeUInt16LE(0x10000 - 0xaa55 - 1, 28);
  // The default entry: bootable, no emulation, four sectors of 512 bytes.
  catalogue[32] = 0x88;
  catalogue.writeUInt16LE(4, 38);
  catalogue.writeUInt32LE(PROGRAM_PLACE, 40);
  bootSector(message).copy(image, PROGRAM_PLACE * CD_SECTOR);
  return image;
}
