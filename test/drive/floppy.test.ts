/** The floppy table whole, and QEMU 7.2's choice of format and drive. */
import { describe, expect, it } from 'vitest';
import {
  chooseFloppyDrive,
  chooseFloppyFormat,
  exactFloppyFormat,
  FLOPPY_DRIVE_CODES,
  FLOPPY_FORMATS,
  FLOPPY_LIMIT_SECTORS,
  type FloppyFormat,
  floppyFormatsOfSize,
  floppyGeometry,
  floppySector,
  formatSectors,
} from '../../src/drive/floppy.ts';

const line = ({ drive, rate, sectorsPerTrack, tracks, heads }: FloppyFormat) => `${drive} ${rate}k ${sectorsPerTrack}/${tracks} h${heads} `;

/** Every row, written out, with its size in sectors. */
const TABLE = `
144 500k 18/80 h2 2880
144 500k 20/80 h2 3200
144 500k 21/80 h2 3360
144 500k 21/82 h2 3444
144 500k 21/83 h2 3486
144 500k 22/80 h2 3520
144 500k 23/80 h2 3680
144 500k 24/80 h2 3840
288 1000k 36/80 h2 5760
288 1000k 39/80 h2 6240
288 1000k 40/80 h2 6400
288 1000k 44/80 h2 7040
288 1000k 48/80 h2 7680
144 250k 9/80 h2 1440
144 250k 10/80 h2 1600
144 250k 10/82 h2 1640
144 250k 10/83 h2 1660
144 250k 13/80 h2 2080
144 250k 14/80 h2 2240
120 500k 15/80 h2 2400
120 500k 18/80 h2 2880
120 500k 18/82 h2 2952
120 500k 18/83 h2 2988
120 500k 20/80 h2 3200
120 250k 9/80 h2 1440
120 250k 11/80 h2 1760
120 300k 9/40 h2 720
120 300k 9/40 h1 360
120 300k 10/41 h2 820
120 300k 10/42 h2 840
120 250k 8/40 h2 640
120 250k 8/40 h1 320
144 250k 9/80 h1 720
`.trim();

it('the table is complete and in order', () => {
  expect(FLOPPY_FORMATS.map((format) => line(format) + formatSectors(format)).join('\n')).toBe(TABLE);
  expect(FLOPPY_LIMIT_SECTORS).toBe(7680);
  expect(FLOPPY_DRIVE_CODES).toEqual({ '144': 0, '288': 1, '120': 2, none: 3 });
});

/** Sectors, and what they are in a drive of type 144, 288, 120 and auto; a dash where only the drive decides. */
const CHOICES = `
320, -, -, 120 250k 8/40 h1, 120 250k 8/40 h1
360, -, -, 120 300k 9/40 h1, 120 300k 9/40 h1
640, -, -, 120 250k 8/40 h2, 120 250k 8/40 h2
720, 144 250k 9/80 h1, 144 250k 9/80 h1, 120 300k 9/40 h2, 120 300k 9/40 h2
820, -, -, 120 300k 10/41 h2, 120 300k 10/41 h2
840, -, -, 120 300k 10/42 h2, 120 300k 10/42 h2
1440, 144 250k 9/80 h2, 144 250k 9/80 h2, 120 250k 9/80 h2, 144 250k 9/80 h2
1600, 144 250k 10/80 h2, 144 250k 10/80 h2, -, 144 250k 10/80 h2
1640, 144 250k 10/82 h2, 144 250k 10/82 h2, -, 144 250k 10/82 h2
1660, 144 250k 10/83 h2, 144 250k 10/83 h2, -, 144 250k 10/83 h2
1760, -, -, 120 250k 11/80 h2, 120 250k 11/80 h2
2080, 144 250k 13/80 h2, 144 250k 13/80 h2, -, 144 250k 13/80 h2
2240, 144 250k 14/80 h2, 144 250k 14/80 h2, -, 144 250k 14/80 h2
2400, -, -, 120 500k 15/80 h2, 120 500k 15/80 h2
2880, 144 500k 18/80 h2, 144 500k 18/80 h2, 120 500k 18/80 h2, 144 500k 18/80 h2
2952, -, -, 120 500k 18/82 h2, 120 500k 18/82 h2
2988, -, -, 120 500k 18/83 h2, 120 500k 18/83 h2
3200, 144 500k 20/80 h2, 144 500k 20/80 h2, 120 500k 20/80 h2, 144 500k 20/80 h2
3360, 144 500k 21/80 h2, 144 500k 21/80 h2, -, 144 500k 21/80 h2
3444, 144 500k 21/82 h2, 144 500k 21/82 h2, -, 144 500k 21/82 h2
3486, 144 500k 21/83 h2, 144 500k 21/83 h2, -, 144 500k 21/83 h2
3520, 144 500k 22/80 h2, 144 500k 22/80 h2, -, 144 500k 22/80 h2
3680, 144 500k 23/80 h2, 144 500k 23/80 h2, -, 144 500k 23/80 h2
3840, 144 500k 24/80 h2, 144 500k 24/80 h2, -, 144 500k 24/80 h2
5760, 288 1000k 36/80 h2, 288 1000k 36/80 h2, -, 288 1000k 36/80 h2
6240, 288 1000k 39/80 h2, 288 1000k 39/80 h2, -, 288 1000k 39/80 h2
6400, 288 1000k 40/80 h2, 288 1000k 40/80 h2, -, 288 1000k 40/80 h2
7040, 288 1000k 44/80 h2, 288 1000k 44/80 h2, -, 288 1000k 44/80 h2
7680, 288 1000k 48/80 h2, 288 1000k 48/80 h2, -, 288 1000k 48/80 h2
`.trim();

