/** VMDK images of several files, streams and overlays: both ways with the real qemu-img and qemu-io, and laid down here where QEMU makes none. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { convert, inspect } from '../../../src/index.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, qemuIo } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';
import { foreignStream } from './image.ts';

const MiB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-vmdk-files-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);
const resolve = ({ name, create, writable }: { name: string; create?: boolean; writable?: boolean }) =>
  nodeFileStorage(file(name), create ? { create: 'must-not-exist' } : writable ? {} : { readOnly: true });
const open = (name: string, how: { readOnly?: boolean } = {}) =>
  openDisk(nodeFileStorage(file(name), how.readOnly ? { readOnly: true } : {}), { format: 'vmdk', resolve, ...how });

/** Bytes with data, zeros and an odd tail. */
function contents(seed: number, size: number): Uint8Array {
  const random = new Random(seed);
  const bytes = new Uint8Array(size);
  for (let i = 0; i < 12; i++) {
    const at = random.between(0, size - 70_000);
    bytes.set(random.bytes(random.between(1, 70_000)), at);
  }
  return bytes;
}

const compare = (name: string, bytes: Uint8Array): void => {
  writeFileSync(file('plain'), bytes);
  qemuImg('compare', '-q', '-f', 'vmdk', '-F', 'raw', file(name), file('plain'));
};

describe('of several files', () => {
  it.each(['monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat'] as const)(
    '%s is made as QEMU makes it, and read by QEMU',
    async (subformat) => {
      const size = 5 * 2 ** 30 + 512;
      mkdirSync(file(subformat));
      qemuImg('create', '-q', '-f', 'vmdk', '-o', `subformat=${subformat}`, join(file(subformat), `${subformat}.vmdk`), String(size));
      const name = `${subformat}.vmdk`;
      const storage = nodeFileStorage(file(name), { create: 'must-not-exist' });
      const disk = await createDisk(storage, { format: 'vmdk', size, subformat, resolve });
      const plain = (path: string) => readFileSync(path, 'utf8').replace(/^CID=.*$/m, '');
      expect(plain(file(name))).toBe(plain(join(file(subformat), name)));
      rmSync(file(subformat), { recursive: true });
      const written = contents(4, 3 * MiB);
      await disk.write(2 ** 31 - MiB - 7, written);
      await disk.close();
      const [low, high] = [2 ** 31 - MiB - 7, 2 ** 31 - MiB - 7 + written.length];
      qemuImg('dd', '-f', 'vmdk', '-O', 'raw', `if=${file(name)}`, `of=${file('window')}`, 'bs=1M', 'skip=2046', 'count=2050');
      const window = new Uint8Array(readFileSync(file('window')));
      expect(firstDifference(window.subarray(low - 2046 * MiB, high - 2046 * MiB), written)).toBe(-1);
      const theirs = JSON.parse(qemuImg('info', '--output=json', file(name))) as { 'format-specific': { data: object } };
      const again = await open(name, { readOnly: true });
      expect((await again.info())['format-specific']?.data).toEqual(theirs['format-specific'].data);
      expect(firstDifference(await again.read(low, written.length), written)).toBe(-1);
      await again.close();
      for (const at of ['-flat', '-s001', '-s002', '-s003', '-f001', '-f002', '-f003']) rmSync(file(`${subformat}${at}.vmdk`), { force: true });
    },
  );

  it('zeros, and a flat part that begins inside its file', async () => {
    const bytes = contents(5, 2 * MiB);
    writeFileSync(file('part.bin'), bytes);
    const text = `# Disk DescriptorFile\nversion=1\nCID=123\nparentCID=ffffffff\ncreateType="custom"\nRW 64 ZERO\nRW 1024 FLAT "part.bin" 256\n`;
    writeFileSync(file('parts.vmdk'), text);
    const disk = await open('parts.vmdk', { readOnly: true });
    expect(disk.size).toBe((64 + 1024) * 512);
    const read = await disk.read(0, disk.size);
    expect(firstDifference(read.subarray(0, 64 * 512), new Uint8Array(64 * 512))).toBe(-1);
    expect(firstDifference(read.subarray(64 * 512), bytes.subarray(256 * 512, 1280 * 512))).toBe(-1);
    await disk.close();
    await expect(open('parts.vmdk')).rejects.toMatchObject({ kind: 'unsupported', field: 'extent' });
    const report = await inspect(nodeFileStorage(file('parts.vmdk'), { readOnly: true }));
    expect(report).toMatchObject({ references: [{ kind: 'extent', name: 'part.bin' }] });
  });

  it.each([
    ['no extent', '', 'extent'],
    ['a negative size', 'RW -5 FLAT "a" 0', 'extent'],
    ['2^63 sectors', 'RW 9223372036854775808 FLAT "a" 0', 'extent'],
    ['no sectors', 'RW 0 FLAT "a" 0', 'extent'],
    ['a quote that stays open', 'RW 64 FLAT "a 0', 'extent'],
    ['a flat part without a place', 'RW 64 FLAT "part.bin"', 'extent'],
    ['folders within', 'RW 64 FLAT "sub/../../a" 0', 'extent'],
    ['the folder above', 'RW 64 FLAT "../a" 0', 'extent'],
    ['an absolute name', 'RW 64 FLAT "/etc/passwd" 0', 'extent'],
    ['a URL', 'RW 64 FLAT "http://example.org/a" 0', 'extent'],
    ['itself', 'RW 64 FLAT "bad.vmdk" 0', 'extent'],
    ['a file that is too short', 'RW 640000 FLAT "part.bin" 0', 'extent'],
    ['a part for reading only', 'RDONLY 64 FLAT "part.bin" 0', 'extent'],
    ['a device', 'RW 64 VMFSRDM "part.bin"', 'extent'],
    ['20,000 parts', 'RW 64 ZERO\n'.repeat(20_000), 'extent'],
    ['a text of 1.5 MiB', `# ${'x'.repeat(1.5 * MiB)}`, 'descriptorSize'],
  ])('refused by name: %s', async (_, lines, field) => {
    writeFileSync(file('bad.vmdk'), `# Disk DescriptorFile\nversion=1\nCID=123\nparentCID=ffffffff\ncreateType="monolithicFlat"\n${lines}\n`);
    writeFileSync(file('part.bin'), new Uint8Array(64 * 512));
    await expect(open('bad.vmdk', { readOnly: true })).rejects.toMatchObject({ field, kind: expect.stringMatching(/corrupt|unsupported|refused/) });
  });
});

