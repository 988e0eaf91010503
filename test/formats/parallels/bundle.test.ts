/** Parallels disks in folders: parts and snapshots, judged by a naive reader; and descriptions that are refused. */
import { describe, expect, it } from 'vitest';
import { createDisk, type Disk, DiskError, inspect, type OpenOptions, openDisk, type Reference } from '../../../src/index.ts';
import { type MemoryStorage, memoryStorage } from '../../../src/storage/memory.ts';
import { firstDifference, NaiveDisk } from '../../model/naive.ts';
import { runOperations } from '../../model/operations.ts';
import { Random } from '../../random.ts';
import { type BundlePart, bundleText, partFile, ROOT, readPart } from './bundle.ts';

class Folder {
  readonly files = new Map<string, MemoryStorage>();
  readonly asked: Reference[] = [];
  readonly parts: readonly BundlePart[];

  constructor(parts: readonly BundlePart[], random: Random, clusterSectors = 8) {
    this.parts = parts;
    for (const { sectors, files } of parts)
      for (const [kind, name] of files) {
        const count = Math.ceil(sectors / clusterSectors);
        const clusters = new Map(
          Array.from({ length: count / 2 }, () => [random.between(0, count - 1), random.bytes(clusterSectors * 512)] as const),
        );
        const bytes = kind === 'Plain' ? random.bytes(sectors * 512) : partFile(sectors, clusterSectors, clusters, random.chance(0.5));
        this.files.set(name, memoryStorage({ name, bytes }));
      }
  }

  open(options: OpenOptions = {}, text: Uint8Array<ArrayBuffer> = bundleText(this.parts)): Promise<Disk> {
    const resolve = (reference: Reference): MemoryStorage => {
      this.asked.push(reference);
      const found = this.files.get(reference.name);
      if (!found) throw new Error(`there is no ${reference.name}`);
      return found;
    };
    return openDisk(memoryStorage({ name: 'DiskDescriptor.xml', bytes: text }), { resolve, ...options });
  }

  /** As the naive reader has it. */
  contents(): Uint8Array {
    const disks = this.parts.map(({ sectors, files }) =>
      readPart(
        sectors,
        [...files].reverse().map(([kind, name]) => [kind, (this.files.get(name) as MemoryStorage).bytes()] as const),
      ),
    );
    return new Uint8Array(Buffer.concat(disks));
  }
}

const KINDS: readonly [string, readonly BundlePart[]][] = [
  ['one file', [{ sectors: 805, files: [['Compressed', 'a']] }]],
  ['one plain file', [{ sectors: 805, files: [['Plain', 'a']] }]],
  [
    'three snapshots',
    [
      {
        sectors: 805,
        files: [
          ['Compressed', 'a'],
          ['Compressed', 'b'],
          ['Compressed', 'c'],
        ],
      },
    ],
  ],
  [
    'a snapshot of a plain file',
    [
      {
        sectors: 805,
        files: [
          ['Plain', 'a'],
          ['Compressed', 'b'],
        ],
      },
    ],
  ],
  [
    'three parts with snapshots',
    [
      {
        sectors: 400,
        files: [
          ['Compressed', 'a'],
          ['Compressed', 'b'],
          ['Compressed', 'c'],
        ],
      },
      {
        sectors: 80,
        files: [
          ['Plain', 'd'],
          ['Compressed', 'e'],
          ['Compressed', 'f'],
        ],
      },
      {
        sectors: 325,
        files: [
          ['Compressed', 'g'],
          ['Compressed', 'h'],
          ['Compressed', 'i'],
        ],
      },
    ],
  ],
];

describe.each(KINDS)('%s', (_, parts) => {
  it('is read and written as a naive reader reads it', async () => {
    const random = new Random(parts.length + (parts[0]?.files.length ?? 0));
    const folder = new Folder(parts, random);
    const naive = new NaiveDisk(805 * 512);
    naive.bytes.set(folder.contents());
    const lower = parts.flatMap(({ files }) =>
      files.slice(0, -1).map(([, name]) => [name, (folder.files.get(name) as MemoryStorage).bytes()] as const),
    );
    for (let round = 0; round < 2; round++) {
      const disk = await folder.open();
      expect(firstDifference(await disk.read(0, disk.size), naive.bytes)).toBe(-1);
      await runOperations(disk, naive, random, { count: 30, allowed: { snapshots: 0, resize: false, sizeUnit: 512, discardUnit: 0 } });
      if (parts.some(({ files }) => files.at(-1)?.[0] === 'Compressed')) expect(await disk.check()).toMatchObject({ corruptions: 0 });
      await disk.close();
      expect(firstDifference(folder.contents(), naive.bytes)).toBe(-1);
    }
    for (const [name, bytes] of lower) expect(firstDifference((folder.files.get(name) as MemoryStorage).bytes(), bytes), name).toBe(-1);
    expect(
      folder.asked
        .filter(({ writable }) => writable)
        .map(({ name }) => name)
        .slice(0, parts.length),
    ).toEqual(parts.map(({ files }) => files.at(-1)?.[1]));
  });
});

