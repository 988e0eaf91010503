/** QED: the contract, what the header and the tables may say, and images that go both ways with the real qemu-img and qemu-io. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runAsync } from '../../../src/base/io.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { toolsOf } from '../../../src/formats/tools.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, run } from '../../oracle/qemu.ts';
import { formatContract, mixedImage } from '../contract.ts';

const MiB = 2 ** 20;
const SMALL = { cluster_size: 4096, table_size: 2 };
const u32 =
  (at: number, value: number) =>
  (_: Uint8Array, data: DataView): undefined =>
    void data.setUint32(at, value, true);
/** Changes entry `index` of the first L2 table. */
const l2 =
  (index: number, value: number) =>
  (_: Uint8Array, data: DataView): undefined => {
    const at = data.getUint32(data.getUint32(40, true), true) + index * 8;
    data.setUint32(at, value, true);
  };
const l1 =
  (value: number) =>
  (_: Uint8Array, data: DataView): undefined =>
    void data.setUint32(data.getUint32(40, true), value, true);
const damages = [
  { what: 'another magic', field: 'magic', damage: u32(0, 1) },
  { what: 'clusters of 5000 bytes', field: 'cluster_size', damage: u32(4, 5000) },
  { what: 'clusters of 2 KiB', field: 'cluster_size', damage: u32(4, 2048) },
  { what: 'clusters of 2 GiB', field: 'cluster_size', damage: u32(4, 2 ** 31) },
  { what: 'tables of no clusters', field: 'table_size', damage: u32(8, 0) },
  { what: 'tables of 3 clusters', field: 'table_size', damage: u32(8, 3) },
  { what: 'tables of 32 clusters', field: 'table_size', damage: u32(8, 32) },
  { what: 'a header of no clusters', field: 'header_size', damage: u32(12, 0) },
  { what: 'a header that overflows', field: 'header_size', damage: u32(12, 2 ** 31) },
  { what: 'an unknown feature', field: 'features', damage: u32(16, 8) },
  { what: 'an unknown feature in the high word', field: 'features', damage: u32(20, 1) },
  {
    what: 'a backing file outside the header',
    field: 'backing_filename_offset',
    damage: (_: Uint8Array, data: DataView) => {
      data.setUint32(16, 1, true);
      data.setUint32(56, 70_000, true);
      data.setUint32(60, 10, true);
      return undefined;
    },
  },
  {
    what: 'a long name of the backing file',
    field: 'backing_filename_size',
    damage: (_: Uint8Array, data: DataView) => {
      data.setUint32(16, 1, true);
      data.setUint32(56, 64, true);
      data.setUint32(60, 1024, true);
      return undefined;
    },
  },
  { what: 'an L1 table off its cluster', field: 'l1_table_offset', damage: u32(40, 65537) },
  { what: 'an L1 table in the header', field: 'l1_table_offset', damage: u32(40, 0) },
  { what: 'an L1 table past the end', field: 'l1_table_offset', damage: u32(40, 2 ** 30) },
  { what: 'a size that is no sector', field: 'image_size', damage: u32(48, 513) },
  { what: 'a size beyond the tables', field: 'image_size', damage: u32(52, 2 ** 20) },
  { what: 'a size beyond all numbers', field: 'image_size', damage: u32(52, 2 ** 31) },
  { what: 'an L1 entry off its cluster', field: 'L1 entry', damage: l1(513) },
  { what: 'an L1 entry past the end', field: 'L1 entry', damage: l1(2 ** 30) },
  { what: 'an L2 table that is the L1 table', field: 'L1 entry', damage: l1(65536) },
  { what: 'an L2 entry off its cluster', field: 'L2 entry', damage: l2(1, 513) },
  { what: 'an L2 entry past the end', field: 'L2 entry', damage: l2(1, 2 ** 30) },
  { what: 'an L2 entry at the L1 table', field: 'L2 entry', damage: l2(1, 65536) },
];

formatContract({ format: 'qed', options: {}, sizeUnit: 512, damages });
formatContract({ format: 'qed', options: SMALL, sizeUnit: 512, damages: [] });

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-qed-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);
const small = { format: 'qed', options: SMALL, sizeUnit: 512, damages: [] };