describe('streams', () => {
  it('from QEMU are read, and ours are read by QEMU', async () => {
    const bytes = contents(6, 40 * MiB + 512);
    writeFileSync(file('plain'), bytes);
    qemuImg('convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized', '-f', 'raw', file('plain'), file('theirs.vmdk'));
    const theirs = await open('theirs.vmdk', { readOnly: true });
    expect(firstDifference(await theirs.read(0, theirs.size), bytes)).toBe(-1);
    const target = await createDisk(nodeFileStorage(file('ours.vmdk'), { create: 'must-not-exist' }), {
      format: 'vmdk',
      size: bytes.length,
      subformat: 'streamOptimized',
    });
    await convert(theirs, target, { targetIsNew: true });
    await expect(target.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'unsupported', field: 'subformat' });
    await theirs.close();
    await target.close();
    compare('ours.vmdk', bytes);
    qemuImg('check', '-q', '-f', 'vmdk', file('ours.vmdk'));
  });

  it.each([true, false])('of other programs are read (a directory at the end: %s), and not when they are cut short', async (directory) => {
    const bytes = contents(7, 34 * MiB + 512);
    const made = foreignStream(bytes, { directory });
    const disk = await openDisk(memoryStorage({ bytes: made }), { format: 'vmdk', readOnly: true });
    expect(firstDifference(await disk.read(0, disk.size), bytes)).toBe(-1);
    writeFileSync(file('foreign.vmdk'), made);
    // QEMU needs the directory.
    if (directory) compare('foreign.vmdk', bytes);
    for (const cut of [512, 2048, 40_960])
      await expect(openDisk(memoryStorage({ bytes: made.slice(0, made.length - cut) }), { format: 'vmdk', readOnly: true })).rejects.toMatchObject({
        kind: 'corrupt',
      });
    await expect(openDisk(memoryStorage({ bytes: made }), { format: 'vmdk' })).rejects.toMatchObject({ kind: 'unsupported' });
  });

  it('a footer that leaves the directory to a footer, markers of wrong sizes and a cut in the middle are refused', async () => {
    const bytes = contents(11, 2 * MiB);
    const withFooter = foreignStream(bytes, { directory: true });
    const footer = withFooter.slice();
    footer.fill(0xff, footer.length - 1024 + 56, footer.length - 1024 + 64);
    await expect(openDisk(memoryStorage({ bytes: footer }), { format: 'vmdk', readOnly: true })).rejects.toMatchObject({ field: 'footer' });
    const made = foreignStream(bytes, { directory: false });
    const data = new DataView(made.buffer);
    for (const [at, value] of [
      [8, 2 ** 31],
      [0, 3],
      [4, 2 ** 20],
    ] as const) {
      const broken = made.slice();
      new DataView(broken.buffer).setUint32(128 * 512 + at, value, true);
      await expect(openDisk(memoryStorage({ bytes: broken }), { format: 'vmdk', readOnly: true })).rejects.toMatchObject({
        kind: 'corrupt',
        field: 'marker',
      });
    }
    // A grain of which nothing reached the disk looks like the end, and more follows.
    const holed = made.slice();
    holed.fill(0, 128 * 512, 128 * 512 + Math.ceil((12 + data.getUint32(128 * 512 + 8, true)) / 512) * 512);
    await expect(openDisk(memoryStorage({ bytes: holed }), { format: 'vmdk', readOnly: true })).rejects.toMatchObject({ field: 'marker' });
  });

  it('a grain whose stream is damaged fails by itself', async () => {
    const bytes = contents(8, 2 * MiB);
    const made = foreignStream(bytes, { directory: true });
    const length = new DataView(made.buffer).getUint32(128 * 512 + 8, true);
    for (const [at, change] of [
      [0, 1],
      [9, 0],
      [11, 255],
      [12, 0],
      [40, 0x55],
      // The last byte of the stream's checksum.
      [11 + length, (made[128 * 512 + 11 + length] as number) ^ 1],
    ] as const) {
      const broken = made.slice();
      broken[128 * 512 + at] = change;
      const disk = await openDisk(memoryStorage({ bytes: broken }), { format: 'vmdk', readOnly: true });
      const first = Math.floor(bytes.findIndex((byte) => byte !== 0) / 65_536) * 65_536;
      await expect(disk.read(first, 65_536)).rejects.toMatchObject({ kind: 'corrupt', field: 'compressed grain' });
    }
  });
});

