/**
 * What a file is, by its bytes: a file for every row of the tables, made by the real tools where they are at hand (zip, tar, mkfs …), else of the bytes that the
 * format's specification gives; images of QEMU that are only recognised; disks whose contents are known, and those that are not.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { DISK_CONTENTS } from '../../src/library/disk-contents.ts';
import { FOREIGN_FILES } from '../../src/library/foreign-files.ts';
import { recognise } from '../../src/library/recognise.ts';
import { TEXT_FILES } from '../../src/library/text-files.ts';
import { bochsImage } from '../formats/bochs/image.ts';
import { Random } from '../random.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-recognise-'));
  writeFileSync(join(folder, 'disk.img'), noise(300_000));
  writeFileSync(join(folder, 'machine.ovf'), OVF);
  writeFileSync(join(folder, 'machine-disk1.vmdk'), noise(5000));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Bytes = Uint8Array<ArrayBuffer>;

const noise = (length: number): Bytes => {
  const bytes = new Uint8Array(new Random(length).bytes(length));
  // By chance it must hold nothing.
  bytes.fill(0x91, 0, 4);
  if (length > 512) bytes.set([0x11, 0x12], 510);
  return bytes;
};

const latin1 = (text: string): Bytes => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

/** Noise with these bytes in it; a negative place counts from the end. */
function withMarks(length: number, ...marks: readonly (readonly [at: number, bytes: string])[]): Bytes {
  const bytes = noise(length);
  for (const [at, text] of marks) bytes.set(latin1(text), at < 0 ? length + at : at);
  return bytes;
}

const run = (command: string, ...options: string[]): Buffer => execFileSync(command, options, { cwd: folder, maxBuffer: 64 * MiB });
const bytesOf = (buffer: Uint8Array): Bytes => new Uint8Array(buffer);

/** A file made by a tool, which leaves it at `name` or on its standard output. */
function made(name: string, command: string, ...options: string[]): Bytes {
  const output = run(command, ...options);
  return bytesOf(output.length > 0 ? output : readFileSync(join(folder, name)));
}

/** An empty file of `size` bytes after a tool has worked on it. */
function formatted(size: number, command: string, ...options: string[]): Bytes {
  writeFileSync(join(folder, 'formatted'), new Uint8Array(size));
  run(command, ...options);
  return bytesOf(readFileSync(join(folder, 'formatted')));
}

const fileOf = (bytes: Bytes, name = 'some.img'): File => new File([bytes], name);

async function refusalOf(bytes: Bytes, name?: string): Promise<{ kind: string; format: string; field: string; message: string }> {
  return recognise(fileOf(bytes, name)).then(
    (format) => {
      throw new Error(`taken as ${format}`);
    },
    (error) => error,
  );
}

const OVF =
  '<?xml version="1.0"?>\n<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">\n</Envelope>\n';

/** The first ten bytes of a header of Teledisk. */
const TELEDISK = latin1('TD\0\x5a\x15\x02\0\0\0\x02');
/** Its checksum, the other way round than the table's: each bit of the message is put in. */
function teledisk(): Bytes {
  const bytes = noise(4000);
  bytes.set(TELEDISK);
  let crc = 0;
  for (const byte of TELEDISK)
    for (let bit = 7; bit >= 0; bit--) {
      const out = ((crc >> 15) ^ (byte >> bit)) & 1;
      crc = (crc << 1) & 0xffff;
      if (out) crc ^= 0xa097;
    }
  bytes.set([crc & 255, crc >> 8], 10);
  return bytes;
}

/** Old tar archives have no mark, only a checksum. */
function oldTar(): Bytes {
  const bytes = made('old.tar', 'tar', '--format=v7', '-cf', '-', 'disk.img');
  expect(String.fromCharCode(...bytes.subarray(257, 262))).not.toBe('ustar');
  return bytes;
}