it('is made as QEMU makes it', async () => {
  writeFileSync(file('base.raw'), new Uint8Array(3 * MiB).fill(7));
  for (const [size, options] of [
    [10 * MiB, {}],
    [MiB + 512, SMALL],
    [0, { cluster_size: 8192, table_size: 16 }],
    [2 ** 46, {}],
    [4 * MiB, { backing: 'base.raw' }],
  ] as const) {
    const { backing = '', ...rest } = options as { backing?: string; cluster_size?: number; table_size?: number };
    const given = Object.entries(rest).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
    qemuImg('create', '-q', '-f', 'qed', ...given, ...(backing ? ['-b', backing, '-F', 'raw'] : []), file('theirs'), String(size));
    const storage = memoryStorage();
    const below = memoryStorage({ bytes: new Uint8Array(3 * MiB) });
    await createDisk(storage, {
      format: 'qed',
      size,
      ...rest,
      ...(backing ? { backing: { name: backing, format: 'raw' }, resolve: () => ({ storage: below, format: 'raw' }) } : {}),
    });
    expect({ size, at: firstDifference(storage.bytes(), readFileSync(file('theirs'))) }).toEqual({ size, at: -1 });
  }
});

it.each([
  ['cluster_size', 2048, 'QED cluster size must be within range [4096, 67108864] and power of 2'],
  ['cluster_size', 5000, 'QED cluster size must be within range [4096, 67108864] and power of 2'],
  ['table_size', 3, 'QED table size must be within range [1, 16] and power of 2'],
  ['table_size', 32, 'QED table size must be within range [1, 16] and power of 2'],
  ['size', 2 ** 46 + 512, 'QED image size must be a non-zero multiple of cluster size and less than 70368744177664 bytes'],
])('%s %d is refused in the words of QEMU', async (name, value, words) => {
  const said = name === 'size' ? [file('refused'), String(value)] : ['-o', `${name}=${value}`, file('refused'), '1M'];
  expect(run('qemu-img', ['create', '-f', 'qed', ...said]).stderr).toContain(words);
  await expect(createDisk(memoryStorage(), { format: 'qed', size: MiB, [name]: value })).rejects.toMatchObject({
    field: name,
    message: expect.stringContaining(words),
  });
});

it('tables of one cluster are not made: QEMU does not open them', async () => {
  qemuImg('create', '-q', '-f', 'qed', '-o', 'cluster_size=4k,table_size=1', file('one'), '1M');
  expect(run('qemu-img', ['info', '-f', 'qed', file('one')]).stderr).toContain('QED table offset is invalid');
  await expect(createDisk(memoryStorage(), { format: 'qed', size: MiB, table_size: 1 })).rejects.toMatchObject({ field: 'table_size' });
});

it('asks for a check from before the first new cluster until it is closed, and is checked when it is opened for writing', async () => {
  const storage = memoryStorage({ bytes: (await mixedImage(small)).file });
  const asked = () => new DataView(storage.bytes().buffer).getUint32(16, true);
  const disk = await openDisk(storage, { format: 'qed' });
  await disk.write(3, new Uint8Array([1]));
  expect(asked()).toBe(0);
  await disk.write(2_000_000, new Uint8Array([1]));
  await disk.flush();
  expect(asked()).toBe(2);
  expect(await disk.info()).toMatchObject({ 'dirty-flag': true });
  const cut = storage.bytes();
  await disk.close();
  expect(asked()).toBe(0);
  const data = new DataView(cut.buffer);
  data.setUint32(data.getUint32(4096, true) + 8 * 100, 2 ** 30, true);
  const told: string[] = [];
  const copy = memoryStorage({ bytes: cut });
  const again = await openDisk(copy, { format: 'qed', onDamage: (line) => void told.push(line) });
  expect(told).toEqual([expect.stringContaining('Repairing L2 entry 100'), ...told.slice(1)]);
  expect(await again.read(2_000_000, 1)).toEqual(new Uint8Array([1]));
  expect(new DataView(copy.bytes().buffer).getUint32(16, true)).toBe(0);
  await again.close();
});

it('facts are those of qemu-img info and map', async () => {
  const { file: bytes } = await mixedImage(small);
  writeFileSync(file('facts'), bytes);
  const info = JSON.parse(qemuImg('info', '--output=json', '-f', 'qed', file('facts'))) as Record<string, unknown>;
  const map = JSON.parse(qemuImg('map', '--output=json', '-f', 'qed', file('facts'))) as Record<string, unknown>[];
  const disk = await openDisk(memoryStorage({ name: file('facts'), bytes }), { format: 'qed', readOnly: true });
  expect(await disk.info()).toEqual({ ...info, 'actual-size': expect.any(Number) });
  const runs: unknown[] = [];
  for await (const one of disk.map()) runs.push({ ...one });
  expect(runs).toEqual(map.map((one) => ({ compressed: false, ...one })));
});

