/** qcow, version 1: the contract, what the header and the tables may say, and images that go both ways with the real qemu-img and qemu-io. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../../src/disk/open.ts';
import { commit } from '../../../src/jobs/commit.ts';
import { convert } from '../../../src/jobs/convert.ts';
import { memoryStorage } from '../../../src/storage/memory.ts';
import { nodeFileStorage } from '../../../src/storage/node-file.ts';
import { firstDifference } from '../../model/naive.ts';
import { qemuImg, qemuIo, run } from '../../oracle/qemu.ts';
import { Random } from '../../random.ts';
import { formatContract, mixedImage } from '../contract.ts';

const MiB = 2 ** 20;
const one = { format: 'qcow', options: {}, sizeUnit: 512, damages: [] };
type Change = (bytes: Uint8Array, data: DataView) => undefined;
const u32 =
  (at: number, value: number): Change =>
  (_, data) =>
    void data.setUint32(at, value);
const u8 =
  (at: number, value: number): Change =>
  (_, data) =>
    void data.setUint8(at, value);
/** Changes words of an entry of the first L2 table. */
const l2 =
  (index: number, low: number, high = 0): Change =>
  (_, data) => {
    const at = data.getUint32(52) + index * 8;
    data.setUint32(at, high);
    data.setUint32(at + 4, low);
  };
const l1 =
  (low: number, high = 0): Change =>
  (_, data) => {
    data.setUint32(48, high);
    data.setUint32(52, low);
  };
const named =
  (offset: number, length: number): Change =>
  (_, data) => {
    data.setUint32(12, offset);
    data.setUint32(16, length);
  };
/** The flag, and the length of a compressed cluster of 4 KiB. */
const packed = (length: number): number => (0x80000000 | (length << 19)) >>> 0;

const damages = [
  { what: 'another magic', field: 'magic', damage: u32(0, 1) },
  { what: 'version 2', field: 'version', damage: u32(4, 2) },
  { what: 'no size', field: 'size', damage: u32(28, 0) },
  { what: 'a size of one byte', field: 'size', damage: u32(28, 1) },
  { what: 'a size of 2^63', field: 'size', damage: u32(24, 0x80000000) },
  { what: 'a size beyond its L1 table', field: 'size', damage: u32(24, 0x20000) },
  { what: 'a size whose L1 table is past the end', field: 'l1_table_offset', damage: u32(24, 0x100) },
  { what: 'clusters of 256 bytes', field: 'cluster_bits', damage: u8(32, 8) },
  { what: 'clusters of 128 KiB', field: 'cluster_bits', damage: u8(32, 17) },
  { what: 'L2 tables of 256 bytes', field: 'l2_bits', damage: u8(33, 5) },
  { what: 'L2 tables of 128 KiB', field: 'l2_bits', damage: u8(33, 14) },
  { what: 'an unknown encryption', field: 'crypt_method', damage: u32(36, 2) },
  { what: 'an L1 table in the header', field: 'l1_table_offset', damage: u32(44, 0) },
  { what: 'an L1 table off its 8 bytes', field: 'l1_table_offset', damage: u32(44, 52) },
  { what: 'an L1 table past the end', field: 'l1_table_offset', damage: u32(40, 1) },
  { what: 'an L1 table at 2^63', field: 'l1_table_offset', damage: u32(40, 0x80000000) },
  { what: 'a name of 1024 bytes', field: 'backing_file_size', damage: named(48, 1024) },
  { what: 'a name in the header', field: 'backing_file_offset', damage: named(16, 8) },
  { what: 'a name past the end', field: 'backing_file_offset', damage: named(2 ** 30, 8) },
  { what: 'an L1 entry off its cluster', field: 'L1 entry', damage: l1(513) },
  { what: 'an L1 entry past the end', field: 'L1 entry', damage: l1(2 ** 30) },
  { what: 'an L1 entry of 2^63', field: 'L1 entry', damage: l1(0, 0x80000000) },
  { what: 'an L2 entry off its cluster', field: 'L2 entry', damage: l2(1, 513) },
  { what: 'an L2 entry past the end', field: 'L2 entry', damage: l2(1, 2 ** 30) },
  { what: 'an L2 entry of 2^62', field: 'L2 entry', damage: l2(1, 0, 0x40000000) },
  { what: 'a compressed cluster past the end', field: 'compressed cluster', damage: l2(1, 2 ** 30, packed(100)) },
  { what: 'a compressed cluster of no bytes', field: 'compressed cluster', damage: l2(1, 4096, packed(0)) },
  { what: 'a compressed cluster of garbage', field: 'compressed cluster', damage: l2(1, 8192, packed(4000)) },
  {
    what: 'a compressed cluster that is cut',
    field: 'compressed cluster',
    damage: (bytes: Uint8Array, data: DataView) => {
      const encoded = deflateRawSync(new Random(1).bytes(2000), { windowBits: 12 });
      const longer = new Uint8Array(bytes.length + encoded.length - 5);
      longer.set(bytes);
      longer.set(encoded.subarray(0, -5), bytes.length);
      l2(1, bytes.length, packed(encoded.length))(longer, new DataView(longer.buffer));
      void data;
      return longer;
    },
  },
];