const FOREIGN: readonly (readonly [name: string, bytes: () => Bytes])[] = [
  ['zip', () => made('disk.zip', 'zip', '-q', '-', 'disk.img')],
  ['gzip', () => made('', 'gzip', '-c', 'disk.img')],
  ['bzip2', () => made('', 'bzip2', '-c', 'disk.img')],
  ['xz', () => made('', 'xz', '-c', 'disk.img')],
  ['zstd', () => made('', 'zstd', '-q', '-c', 'disk.img')],
  ['lz4', () => made('', 'lz4', '-q', '-c', 'disk.img')],
  ['lzip', () => withMarks(9000, [0, 'LZIP\x01\x14'])],
  ['lzop', () => withMarks(9000, [0, '\x89LZO\0\r\n\x1a\n\x10\x40'])],
  ['compress', () => withMarks(9000, [0, '\x1f\x9d\x90'])],
  ['7z', () => withMarks(9000, [0, '7z\xbc\xaf\x27\x1c\0\x04'])],
  ['rar', () => withMarks(9000, [0, 'Rar!\x1a\x07\x01\0'])],
  ['cab', () => withMarks(9000, [0, 'MSCF\0\0\0\0\x28\x23\0\0'])],
  ['ova', () => made('', 'tar', '--format=ustar', '-cf', '-', 'machine.ovf', 'machine-disk1.vmdk')],
  ['tar', () => made('', 'tar', '-cf', '-', 'disk.img')],
  ['tar', oldTar],
  ['cpio', () => withMarks(9000, [0, '0707010000a1b2000081a4'])],
  ['ar', () => withMarks(9000, [0, '!<arch>\ndebian-binary   1342943816  0'])],
  ['rpm', () => withMarks(9000, [0, '\xed\xab\xee\xdb\x03\0'])],
  ['wim', () => withMarks(9000, [0, 'MSWIM\0\0\0\xd0\0\0\0'])],
  ['bin', () => withMarks(2352 * 4, [0, `\0${'\xff'.repeat(10)}\0\0\x02\0\x01`])],
  ['nrg', () => withMarks(9000, [-12, 'NER5\0\0\0\0\0\0\x20\0'])],
  ['nrg', () => withMarks(9000, [-8, 'NERO\0\0\x20\0'])],
  ['mds', () => withMarks(900, [0, 'MEDIA DESCRIPTOR\x01\x03'])],
  ['cso', () => withMarks(9000, [0, 'CISO\x18\0\0\0'])],
  ['daa', () => withMarks(9000, [0, 'DAA\0\0\0\0\0\0\0\0\0\0\0\0\0'])],
  ['chd', () => withMarks(9000, [0, 'MComprHD\0\0\0\x7c\0\0\0\x05'])],
  ['hfe', () => withMarks(9000, [0, 'HXCPICFE\0\x50\x02'])],
  ['imd', () => withMarks(9000, [0, 'IMD 1.18: 12/03/2011 10:11:12\r\n\x1a'])],
  ['td0', teledisk],
  ['scp', () => withMarks(9000, [0, 'SCP\x19\x04\x05'])],
  ['ipf', () => withMarks(9000, [0, 'CAPS\0\0\0\x0c\x1c\xd5\x73\xba'])],
  ['86f', () => withMarks(9000, [0, '86BF\x0c\x02'])],
  ['mfi', () => withMarks(9000, [0, 'MAMEFLOPPYIMAGE\0'])],
  ['woz', () => withMarks(9000, [0, 'WOZ2\xff\n\r\n'])],
  ['edsk', () => withMarks(9000, [0, 'EXTENDED CPC DSK File\r\nDisk-Info\r\n'])],
  ['android-sparse', () => withMarks(9000, [0, '\x3a\xff\x26\xed\x01\0\0\0\x1c\0\x0c\0'])],
  ['e01', () => withMarks(9000, [0, 'EVF\t\r\n\xff\0\x01\x01\0\0\0'])],
  ['partclone', () => withMarks(9000, [0, 'partclone-image\0'])],
  ['encrypted-dmg', () => withMarks(9000, [0, 'encrcdsa\0\0\0\x02'])],
  ['sparseimage', () => withMarks(9000, [0, 'sprs\0\0\0\x03'])],
  ['v86-state', () => withMarks(9000, [0, '\x76\x86\x76\x86\x06\0\0\0'])],
  ['savevm', () => withMarks(9000, [0, 'QEVM\0\0\0\x03'])],
  ['torrent', () => withMarks(9000, [0, 'd8:announce40:http://tracker.example/announce'])],
  ['pdf', () => withMarks(9000, [0, '%PDF-1.7\n%\xe2\xe3'])],
  ['png', () => bytesOf(readFileSync(join(import.meta.dirname, '../../public/screenshot.png')))],
  ['jpeg', () => withMarks(9000, [0, '\xff\xd8\xff\xe0\0\x10JFIF\0'])],
  ['gif', () => withMarks(9000, [0, 'GIF89a\x10\0\x10\0'])],
  ['riff', () => withMarks(9000, [0, 'RIFF\x24\x23\0\0WAVEfmt '])],
  ['mp4', () => withMarks(9000, [0, '\0\0\0\x20ftypisom'])],
  ['matroska', () => withMarks(9000, [0, '\x1a\x45\xdf\xa3\x9f'])],
  ['ogg', () => withMarks(9000, [0, 'OggS\0\x02'])],
  ['mp3', () => withMarks(9000, [0, 'ID3\x03\0\0\0'])],
  ['elf', () => bytesOf(readFileSync(process.execPath).subarray(0, 100_000))],
  ['exe', () => withMarks(9000, [0, 'MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff'])],
  ['macho', () => withMarks(9000, [0, '\xcf\xfa\xed\xfe\x07\0\0\x01'])],
  ['wasm', () => bytesOf(readFileSync(join(import.meta.dirname, '../../node_modules/v86/build/v86.wasm')))],
  ['ole', () => withMarks(9000, [0, '\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1'])],
  ['sqlite', () => withMarks(9000, [0, 'SQLite format 3\0\x10\0'])],
  ['ds-store', () => withMarks(9000, [0, '\0\0\0\x01Bud1\0\0\x10\0'])],
  ['appledouble', () => withMarks(4096, [0, '\0\x05\x16\x07\0\x02\0\0'])],
];

