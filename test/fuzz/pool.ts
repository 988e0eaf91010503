/** The valid images that fuzzing starts from: small, of mixed states, each with something the others lack. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { convert } from '../../src/jobs/convert.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { bochsImage } from '../formats/bochs/image.ts';
import { cloopImage } from '../formats/cloop/image.ts';
import { dmgImage } from '../formats/dmg/image.ts';
import { partFile } from '../formats/parallels/bundle.ts';
import { folderOfParallels } from '../formats/parallels/bundle-workload.ts';
import { Image } from '../formats/qcow2/image.ts';
import { makeVdi } from '../formats/vdi/chain.ts';
import { disksOfVdi } from '../formats/vdi/chain-workload.ts';
import { smallDisk } from '../formats/vmdk/image.ts';
import { childOfVhd } from '../formats/vpc/chain-workload.ts';
import { asDynamic } from '../formats/vpc/checksum.ts';
import { damages } from '../oracle/damages.ts';
import { Random } from '../random.ts';
import { SECRET } from './secret.ts';

export interface Seed {
  readonly name: string;
  readonly format: string;
  readonly bytes: Uint8Array;
}

const GEOMETRIES: readonly Record<string, unknown>[] = [
  { cluster_size: 512 },
  { cluster_size: 512, refcount_bits: 64 },
  { cluster_size: 512, refcount_bits: 1 },
  { cluster_size: 1024, compat: '0.10' },
  { cluster_size: 4096, refcount_bits: 8 },
  { cluster_size: 65536 },
  { cluster_size: 16384, extended_l2: 'on' },
];

const ENCRYPTED = [
  {
    format: 'qcow2',
    cluster_size: 512,
    'encrypt.format': 'luks',
    'encrypt.iter-time': 1,
    'encrypt.cipher-alg': 'aes-128',
    'encrypt.cipher-mode': 'cbc',
  },
  { format: 'qcow2', cluster_size: 512, 'encrypt.format': 'aes' },
  { format: 'qcow', 'encrypt.format': 'aes' },
  { format: 'luks', 'iter-time': 1, 'cipher-alg': 'aes-128', 'cipher-mode': 'cbc' },
];

async function image(options: Record<string, unknown>): Promise<Uint8Array> {
  const storage = memoryStorage();
  const backing =
    options.cluster_size === 4096 || options.extended_l2 === 'on'
      ? { backing: { name: 'base', format: 'raw' }, resolve: () => memoryStorage({ bytes: new Uint8Array(150_000).fill(7) }) }
      : {};
  const disk = await createDisk(storage, { format: 'qcow2', size: 200_192, ...options, ...backing });
  const random = new Random(4);
  for (let i = 0; i < 9; i++) {
    await disk.write(random.between(0, 190_000), random.bytes(random.between(1, 5000)));
    if (i % 4 === 3 && options.refcount_bits !== 1) await disk.snapshots.create({ name: `snapshot ${i}`, date: new Date(0) });
  }
  await disk.zero(131_072, 35_000);
  await disk.discard(0, 8192);
  // Only closing stores it.
  if (options.cluster_size === 4096) await disk.bitmaps.add({ name: 'bitmap', granularity: 512 });
  await disk.write(100_000, random.bytes(3000));
  await disk.close();
  return storage.bytes();
}

/** Encrypted images: with LUKS, whose key is derived in no time, and with the old AES. */
async function encrypted(options: Record<string, unknown> & { format: string }): Promise<Uint8Array> {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { size: 60_416, secret: SECRET, ...options });
  const random = new Random(5);
  for (let i = 0; i < 4; i++) await disk.write(random.between(0, 50_000), random.bytes(random.between(1, 5000)));
  if (disk.snapshots.supported) await disk.snapshots.create({ name: 'snapshot', date: new Date(0) });
  await disk.write(20_000, random.bytes(3000));
  await disk.close();
  return storage.bytes();
}

/** Two blocks, of which the second was written first. */
async function blocks(format: string, options: Record<string, unknown>): Promise<Uint8Array> {
  const storage = memoryStorage();
  const size = format === 'vpc' ? 2_200_064 : 1_200_128;
  const disk = await createDisk<string>(storage, { format, size, ...options });
  const random = new Random(7);
  for (const at of [size - 100_000, 3000, 150_000]) await disk.write(at, random.bytes(5000));
  await disk.close();
  return storage.bytes();
}

