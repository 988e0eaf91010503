/** VDI: the contract, what the header and the map may say, and images that go both ways with the real qemu-img and qemu-io. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { inspect } from '../../../src/index.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, run } from '../../oracle/qemu.ts';
import { formatContract, mixedImage } from '../contract.ts';

const MiB = 2 ** 20;
const u32 = (at: number, value: number) => (_: Uint8Array, data: DataView) => void data.setUint32(at, value, true);
const damages = [
  { what: 'another signature', field: 'signature', damage: u32(64, 1) },
  { what: 'version 2.0', field: 'version', damage: u32(68, 0x20000) },
  { what: 'an image type of a child', field: 'link', damage: u32(76, 4) },
  { what: 'an undo image', field: 'type', damage: u32(76, 3) },
  { what: 'a map over the blocks', field: 'dataOffset', damage: u32(340, 2 ** 20) },
  { what: 'blocks that were cut off', field: 'block map', damage: (bytes: Uint8Array) => bytes.slice(0, -512) },
  { what: 'a map in the header', field: 'mapOffset', damage: u32(340, 0) },
  { what: 'a map off its sector', field: 'mapOffset', damage: u32(340, 513) },
  { what: 'data in the map', field: 'dataOffset', damage: u32(344, 512) },
  { what: 'data off its sector', field: 'dataOffset', damage: u32(344, 1025) },
  { what: 'sectors of 4096', field: 'sectorSize', damage: u32(360, 4096) },
  { what: 'blocks of 0 bytes', field: 'blockSize', damage: u32(376, 0) },
  { what: 'blocks of 1000 bytes', field: 'blockSize', damage: u32(376, 1000) },
  { what: 'blocks of 2 GiB', field: 'blockSize', damage: u32(376, 2 ** 31) },
  { what: 'further bytes with each block', field: 'blockExtra', damage: u32(380, 512) },
  { what: 'as many blocks as there can be', field: 'blocks', damage: u32(384, 2 ** 32 - 1) },
  { what: 'a map past the end of the file', field: 'dataOffset', damage: u32(384, 2 ** 28) },
  { what: 'a disk that is larger than its map', field: 'size', damage: u32(368, 5 * MiB) },
  { what: 'a size beyond all numbers', field: 'size', damage: u32(372, 2 ** 31) },
  { what: 'a parent', field: 'parent', damage: u32(440, 1) },
  { what: 'a link', field: 'link', damage: u32(424, 1) },
  { what: 'an entry out of range', field: 'block map', damage: u32(512, 77) },
  {
    what: 'one block twice',
    field: 'block map',
    damage: (_: Uint8Array, data: DataView) => void data.setUint32(512, data.getUint32(520, true), true),
  },
];

for (const options of [{}, { static: true }]) formatContract({ format: 'vdi', options, sizeUnit: 512, damages });

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-vdi-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);

it('is made as QEMU makes it', async () => {
  for (const [size, whole] of [
    [10 * MiB, false],
    [3 * MiB + 512, true],
    [MiB - 1, false],
    [0, false],
  ] as const) {
    qemuImg('create', '-q', '-f', 'vdi', '-o', `static=${whole ? 'on' : 'off'}`, file('theirs'), String(size));
    const storage = memoryStorage();
    await createDisk(storage, { format: 'vdi', size: Math.ceil(size / 512) * 512, static: whole });
    const [ours, theirs] = [storage.bytes(), readFileSync(file('theirs'))];
    // Text and UUIDs are each program's own.
    for (const bytes of [ours, theirs]) bytes.fill(0, 0, 64).fill(0, 392, 424);
    expect({ size, at: firstDifference(ours, theirs) }).toEqual({ size, at: -1 });
  }
});

describe('the map', () => {
  const damaged = async (change: (data: DataView) => void) => {
    const { file: bytes } = await mixedImage({ format: 'vdi', options: {}, sizeUnit: 512, damages: [] });
    change(new DataView(bytes.buffer));
    writeFileSync(file('damaged'), bytes);
    return bytes;
  };

  it.each<[string, (data: DataView) => void]>([
    ['nothing wrong', () => undefined],
    ['a count that is too high', (data) => data.setUint32(388, 7, true)],
    ['a count that is too low', (data) => data.setUint32(388, 1, true)],
    ['an entry out of range', (data) => data.setUint32(516, 9, true)],
    ['one block twice', (data) => data.setUint32(512, data.getUint32(516, true), true)],
    ['an entry that was given up', (data) => data.setUint32(512, 0xfffffffe, true)],
  ])('is checked as by QEMU: %s', async (_, change) => {
    const disk = await openDisk(memoryStorage({ bytes: await damaged(change) }), { format: 'vdi', readOnly: true });
    const { corruptions, checkErrors, allocatedClusters, totalClusters, imageEndOffset, messages } = await disk.check();
    const theirs = run('qemu-img', ['check', '-f', 'vdi', '--output=json', file('damaged')]);
    const said = JSON.parse(theirs.stdout.slice(theirs.stdout.indexOf('{'))) as Record<string, number>;
    expect({ corruptions, checkErrors }).toEqual({ corruptions: said['corruptions'] ?? 0, checkErrors: said['check-errors'] });
    // QEMU does not count the clusters of this format.
    expect([totalClusters, allocatedClusters, imageEndOffset]).toEqual([
      said['total-clusters'] ?? 0,
      said['allocated-clusters'] ?? 0,
      said['image-end-offset'] ?? 0,
    ]);
    const lines = `${theirs.stderr}${theirs.stdout}`.split('\n').filter((line) => line.startsWith('ERROR'));
    expect(messages).toEqual(lines);
    await expect(disk.check({ repair: 'all' })).rejects.toMatchObject({ kind: expect.stringMatching(/unsupported|read-only/) });
  });

  it('tells what a header says without opening', async () => {
    const { file: bytes } = await mixedImage({ format: 'vdi', options: { static: true }, sizeUnit: 512, damages: [] });
    new DataView(bytes.buffer).setUint32(348, 6, true);
    new DataView(bytes.buffer).setUint32(352, 16, true);
    new DataView(bytes.buffer).setUint32(356, 63, true);
    const report = await inspect(memoryStorage({ bytes }));
    expect(report).toMatchObject({ features: ['static'], geometry: { cylinders: 6, heads: 16, sectors: 63 } });
  });

  it('gives blocks the lowest place that nobody has, whatever the count says', async () => {
    const bytes = await damaged((data) => {
      data.setUint32(512, 0xffffffff, true);
      data.setUint32(388, 9, true);
    });
    const [, second] = [0, 1].map((index) => new DataView(bytes.buffer).getUint32(512 + index * 4, true));
    const storage = memoryStorage({ bytes });
    const disk = await openDisk(storage, { format: 'vdi' });
    await disk.write(0, new Uint8Array(512).fill(1));
    await disk.flush();
    const after = new DataView(storage.bytes().buffer);
    expect(after.getUint32(512, true)).not.toBe(second);
    expect(after.getUint32(512, true)).toBeLessThan(4);
    expect(after.getUint32(388, true)).toBe(4);
    expect(await disk.check()).toMatchObject({ corruptions: 0 });
  });
});
