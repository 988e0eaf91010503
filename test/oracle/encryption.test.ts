/**
 * Encrypted images and the real tools, both ways: what tabdisk creates and writes QEMU opens, checks and reads, and the other way round, in
 * turns on one image, with every cipher, mode, hash and generator that both know.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { amend } from '../../src/jobs/amend.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { Random } from '../random.ts';
import type { Ended } from './launcher.ts';
import { run } from './qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-encryption-'));
afterAll(() => rmSync(folder, { recursive: true }));

const PASSPHRASE = 'correct horse, battery: staple=7';
const SIZE = 3 * 2 ** 20 + 512 * 7;
const SECRET = ['--object', `secret,id=s,data=${PASSPHRASE.replaceAll(',', ',,')}`];

type Options = Readonly<Record<string, string | number>>;

/** QEMU's description of an encrypted image. */
const opened = (path: string, format: string) => `driver=${format},${format === 'qcow2' ? 'encrypt.' : ''}key-secret=s,file.filename=${path}`;

function succeed(tool: 'qemu-img' | 'qemu-io', args: readonly string[]): Ended {
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

it.each([
  ...CASES.map((options) => ({ format: 'qcow2', options })),
  { format: 'luks', options: { 'iter-time': 10 } },
  { format: 'luks', options: { 'iter-time': 10, 'cipher-alg': 'aes-128', 'cipher-mode': 'cbc', 'ivgen-alg': 'essiv', 'hash-alg': 'sha1' } },
])('$format $options, created here, written in turns', async ({ format, options }) => {
  const random = new Random(3);
  const guest = new Uint8Array(SIZE);
  const disk = await createDisk(nodeFileStorage(image, { create: 'truncate' }), { format, size: SIZE, secret: PASSPHRASE, ...options });
  // Nobody says what the sectors of a new luks image are.
  if (format === 'luks') await disk.zero(0, SIZE);
  await disk.close();
  await writeByUs(image, format, guest, random);
  requireQemuReads(image, format, guest);
  writeByQemu(image, format, guest, random);
  await requireWeRead(image, format, guest);
  await writeByUs(image, format, guest, random);
  requireQemuReads(image, format, guest);
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

describe.each([
  { format: 'qcow2', prefix: 'encrypt.' },
  { format: 'luks', prefix: '' },
])('key slots of $format', ({ format, prefix }) => {
  const of = (options: Options) => Object.fromEntries(Object.entries(options).map(([name, value]) => [prefix + name, value]));
  const amendHere = async (opener: string, options: Options) => {
    const disk = await openDisk(nodeFileStorage(image), { format, secret: opener });
    await amend(disk, { options: of(options), secret: ({ id }) => id });
    await disk.close();
  };
  /** QEMU's secrets: `s` opens the image, `n` is the other passphrase. */
  const secrets = (s: string, n: string) => ['--object', `secret,id=s,data=${s}`, '--object', `secret,id=n,data=${n}`];
  const opensInQemu = (passphrase: string) =>
    run('qemu-io', [...secrets(passphrase, ''), '--image-opts', opened(image, format), '-c', 'read -P 7 0 512']).status === 0;

  it('a passphrase added here opens in QEMU, and the other way round; erased ones do not', async () => {
    const start = prefix === '' ? {} : { 'encrypt.format': 'luks' };
    const options = { ...start, ...of({ 'iter-time': 10 }) };
    const disk = await createDisk(nodeFileStorage(image, { create: 'truncate' }), { format, size: SIZE, secret: 'first', ...options });
    await disk.write(0, new Uint8Array(512).fill(7));
    await disk.close();
    await amendHere('first', { state: 'active', 'new-secret': 'second', 'iter-time': 10, keyslot: 3 });
    expect([opensInQemu('first'), opensInQemu('second')]).toEqual([true, true]);
    const change = Object.entries(of({ state: 'inactive', 'old-secret': 'n' })).map(([name, value]) => `${name}=${value}`);
    succeed('qemu-img', ['amend', ...secrets('second', 'first'), '--image-opts', opened(image, format), '-o', change.join(',')]);
    await expect(openDisk(nodeFileStorage(image), { format, secret: 'first' })).rejects.toMatchObject({ kind: 'refused' });
    await amendHere('second', { state: 'active', 'new-secret': 'third', 'iter-time': 10 });
    await amendHere('third', { state: 'inactive', keyslot: 3 });
    expect([opensInQemu('second'), opensInQemu('third')]).toEqual([false, true]);
    if (format === 'qcow2') succeed('qemu-img', ['check', ...secrets('third', ''), '--image-opts', opened(image, format)]);
  });
});