it('says what it is without opening its files; a name with folders counts from its last part', async () => {
  const parts: BundlePart[] = [
    {
      sectors: 64,
      files: [
        ['Compressed', '/Users/me/x.hdd/a.hds'],
        ['Compressed', 'C:\\disks\\b.hds'],
      ],
    },
  ];
  const bytes = bundleText(parts, { top: false });
  expect(await inspect(memoryStorage({ bytes }))).toMatchObject({
    format: 'parallels',
    size: 64 * 512,
    geometry: { cylinders: 1, heads: 16, sectors: 63 },
    features: ['in a folder', '1 snapshots'],
    references: [
      { kind: 'extent', name: 'b.hds' },
      { kind: 'extent', name: 'a.hds' },
    ],
  });
  await expect(openDisk(memoryStorage({ bytes }))).rejects.toMatchObject({ kind: 'refused', field: 'extent' });
});

it('a file that is in use can be repaired, as a part of its disk', async () => {
  const folder = new Folder(
    [
      {
        sectors: 64,
        files: [
          ['Compressed', 'a'],
          ['Compressed', 'b'],
        ],
      },
    ],
    new Random(1),
  );
  const disk = await folder.open();
  await disk.write(0, new Uint8Array([7]));
  await disk.flush();
  const left = new Folder([], new Random(1));
  for (const [name, storage] of folder.files) left.files.set(name, memoryStorage({ name, bytes: storage.bytes() }));
  const text = bundleText(folder.parts);
  await expect(left.open({}, text)).rejects.toMatchObject({ field: 'inuse' });
  const repaired = await left.open({ repair: true }, text);
  expect(await repaired.check({ repair: 'all' })).toMatchObject({ corruptions: 0, corruptionsFixed: 1 });
  await repaired.close();
  const again = await left.open({}, text);
  expect((await again.read(0, 1))[0]).toBe(7);
});

const good: BundlePart[] = [
  { sectors: 64, files: [['Compressed', 'a']] },
  { sectors: 64, files: [['Compressed', 'b']] },
];
const changed = (from: string | RegExp, to: string): string => new TextDecoder().decode(bundleText(good)).replace(from, to);

it.each<[string, string, string]>([
  [
    'an encrypted disk',
    'Encryption',
    changed('<Padding>', '<Encryption><Engine>{1fbaabe3-6958-40ff-92a7-860e329aab41}</Engine></Encryption><Padding>'),
  ],
  ['sectors of 4096 bytes', 'LogicSectorSize', changed('<Padding>', '<LogicSectorSize>4096</LogicSectorSize><Padding>')],
  ['a document type with entities', 'DOCTYPE', changed('<Parallels', '<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><Parallels')],
  ['a text that is cut off', 'XML', changed(/<Snapshots>[\s\S]*/, '')],
  ['a size that is no number', 'Disk_size', changed('<Disk_size>128', '<Disk_size>-128')],
  ['a size beyond all numbers', 'Disk_size', changed('<Disk_size>128', '<Disk_size>9999999999999999')],
  ['parts that do not fill the disk', 'Disk_size', changed('<Disk_size>128', '<Disk_size>129')],
  ['a gap between parts', 'Start', changed('<Start>64', '<Start>65')],
  ['a part that ends before it begins', 'End', changed('<End>64', '<End>0')],
  ['a snapshot over itself', 'ParentGUID', changed(/<ParentGUID>[^<]*/, `<ParentGUID>${ROOT}`)],
  ['a snapshot over one that is not there', 'Shot', changed(/<ParentGUID>[^<]*/, '<ParentGUID>{11111111-6958-40ff-92a7-860e329aab41}')],
  ['a top that is no snapshot', 'Shot', changed(/<TopGUID>[^<]*/, '<TopGUID>{11111111-6958-40ff-92a7-860e329aab41}')],
  ['a part without a file of the snapshot', 'Image', changed(/<Image><GUID>[^<]*/, '<Image><GUID>{11111111-6958-40ff-92a7-860e329aab41}')],
  ['a type of file that nobody knows', 'Type', changed('<Type>Compressed', '<Type>Squeezed')],
  ['a file that is the folder above', 'extent', changed('<File>a', '<File>..')],
  ['a file of two parts', 'extent', changed('<File>b', '<File>a')],
  [
    'a file that is shorter than its part',
    'End',
    changed('<End>64', '<End>65').replace('<Start>64', '<Start>65').replace('<End>128', '<End>129').replace('_size>128', '_size>129'),
  ],
  ['no parts', 'Disk_size', changed(/<StorageData>[\s\S]*<\/StorageData>/, '<StorageData></StorageData>')],
])('is refused by name: %s', async (_, field, text) => {
  const bytes = new TextEncoder().encode(text);
  const folder = new Folder(good, new Random(1));
  await expect(folder.open({}, bytes)).rejects.toSatisfy((error) => error instanceof DiskError && error.field === field);
  const report = await inspect(memoryStorage({ bytes }));
  expect(report.format).toBe('parallels');
});

it('a description of megabytes is not read, and its folder is never made by createDisk', async () => {
  const bytes = new Uint8Array(2 ** 20 + 1).fill(32);
  bytes.set(bundleText(good));
  await expect(new Folder(good, new Random(1)).open({}, bytes)).rejects.toMatchObject({ field: 'XML' });
  const disk = await createDisk(memoryStorage(), { format: 'parallels', size: 4096 });
  await disk.close();
});
