/** Parallels: the contract, what the header and the table may say, and images that go both ways with the real qemu-img and qemu-io. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { inspect } from '../../../src/index.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, run } from '../../oracle/qemu.ts';
import { formatContract, mixedImage } from '../contract.ts';
import { oldImage } from './image.ts';

const MiB = 2 ** 20;
const IN_USE = 0x746f6e59;
const u32 = (at: number, value: number) => (_: Uint8Array, data: DataView) => void data.setUint32(at, value, true);
const damages = [
  { what: 'another magic', field: 'magic', damage: u32(0, 1) },
  { what: 'version 3', field: 'version', damage: u32(16, 3) },
  { what: 'clusters of no sectors', field: 'tracks', damage: u32(28, 0) },
  { what: 'clusters of 4 GiB', field: 'tracks', damage: u32(28, 2 ** 23) },
  { what: 'a table of 2^31 bytes', field: 'bat_entries', damage: u32(32, 2 ** 29) },
  { what: 'a table past the end of the file', field: 'BAT', damage: (bytes: Uint8Array) => bytes.slice(0, 70) },
  { what: 'a table that reaches into the data', field: 'data_off', damage: u32(32, 2 ** 28) },
  { what: 'more sectors than the table has clusters for', field: 'nb_sectors', damage: u32(36, 2 ** 20) },
  { what: 'a size beyond all numbers', field: 'nb_sectors', damage: u32(40, 2 ** 31) },
  {
    what: 'data in the table',
    field: 'data_off',
    damage: (bytes: Uint8Array, data: DataView) => {
      // With the first kind of entries a table may be longer than a sector.
      data.setUint32(32, 400, true);
      data.setUint32(48, 1, true);
      return bytes;
    },
  },
  { what: 'in use', field: 'inuse', damage: u32(44, IN_USE) },
  { what: 'an entry past the end of the file', field: 'BAT', damage: u32(64, 2 ** 24) },
  {
    what: 'an entry in the table',
    field: 'BAT',
    damage: (bytes: Uint8Array, data: DataView) => {
      bytes.set(new TextEncoder().encode('WithoutFreeSpace'));
      for (let at = 64; at < 80; at += 4) data.setUint32(at, 0, true);
      data.setUint32(32, 1024, true);
      data.setUint32(48, 0, true);
      data.setUint32(64, 3, true);
      return bytes;
    },
  },
  { what: 'one cluster twice', field: 'BAT', damage: (_: Uint8Array, data: DataView) => void data.setUint32(64, data.getUint32(68, true), true) },
];

for (const options of [{}, { cluster_size: 65536 + 512 }])
  formatContract({ format: 'parallels', options, sizeUnit: 512, damages: options.cluster_size === undefined ? damages : [] });

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-parallels-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);
const case1 = { format: 'parallels', options: {}, sizeUnit: 512, damages: [] };

it('is made as QEMU makes it', async () => {
  for (const [size, cluster] of [
    [10 * MiB, '1M'],
    [3_000_320, '4k'],
    [1_000_448, '1000'],
    [MiB - 512, '64k'],
    [0, '1M'],
    [2 ** 40, '1M'],
  ] as const) {
    qemuImg('create', '-q', '-f', 'parallels', '-o', `cluster_size=${cluster}`, file('theirs'), String(size));
    const storage = memoryStorage();
    await createDisk(storage, { format: 'parallels', size, cluster_size: cluster });
    expect({ size, at: firstDifference(storage.bytes(), readFileSync(file('theirs'))) }).toEqual({ size, at: -1 });
  }
});

it.each([
  ['0', 'Image size is too large for this cluster size'],
  ['2G', 'Cluster size is too large'],
  ['8191P', 'Cluster size is too large'],
])('clusters of %s bytes are refused in the words of QEMU', async (cluster_size, words) => {
  const theirs = run('qemu-img', ['create', '-f', 'parallels', '-o', `cluster_size=${cluster_size}`, file('refused'), '1M']);
  expect(theirs.stderr).toContain(words);
  await expect(createDisk(memoryStorage(), { format: 'parallels', size: MiB, cluster_size })).rejects.toMatchObject({
    field: 'cluster_size',
    message: expect.stringContaining(words),
  });
});

it('is marked as in use from before the first change until it is closed', async () => {
  const storage = memoryStorage({ bytes: (await mixedImage(case1)).file });
  const mark = () => new DataView(storage.bytes().buffer).getUint32(44, true);
  const disk = await openDisk(storage, { format: 'parallels' });
  await disk.read(0, 512);
  expect(mark()).toBe(0);
  await disk.write(3_000_000, new Uint8Array([1]));
  expect(mark()).toBe(IN_USE);
  await disk.flush();
  expect(mark()).toBe(IN_USE);
  writeFileSync(file('used'), storage.bytes());
  const theirs = run('qemu-io', ['-f', 'parallels', '-c', 'write 0 512', file('used')]);
  const words = 'parallels: Image was not closed correctly; cannot be opened read/write';
  expect(`${theirs.stdout}${theirs.stderr}`).toContain(words);
  const copy = memoryStorage({ bytes: storage.bytes() });
  await expect(openDisk(copy, { format: 'parallels' })).rejects.toMatchObject({ message: expect.stringContaining(words), field: 'inuse' });
  const repaired = await openDisk(copy, { format: 'parallels', repair: true });
  await expect(repaired.write(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'read-only' });
  expect(await repaired.check({ repair: 'all' })).toMatchObject({ corruptions: 0, corruptionsFixed: 1 });
  await repaired.write(0, new Uint8Array([5]));
  await repaired.close();
  expect(await (await openDisk(copy, { format: 'parallels' })).read(0, 1)).toEqual(new Uint8Array([5]));
  await disk.close();
  expect(mark()).toBe(0);
});

const SAMPLE = join(import.meta.dirname, '../../../../shared/samples/parallels-v1.bz2');
it(`an image of Parallels itself (${existsSync(SAMPLE) ? 'sample' : 'sample missing: an image of its kind is laid down here'})`, async () => {
  const sample = existsSync(SAMPLE) ? execFileSync('bzcat', [SAMPLE]) : oldImage(2 * MiB, 65536);
  writeFileSync(file('sample'), sample);
  qemuImg('convert', '-f', 'parallels', '-O', 'raw', file('sample'), file('sample.raw'));
  const disk = await openDisk(nodeFileStorage(file('sample')), { format: 'parallels' });
  expect(firstDifference(await disk.read(0, disk.size), readFileSync(file('sample.raw')))).toBe(-1);
  await disk.write(MiB + 70_000, new Uint8Array(200_000).fill(9));
  const bytes = await disk.read(0, disk.size);
  await disk.close();
  writeFileSync(file('sample.raw'), bytes);
  qemuImg('check', '-q', '-f', 'parallels', file('sample'));
  qemuImg('compare', '-q', '-f', 'parallels', '-F', 'raw', file('sample'), file('sample.raw'));
});

describe('the table', () => {
  const changes: readonly [string, (data: DataView) => void, extra?: number][] = [
    ['nothing wrong', () => undefined],
    ['in use', (data) => data.setUint32(44, IN_USE, true)],
    ['an entry past the end', (data) => data.setUint32(68, 20, true)],
    ['an entry at the end', (data) => data.setUint32(64, data.byteLength / MiB, true)],
    ['bytes behind the last cluster', () => undefined, 1_500_000],
    [
      'everything',
      (data) => {
        data.setUint32(44, IN_USE, true);
        data.setUint32(72, 40, true);
      },
      512,
    ],
  ];
  it.each(changes)('is checked and repaired as by QEMU: %s', async (_, change, extra = 0) => {
    const { file: bytes } = await mixedImage(case1);
    change(new DataView(bytes.buffer));
    const damaged = new Uint8Array(bytes.length + extra);
    damaged.set(bytes);
    for (const repair of [undefined, 'leaks', 'all'] as const) {
      writeFileSync(file('damaged'), damaged);
      const theirs = run('qemu-img', ['check', ...(repair ? ['-r', repair] : []), '-f', 'parallels', '--output=json', file('damaged')]);
      const said = JSON.parse(theirs.stdout.slice(theirs.stdout.indexOf('{'))) as Record<string, number>;
      const storage = memoryStorage({ bytes: damaged });
      const disk = await openDisk(storage, { format: 'parallels', repair: true });
      const ours = await disk.check(repair ? { repair } : {});
      await disk.close();
      const { corruptions, leaks, corruptionsFixed, leaksFixed, allocatedClusters, totalClusters, fragmentedClusters, imageEndOffset } = ours;
      expect({ corruptions, leaks, corruptionsFixed, leaksFixed, allocatedClusters, totalClusters, fragmentedClusters, imageEndOffset }).toEqual({
        corruptions: said['corruptions'] ?? 0,
        leaks: said['leaks'] ?? 0,
        corruptionsFixed: said['corruptions-fixed'] ?? 0,
        leaksFixed: said['leaks-fixed'] ?? 0,
        allocatedClusters: said['allocated-clusters'],
        totalClusters: said['total-clusters'],
        fragmentedClusters: said['fragmented-clusters'] ?? 0,
        imageEndOffset: said['image-end-offset'],
      });
      const lines = `${theirs.stdout}${theirs.stderr}`.split('\n').filter((line) => /^(ERROR|Repairing)/.test(line));
      expect(ours.messages).toEqual(lines);
      // QEMU makes the file as long as entries say that it has given up.
      if (repair === 'all') expect(firstDifference(storage.bytes(), readFileSync(file('damaged')).subarray(0, storage.size))).toBe(-1);
    }
  });

  it('of an empty image may be larger than a cluster: no repair cuts it off', async () => {
    const storage = memoryStorage();
    await createDisk(storage, { format: 'parallels', size: 8 * MiB, cluster_size: 4096 });
    const disk = await openDisk(storage, { format: 'parallels', repair: true });
    expect(await disk.check({ repair: 'all' })).toMatchObject({ leaks: 0, leaksFixed: 0, imageEndOffset: storage.size });
  });

  it('that names a cluster twice is no table to write by, and is not repaired', async () => {
    const { file: bytes } = await mixedImage(case1);
    new DataView(bytes.buffer).setUint32(64, new DataView(bytes.buffer).getUint32(68, true), true);
    const disk = await openDisk(memoryStorage({ bytes }), { format: 'parallels', repair: true });
    expect(await disk.check({ repair: 'all' })).toMatchObject({ corruptions: 1, corruptionsFixed: 0 });
    await expect(disk.write(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'read-only' });
  });
});

it('a format extension is left alone, with the words of QEMU: nothing is written over it, and nothing behind it cut off', async () => {
  const { file: bytes, guest } = await mixedImage(case1);
  const extended = new Uint8Array(bytes.length + 2 * MiB);
  extended.set(bytes);
  extended.fill(0xee, bytes.length);
  new DataView(extended.buffer).setUint32(56, bytes.length / 512, true);
  const storage = memoryStorage({ bytes: extended });
  const told: unknown[] = [];
  const disk = await openDisk(storage, { format: 'parallels', onDamage: (...line) => void told.push(line) });
  expect(told).toEqual([['warning: Format Extension ignored in RW mode', true]]);
  expect(firstDifference(await disk.read(0, disk.size), guest)).toBe(-1);
  for (let at = 0; at < disk.size; at += MiB) await disk.write(at, new Uint8Array([1]));
  expect(await disk.check({ repair: 'leaks' })).toMatchObject({ leaks: 0, leaksFixed: 0 });
  await disk.close();
  expect(
    storage
      .bytes()
      .subarray(bytes.length, extended.length)
      .every((byte) => byte === 0xee),
  ).toBe(true);
  expect(await inspect(storage)).toMatchObject({ features: ['format extension'], size: guest.length });
});

it('the geometry is that of the header, with the sectors that its size tells', async () => {
  const header = async (size: number, change: (fields: DataView) => void = () => undefined) => {
    const storage = memoryStorage();
    await (await createDisk(storage, { format: 'parallels', size })).close();
    const bytes = storage.bytes();
    change(new DataView(bytes.buffer));
    return (await inspect(memoryStorage({ bytes }))).geometry;
  };
  expect(await header(1024 * MiB)).toEqual({ cylinders: 4096, heads: 16, sectors: 32 });
  expect(await header(1024 * MiB + 100 * 512)).toEqual({ cylinders: 4096, heads: 16, sectors: 32 });
  expect(await header(1024 * MiB, (fields) => fields.setUint32(24, 2080, true))).toEqual({ cylinders: 2080, heads: 16, sectors: 63 });
  // No track has so many sectors.
  for (const at of [20, 24])
    for (const value of [0, 7]) expect(await header(1024 * MiB, (fields) => fields.setUint32(at, value, true))).toBeUndefined();
});

it('facts are those of qemu-img info and map', async () => {
  const { file: bytes } = await mixedImage(case1);
  writeFileSync(file('facts'), bytes);
  const info = JSON.parse(qemuImg('info', '--output=json', '-f', 'parallels', file('facts'))) as Record<string, unknown>;
  const map = JSON.parse(qemuImg('map', '--output=json', '-f', 'parallels', file('facts'))) as Record<string, unknown>[];
  const disk = await openDisk(memoryStorage({ name: file('facts'), bytes }), { format: 'parallels', readOnly: true });
  expect(await disk.info()).toEqual({ ...info, 'actual-size': expect.any(Number) });
  const runs: unknown[] = [];
  for await (const run of disk.map()) runs.push({ ...run });
  expect(runs).toEqual(map.map((run) => ({ compressed: false, ...run })));
});
