/** VHD: the contract, what footer, header and table may say, and images that go both ways with the real qemu-img and qemu-io. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runSync } from '../../../src/base/io.ts';
import { OptionSet } from '../../../src/base/options.ts';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { shapeOf } from '../../../src/formats/vpc/create.ts';
import { vpc } from '../../../src/formats/vpc/index.ts';
import { diskSize, parseFooter } from '../../../src/formats/vpc/layout.ts';
import { inspect } from '../../../src/index.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, qemuIo, run } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';
import { type Damage, formatContract, mixedImage } from '../contract.ts';
import { repairChecksum } from './checksum.ts';

const MiB = 2 ** 20;
const MIXED = { format: 'vpc', options: { force_size: true }, sizeUnit: 512, damages: [] };

/** Changes both footers, and makes their checksums right again. */
const footers =
  (change: (data: DataView) => void) =>
  (bytes: Uint8Array): undefined => {
    for (const at of [0, bytes.length - 512]) {
      const footer = bytes.subarray(at, at + 512);
      change(new DataView(footer.buffer, footer.byteOffset, 512));
      repairChecksum(footer, 64);
    }
  };
/** Changes the header, and makes its checksum right again. */
const header =
  (change: (data: DataView) => void) =>
  (bytes: Uint8Array): undefined => {
    const part = bytes.subarray(512, 1536);
    change(new DataView(part.buffer, part.byteOffset, part.length));
    repairChecksum(part, 36);
  };
const table = (index: number, value: (data: DataView) => number) => (_: Uint8Array, data: DataView) =>
  void data.setUint32(1536 + index * 4, value(data));
const TABLE = 'block allocation table';

const shared: Damage[] = [
  { what: 'no mark', field: 'mark', damage: footers((data) => data.setUint32(0, 1)) },
  { what: 'an unknown type', field: 'type', damage: footers((data) => data.setUint32(60, 5)) },
  {
    what: 'a wrong checksum in both footers',
    field: 'checksum',
    damage: (bytes) => {
      for (const at of [0, bytes.length - 512]) if (bytes[at] === 0x63) bytes[at + 64] = 1;
      return undefined;
    },
  },
  {
    what: 'a size beyond the largest',
    field: 'currentSize',
    damage: footers((data) => data.setUint32(48, 0x300)),
  },
  { what: 'a size beyond all numbers', field: 'currentSize', damage: footers((data) => data.setUint32(48, 0xffffffff)) },
];
const growing: Damage[] = [
  { what: 'a header in the footer', field: 'headerOffset', damage: footers((data) => data.setUint32(20, 0)) },
  { what: 'a header past the end', field: 'headerOffset', damage: footers((data) => data.setUint32(20, 0x7fffff00)) },
  { what: 'a header at 2^64-1', field: 'headerOffset', damage: footers((data) => data.setBigUint64(16, 2n ** 64n - 1n)) },
  { what: 'no mark in the header', field: 'mark', damage: header((data) => data.setUint32(0, 1)) },
  { what: 'a wrong checksum in the header', field: 'checksum', damage: (_, data) => void data.setUint32(512 + 40, 77) },
  { what: 'a table over the footer', field: 'tableOffset', damage: header((data) => data.setBigUint64(16, 0n)) },
  { what: 'a table over the header', field: 'tableOffset', damage: header((data) => data.setBigUint64(16, 1024n)) },
  { what: 'a table off its sector', field: 'tableOffset', damage: header((data) => data.setBigUint64(16, 1537n)) },
  { what: 'a table past the end', field: TABLE, damage: header((data) => data.setBigUint64(16, 2n ** 40n)) },
  { what: 'a table at 2^64-512', field: 'tableOffset', damage: header((data) => data.setBigUint64(16, 2n ** 64n - 512n)) },
  { what: 'blocks of 0 bytes', field: 'blockSize', damage: header((data) => data.setUint32(32, 0)) },
  { what: 'blocks of 1000 bytes', field: 'blockSize', damage: header((data) => data.setUint32(32, 1000)) },
  { what: 'blocks of 2 GiB', field: 'blockSize', damage: header((data) => data.setUint32(32, 2 ** 31)) },
  { what: 'as many entries as there can be', field: 'entries', damage: header((data) => data.setUint32(28, 2 ** 32 - 1)) },
  { what: 'more entries than the file has', field: TABLE, damage: header((data) => data.setUint32(28, 2 ** 23)) },
  { what: 'a disk that is larger than its table', field: 'entries', damage: header((data) => data.setUint32(28, 1)) },
  { what: 'a block past the end of the file', field: TABLE, damage: table(0, () => 0x7fffffff) },
  { what: 'a block over the footer', field: TABLE, damage: table(0, () => 0) },
  { what: 'a block over the header', field: TABLE, damage: table(0, () => 2) },
  { what: 'a block over the table', field: TABLE, damage: table(0, () => 3) },
  { what: 'one block twice', field: TABLE, damage: table(0, (data) => data.getUint32(1540)) },
  { what: 'two blocks that overlap', field: TABLE, damage: table(0, (data) => data.getUint32(1540) + 8) },
];