formatContract({ ...one, damages });

it('a compressed cluster that yields megabytes yields one cluster', async () => {
  const { file: bytes } = await mixedImage(one);
  const encoded = deflateRawSync(new Uint8Array(3_500_000).fill(5), { windowBits: 12 });
  expect(encoded.length).toBeLessThan(4096);
  const longer = new Uint8Array(bytes.length + encoded.length);
  longer.set(bytes);
  longer.set(encoded, bytes.length);
  l2(1, bytes.length, packed(encoded.length))(longer, new DataView(longer.buffer));
  const disk = await openDisk(memoryStorage({ bytes: longer }), { format: 'qcow', readOnly: true });
  expect(firstDifference(await disk.read(4096, 4096), new Uint8Array(4096).fill(5))).toBe(-1);
  const whole = await openDisk(memoryStorage({ bytes }), { format: 'qcow', readOnly: true });
  expect(firstDifference(await disk.read(8192, MiB), await whole.read(8192, MiB))).toBe(-1);
});

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-qcow-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);
const SECRET = 'a passphrase';
const secretObject = ['--object', `secret,id=key,data=${SECRET}`];
const encryptedFile = (path: string) => ['--image-opts', `driver=qcow,file.filename=${path},encrypt.key-secret=key`];

/** Bytes that compress well, badly, and not at all, with holes. */
function mixed(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  const random = new Random(3);
  for (let at = 0; at < size; at += 30_000) {
    const length = Math.min(size - at, random.between(100, 9000));
    bytes.set(at % 60_000 === 0 ? random.bytes(length) : new Uint8Array(length).fill(at % 251), at);
  }
  return bytes;
}

/** Throws unless QEMU reads these bytes from an image. */
function requireRead(path: string, bytes: Uint8Array): void {
  writeFileSync(file('plain'), bytes);
  qemuImg('compare', '-q', '-f', 'qcow', '-F', 'raw', path, file('plain'));
}

/** QEMU's last step, an empty compressed write, fails in this format without a word, when the image is complete. */
function compressedByQemu(raw: string, path: string): void {
  const { stderr } = run('qemu-img', ['convert', '-c', '-O', 'qcow', '-f', 'raw', raw, path]);
  expect(stderr).toBe('');
  qemuImg('compare', '-q', '-f', 'raw', '-F', 'qcow', raw, path);
}

it('is made as QEMU makes it', async () => {
  writeFileSync(file('base.raw'), new Uint8Array(3 * MiB));
  const cases = [[10 * MiB], [512], [3 * MiB + 512, 'base.raw'], [2 ** 34, 'a name of 21 bytes'], [2 ** 40]] as const;
  for (const [size, backing] of cases) {
    qemuImg('create', '-q', '-u', '-f', 'qcow', ...(backing ? ['-b', backing, '-F', 'raw'] : []), file('theirs'), String(size));
    const storage = memoryStorage();
    const below = () => ({ storage: memoryStorage({ bytes: new Uint8Array(512) }), format: 'raw' });
    await createDisk(storage, { format: 'qcow', size, ...(backing ? { backing: { name: backing, format: 'raw' }, resolve: below } : {}) });
    expect({ size, at: firstDifference(storage.bytes(), readFileSync(file('theirs'))) }).toEqual({ size, at: -1 });
  }
});

it.each([
  [{ size: 0 }, 'size', 'Image size is too small, cannot be zero length'],
  [{ encryption: 'on', 'encrypt.format': 'aes' }, 'encryption', "'encrypt.format' and its alias 'encryption' can't be used at the same time"],
  [{ 'encrypt.key-secret': 'key' }, 'encrypt.format', "Parameter 'encrypt.format' is missing"],
  [{ encryption: 'on' }, 'encrypt.key-secret', "Parameter 'encrypt.key-secret' is required for cipher"],
  [{ 'encrypt.format': 'aes', 'encrypt.key-secret': 'other' }, 'encrypt.key-secret', "No secret with id 'other'"],
])('%j is refused in the words of QEMU', async (given, field, words) => {
  const { size = MiB, ...options } = given as { size?: number };
  const said = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  expect(run('qemu-img', ['create', ...secretObject, '-f', 'qcow', ...said, file('refused'), String(size)]).stderr).toContain(words);
  await expect(createDisk<string>(memoryStorage(), { format: 'qcow', size, ...options })).rejects.toMatchObject({
    field,
    message: expect.stringContaining(words),
  });
});