const LONG_LINE = `{"files":[${Array.from({ length: 3000 }, (_, i) => `"${i}"`).join(',')}]}`;
const utf16 = (text: string): Bytes => bytesOf(Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(text, 'utf16le')]));
const text = (value: string): Bytes => bytesOf(Buffer.from(value));

const TEXTS: readonly (readonly [name: string, bytes: Bytes])[] = [
  ['git-lfs', text(`version https://git-lfs.github.com/spec/v1\noid sha256:${'4d'.repeat(32)}\nsize 12345\n`)],
  ['ovf', text(OVF)],
  ['vbox', text('<?xml version="1.0"?>\n<VirtualBox xmlns="http://www.virtualbox.org/" version="1.16-linux">\n')],
  ['vmx', text('.encoding = "UTF-8"\nconfig.version = "8"\nvirtualHW.version = "19"\n')],
  ['html', text('<!-- moved -->\n<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>…</body></html>\n')],
  ['html', text('<html>\r\n<head><title>403 Forbidden</title></head>\r\n')],
  ['xml', text('<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>')],
  ['cue', text('REM made by hand\r\nFILE "game.bin" BINARY\r\n  TRACK 01 MODE1/2352\r\n    INDEX 01 00:00:00\r\n')],
  ['ccd', text('[CloneCD]\r\nVersion=3\r\n')],
  ['json', text('{"message":"Not Found"}')],
  ['json', text(LONG_LINE)],
  ['json', text('[\n  {"name": "disk"}\n]\n')],
  ['script', text('#!/bin/sh\nexec qemu-system-i386 "$@"\n')],
  ['text', text('404: Not Found')],
  ['text', text(`${'Zeile für Zeile größer\n'.repeat(500)}`)],
  ['text', text('ディスクイメージではありません\n'.repeat(400))],
  ['text', utf16('Not a disk\r\n'.repeat(500))],
];

describe('a file that is no disk image is named, with what to do', () => {
  test.each(FOREIGN)('%s', async (name, bytes) => {
    const refused = await refusalOf(bytes(), 'linux.img');
    expect(refused).toMatchObject({ kind: 'wrong-format', format: name, field: 'magic' });
    const row = FOREIGN_FILES.find((each) => each.name === name);
    expect(refused.message).toBe(`linux.img is ${row?.title}, not a disk image. ${row?.advice}`);
  });

  test.each(TEXTS)('%s, a text', async (name, bytes) => {
    const refused = await refusalOf(bytes, 'linux.qcow2');
    expect(refused).toMatchObject({ kind: 'wrong-format', format: name, field: 'magic' });
    expect(refused.message).toContain('not a disk image. ');
  });

  test('every row of the tables has its file here', () => {
    const without = (rows: readonly { name: string }[], cases: readonly (readonly [string, unknown])[]) =>
      rows.map(({ name }) => name).filter((name) => !cases.some(([one]) => one === name));
    // A kernel is both, and asked about: below.
    expect(without(FOREIGN_FILES, FOREIGN)).toEqual(['linux-kernel']);
    expect(without(TEXT_FILES, TEXTS)).toEqual([]);
  });

  test('a file of no bytes', async () => {
    expect(await refusalOf(new Uint8Array(0))).toMatchObject({ kind: 'wrong-format', format: 'empty', message: expect.stringContaining('0 bytes') });
  });
});

describe('formats that can only be read are taken by their bytes', () => {
  test('bochs', async () => {
    const { file } = bochsImage({ version: 2, extent: 4096, bitmap: 1, sectors: 103 });
    expect(await recognise(fileOf(bytesOf(file), 'of bochs'))).toBe('bochs');
  });

  test('a disk image of macOS, by its trailer and not by its name', async () => {
    expect(await recognise(fileOf(withMarks(100_000, [-512, 'koly\0\0\0\x04']), 'disk.img'))).toBe('dmg');
    expect(await refusalOf(made('disk.zip', 'zip', '-q', '-', 'disk.img'), 'x.dmg')).toMatchObject({ kind: 'wrong-format', format: 'zip' });
  });
});