const short = ({ format, exact }: ReturnType<typeof chooseFloppyFormat>) => `${line(format).trim()}${exact ? '' : ' inexact'}`;

describe('the format of a medium', () => {
  it('every size is found by an automatic drive, in its first row', () => {
    for (const format of FLOPPY_FORMATS) {
      const sectors = formatSectors(format);
      const first = FLOPPY_FORMATS.find((one) => formatSectors(one) === sectors);
      expect(chooseFloppyFormat(sectors)).toEqual({ format: first, exact: true });
      expect(exactFloppyFormat(sectors)).toBe(first);
    }
  });

  it('prefers the drive, then its size of disk', () => {
    expect(short(chooseFloppyFormat(2880, '120'))).toBe('120 500k 18/80 h2');
    expect(short(chooseFloppyFormat(2880, '144'))).toBe('144 500k 18/80 h2');
    // A 2.88 MB drive has no 720 KiB format, but 1.44 MB disks have its size.
    expect(short(chooseFloppyFormat(1440, '288'))).toBe('144 250k 9/80 h2');
    expect(short(chooseFloppyFormat(720, '288'))).toBe('144 250k 9/80 h1');
    expect(short(chooseFloppyFormat(720))).toBe('120 300k 9/40 h2');
    // A disk of the other size does not fit, whatever it holds.
    expect(short(chooseFloppyFormat(2400, '144'))).toBe('144 500k 18/80 h2 inexact');
    expect(short(chooseFloppyFormat(5760, '120'))).toBe('120 500k 15/80 h2 inexact');
  });

  it('every size in every drive', () => {
    const sizes = [...new Set(FLOPPY_FORMATS.map(formatSectors))].sort((a, b) => a - b);
    const drives = ['144', '288', '120', 'auto'] as const;
    const one = ({ format, exact }: ReturnType<typeof chooseFloppyFormat>) => (exact ? line(format).trim() : '-');
    const rows = sizes.map((sectors) => [sectors, ...drives.map((drive) => one(chooseFloppyFormat(sectors, drive)))].join(', '));
    expect(rows.join('\n')).toBe(CHOICES);
  });

  it('without one of its size it is the first of the drive', () => {
    expect(short(chooseFloppyFormat(2881, '144'))).toBe('144 500k 18/80 h2 inexact');
    expect(short(chooseFloppyFormat(2881, '288'))).toBe('288 1000k 36/80 h2 inexact');
    expect(short(chooseFloppyFormat(2881, '120'))).toBe('120 500k 15/80 h2 inexact');
    expect(short(chooseFloppyFormat(2881))).toBe('288 1000k 36/80 h2 inexact');
  });

  it('lists all of a size', () => {
    expect(floppyFormatsOfSize(720).map(line)).toEqual(['120 300k 9/40 h2 ', '144 250k 9/80 h1 ']);
    expect(floppyFormatsOfSize(1441)).toEqual([]);
  });
});

it('the drive follows its first medium', () => {
  expect(chooseFloppyDrive('auto', 2880)).toBe('144');
  expect(chooseFloppyDrive('auto', 2400)).toBe('120');
  expect(chooseFloppyDrive('auto', 7680)).toBe('288');
  expect(chooseFloppyDrive('auto', 999)).toBe('288');
  expect(chooseFloppyDrive('auto')).toBe('288');
  expect(chooseFloppyDrive('120', 2880)).toBe('120');
});

it('hints count when complete', () => {
  expect(floppyGeometry(2880, 'auto', { cylinders: 80, heads: 1, sectors: 36 })).toEqual({
    chs: { cylinders: 80, heads: 1, sectors: 36 },
    drive: '144',
    exact: true,
  });
  expect(floppyGeometry(2880, '288', { cylinders: 77, heads: 2, sectors: 26 })).toEqual({
    chs: { cylinders: 77, heads: 2, sectors: 26 },
    drive: '288',
    exact: false,
  });
  expect(floppyGeometry(2880, 'auto', { cylinders: 77, heads: 2 })).toEqual({
    chs: { cylinders: 80, heads: 2, sectors: 18 },
    drive: '144',
    exact: true,
  });
  expect(floppyGeometry(720, '144')).toEqual({ chs: { cylinders: 80, heads: 1, sectors: 9 }, drive: '144', exact: true });
});

it('sectors are counted side by side', () => {
  const format = exactFloppyFormat(2880) as FloppyFormat;
  expect(floppySector(format, { track: 0, head: 0, sector: 1 })).toBe(0);
  expect(floppySector(format, { track: 0, head: 1, sector: 1 })).toBe(18);
  expect(floppySector(format, { track: 1, head: 0, sector: 1 })).toBe(36);
  expect(floppySector(format, { track: 79, head: 1, sector: 18 })).toBe(2879);
  const oneSided = FLOPPY_FORMATS.at(-1) as FloppyFormat;
  expect(floppySector(oneSided, { track: 79, head: 0, sector: 9 })).toBe(719);
});