formatContract({ ...MIXED, damages: [...shared, ...growing] });
formatContract({ ...MIXED, options: { subformat: 'fixed', force_size: true }, damages: shared });

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-vpc-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);

it('is made as QEMU makes it', async () => {
  for (const subformat of ['dynamic', 'fixed'] as const)
    for (const force_size of [false, true])
      for (const size of [0, 1, MiB, 3 * MiB + 512, 8 * MiB]) {
        const options = `subformat=${subformat},force_size=${force_size ? 'on' : 'off'}`;
        qemuImg('create', '-q', '-f', 'vpc', '-o', options, file('theirs'), String(size));
        const storage = memoryStorage();
        await createDisk(storage, { format: 'vpc', size, subformat, force_size });
        const [ours, theirs] = [storage.bytes(), readFileSync(file('theirs'))];
        // Times, ids and with them checksums are each program's own.
        for (const bytes of [ours, theirs])
          for (const at of subformat === 'fixed' ? [bytes.length - 512] : [0, bytes.length - 512]) {
            parseFooter(bytes.subarray(at, at + 512), at);
            bytes.fill(0, at + 24, at + 28).fill(0, at + 64, at + 84);
          }
        expect({ options, size, length: ours.length, at: firstDifference(ours, theirs) }).toEqual({ options, size, length: theirs.length, at: -1 });
      }
});

it('has the sizes and geometries that QEMU gives, up to the largest', { timeout: 60_000 }, () => {
  const GiB = 1024 * MiB;
  const random = new Random(8);
  const sizes = [511, 10 ** 9, 127 * GiB, 128 * GiB, 136_899_993_600, 2040 * GiB, 32_000_000_000];
  for (let i = 0; i < 12; i++) sizes.push(random.between(1, 2 ** random.between(20, 40)));
  for (const size of sizes) {
    qemuImg('create', '-q', '-f', 'vpc', file('shape'), String(size));
    const footer = parseFooter(readFileSync(file('shape')).subarray(0, 512), 0);
    const { creator, currentSize, cylinders, heads, sectors } = footer;
    expect({ size, creator, currentSize, cylinders, heads, sectors }).toEqual({ size, ...shapeOf(size, false) });
    const said = JSON.parse(run('qemu-img', ['info', '-f', 'vpc', '--output=json', file('shape')]).stdout) as Record<string, number>;
    expect(diskSize(footer)).toBe(said['virtual-size']);
  }
  for (const exact of [false, true]) expect(() => shapeOf(2040 * GiB + 1, exact)).toThrow("The image size is too large for file format 'vpc'");
});

it('has the size that its creator means, or the one that the caller states', async () => {
  for (const creator of ['win ', 'qem2', 'd2v ', 'CTXS', 'tap\0', 'tapX', 'vpc ', 'vs  ', 'qemu', 'abcd'])
    for (const rule of [undefined, 'chs', 'current_size'] as const) {
      const { file: bytes } = await mixedImage(MIXED);
      footers((data) => {
        for (let i = 0; i < 4; i++) data.setUint8(28 + i, creator.charCodeAt(i));
        data.setUint16(56, 361);
        data.setUint8(58, 1);
        data.setUint8(59, 17);
      })(bytes);
      writeFileSync(file('creator'), bytes);
      const calc = rule ? `,force_size_calc=${rule}` : '';
      const said = run('qemu-img', ['info', '--output=json', '--image-opts', `driver=vpc${calc},file.filename=${file('creator')}`]);
      const theirs = (JSON.parse(said.stdout) as Record<string, number>)['virtual-size'];
      const options = new OptionSet(rule ? [['force_size_calc', rule]] : []);
      const image = runSync(vpc.open(memoryStorage({ bytes }), { readOnly: true, options }));
      expect({ creator, rule, size: image.size }).toEqual({ creator, rule, size: theirs });
    }
  const options = new OptionSet([['force_size_calc', 'guess']]);
  expect(() => runSync(vpc.open(memoryStorage(), { readOnly: true, options }))).toThrow('Invalid size calculation algorithm');
});