describe('extents of ESX', () => {
  /** Sectors with numbers in them: 32 bits each, from a place in sectors and bytes on. */
  function sectors(count: number, places: readonly (readonly [sector: number, at: number, value: number])[]): Uint8Array {
    const bytes = new Uint8Array(count * 512);
    for (const [sector, at, value] of places) new DataView(bytes.buffer).setUint32(sector * 512 + at, value, true);
    return bytes;
  }
  const text = (kind: string, type: string, size: number) =>
    `# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="${type}"\nRW ${size} ${kind} "esx-data.vmdk"\n`;

  async function agrees(): Promise<void> {
    const disk = await open('esx.vmdk', { readOnly: true });
    qemuImg('convert', '-f', 'vmdk', '-O', 'raw', file('esx.vmdk'), file('plain'));
    const theirs = new Uint8Array(readFileSync(file('plain')));
    expect(theirs.some((byte) => byte !== 0)).toBe(true);
    expect(firstDifference(await disk.read(0, disk.size), theirs)).toBe(-1);
    await disk.close();
    await expect(open('esx.vmdk')).rejects.toMatchObject({ kind: 'unsupported', field: 'extent' });
  }

  it('COWD: redo logs with grains of one sector', async () => {
    const header = [
      [0, 4, 1],
      [0, 8, 3],
      [0, 12, 4096 + 5],
      [0, 16, 1],
      [0, 20, 4],
      [0, 24, 2],
      [0, 28, 80],
    ] as const;
    const tables = [
      [4, 0, 5],
      [4, 4, 37],
      [5, 0, 70],
      [5, 12, 72],
      [5, 16, 71],
      [37, 16, 73],
    ] as const;
    const bytes = sectors(80, [...header, ...tables]);
    bytes.set(Buffer.from('COWD'));
    bytes.set(new Random(1).bytes(4 * 512), 70 * 512);
    writeFileSync(file('esx-data.vmdk'), bytes);
    writeFileSync(file('esx.vmdk'), text('VMFSSPARSE', 'vmfsSparse', 4096 + 5));
    await agrees();
    for (const [at, field] of [
      [4, 'version'],
      [16, 'grainSize'],
      [24, 'numGDEntries'],
      [20, 'gdOffset'],
    ] as const) {
      const broken = bytes.slice();
      new DataView(broken.buffer).setUint32(at, 0, true);
      await expect(openDisk(memoryStorage({ bytes: broken }), { format: 'vmdk', readOnly: true })).rejects.toMatchObject({ field });
    }
  });

  it('seSparse: grains of all four states', async () => {
    const words: [number, number][] = [
      [16, 8 * 40],
      [24, 8],
      [32, 64],
      [80, 1],
      [88, 1],
      [96, 2],
      [104, 1],
      [112, 3],
      [120, 1],
      [128, 4],
      [136, 1],
      [144, 5],
      [152, 64],
      [160, 69],
      [168, 1],
      [176, 70],
      [184, 1],
      [192, 72],
      [200, 24],
    ];
    const entries = [0x30000000, 0x10000000, 0x20000000, 0, 0x30010000, 0x30020000];
    const bytes = sectors(96, [
      [0, 0, 0xcafebabe],
      [0, 8, 1],
      [0, 12, 2],
      ...words.map(([at, value]) => [0, at, value] as const),
      [1, 0, 0xcafecafe],
      [4, 4, 0x10000000],
      ...entries.map((high, i) => [5, i * 8 + 4, high] as const),
    ]);
    bytes.set(new Random(2).bytes(24 * 512), 72 * 512);
    writeFileSync(file('esx-data.vmdk'), bytes);
    writeFileSync(file('esx.vmdk'), text('SESPARSE', 'seSparse', 8 * 40));
    await agrees();
    for (const [at, value, field] of [
      [24, 4, 'grainSize'],
      [136, 0, 'gdSize'],
      [132, 2 ** 28, 'gdOffset'],
      [512, 0, 'volatileHeader'],
      [512 + 24, 1, 'replayJournal'],
    ] as const) {
      const broken = bytes.slice();
      new DataView(broken.buffer).setUint32(at, value, true);
      await expect(openDisk(memoryStorage({ bytes: broken }), { format: 'vmdk', readOnly: true })).rejects.toMatchObject({ field });
    }
  });
});