describe('a VHD is taken, whichever end its mark is at', () => {
  test.each(['dynamic', 'fixed'])('%s', async (subformat) => {
    run('qemu-img', 'create', '-q', '-f', 'vpc', '-o', `subformat=${subformat}`, 'a VHD', '4M');
    const bytes = bytesOf(readFileSync(join(folder, 'a VHD')));
    expect(await recognise(fileOf(bytes))).toBe('vpc');
    // The first ones had a footer that was a byte short.
    expect(await recognise(fileOf(bytes.slice(0, -1)))).toBe('vpc');
  });
});

describe('a raw disk is taken without a question if its contents are known', () => {
  const REAL: readonly (readonly [title: string, bytes: () => Bytes])[] = [
    ['ext4', () => formatted(4 * MiB, 'mkfs.ext4', '-q', 'formatted')],
    ['ext2', () => formatted(2 * MiB, 'mkfs.ext4', '-q', '-t', 'ext2', '-b', '1024', 'formatted')],
    ['swap', () => formatted(4 * MiB, 'mkswap', '-q', 'formatted')],
    ['a floppy of DOS', () => formatted(1440 * KiB, 'mformat', '-i', 'formatted', '-f', '1440', '::')],
    ['FAT32', () => formatted(40 * MiB, 'mformat', '-i', 'formatted', '-F', '-T', '81920', '::')],
  ];

  test.each(REAL)('%s', async (_title, bytes) => {
    expect(await recognise(fileOf(bytes(), 'no ending'))).toBe('raw');
  });

  test('FAT without the signature of a boot sector, and a floppy whose first sector says nothing', async () => {
    const floppy = formatted(720 * KiB, 'mformat', '-i', 'formatted', '-f', '720', '::');
    floppy.set([0, 0], 510);
    expect(await recognise(fileOf(floppy))).toBe('raw');
    floppy.set(new Uint8Array(512).fill(0xf6));
    expect(await recognise(fileOf(floppy))).toBe('raw');
  });

  const marks = DISK_CONTENTS.flatMap(({ title, marks: of = [] }) => of.map((mark) => [title, mark.at, mark.bytes] as const));

  test.each(marks)('%s at %i', async (_title, at, bytes) => {
    expect(await recognise(fileOf(withMarks(100_000, [at, bytes]), 'disk.vmdk'))).toBe('raw');
  });
});

describe('a file of which nothing is known', () => {
  test.each([
    ['noise', noise(70_000)],
    ['zeros', new Uint8Array(MiB)],
    ['one byte over and over', new Uint8Array(MiB).fill(0xf6)],
    ['a letter over and over', new Uint8Array(MiB).fill(0x5a)],
    ['less than a sector', noise(100)],
  ])('%s: is taken if the caller says that it is raw, and only then', async (_title, bytes) => {
    expect(await refusalOf(bytes)).toMatchObject({ kind: 'wrong-format', format: 'raw', field: 'contents' });
    expect(await recognise(fileOf(bytes), 'raw')).toBe('raw');
  });

  test('a name like that of another format is mentioned, and decides nothing', async () => {
    const refused = await refusalOf(noise(70_000), 'old.VDI');
    expect(refused).toMatchObject({
      kind: 'wrong-format',
      format: 'vdi',
      field: 'contents',
      message: expect.stringContaining('named like a VirtualBox'),
    });
    expect(await recognise(fileOf(noise(70_000), 'old.VDI'), 'raw')).toBe('raw');
  });

  test('what is two things at a time is asked about: a kernel with a boot sector, an archive that ends in the wrong place', async () => {
    const kernel = withMarks(20_000, [0, 'MZ\xea\x07'], [510, '\x55\xaa'], [514, 'HdrS\x0f\x02']);
    expect(await refusalOf(kernel, 'vmlinuz')).toMatchObject({
      format: 'linux-kernel',
      field: 'contents',
      message: expect.stringContaining('looks like a Linux kernel, and like a raw disk with a boot sector'),
    });
    const archive = made('disk.zip', 'zip', '-q', '-', 'disk.img');
    archive.set([0x55, 0xaa], 510);
    expect(await refusalOf(archive)).toMatchObject({ format: 'zip', field: 'contents' });
    expect(await recognise(fileOf(archive), 'raw')).toBe('raw');
  });

  test('no length of any kind breaks it', async () => {
    const whole = made('disk.zip', 'zip', '-q', '-', 'disk.img');
    for (const length of [1, 2, 3, 4, 11, 12, 64, 511, 512, 513, 1023, 1024, 1025]) {
      for (const bytes of [noise(length), whole.slice(0, length), new Uint8Array(length)])
        await expect(recognise(fileOf(bytes))).rejects.toMatchObject({ kind: 'wrong-format' });
      expect(await recognise(fileOf(noise(length)), 'raw')).toBe('raw');
    }
  });
});