it('says of an image and its map what QEMU says', async () => {
  for (const options of ['subformat=dynamic', 'subformat=fixed']) {
    qemuImg('create', '-q', '-f', 'vpc', '-o', options, file('facts'), '9M');
    qemuIo(file('facts'), 'vpc', ['write -P 1 4M 100k', 'write -P 2 0 64k']);
    const disk = await openDisk(nodeFileStorage(file('facts'), { readOnly: true }), { format: 'vpc', readOnly: true });
    const theirs = JSON.parse(run('qemu-img', ['info', '-f', 'vpc', '--output=json', file('facts')]).stdout) as Record<string, unknown>;
    const { filename: _, 'actual-size': __, ...facts } = theirs;
    expect(await disk.info()).toMatchObject(facts);
    const runs = JSON.parse(run('qemu-img', ['map', '-f', 'vpc', '--output=json', file('facts')]).stdout) as Record<string, unknown>[];
    const ours: unknown[] = [];
    for await (const { start, length, depth, present, zero, data, offset } of disk.map())
      ours.push({ start, length, depth, present, zero, data, ...(offset === undefined ? {} : { offset }) });
    await disk.close();
    // QEMU sees holes of a fixed image's file, and shows what is beside them.
    if (options === 'subformat=dynamic') expect(ours).toEqual(runs);
  }
});

describe('the two footers', () => {
  const open = async (bytes: Uint8Array, readOnly = false) => {
    const storage = memoryStorage({ bytes });
    return { storage, disk: await openDisk(storage, { format: 'vpc', readOnly }) };
  };

  it.each<[string, (bytes: Uint8Array) => Uint8Array]>([
    ['the copy is torn', (bytes) => bytes.fill(0, 100, 512).fill(9, 200, 210)],
    ['the copy is lost', (bytes) => bytes.fill(0, 0, 512)],
    ['the end is torn', (bytes) => bytes.fill(7, bytes.length - 300)],
    ['the end is cut off', (bytes) => bytes.slice(0, -512)],
    ['the last byte is missing', (bytes) => bytes.slice(0, -1)],
    ['something lies behind the end', (bytes) => new Uint8Array([...bytes, ...new Uint8Array(5000).fill(6)])],
  ])('one is enough, and writing makes both good: %s', { timeout: 30_000 }, async (_, damage) => {
    const { file: whole, guest } = await mixedImage(MIXED);
    const damaged = damage(whole);
    const seen = await open(damaged.slice(), true);
    expect(firstDifference(await seen.disk.read(0, guest.length), guest)).toBe(-1);
    expect(firstDifference(seen.storage.bytes(), damaged)).toBe(-1);
    const { storage, disk } = await open(damaged);
    await disk.write(4096, guest.subarray(4096, 8192));
    await disk.close();
    const after = storage.bytes();
    expect(firstDifference(after.subarray(0, 512), after.subarray(-512))).toBe(-1);
    writeFileSync(file('mended'), after);
    writeFileSync(file('guest'), guest);
    qemuImg('compare', '-q', '-f', 'vpc', '-F', 'raw', file('mended'), file('guest'));
  });

  it('a fixed image stays fixed, whatever its guest writes to its beginning', async () => {
    const inner = await mixedImage(MIXED);
    const storage = memoryStorage();
    const disk = await createDisk(storage, { format: 'vpc', size: 16 * MiB, subformat: 'fixed', force_size: true });
    await disk.write(0, inner.file);
    await disk.close();
    const again = await openDisk(memoryStorage({ bytes: storage.bytes() }), { format: 'vpc' });
    expect(again.size).toBe(16 * MiB);
    expect(firstDifference(await again.read(0, inner.file.length), inner.file)).toBe(-1);
  });

  it('the footer is no part of a fixed disk whose geometry is larger than the file', async () => {
    const storage = memoryStorage();
    await createDisk(storage, { format: 'vpc', size: MiB, subformat: 'fixed' });
    const { footer } = { footer: storage.bytes().slice(-512) };
    const disk = await openDisk(memoryStorage({ bytes: footer }), { format: 'vpc' });
    expect(disk.size).toBe(0);
  });
});

it('blocks of others may be anywhere and of other sizes; new ones go behind them', async () => {
  for (const blockSize of [512, 4096, 524_288, 16 * MiB]) {
    const { file: bytes, guest } = foreign(blockSize);
    const storage = memoryStorage({ bytes });
    const disk = await openDisk(storage, { format: 'vpc' });
    expect(firstDifference(await disk.read(0, disk.size), guest)).toBe(-1);
    const random = new Random(3);
    for (let i = 0; i < 10; i++) {
      const offset = random.between(0, guest.length - 1);
      const part = random.bytes(Math.min(guest.length - offset, random.between(1, 5000)));
      await disk.write(offset, part);
      guest.set(part, offset);
      if (i % 3 === 0) await disk.flush();
    }
    await disk.close();
    const again = await openDisk(memoryStorage({ bytes: storage.bytes() }), { format: 'vpc', readOnly: true });
    expect(firstDifference(await again.read(0, guest.length), guest)).toBe(-1);
    // QEMU knows no bitmap of a block with fewer than eight sectors; by the specification it takes a sector.
    if (blockSize < 4096) continue;
    writeFileSync(file('foreign'), storage.bytes());
    writeFileSync(file('guest'), guest);
    qemuImg('compare', '-q', '-f', 'vpc', '-F', 'raw', file('foreign'), file('guest'));
  }
});