/** Images of the formats that are only read. */
function onlyRead(): Seed[] {
  const sectors = [3, 9, 5];
  return [
    { name: 'bochs', format: 'bochs', bytes: bochsImage({ version: 2, extent: 4096, bitmap: 1, sectors: 103 }).file },
    { name: 'cloop', format: 'cloop', bytes: cloopImage(1536, 40).file },
    { name: 'dmg, plist', format: 'dmg', bytes: dmgImage({ kinds: ['zlib', 'raw', 'zero', 'adc'], sectors }).file },
    { name: 'dmg, resource fork', format: 'dmg', bytes: dmgImage({ kinds: ['bzip2', 'lzma', 'lzfse', 'lzvn'], sectors, fork: true }).file },
  ];
}

/** Three grains, of which the second was written first; a part of the disk was made zero. */
async function vmdk(): Promise<Uint8Array> {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'vmdk', size: 600_064, zeroed_grain: true });
  const random = new Random(8);
  for (const at of [300_000, 3000, 599_000]) await disk.write(at, random.bytes(1000));
  await disk.zero(0, 131_072);
  await disk.close();
  return storage.bytes();
}

/** Several tables, most of them new, in both directories. */
async function smallGrains(): Promise<Uint8Array> {
  const storage = memoryStorage();
  await smallDisk(() => storage, { sectors: 3001, zeroGrains: true });
  return storage.bytes();
}

/** A stream with its directory at the end. */
async function vmdkInOrder(): Promise<Uint8Array> {
  const storage = memoryStorage();
  const bytes = new Uint8Array(300_032);
  const random = new Random(9);
  for (let at = 0; at < 290_000; at += 70_000) bytes.set(random.bytes(random.between(100, 900)), at);
  const disk = await createDisk(storage, { format: 'vmdk', size: bytes.length, subformat: 'streamOptimized', inOrder: true });
  await convert(await openDisk(memoryStorage({ bytes }), { format: 'raw' }), disk, { targetIsNew: true });
  await disk.close();
  return storage.bytes();
}

