/**
 * Encrypted images and the real tools, both ways: what tabdisk creates and writes QEMU opens, checks and reads, and the other way round, in
 * turns on one image, with every cipher, mode, hash and generator that both know.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Random } from '../random.ts';
import { run, type ToolResult } from './qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-encryption-'));
afterAll(() => rmSync(folder, { recursive: true }));

const PASSPHRASE = 'correct horse, battery: staple=7';
const SIZE = 3 * 2 ** 20 + 512 * 7;
const SECRET = ['--object', `secret,id=s,data=${PASSPHRASE.replaceAll(',', ',,')}`];

type Options = Readonly<Record<string, string | number>>;

/** QEMU's description of an encrypted image. */
const opened = (path: string, format: string) => `driver=${format},${format === 'qcow2' ? 'encrypt.' : ''}key-secret=s,file.filename=${path}`;

function succeed(tool: 'qemu-img' | 'qemu-io', args: readonly string[]): ToolResult {
  for (let attempt = 1; ; attempt++) {
    const result = run(tool, args);
    // QEMU measures its own key derivation and gives up where a short one took less than a tick of the clock.
    if (result.stderr.includes('accurate CPU usage') && attempt < 50) continue;
    if (result.status !== 0 || /failed/.test(result.stdout)) throw new Error(`${tool} ${args.join(' ')}: ${result.stdout}${result.stderr}`);
    return result;
  }
}

function createByQemu(path: string, format: string, options: Options): void {
  const all = { ...options, [format === 'qcow2' ? 'encrypt.key-secret' : 'key-secret']: 's' };
  const list = Object.entries(all).map(([name, value]) => `${name}=${value}`);
  succeed('qemu-img', ['create', '-q', ...SECRET, '-f', format, '-o', list.join(','), path, String(SIZE)]);
}

/** Lets QEMU write some runs and remember them in `guest`. */
function writeByQemu(path: string, format: string, guest: Uint8Array, random: Random): void {
  const commands: string[] = [];
  for (let i = 0; i < 6; i++) {
    const offset = random.between(0, SIZE / 512 - 300) * 512;
    const length = random.between(1, 300) * 512;
    const pattern = random.between(1, 255);
    commands.push('-c', `write -P ${pattern} ${offset} ${length}`);
    guest.fill(pattern, offset, offset + length);
  }
  succeed('qemu-io', [...SECRET, '--image-opts', opened(path, format), ...commands]);
}

async function writeByUs(path: string, format: string, guest: Uint8Array, random: Random): Promise<void> {
  const disk = await openDisk(nodeFileStorage(path), { format, secret: PASSPHRASE });
  for (let i = 0; i < 6; i++) {
    const bytes = random.bytes(random.between(1, 150_000));
    const offset = random.between(0, SIZE - bytes.length);
    await disk.write(offset, bytes);
    guest.set(bytes, offset);
  }
  await disk.zero(70_000, 5000);
  guest.fill(0, 70_000, 75_000);
  await disk.close();
}

/** What QEMU reads, through a raw copy. */
function requireQemuReads(path: string, format: string, guest: Uint8Array): void {
  const copy = `${path}.raw`;
  succeed('qemu-img', ['convert', ...SECRET, '--image-opts', opened(path, format), '-O', 'raw', copy]);
  expect(readFileSync(copy).compare(guest)).toBe(0);
  if (format === 'qcow2') succeed('qemu-img', ['check', ...SECRET, '--image-opts', opened(path, format)]);
  rmSync(copy);
}

async function requireWeRead(path: string, format: string, guest: Uint8Array): Promise<void> {
  const disk = await openDisk(nodeFileStorage(path, { readOnly: true }), { format, readOnly: true, secret: async () => PASSPHRASE });
  expect(Buffer.compare(await disk.read(0, SIZE), guest)).toBe(0);
  if (format === 'qcow2') expect((await disk.check()).messages).toEqual([]);
  await disk.close();
}

const luks = { 'encrypt.format': 'luks', 'encrypt.iter-time': 10 };
const CASES: readonly Options[] = [
  luks,
  { 'encrypt.format': 'aes' },
  { ...luks, 'encrypt.cipher-alg': 'aes-128', 'encrypt.hash-alg': 'sha1', cluster_size: 4096 },
  { ...luks, 'encrypt.cipher-alg': 'aes-192', 'encrypt.hash-alg': 'sha512', 'encrypt.ivgen-alg': 'plain', compat: '0.10' },
  { ...luks, 'encrypt.cipher-mode': 'cbc', 'encrypt.ivgen-alg': 'essiv', 'encrypt.hash-alg': 'ripemd160', cluster_size: 512 },
  { ...luks, 'encrypt.cipher-alg': 'aes-128', 'encrypt.ivgen-alg': 'essiv', 'encrypt.ivgen-hash-alg': 'md5', 'encrypt.hash-alg': 'md5' },
  { ...luks, 'encrypt.cipher-alg': 'aes-128', 'encrypt.cipher-mode': 'ctr', 'encrypt.hash-alg': 'sha224' },
  { ...luks, 'encrypt.cipher-mode': 'ecb', 'encrypt.hash-alg': 'sha384', cluster_size: 2097152 },
  { 'encrypt.format': 'aes', compat: '0.10', cluster_size: 1024 },
  { ...luks, extended_l2: 'on', cluster_size: 16384, refcount_bits: 1 },
];

const image = join(folder, 'image');

it.each(CASES)('qcow2 %j, created here, written in turns', async (options) => {
  const random = new Random(3);
  const guest = new Uint8Array(SIZE);
  const disk = await createDisk(nodeFileStorage(image, { create: 'truncate' }), { format: 'qcow2', size: SIZE, secret: PASSPHRASE, ...options });
  await disk.close();
  await writeByUs(image, 'qcow2', guest, random);
  requireQemuReads(image, 'qcow2', guest);
  writeByQemu(image, 'qcow2', guest, random);
  await requireWeRead(image, 'qcow2', guest);
  await writeByUs(image, 'qcow2', guest, random);
  requireQemuReads(image, 'qcow2', guest);
});

// Few: QEMU takes seconds to create a LUKS header, because it measures how fast it derives keys.
it.each(CASES.filter(({ cluster_size: size }) => size === 512 || size === 1024))('qcow2 %j, created by QEMU, written in turns', async (options) => {
  const random = new Random(4);
  const guest = new Uint8Array(SIZE);
  createByQemu(image, 'qcow2', options);
  writeByQemu(image, 'qcow2', guest, random);
  await requireWeRead(image, 'qcow2', guest);
  await writeByUs(image, 'qcow2', guest, random);
  requireQemuReads(image, 'qcow2', guest);
});