describe('overlays', () => {
  it('of QEMU and ours lie over each other, and one whose parent was changed is refused by name', async () => {
    const bytes = contents(9, 3 * MiB);
    writeFileSync(file('plain'), bytes);
    qemuImg('convert', '-O', 'vmdk', '-f', 'raw', file('plain'), file('base.vmdk'));
    const middle = await createDisk(nodeFileStorage(file('middle.vmdk'), { create: 'must-not-exist' }), {
      format: 'vmdk',
      backing: { name: 'base.vmdk', format: 'vmdk' },
      resolve,
      zeroed_grain: true,
    });
    expect(middle.size).toBe(bytes.length);
    const patch = new Random(3).bytes(5000);
    await middle.write(1_000_001, patch);
    bytes.set(patch, 1_000_001);
    await middle.zero(65_536, 131_072);
    bytes.fill(0, 65_536, 65_536 * 3);
    await middle.close();
    compare('middle.vmdk', bytes);
    qemuImg('create', '-q', '-f', 'vmdk', '-b', 'middle.vmdk', '-F', 'vmdk', file('top.vmdk'));
    qemuIo(file('top.vmdk'), 'vmdk', ['write -P 7 2M 100k']);
    bytes.fill(7, 2 * MiB, 2 * MiB + 102_400);
    const top = await open('top.vmdk', { readOnly: true });
    expect(firstDifference(await top.read(0, top.size), bytes)).toBe(-1);
    await top.close();
    qemuIo(file('base.vmdk'), 'vmdk', ['write -P 1 0 512']);
    await expect(open('top.vmdk', { readOnly: true })).rejects.toMatchObject({ kind: 'refused', field: 'parentCID' });
  });

  it('are made over VMDK images alone, and never flat', async () => {
    await (await createDisk(nodeFileStorage(file('raw.img'), { create: 'must-not-exist' }), { format: 'raw', size: MiB })).close();
    await expect(
      createDisk(memoryStorage(), { format: 'vmdk', size: MiB, backing: { name: 'raw.img', format: 'raw' }, resolve }),
    ).rejects.toMatchObject({ field: 'backing_file', message: expect.stringContaining('backing_file must be a vmdk image') });
    await expect(
      createDisk(memoryStorage(), {
        format: 'vmdk',
        size: MiB,
        subformat: 'monolithicFlat',
        backing: { name: 'base.vmdk', format: 'vmdk' },
        resolve,
      }),
    ).rejects.toMatchObject({ field: 'backing_file', message: expect.stringContaining("Flat image can't have backing file") });
  });
});
