/**
 * js-dos's DOSBox and DOSBox-X, from npm, in real Chromium: a guest copies a file onto a disk of tabdisk's, as a file of the emulator's file system and as a
 * sockdrive. Real QEMU finds the image whole, and mtools read the file back. Needs `npm run build` before.
 */
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build, preview } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type OwnBrowser, startChromium } from '../chromium.ts';
import type { Machine } from './js-dos/main.ts';
import { run } from './packed.ts';

const TOP = resolve(import.meta.dirname, '../..');
const ROOT = join(import.meta.dirname, 'js-dos');
const STANDALONE = join(TOP, 'dist/standalone');
const BIG = 3_000_000;
const SECTORS = 63;
const HEADS = 16;
const CYLINDERS = 65;
const PARTITION = SECTORS * 512;

declare global {
  interface Window {
    jsDos: { run(machine: Machine): Promise<string>; readonly said: readonly string[] };
  }
}

let folder: string;
let browser: OwnBrowser;
let address: string;
let stop: () => Promise<void>;

/** What DOS copies, and what the program in the boot sector does. */
const bytes = Buffer.from(Uint8Array.from({ length: BIG }, (_, i) => (i * i) >> 8));
const CHUNK = 64;

/**
 * 16-bit code for the first sector, loaded at 0x7c00: copies `chunks` times 64 sectors from one place of the disk to another, and then itself to the second sector.
 * 0x00 registers and stack; 0x0a read (INT 13h, AH=42h), the packet's sector forward; write (AH=43h), the sector back and on; again; write of this sector;
 * halt. The packet is at 0x7d00, the two distances and the count follow it.
 */
function program(from: number, to: number, chunks: number): Buffer {
  const code = [
    'fa31c08ed88ec08ed0bc007cfb', // cli; ds = es = ss = 0; sp = 0x7c00; sti
    'be007db280b442cd13723f', // again: si = 0x7d00; dl = 0x80; ah = 0x42; int 13h; jc halt
    '66a1087d660306107d66a3087d', // sector += forward
    'be007db280b80043cd137226', // write
    '66a1087d660306147d66a3087d', // sector += back and on
    'ff0e187d75c5', // count; jnz again
    'b80103bb007cb90200ba8000cd13', // write 0x7c00 to cylinder 0, head 0, sector 2
    'f4ebfd', // hlt
  ].join('');
  const sector = Buffer.alloc(512);
  Buffer.from(code, 'hex').copy(sector);
  // Packet: its size, sectors, where to (0x1000:0000), the first sector.
  sector.writeUInt16LE(16, 0x100);
  sector.writeUInt16LE(CHUNK, 0x102);
  sector.writeUInt16LE(0x1000, 0x106);
  sector.writeUInt32LE(from, 0x108);
  sector.writeInt32LE(to - from, 0x110);
  sector.writeInt32LE(from - to + CHUNK, 0x114);
  sector.writeUInt16LE(chunks, 0x118);
  return sector;
}

/** A disk with one FAT16 partition. It starts a program that copies the file IN.DAT over OUT.DAT. */
function makeImage(path: string): void {
  const total = SECTORS * HEADS * CYLINDERS;
  const raw = join(folder, 'disk.raw');
  const given = join(folder, 'given');
  writeFileSync(raw, Buffer.alloc(total * 512));
  const geometry = ['-T', `${total - SECTORS}`, '-h', `${HEADS}`, '-s', `${SECTORS}`, '-H', `${SECTORS}`, '-c', '4'];
  run('mformat', ['-i', `${raw}@@${PARTITION}`, ...geometry, '::'], folder);
  for (const [name, contents] of [
    ['IN.DAT', bytes],
    ['OUT.DAT', Buffer.alloc(BIG, 'to be written ')],
  ] as const) {
    writeFileSync(given, contents);
    run('mcopy', ['-i', `${raw}@@${PARTITION}`, given, `::${name}`], folder);
  }
  const image = readFileSync(raw);
  const sectorOf = (part: Buffer) => image.indexOf(part) / 512;
  const chunks = Math.ceil(BIG / 512 / CHUNK);
  const first = program(sectorOf(bytes.subarray(0, 4096)), sectorOf(Buffer.alloc(4096, 'to be written ')), chunks);
  first.set([0x80, 1, 1, 0, 6, HEADS - 1, SECTORS, CYLINDERS - 1], 446);
  first.writeUInt32LE(SECTORS, 454);
  first.writeUInt32LE(total - SECTORS, 458);
  first.writeUInt16LE(0xaa55, 510);
  first.copy(image);
  writeFileSync(raw, image);
  run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, path], folder);
}