it('a name that QEMU would not open is not stored', async () => {
  const backing = { name: 'a'.repeat(1024), format: 'raw' };
  qemuImg('create', '-q', '-u', '-f', 'qcow', '-b', backing.name, '-F', 'raw', file('long'), '1M');
  expect(run('qemu-img', ['info', file('long')]).stderr).toContain('Backing file name too long');
  const resolve = () => ({ storage: memoryStorage({ bytes: new Uint8Array(512) }), format: 'raw' });
  await expect(createDisk(memoryStorage(), { format: 'qcow', size: MiB, backing, resolve })).rejects.toMatchObject({ field: 'backing_file' });
});

it('facts are those of qemu-img info and map', async () => {
  const { file: bytes } = await mixedImage(one);
  writeFileSync(file('facts'), bytes);
  writeFileSync(file('raw'), mixed(300_032));
  compressedByQemu(file('raw'), file('facts of compressed'));
  for (const path of [file('facts'), file('facts of compressed')]) {
    const info = JSON.parse(qemuImg('info', '--output=json', '-f', 'qcow', path)) as Record<string, unknown>;
    const map = JSON.parse(qemuImg('map', '--output=json', '-f', 'qcow', path)) as Record<string, unknown>[];
    const disk = await openDisk(nodeFileStorage(path, { readOnly: true }), { format: 'qcow', readOnly: true });
    expect(await disk.info()).toEqual({ ...info, 'actual-size': expect.any(Number) });
    const runs: unknown[] = [];
    for await (const { compressed: _, ...run } of disk.map()) runs.push(run);
    expect(runs).toEqual(map);
    await disk.close();
  }
});

it('compressed clusters go both ways, and are written over', { timeout: 60_000 }, async () => {
  const bytes = mixed(400_384);
  writeFileSync(file('raw'), bytes);
  compressedByQemu(file('raw'), file('theirs'));
  const source = await openDisk(nodeFileStorage(file('raw'), { readOnly: true }), { format: 'raw', readOnly: true });
  const made = await createDisk(nodeFileStorage(file('ours'), { create: 'truncate' }), { format: 'qcow', size: bytes.length });
  await convert(source, made, { compressed: true, targetIsNew: true });
  await made.close();
  expect(readFileSync(file('ours')).length).toBeLessThan(readFileSync(file('theirs')).length + 8192);
  for (const name of ['theirs', 'ours']) {
    requireRead(file(name), bytes);
    const now = bytes.slice();
    const random = new Random(8);
    for (let round = 0; round < 2; round++) {
      const disk = await openDisk(nodeFileStorage(file(name)), { format: 'qcow' });
      expect(firstDifference(await disk.read(0, disk.size), now)).toBe(-1);
      for (let i = 0; i < 12; i++) {
        const at = random.between(0, 90) * 4096;
        if (i % 3 === 0) {
          const cluster = new Uint8Array(8192).fill(random.between(1, 255));
          await disk.writeCompressed(at, cluster);
          now.set(cluster, at);
        } else {
          const piece = random.bytes(random.between(1, 6000));
          await disk.write(at + 100, piece);
          now.set(piece, at + 100);
        }
      }
      await disk.close();
      requireRead(file(name), now);
      qemuIo(file(name), 'qcow', [`write -P 7 ${round * 8192 + 500} 5000`, `write -c -P 8 ${20_480 + round * 4096} 4096`]);
      now.fill(7, round * 8192 + 500, round * 8192 + 5500);
      now.fill(8, 20_480 + round * 4096, 24_576 + round * 4096);
    }
  }
});