describe('the tables', () => {
  const none = () => undefined;
  const cases: readonly [string, (bytes: Uint8Array, data: DataView) => unknown, extra?: number][] = [
    ['nothing wrong', none],
    ['asked for', u32(16, 2)],
    ['clusters at the end', none, 12288],
    ['an L2 entry off its cluster', l2(0, 0x123)],
    ['an L2 entry past the end', l2(0, 0x999000)],
    ['an L2 entry at the L1 table', l2(0, 0x1000)],
    [
      'one cluster twice',
      (_, data) => {
        const at = data.getUint32(4096, true);
        data.setUint32(at, data.getUint32(at + 8 * 17, true), true);
      },
    ],
    ['an L1 entry off its cluster', l1(0x123)],
    ['an L1 entry past the end', l1(0x999000)],
    ['one L2 table twice', (_, data) => data.setUint32(4096 + 8 * 900, data.getUint32(4096, true), true)],
  ];
  it.each(cases)('are checked and repaired as by QEMU: %s', async (_, change, extra = 0) => {
    const { file: bytes } = await mixedImage(small);
    change(bytes, new DataView(bytes.buffer));
    const damaged = new Uint8Array(bytes.length + extra);
    damaged.set(bytes);
    for (const repair of [undefined, 'leaks', 'all'] as const) {
      writeFileSync(file('damaged'), damaged);
      const theirs = run('qemu-img', ['check', ...(repair ? ['-r', repair] : []), '-f', 'qed', '--output=json', file('damaged')]);
      const said = JSON.parse(theirs.stdout.slice(theirs.stdout.indexOf('{'))) as Record<string, number>;
      const storage = memoryStorage({ bytes: damaged });
      const disk = await openDisk(storage, { format: 'qed', repair: true });
      const { corruptions, leaks, corruptionsFixed, allocatedClusters, totalClusters, fragmentedClusters } = await disk.check(
        repair ? { repair } : {},
      );
      await disk.close();
      expect({ repair, corruptions, leaks, corruptionsFixed, allocatedClusters, totalClusters, fragmentedClusters }).toEqual({
        repair,
        corruptions: said['corruptions'] ?? 0,
        leaks: said['leaks'] ?? 0,
        corruptionsFixed: said['corruptions-fixed'] ?? 0,
        allocatedClusters: said['allocated-clusters'] ?? 0,
        totalClusters: said['total-clusters'],
        fragmentedClusters: said['fragmented-clusters'] ?? 0,
      });
      expect({ repair, at: firstDifference(storage.bytes(), readFileSync(file('damaged'))) }).toEqual({ repair, at: -1 });
    }
  });
});

it('grows, and does not shrink, in the words of QEMU', async () => {
  const { file: bytes, guest } = await mixedImage(small);
  writeFileSync(file('grown'), bytes);
  const disk = await openDisk(nodeFileStorage(file('grown')), { format: 'qed' });
  for (const [size, words] of [
    [MiB, 'Shrinking images is currently not supported'],
    [2 ** 42, 'Invalid image size specified'],
  ] as const) {
    const refused = { field: 'size', message: expect.stringContaining(words) };
    await expect(disk.resize(size)).rejects.toMatchObject(refused);
  }
  await disk.resize(guest.length + 5 * MiB);
  const more = new Uint8Array(guest.length + 5 * MiB);
  more.set(guest);
  await disk.write(disk.size - 5, new Uint8Array(5).fill(3));
  more.fill(3, more.length - 5);
  await disk.close();
  writeFileSync(file('plain'), more);
  qemuImg('check', '-q', '-f', 'qed', file('grown'));
  qemuImg('compare', '-q', '-f', 'qed', '-F', 'raw', file('grown'), file('plain'));
});

it('names another backing file, as QEMU reads it', async () => {
  writeFileSync(file('other.raw'), new Uint8Array(MiB).fill(5));
  writeFileSync(file('named'), (await mixedImage(small)).file);
  for (const backing of [{ name: 'other.raw', format: 'raw' }, { name: './other.raw' }, undefined, { name: 'other.raw', format: 'raw' }]) {
    const disk = await openDisk(nodeFileStorage(file('named')), { format: 'qed', resolve: () => memoryStorage({ bytes: new Uint8Array(512) }) });
    const tools = await runAsync(toolsOf(disk.node.driver));
    await runAsync((tools.setBacking as NonNullable<typeof tools.setBacking>)(backing));
    await disk.close();
    const said = JSON.parse(qemuImg('info', '--output=json', '-f', 'qed', file('named'))) as Record<string, unknown>;
    expect(said['backing-filename']).toBe(backing?.name);
    expect(said['backing-filename-format']).toBe(backing?.format);
  }
});