beforeAll(async () => {
  if (!existsSync(join(STANDALONE, 'emulators.iife.js'))) throw new Error('dist/ is not there: run npm run build first');
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-js-dos-'));
  const out = join(folder, 'site');
  const quiet = { configFile: false, logLevel: 'error', publicDir: false } as const;
  await build({ ...quiet, root: ROOT, base: './', build: { outDir: out, emptyOutDir: true, target: 'es2022' }, worker: { format: 'es' } });
  cpSync(STANDALONE, join(out, 'standalone'), { recursive: true });
  mkdirSync(join(out, 'emulators'));
  for (const name of ['emulators.js', 'wdosbox.js', 'wdosbox.wasm', 'wdosbox-x.js', 'wdosbox-x.wasm'])
    copyFileSync(join(TOP, 'node_modules/emulators/dist', name), join(out, 'emulators', name));
  for (const name of ['wdosbox', 'wdosbox-x']) {
    const scripts = `importScripts('emulators/${name}.js', 'standalone/emulators.iife.js');\n`;
    writeFileSync(join(out, `${name}-given.js`), `${scripts}tabdiskEmulators.jsDosWorker();\n`);
    const own = `import('./standalone/index.js').then(async ({ openDisk, opfsStorage }) => {
      const disk = await openDisk(await opfsStorage('disk.qcow2'), { format: 'qcow2' });
      return { files: { '/disk.img': disk } };
    })`;
    writeFileSync(join(out, `${name}-own.js`), `${scripts}tabdiskEmulators.jsDosWorker(${own});\n`);
  }
  makeImage(join(out, 'disk.qcow2'));
  const headers = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };
  const server = await preview({ ...quiet, root: ROOT, build: { outDir: out }, preview: { port: 0, host: '127.0.0.1', headers } });
  address = server.resolvedUrls?.local[0] ?? '';
  stop = () => server.close();
  browser = await startChromium();
});

afterAll(async () => {
  await browser?.close();
  await stop?.();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs a machine and returns what its image holds then, as a raw file. Real QEMU finds the image whole. */
async function outcome(machine: Omit<Machine, 'big'>): Promise<string> {
  const page = await browser.context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(address);
  await page.waitForFunction(() => 'jsDos' in window);
  const image = await page.evaluate((all) => window.jsDos.run(all), { ...machine, big: BIG });
  await page.close();
  expect(complaints).toEqual([]);
  const file = join(folder, 'result.qcow2');
  const raw = join(folder, 'result.raw');
  writeFileSync(file, Buffer.from(image, 'base64'));
  expect(run('qemu-img', ['check', file], folder)).toContain('No errors were found');
  run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', file, raw], folder);
  return raw;
}

/** A file of the image's, read by mtools. */
function fileOf(raw: string, name: string): Buffer {
  const copy = join(folder, 'copy');
  run('mcopy', ['-n', '-o', '-i', `${raw}@@${PARTITION}`, `::${name}`, copy], folder);
  return readFileSync(copy);
}

test.each<[string, Machine['way']]>([
  ['wdosbox', 'own'],
  ['wdosbox', 'file'],
  ['wdosbox-x', 'file'],
])('%s copies a file onto a disk (%s)', async (emulator, way) => {
  const commands = [
    `imgmount d /disk.img -size 512,${SECTORS},${HEADS},${CYLINDERS}`,
    'copy c:\\big.dat d:\\big.dat',
    'echo hello > d:\\hello.txt',
    'imgmount -u d',
  ];
  const raw = await outcome({ emulator, way, commands });
  expect(fileOf(raw, 'HELLO.TXT').toString()).toMatch(/^hello/);
  expect(fileOf(raw, 'BIG.DAT').equals(bytes)).toBe(true);
});

test.each<[Machine['way'], string]>([
  ['sockdrive', 'imgmount 2 sockdrive https://tabdisk/disk'],
  ['file', `imgmount 2 /disk.img -size 512,${SECTORS},${HEADS},${CYLINDERS}`],
])('wdosbox-x boots from a disk and writes to it (%s)', async (way, mount) => {
  const raw = await outcome({ emulator: 'wdosbox-x', way, commands: [mount, 'boot c:'], mark: 512 });
  expect(fileOf(raw, 'OUT.DAT').equals(bytes)).toBe(true);
});