it('encrypted images go both ways', async () => {
  const size = 300_032;
  const ours = nodeFileStorage(file('ours.aes'), { create: 'truncate' });
  await (await createDisk(ours, { format: 'qcow', size, encryption: true, secret: SECRET })).close();
  qemuImg('create', '-q', ...secretObject, '-f', 'qcow', '-o', 'encrypt.format=aes,encrypt.key-secret=key', file('theirs.aes'), String(size));
  expect(firstDifference(readFileSync(file('ours.aes')), readFileSync(file('theirs.aes')))).toBe(-1);
  const random = new Random(4);
  const now = new Uint8Array(size);
  for (let round = 0; round < 3; round++) {
    const disk = await openDisk(nodeFileStorage(file('theirs.aes')), { format: 'qcow', secret: SECRET });
    expect(await disk.info()).toMatchObject({ encrypted: true });
    for (let i = 0; i < 6; i++) {
      const at = random.between(0, 290_000);
      const piece = random.bytes(random.between(1, 9000));
      await disk.write(at, piece);
      now.set(piece, at);
    }
    await disk.close();
    qemuIo([...secretObject, ...encryptedFile(file('theirs.aes'))], 'qcow', [`write -P 9 ${round * 70_000} 700`]);
    now.fill(9, round * 70_000, round * 70_000 + 700);
    writeFileSync(file('plain'), now);
    qemuImg(
      'compare',
      '-q',
      ...secretObject,
      '--image-opts',
      encryptedFile(file('theirs.aes'))[1] as string,
      `driver=raw,file.filename=${file('plain')}`,
    );
    const again = await openDisk(nodeFileStorage(file('theirs.aes'), { readOnly: true }), { format: 'qcow', readOnly: true, secret: SECRET });
    expect(firstDifference(await again.read(0, size), now)).toBe(-1);
    await again.close();
  }
  await expect(openDisk(nodeFileStorage(file('theirs.aes')), { format: 'qcow' })).rejects.toMatchObject({ field: 'encrypt.key-secret' });
  const open = await openDisk(nodeFileStorage(file('theirs.aes')), { format: 'qcow', secret: SECRET });
  await expect(open.writeCompressed(0, new Uint8Array(4096))).rejects.toMatchObject({ kind: 'unsupported', field: 'crypt_method' });
  await open.close();
});

it('an overlay is committed, emptied and written again; QEMU empties it to the same file', async () => {
  const size = 5 * MiB;
  const below = new Random(2).bytes(size);
  for (const name of ['ours', 'theirs']) {
    writeFileSync(file(`${name}.base`), below);
    qemuImg('create', '-q', '-f', 'qcow', '-b', `${name}.base`, '-F', 'raw', file(`${name}.qcow`));
    qemuIo(file(`${name}.qcow`), 'qcow', ['write -P 5 1000 70000', 'write -P 6 4M 1', 'write -P 7 2097000 600']);
  }
  const now = below.slice();
  now.fill(5, 1000, 71_000);
  now.fill(6, 4 * MiB, 4 * MiB + 1);
  now.fill(7, 2_097_000, 2_097_600);
  const resolve = () => ({ storage: nodeFileStorage(file('ours.base')), format: 'raw' });
  const disk = await openDisk(nodeFileStorage(file('ours.qcow')), { format: 'qcow', resolve, writableBacking: 1 });
  await commit(disk);
  expect(firstDifference(readFileSync(file('ours.base')), now)).toBe(-1);
  qemuImg('commit', '-q', '-f', 'qcow', file('theirs.qcow'));
  await disk.flush();
  expect(firstDifference(readFileSync(file('ours.qcow')).subarray(64), readFileSync(file('theirs.qcow')).subarray(64))).toBe(-1);
  await disk.write(100, new Uint8Array(1000).fill(9));
  await disk.close();
  now.fill(9, 100, 1100);
  requireRead(file('ours.qcow'), now);
});

describe('an L1 table that ends where data begins, as old versions made it', () => {
  /** 500 entries: the table ends at byte 4048, in a sector whose rest is a backing file's name. */
  function old(): Uint8Array {
    const bytes = new Uint8Array(4096);
    const data = new DataView(bytes.buffer);
    for (const [at, value] of [
      [0, 0x514649fb],
      [4, 1],
      [28, 500 * 32_768],
      [44, 48],
    ] as const)
      data.setUint32(at, value);
    data.setUint8(32, 9);
    data.setUint8(33, 6);
    named(4048, 8)(bytes, data);
    bytes.set(new TextEncoder().encode('old.base'), 4048);
    return bytes.slice(0, 4056);
  }

  it('is written without a byte behind it', async () => {
    const storage = memoryStorage({ bytes: old() });
    const resolve = () => ({ storage: memoryStorage({ bytes: new Uint8Array(512).fill(3) }), format: 'raw' });
    const disk = await openDisk(storage, { format: 'qcow', resolve });
    await disk.write(499 * 32_768 + 700, new Uint8Array(5).fill(1));
    await disk.write(3, new Uint8Array(5).fill(2));
    await disk.close();
    expect(firstDifference(storage.bytes().subarray(4048, 4056), new TextEncoder().encode('old.base'))).toBe(-1);
    writeFileSync(file('old.base'), new Uint8Array(512).fill(3));
    writeFileSync(file('old.qcow'), storage.bytes());
    const now = new Uint8Array(500 * 32_768);
    now.fill(3, 0, 512);
    now.fill(2, 3, 8);
    now.fill(1, 499 * 32_768 + 700, 499 * 32_768 + 705);
    writeFileSync(file('plain'), now);
    qemuImg(
      'compare',
      '-q',
      '--image-opts',
      `driver=qcow,file.filename=${file('old.qcow')},backing.driver=raw,backing.file.filename=${file('old.base')}`,
      `driver=raw,file.filename=${file('plain')}`,
    );
  });
});
