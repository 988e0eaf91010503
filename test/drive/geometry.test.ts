/** The geometry rules of QEMU 7.2: partition tables, defaults and their clamps, hints and limits, translation, CMOS bytes. */
import { describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { runAsync, runSync } from '../../src/base/io.ts';
import { headerGeometry } from '../../src/disk/inspect.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { Drive } from '../../src/drive/drive.ts';
import {
  automaticTranslation,
  biosGeometry,
  cmosBytes,
  defaultGeometry,
  describeGeometry,
  diskGeometry,
  guessGeometry,
  partitionTableGeometry,
  physicalBlockExponent,
} from '../../src/drive/geometry.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';

interface Entry {
  readonly endHead: number;
  /** The raw byte: sector in the low six bits, cylinder's high bits above. */
  readonly endSector: number;
  readonly sectors: number;
  readonly type?: number;
}

/** A first sector with these partition entries at their places (`undefined` leaves one empty). */
function table(entries: readonly (Entry | undefined)[], signature = [0x55, 0xaa]): Uint8Array {
  const sector = new Uint8Array(512);
  // Boot code, so that nothing is read from the wrong place unnoticed.
  for (let i = 0; i < 0x1be; i++) sector[i] = (i * 7 + 13) & 0xff;
  const data = new DataView(sector.buffer);
  for (const [index, entry] of entries.entries()) {
    if (!entry) continue;
    const at = 0x1be + 16 * index;
    sector.set([0x80, 1, 1, 0, entry.type ?? 6, entry.endHead, entry.endSector, 0x8f], at);
    data.setUint32(at + 8, 63, true);
    data.setUint32(at + 12, entry.sectors, true);
  }
  sector.set(signature, 510);
  return sector;
}

const GIB = 2 ** 30 / 512;
const entry = (endHead: number, endSector: number, sectors = 1000): Entry => ({ endHead, endSector, sectors });

describe('partition tables', () => {
  const cases: [string, Uint8Array, number, ReturnType<typeof partitionTableGeometry>][] = [
    ['16 heads, 63 sectors', table([entry(15, 63)]), 20160, { cylinders: 20, heads: 16, sectors: 63 }],
    ['an old small disk, 4 heads and 17 sectors', table([entry(3, 17)]), 41820, { cylinders: 615, heads: 4, sectors: 17 }],
    ['the cylinder bits of the sector byte are masked', table([entry(9, 0xc0 | 32)]), 64000, { cylinders: 200, heads: 10, sectors: 32 }],
    ['255 heads', table([entry(254, 63)]), 4 * GIB, { cylinders: 522, heads: 255, sectors: 63 }],
    ['256 heads', table([entry(255, 63)]), 4 * GIB, { cylinders: 520, heads: 256, sectors: 63 }],
    [
      'the first entry is not in use',
      table([{ endHead: 3, endSector: 17, sectors: 0 }, entry(7, 26)]),
      41600,
      { cylinders: 200, heads: 8, sectors: 26 },
    ],
    ['an end head of 0 says nothing', table([entry(0, 63), entry(15, 63)]), 10080, { cylinders: 10, heads: 16, sectors: 63 }],
    ['sector 0 says nothing', table([entry(15, 0x40), undefined, entry(5, 33)]), 19800, { cylinders: 100, heads: 6, sectors: 33 }],
    [
      'more than 16383 cylinders: the next entry counts',
      table([entry(1, 1), undefined, undefined, entry(254, 63)]),
      2 * GIB,
      { cylinders: 261, heads: 255, sectors: 63 },
    ],
    ['16383 cylinders are the most', table([entry(15, 63)]), 16383 * 1008, { cylinders: 16383, heads: 16, sectors: 63 }],
    ['16384 cylinders are too many', table([entry(15, 63)]), 16384 * 1008, undefined],
    ['less than one cylinder', table([entry(254, 63)]), 255 * 63 - 1, undefined],
    ['exactly one cylinder', table([entry(254, 63)]), 255 * 63, { cylinders: 1, heads: 255, sectors: 63 }],
    ['the largest count of sectors is unsigned', table([entry(15, 63, 0xffffffff)]), 10080, { cylinders: 10, heads: 16, sectors: 63 }],
    ['two entries: the first wins', table([entry(7, 17), entry(15, 63)]), 136000, { cylinders: 1000, heads: 8, sectors: 17 }],
    ['no signature', table([entry(15, 63)], [0x55, 0xab]), 20160, undefined],
    ['a swapped signature', table([entry(15, 63)], [0xaa, 0x55]), 20160, undefined],
    ['no entry', table([]), 20160, undefined],
  ];
  it.each(cases)('%s', (_name, sector, total, expected) => {
    expect(partitionTableGeometry(sector, total)).toEqual(expected);
  });

  it('looks at whole sectors only', () => {
    expect(partitionTableGeometry(table([entry(15, 63)]).subarray(0, 511), 20160)).toBeUndefined();
  });
});

describe('tables as tools write them', () => {
  const MIB = 2048;
  /** The 16 bytes of each entry, total sectors, the table's geometry, and what the disk gets. */
  const cases: [string, string[], number, [number, number, number] | undefined, [number, number, number], string][] = [
    ['DOS 6, 40 MB', ['80010100060f3fd13f000000914d0100'], 85680, [85, 16, 63], [85, 16, 63], 'none'],
    ['DOS 3.3, 20 MB of an XT', ['8001010004031164110000002fa20000'], 41820, [615, 4, 17], [615, 4, 17], 'none'],
    ['Windows 98, FAT32 by LBA', ['800101000cfe3f043f0000003c340100'], 512 * MIB, [65, 255, 63], [1040, 16, 63], 'large'],
    ['Windows XP, 8 GB', ['8001010007feffff3f0000007d3a0001'], 8192 * MIB, [1044, 255, 63], [16383, 16, 63], 'lba'],
    ['fdisk of Linux, at 1 MiB', ['0020210083be320c0008000000180300'], 100 * MIB, [21, 191, 50], [203, 16, 63], 'large'],
    ['fdisk of Linux, past what CHS can say', ['0020210083feffff0008000000f8ff00'], 8192 * MIB, [1044, 255, 63], [16383, 16, 63], 'lba'],
    ['an EFI protective entry', ['00000200eeffffff01000000ffff3f00'], 2048 * MIB, [260, 256, 63], [4161, 16, 63], 'large'],
    ['an EFI protective entry on a small disk: less than a cylinder', ['00000200eeffffff010000000f270000'], 10000, undefined, [9, 16, 63], 'none'],
    ['a CD image that boots from USB: 64 heads, 32 sectors', ['80000100173f20010000000000180000'], 700 * MIB, [700, 64, 32], [1422, 16, 63], 'large'],
    ['a BSD slice in the fourth entry', ['', '', '', '80010100a50f3f133f000000c1ae0000'], 100800, [100, 16, 63], [100, 16, 63], 'none'],
    ['an extended partition alone', ['', '0001010a050f3fbcd0270000c0bb0200'], 190512, [189, 16, 63], [189, 16, 63], 'none'],
    ['OpenBSD and a huge disk: no cylinders to count', ['80010200a6fe3f013f000000ffffff7f'], 200_000 * MIB, undefined, [16383, 16, 63], 'lba'],
    ['4 TB, addressed by LBA alone', ['00feffff83feffff00080000fff7ffff'], 4 * 1024 * 1024 * MIB, undefined, [16383, 16, 63], 'lba'],
  ];
  it.each(cases)('%s', (_name, entries, total, written, chosen, translation) => {
    const sector = table([]);
    for (const [index, hex] of entries.entries()) sector.set(Buffer.from(hex, 'hex'), 0x1be + 16 * index);
    const chs = ([cylinders, heads, sectors]: [number, number, number]) => ({ cylinders, heads, sectors });
    expect(partitionTableGeometry(sector, total)).toEqual(written && chs(written));
    const source = written ? 'partition-table' : 'default';
    expect(guessGeometry(sector, total)).toMatchObject({ chs: chs(chosen), translation, source });
    // v86 looks at the table by the same rule.
    expect(describeGeometry(sector, total).v86).toEqual(chs(chosen));
  });
});

describe('defaults', () => {
  it.each([
    [0, 2],
    [1, 2],
    [2 * 1008, 2],
    [3 * 1008 - 1, 2],
    [3 * 1008, 3],
    [2 * GIB, 4161],
    [16383 * 1008, 16383],
    [16384 * 1008, 16383],
    [2048 * GIB, 16383],
  ])('%i sectors have %i cylinders', (total, cylinders) => {
    expect(defaultGeometry(total)).toEqual({ cylinders, heads: 16, sectors: 63 });
  });
});

describe('translation', () => {
  it('of a table with up to 16 heads is none, even beyond 1024 cylinders', () => {
    expect(guessGeometry(table([entry(15, 63)]), 5000 * 1008)).toMatchObject({
      chs: { cylinders: 5000, heads: 16, sectors: 63 },
      translation: 'none',
      source: 'partition-table',
    });
  });

  it('of a table with more heads is large up to 131072 tracks, then LBA; the geometry is the default', () => {
    const sector = table([entry(127, 63)]);
    expect(guessGeometry(sector, 8192 * 1008)).toMatchObject({
      chs: { cylinders: 8192, heads: 16, sectors: 63 },
      translation: 'large',
      source: 'partition-table',
    });
    expect(guessGeometry(sector, 8193 * 1008)).toMatchObject({ chs: { cylinders: 8193, heads: 16, sectors: 63 }, translation: 'lba' });
    expect(guessGeometry(sector, 8193 * 1008).partitionTable).toEqual({ cylinders: 1024, heads: 128, sectors: 63 });
  });

  it('without a table is none up to 1024 cylinders, then LBA', () => {
    const blank = new Uint8Array(512);
    expect(guessGeometry(blank, 1024 * 1008)).toEqual({ chs: { cylinders: 1024, heads: 16, sectors: 63 }, translation: 'none', source: 'default' });
    expect(guessGeometry(blank, 1025 * 1008)).toMatchObject({ chs: { cylinders: 1025 }, translation: 'lba', source: 'default' });
  });

  it('is chosen for hints, unless stated', () => {
    const sector = table([entry(254, 63)]);
    const hint = { cylinders: 1025, heads: 4, sectors: 17 };
    expect(guessGeometry(sector, GIB, hint)).toMatchObject({ chs: hint, translation: 'lba', source: 'hint' });
    expect(guessGeometry(sector, GIB, { ...hint, cylinders: 1024 })).toMatchObject({ translation: 'none' });
    expect(guessGeometry(sector, GIB, { ...hint, translation: 'rechs' })).toMatchObject({ chs: hint, translation: 'rechs' });
    expect(guessGeometry(sector, GIB, { ...hint, translation: 'auto' })).toMatchObject({ translation: 'lba' });
    expect(guessGeometry(sector, GIB, { translation: 'lba' })).toMatchObject({ translation: 'lba', source: 'partition-table' });
  });

  it('auto depends on all three numbers', () => {
    expect(automaticTranslation({ cylinders: 1024, heads: 16, sectors: 63 })).toBe('none');
    expect(automaticTranslation({ cylinders: 1025, heads: 16, sectors: 63 })).toBe('lba');
    expect(automaticTranslation({ cylinders: 2, heads: 17, sectors: 63 })).toBe('lba');
    expect(automaticTranslation({ cylinders: 2, heads: 16, sectors: 64 })).toBe('lba');
  });
});

describe('hints', () => {
  const blank = new Uint8Array(512);
  it.each([
    [{ cylinders: 16384, heads: 16, sectors: 63 }, 'cylinders'],
    [{ cylinders: 0, heads: 16, sectors: 63 }, 'cylinders'],
    [{ cylinders: 100, heads: 17, sectors: 63 }, 'heads'],
    [{ cylinders: 100, sectors: 63 }, 'heads'],
    [{ cylinders: 100, heads: 16, sectors: 64 }, 'sectors'],
    [{ cylinders: 100, heads: 16 }, 'sectors'],
    [{ cylinders: -1, heads: 16, sectors: 63 }, 'cylinders'],
    [{ cylinders: 1.5, heads: 16, sectors: 63 }, 'cylinders'],
  ])('%j is refused', (hint, field) => {
    const attempt = () => guessGeometry(blank, GIB, hint);
    expect(attempt).toThrow(DiskError);
    expect(attempt).toThrow(expect.objectContaining({ kind: 'refused', field }));
  });

  it('the limits themselves are accepted', () => {
    expect(guessGeometry(blank, GIB, { cylinders: 16383, heads: 16, sectors: 63 })).toMatchObject({ source: 'hint', translation: 'lba' });
    expect(guessGeometry(blank, GIB, { cylinders: 1, heads: 1, sectors: 1 })).toMatchObject({ source: 'hint', translation: 'none' });
  });

  it('zeros are no hint', () => {
    expect(guessGeometry(blank, GIB, { cylinders: 0, heads: 0, sectors: 0 })).toMatchObject({ source: 'default' });
  });
});

describe('CMOS bytes', () => {
  const first = { chs: { cylinders: 4161, heads: 16, sectors: 63 }, translation: 'auto' } as const;
  const second = { chs: { cylinders: 615, heads: 8, sectors: 17 }, translation: 'large' } as const;

  it('describe two disks', () => {
    expect(Object.fromEntries(cmosBytes([first, second]))).toEqual({
      [0x12]: 0xff,
      [0x19]: 47,
      [0x1a]: 47,
      [0x1b]: 0x41,
      [0x1c]: 0x10,
      [0x1d]: 16,
      [0x1e]: 0xff,
      [0x1f]: 0xff,
      [0x20]: 0xc8,
      [0x21]: 0x41,
      [0x22]: 0x10,
      [0x23]: 63,
      [0x24]: 0x67,
      [0x25]: 0x02,
      [0x26]: 8,
      [0x27]: 0xff,
      [0x28]: 0xff,
      [0x29]: 0xc0,
      [0x2a]: 0x67,
      [0x2b]: 0x02,
      [0x2c]: 17,
      [0x39]: 0b1001,
    });
  });

  it('leave out a missing disk', () => {
    const bytes = cmosBytes([undefined, second]);
    expect(bytes.get(0x12)).toBe(0x0f);
    expect(bytes.has(0x19)).toBe(false);
    expect(bytes.get(0x39)).toBe(0b1000);
    expect(Object.fromEntries(cmosBytes([]))).toEqual({ [0x12]: 0, [0x39]: 0 });
  });

  it('hold the translations of four disks', () => {
    const chs = { cylinders: 1000, heads: 16, sectors: 63 };
    const drives = (['none', 'lba', 'large', 'rechs'] as const).map((translation) => ({ chs, translation }));
    expect(cmosBytes(drives).get(0x39)).toBe(0b11_10_01_00);
    expect(cmosBytes([...drives].reverse()).get(0x39)).toBe(0b00_01_10_11);
  });
});

describe('what programs see through INT 13h', () => {
  const chs = (cylinders: number, heads: number, sectors = 63) => ({ cylinders, heads, sectors });
  it.each([
    ['none', chs(1000, 16), 1_008_000, chs(1000, 16)],
    ['none', chs(4161, 16), 4_194_304, chs(1024, 16)],
    ['large', chs(1000, 16), 1_008_000, chs(1000, 16)],
    ['large', chs(4161, 16), 4_194_304, chs(520, 128)],
    ['large', chs(8192, 16), 8_257_536, chs(1024, 128)],
    ['large', chs(16383, 16), 16_514_064, chs(1024, 128)],
    ['large', chs(3000, 10, 32), 960_000, chs(750, 40, 32)],
    ['rechs', chs(8192, 16), 8_257_536, chs(546, 240)],
    ['rechs', chs(16383, 16), 16_514_064, chs(1024, 240)],
    ['rechs', chs(3000, 10, 32), 960_000, chs(750, 40, 32)],
    ['lba', chs(1000, 16), 1_008_000, chs(1000, 16)],
    ['lba', chs(1025, 16), 1_033_200, chs(512, 32)],
    ['lba', chs(4161, 16), 4_194_304, chs(520, 128)],
    ['lba', chs(16383, 16), 1024 * 255 * 63, chs(1024, 255)],
    ['lba', chs(16383, 16), 2 ** 32, chs(1024, 255)],
    ['auto', chs(1024, 16), 1024 * 1008, chs(1024, 16)],
    ['auto', chs(1025, 16), 1025 * 1008, chs(512, 32)],
  ] as const)('%s of %o', (translation, drive, total, expected) => {
    expect(biosGeometry({ chs: drive, translation }, total)).toEqual(expected);
  });
});

it("a drive's hints win over the table, and its translation is the one stated", async () => {
  const storage = memoryStorage({ bytes: table([entry(7, 32)]) });
  const disk = await openDisk(storage, { format: 'raw' });
  await disk.resize(GIB * 512);
  const drive = new Drive({ name: 'hda' });
  drive.insert(disk);
  expect(await drive.geometry()).toMatchObject({ chs: { cylinders: 8192, heads: 8, sectors: 32 }, source: 'partition-table' });
  for (const translation of ['none', 'lba', 'large', 'rechs'] as const) {
    drive.geometryHints = { cylinders: 2000, heads: 16, sectors: 63, translation };
    expect(await drive.geometry()).toMatchObject({ chs: { cylinders: 2000, heads: 16, sectors: 63 }, source: 'hint', translation });
  }
  drive.geometryHints = { cylinders: 2000, heads: 16, sectors: 63, translation: 'auto' };
  const report = await drive.geometry();
  expect(report.translation).toBe('lba');
  expect(cmosBytes([report]).get(0x39)).toBe(1);
  drive.geometryHints = { cylinders: 2000 };
  await expect(drive.geometry()).rejects.toMatchObject({ kind: 'refused', field: 'heads' });
  expect(drive.statistics.read.operations).toBe(0);
});

describe('reports', () => {
  it('read the first sector through the storage', () => {
    const storage = memoryStorage();
    runSync(storage.truncate(2000 * 8 * 32 * 512 + 1));
    runSync(storage.write(0, table([entry(7, 32)])));
    expect(runSync(diskGeometry(storage))).toEqual({
      totalSectors: 512001,
      chs: { cylinders: 2000, heads: 8, sectors: 32 },
      partitionTable: { cylinders: 2000, heads: 8, sectors: 32 },
      translation: 'none',
      source: 'partition-table',
      v86: { cylinders: 2000, heads: 8, sectors: 32 },
      warnings: [],
    });
  });

  it('warn when v86 presents something else', () => {
    const report = describeGeometry(new Uint8Array(512), GIB, { cylinders: 1000, heads: 8, sectors: 32 });
    expect(report).toMatchObject({ source: 'hint', v86: { cylinders: 2080, heads: 16, sectors: 63 } });
    expect(report.warnings).toEqual([expect.stringContaining('v86 presents 2080/16/63 where this geometry is 1000/8/32')]);
    expect(describeGeometry(table([entry(3, 17)]), 600_000, { cylinders: 1000, heads: 8, sectors: 32 }).warnings).toEqual([
      expect.stringContaining('1000/8/32'),
      expect.stringContaining('written for 4 heads and 17 sectors, the hint says 8 and 32'),
    ]);
    expect(describeGeometry(new Uint8Array(512), 1500).warnings).toEqual([expect.stringContaining('516 sectors past the end')]);
  });

  it("have the geometry of the image's header, of the first image of a chain that states one, and warn where nothing else tells", async () => {
    const files = new Map(['base.vmdk', 'over.qcow2'].map((name) => [name, memoryStorage({ name })]));
    const [base, over] = [...files.values()] as [MemoryStorage, MemoryStorage];
    await (await createDisk(base, { format: 'vmdk', size: 2 ** 30, adapterType: 'lsilogic' })).close();
    const resolve = () => base;
    const disk = await createDisk(over, { format: 'qcow2', backing: { name: 'base.vmdk', format: 'vmdk' }, resolve });
    const header = { cylinders: 130, heads: 255, sectors: 63 };
    const report = await runAsync(diskGeometry(disk.storage, {}, headerGeometry(disk.node)));
    expect(report).toMatchObject({ header, source: 'default', v86: { heads: 16 } });
    expect(report.warnings).toEqual([expect.stringContaining('header states 130/255/63, v86 presents 2080/16/63')]);
    await disk.write(0, table([entry(7, 32)]));
    expect(await runAsync(diskGeometry(disk.storage, {}, headerGeometry(disk.node)))).toMatchObject({
      header,
      source: 'partition-table',
      warnings: [],
    });
    await disk.close();
  });

  it('name the floppy of exactly this size', () => {
    expect(describeGeometry(new Uint8Array(512), 2880).floppy).toEqual({ chs: { cylinders: 80, heads: 2, sectors: 18 }, drive: '144', exact: true });
    expect(describeGeometry(new Uint8Array(512), 2881).floppy).toBeUndefined();
  });

  it('an empty or short disk has a report too', () => {
    expect(runSync(diskGeometry(memoryStorage()))).toMatchObject({ totalSectors: 0, chs: { cylinders: 2 }, source: 'default' });
    expect(runSync(diskGeometry(memoryStorage({ bytes: new Uint8Array(100).fill(9) })))).toMatchObject({ totalSectors: 1 });
  });
});

it('the physical block exponent counts doublings', () => {
  expect([512, 1024, 4096, 8192].map((physical) => physicalBlockExponent(512, physical))).toEqual([0, 1, 3, 4]);
  expect(physicalBlockExponent(4096, 512)).toBe(0);
});