/** A stream of compressed grains, from the real qemu-img. */
function vmdkStream(folder: string): Uint8Array {
  const [raw, made] = [join(folder, 'raw.stream'), join(folder, 'stream.vmdk')] as const;
  const bytes = new Uint8Array(300_032);
  const random = new Random(9);
  for (let at = 0; at < 290_000; at += 70_000) bytes.set(random.bytes(random.between(100, 900)), at);
  writeFileSync(raw, bytes);
  const { status, error } = spawnSync('qemu-img', ['convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, made]);
  if (status !== 0) throw new Error(`qemu-img convert failed (${error?.message ?? status}): install the package qemu-utils`);
  return new Uint8Array(readFileSync(made));
}

/** Four blocks; closed, or with a log that has to be replayed. */
async function vhdx(options: Readonly<Record<string, unknown>>, closed: boolean): Promise<Uint8Array> {
  const storage = memoryStorage();
  const disk = await createDisk(storage, { format: 'vhdx', size: 3_200_000, block_size: 2 ** 20, ...options });
  const random = new Random(8);
  for (const at of [2_100_000, 3000, 1_150_000]) await disk.write(at, random.bytes(5000));
  if (closed) await disk.close();
  else await disk.flush();
  return storage.bytes();
}

/** Compressed clusters come from the real qemu-img: nobody here writes them yet. */
function compressed(folder: string, options: string): Uint8Array {
  const [raw, made] = [join(folder, 'raw'), join(folder, 'qcow2')] as const;
  const bytes = new Uint8Array(140_000);
  const random = new Random(6);
  for (let at = 0; at < 130_000; at += 20_000) bytes.set(random.bytes(random.between(100, 9000)), at);
  writeFileSync(raw, bytes);
  const { status, error } = spawnSync('qemu-img', ['convert', '-c', '-O', 'qcow2', '-o', options, raw, made]);
  if (status !== 0) throw new Error(`qemu-img convert failed (${error?.message ?? status}): install the package qemu-utils`);
  return new Uint8Array(readFileSync(made));
}

/** Compressed clusters beside plain ones, over a backing file, whose clusters are sectors; or alone. */
async function qcow(over: boolean): Promise<Uint8Array> {
  const storage = memoryStorage();
  const backing = over
    ? { backing: { name: 'base' }, resolve: () => ({ storage: memoryStorage({ bytes: new Uint8Array(9000).fill(7) }), format: 'raw' }) }
    : {};
  const disk = await createDisk(storage, { format: 'qcow', size: 140_288, ...backing });
  const random = new Random(6);
  for (let at = 0; at < 130_000; at += 20_480) {
    await disk.writeCompressed(at, new Uint8Array(4096).fill(at / 512));
    await disk.write(at + 9000, random.bytes(random.between(100, 5000)));
  }
  await disk.close();
  return storage.bytes();
}

/** Makes the pool; a second or so. */
export async function makePool(): Promise<Seed[]> {
  const pool: Seed[] = [];
  for (const options of GEOMETRIES) pool.push({ name: `qcow2 ${JSON.stringify(options)}`, format: 'qcow2', bytes: await image(options) });
  const { bytes } = pool.find(({ name }) => name.includes('"cluster_size":4096')) as Seed;
  for (const { what, base, damage } of damages) {
    // What is to be damaged in a third snapshot is not in these images.
    const seed = new Image(bytes);
    if (base !== 'plain' || seed.snapshot(1) + 80 > seed.bytes.length) continue;
    damage(seed);
    pool.push({ name: `damaged: ${what}`, format: 'qcow2', bytes: seed.bytes });
  }
  for (const options of ENCRYPTED)
    pool.push({ name: `encrypted ${JSON.stringify(options)}`, format: options.format, bytes: await encrypted(options) });
  for (const [format, options] of [
    ['vdi', {}],
    ['vdi', { static: true }],
    ['qed', { cluster_size: 4096, table_size: 2 }],
    ['qcow', {}],
    ['parallels', { cluster_size: 65536 }],
    ['parallels', { cluster_size: 4096 }],
    ['vpc', { force_size: true }],
    ['vpc', { subformat: 'fixed' }],
  ] as const)
    pool.push({ name: `${format} ${JSON.stringify(options)}`, format, bytes: await blocks(format, options) });
  for (const over of [false, true]) {
    const disk = memoryStorage();
    await disksOfVdi((name) => (name === 'disk' ? disk : memoryStorage()), { sectors: 90, over });
    pool.push({ name: `vdi of small blocks${over ? ' over a parent' : ''}`, format: 'vdi', bytes: disk.bytes() });
  }
  const block = new Random(3).bytes(65_536);
  pool.push({ name: 'vdi of version 0.1', format: 'vdi', bytes: makeVdi({ size: 200_192, old: true, blocks: new Map([[1, block]]) }) });
  pool.push({ name: 'parallels, the first kind', format: 'parallels', bytes: partFile(90, 9, new Map([[3, block.slice(0, 4608)]]), false) });
  const text = memoryStorage();
  folderOfParallels((name) => (name === 'disk' ? text : memoryStorage()));
  pool.push({ name: 'parallels in a folder', format: 'parallels', bytes: text.bytes() });
  for (const over of [false, true]) pool.push({ name: `qcow compressed${over ? ' over another' : ''}`, format: 'qcow', bytes: await qcow(over) });
  const child = memoryStorage();
  await childOfVhd((name) => (name === 'disk' ? child : memoryStorage()), { sectors: 700, blockSize: 16_384, rawParent: true });
  pool.push(
    { name: 'vpc over a parent', format: 'vpc', bytes: child.bytes() },
    { name: 'vpc, small blocks', format: 'vpc', bytes: asDynamic(child.bytes()) },
  );
  pool.push(...onlyRead());
  pool.push({ name: 'vmdk', format: 'vmdk', bytes: await vmdk() });
  pool.push({ name: 'vmdk, a stream in order', format: 'vmdk', bytes: await vmdkInOrder() });
  pool.push({ name: 'vmdk, small grains', format: 'vmdk', bytes: await smallGrains() });
  for (const closed of [true, false]) pool.push({ name: `vhdx ${closed ? 'closed' : 'with a log'}`, format: 'vhdx', bytes: await vhdx({}, closed) });
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-pool-'));
  try {
    pool.push({ name: 'vmdk stream', format: 'vmdk', bytes: vmdkStream(folder) });
    for (const options of ['cluster_size=4k', 'cluster_size=4k,compression_type=zstd', 'cluster_size=64k'])
      pool.push({ name: `qcow2 compressed ${options}`, format: 'qcow2', bytes: compressed(folder, options) });
  } finally {
    rmSync(folder, { recursive: true });
  }
  return pool;
}