/** An image with 4 blocks, of which the second is at the end, the first behind a gap, and the others nowhere; its bitmaps have no bits. */
function foreign(blockSize: number): { file: Uint8Array; guest: Uint8Array } {
  const bitmap = Math.ceil(blockSize / 4096 / 512) * 512;
  const size = blockSize * 4;
  const [first, second] = [2048 + 512 * 7, 2048 + 512 * 9 + bitmap + blockSize];
  const bytes = new Uint8Array(second + bitmap + blockSize + 512);
  const made = memoryStorage();
  const guest = new Uint8Array(size);
  runSync(vpc.create(made, { size, options: { force_size: true } }));
  bytes.set(made.bytes().subarray(0, 1536));
  bytes.fill(0xff, 1536, 2048);
  bytes.set(made.bytes().subarray(0, 512), bytes.length - 512);
  const head = bytes.subarray(512, 1536);
  const data = new DataView(bytes.buffer);
  data.setUint32(512 + 32, blockSize);
  data.setUint32(512 + 28, 4);
  repairChecksum(head, 36);
  for (const [index, at] of [first, second].entries()) {
    data.setUint32(1536 + index * 4, at / 512);
    const part = new Random(index + 1).bytes(blockSize);
    bytes.set(part, at + bitmap);
    guest.set(part, index * blockSize);
  }
  return { file: bytes, guest };
}

it('tells what footers say without opening', async () => {
  for (const [options, size, shape] of [
    ['subformat=dynamic', 104_865_792, [1004, 12, 17]],
    ['subformat=fixed', 4_212_736, [121, 4, 17]],
  ] as const) {
    const path = file(`told-${size}`);
    qemuImg('create', '-q', '-f', 'vpc', '-o', options, path, options === 'subformat=fixed' ? '4M' : '100M');
    const report = await inspect(nodeFileStorage(path, { readOnly: true }), { format: 'vpc' });
    const [cylinders, heads, sectors] = shape;
    expect(report).toMatchObject({ size, geometry: { cylinders, heads, sectors }, references: [], warnings: [] });
  }
  for (const bytes of [new Uint8Array(1024).fill(1), new Uint8Array(100)]) {
    const report = await inspect(memoryStorage({ bytes }), { format: 'vpc' });
    expect(report.warnings).toEqual([expect.stringContaining('the footer is missing')]);
    expect(report.size).toBeUndefined();
  }
  const { file: bytes, guest } = await mixedImage(MIXED);
  expect(await inspect(memoryStorage({ bytes }))).toMatchObject({ format: 'vpc', size: guest.length, features: ['dynamic'], warnings: [] });
  bytes.fill(0, bytes.length - 512);
  expect(await inspect(memoryStorage({ bytes }))).toMatchObject({ warnings: ['the footer at the end is damaged'] });
});

const SAMPLE = join(import.meta.dirname, '../../../../shared/samples/virtualpc-dynamic.vhd.bz2');

it('opens and writes an image of Microsoft Virtual PC', { timeout: 60_000 }, async () => {
  if (!existsSync(SAMPLE)) return void process.stdout.write('virtualpc-dynamic.vhd is absent: nothing was looked at\n');
  writeFileSync(file('sample.bz2'), readFileSync(SAMPLE));
  execFileSync('bunzip2', ['-f', file('sample.bz2')]);
  const path = file('sample');
  const said = JSON.parse(run('qemu-img', ['info', '-f', 'vpc', '--output=json', path]).stdout) as Record<string, unknown>;
  const disk = await openDisk(nodeFileStorage(path), { format: 'vpc' });
  expect(disk.size).toBe(said['virtual-size']);
  await disk.write(disk.size - 5000, new Uint8Array(5000).fill(9));
  await disk.write(3 * 2 ** 30 + 7, new Uint8Array(5000).fill(8));
  await disk.close();
  qemuIo(path, 'vpc', [`read -P 9 ${disk.size - 4608} 4608`, `read -P 8 ${3 * 2 ** 30 + 512} 4096`, `read -P 0 0 1M`]);
});
