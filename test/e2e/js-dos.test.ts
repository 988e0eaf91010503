/**
 * js-dos's DOSBox and DOSBox-X, from npm, in real Chromium: DOS copies a file onto a disk of tabdisk's, once as a file of the emulator's file system and once as a
 * sockdrive. Real QEMU finds the image whole, and mtools read the file back.
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build, preview } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type OwnBrowser, startChromium } from '../chromium.ts';
import type { Machine } from './js-dos/main.ts';
import { run } from './packed.ts';

const TOP = resolve(import.meta.dirname, '../..');
const ROOT = join(import.meta.dirname, 'js-dos');
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

/** A disk with one FAT16 partition. */
function makeImage(path: string): void {
  const total = SECTORS * HEADS * CYLINDERS;
  const first = Buffer.alloc(512);
  first.set([0x80, 1, 1, 0, 6, HEADS - 1, SECTORS, CYLINDERS - 1], 446);
  first.writeUInt32LE(SECTORS, 454);
  first.writeUInt32LE(total - SECTORS, 458);
  first.writeUInt16LE(0xaa55, 510);
  const raw = join(folder, 'disk.raw');
  writeFileSync(raw, Buffer.concat([first, Buffer.alloc((total - 1) * 512)]));
  const geometry = ['-T', `${total - SECTORS}`, '-h', `${HEADS}`, '-s', `${SECTORS}`, '-H', `${SECTORS}`, '-c', '4'];
  run('mformat', ['-i', `${raw}@@${PARTITION}`, ...geometry, '::'], folder);
  run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, path], folder);
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-js-dos-'));
  const out = join(folder, 'site');
  const quiet = { configFile: false, logLevel: 'error', publicDir: false } as const;
  await build({ ...quiet, root: ROOT, base: './', build: { outDir: out, emptyOutDir: true, target: 'es2022' }, worker: { format: 'es' } });
  const script = { entry: join(TOP, 'src/emulators.ts'), formats: ['iife' as const], name: 'tabdiskEmulators', fileName: () => 'tabdisk.js' };
  await build({ ...quiet, root: TOP, build: { outDir: out, emptyOutDir: false, target: 'es2022', lib: script } });
  const modules = { entry: join(TOP, 'src/index.ts'), formats: ['es' as const], fileName: () => 'index.js' };
  await build({ ...quiet, root: TOP, build: { outDir: join(out, 'modules'), target: 'es2022', lib: modules } });
  mkdirSync(join(out, 'emulators'));
  for (const name of ['emulators.js', 'wdosbox.js', 'wdosbox.wasm', 'wdosbox-x.js', 'wdosbox-x.wasm'])
    copyFileSync(join(TOP, 'node_modules/emulators/dist', name), join(out, 'emulators', name));
  for (const name of ['wdosbox', 'wdosbox-x']) {
    const scripts = `importScripts('emulators/${name}.js', 'tabdisk.js');\n`;
    writeFileSync(join(out, `${name}-given.js`), `${scripts}tabdiskEmulators.jsDosWorker();\n`);
    const own = `import('./modules/index.js').then(async ({ openDisk, opfsStorage }) => {
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

const MOUNTS: Record<Machine['way'], string> = {
  file: `imgmount d /disk.img -size 512,${SECTORS},${HEADS},${CYLINDERS}`,
  own: `imgmount d /disk.img -size 512,${SECTORS},${HEADS},${CYLINDERS}`,
  sockdrive: 'imgmount d sockdrive https://tabdisk/disk',
};

test.each<[string, Machine['way']]>([
  ['wdosbox', 'own'],
  ['wdosbox', 'file'],
  ['wdosbox-x', 'own'],
  ['wdosbox-x', 'file'],
  ['wdosbox-x', 'sockdrive'],
])('%s writes to a disk (%s)', async (emulator, way) => {
  const page = await browser.context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => { console.info('PAGEERROR', error, JSON.stringify(error)); complaints.push(error.message); });
  page.on('worker', (w) => { console.info('WORKER', w.url()); });
  page.on('console', (message) => console.info(message.text()));
  await page.goto(address);
  await page.waitForFunction(() => 'jsDos' in window);
  const commands = [MOUNTS[way], 'copy c:\\big.dat d:\\big.dat', 'echo hello > d:\\hello.txt', 'dir d:\\', 'imgmount -u d'];
  const image = await page.evaluate((machine) => window.jsDos.run(machine), { emulator, way, commands, big: BIG });
  console.info(await page.evaluate(() => window.jsDos.said.join('\n')));
  expect(complaints).toEqual([]);
  const file = join(folder, 'result.qcow2');
  const raw = join(folder, 'result.raw');
  writeFileSync(file, Buffer.from(image, 'base64'));
  expect(run('qemu-img', ['check', file], folder)).toContain('No errors were found');
  run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', file, raw], folder);
  expect(run('mtype', ['-i', `${raw}@@${PARTITION}`, '::HELLO.TXT'], folder)).toMatch(/^hello/);
  run('mcopy', ['-n', '-o', '-i', `${raw}@@${PARTITION}`, '::BIG.DAT', join(folder, 'big.dat')], folder);
  const { readFileSync } = await import('node:fs');
  expect(Buffer.compare(readFileSync(join(folder, 'big.dat')), Buffer.from(Uint8Array.from({ length: BIG }, (_, i) => (i * i) >> 8)))).toBe(0);
  await page.close();
});
