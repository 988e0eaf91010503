/**
 * The built package as an embedder gets it: unpacked into a project of its own, type-checked under both module resolutions in
 * use, run by plain Node, and its command started. Needs `npm run build` before.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sparseBytes } from '../jobs/fixtures.ts';
import { packedProject, run } from './packed.ts';
import { readmeSamples } from './page-size.ts';

const TOP = resolve(import.meta.dirname, '../..');
const CONSUMER = `
import { createDisk, DiskError, type FormatDescriptor, memoryStorage, openDisk, qcow2, type Storage, type StorageExtent } from 'tabdisk';
import { nodeFileStorage } from 'tabdisk/node';
import { openGraph, parseOptionList } from 'tabdisk/qemu';
import { v86Disk } from 'tabdisk/v86';

const storage: Storage = memoryStorage();
const disk = await createDisk(storage, { format: 'qcow2', size: 8 * 1024 * 1024 });
await disk.write(1_000_001, new Uint8Array([1, 2, 3]));
const sectors: number = v86Disk(disk).byteLength / 512;
const file = await createDisk(nodeFileStorage('made.img', { create: 'truncate' }), { format: 'raw', size: 4096 });
file.writeSync(4095, disk.readSync(1_000_002, 1));
await file.close();
const again = await openDisk(nodeFileStorage('made.img'), { format: 'raw', readOnly: true });
const refused = await again.write(0, new Uint8Array(1)).catch((error: unknown) => error instanceof DiskError && error.kind);
const luks = { 'encrypt.format': 'luks', 'encrypt.iter-time': 10, 'encrypt.key-secret': 'key' } as const;
const locked = await createDisk(memoryStorage(), { format: 'qcow2', size: 65536, ...luks, secret: 'open sesame' });
await locked.write(0, new Uint8Array([7]));
const format: FormatDescriptor = qcow2;
const extent: StorageExtent = { length: 1, zero: format.capabilities.zeroes };
const options = parseOptionList('driver=raw,size=1024,file.filename=made.img');
const part = await openGraph({ options }, { openFile: (name) => memoryStorage({ name, bytes: new Uint8Array(4096) }) });
console.log(part.size, extent.zero);
await part.close();
console.log(sectors, disk.info === undefined, again.readSync(4095, 1)[0], refused, (await locked.read(0, 1))[0]);
`;

/** The README's samples for emulators that cannot wait, each a module of its own. */
const SAMPLES = readmeSamples('Emulators that cannot wait');

let folder: string;

beforeAll(() => {
  folder = packedProject();
  for (const [index, sample] of SAMPLES.entries()) writeFileSync(join(folder, `sample-${index}.ts`), sample);
  writeFileSync(join(folder, 'main.ts'), CONSUMER);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('holds the entries, their types and the command, and not the page', () => {
  const installed = join(folder, 'node_modules/tabdisk');
  expect(readdirSync(installed)).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'dist', 'package.json']));
  const dist = readdirSync(join(installed, 'dist'));
  expect(dist).toEqual(expect.arrayContaining(['cli.js', 'index.js', 'node.js', 'qemu.js', 'types', 'v86.js', 'worker.js']));
  expect(dist).not.toContain('app');
});

test.each([
  ['bundler', ['--module', 'esnext', '--moduleResolution', 'bundler', '--noEmit']],
  ['nodenext', ['--module', 'nodenext', '--moduleResolution', 'nodenext']],
])('type-checks with moduleResolution %s', (_, options) => {
  const strict = [
    '--strict',
    '--exactOptionalPropertyTypes',
    '--target',
    'es2022',
    '--lib',
    'es2023,dom,dom.iterable,dom.asynciterable',
    '--types',
    '',
  ];
  run(join(TOP, 'node_modules/.bin/tsc'), [...strict, ...options, 'main.ts', ...SAMPLES.map((_, index) => `sample-${index}.ts`)], folder);
});

test('is published as tools that look at packages want it', async () => {
  const installed = join(folder, 'node_modules/tabdisk');
  const { messages, pkg } = await publint({ pkgDir: installed, pack: false, strict: true });
  expect(messages.map((message) => formatMessage(message, pkg, { color: false }))).toEqual([]);
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '';
  const analysis = await checkPackage(createPackageFromTarballData(readFileSync(join(folder, tarball))));
  const problems = analysis.types === false ? ['no types'] : analysis.problems;
  // Node 10 knows no `exports`; "require" of modules is what every Node that the package supports does.
  const ignored = (problem: (typeof problems)[number]) =>
    typeof problem === 'object' &&
    'resolutionKind' in problem &&
    (problem.resolutionKind === 'node10' || (problem.resolutionKind === 'node16-cjs' && problem.kind === 'CJSResolvesToESM'));
  expect(problems.filter((problem) => !ignored(problem))).toEqual([]);
});

test('has its sources in its source maps', () => {
  const dist = join(folder, 'node_modules/tabdisk/dist');
  for (const name of ['worker/client.js', 'disk/disk.js', 'standalone/index.js', 'standalone/tabdisk.iife.js', 'standalone/emulators.iife.js']) {
    const { sources, sourcesContent } = JSON.parse(readFileSync(join(dist, `${name}.map`), 'utf8'));
    expect(sourcesContent).toHaveLength(sources.length);
    expect(sourcesContent.every((text: unknown) => typeof text === 'string' && text.length > 0)).toBe(true);
  }
});

test.each(['index', 'node', 'qemu', 'v86', 'emscripten', 'js-dos', 'sockdrive', 'worker-disk', 'file-handles'])(
  'can be required in Node: %s',
  (entry) => {
    const name = entry === 'index' ? 'tabdisk' : `tabdisk/${entry}`;
    writeFileSync(join(folder, 'required.cjs'), `console.log(require('tabdisk/package.json').name, Object.keys(require('${name}')).length > 0);\n`);
    expect(run('node', ['required.cjs'], folder)).toBe('tabdisk true\n');
  },
);

test('runs in Node without a bundler', () => {
  expect(run('node', ['main.js'], folder)).toBe('1024 true\n16384 false 2 read-only 7\n');
});

test('has a command that runs as it lies', () => {
  const command = join(folder, 'node_modules/tabdisk/dist/cli.js');
  run(command, ['create', '-f', 'qcow2', 'small.qcow2', '1M'], folder);
  expect(run(command, ['info', 'small.qcow2'], folder)).toContain('file format: qcow2');
});

test('has a command whose threads compress what Node cannot, and end with it', () => {
  const command = join(folder, 'node_modules/tabdisk/dist/cli.js');
  writeFileSync(join(folder, 'disk.raw'), sparseBytes(5, 3_000_320));
  run(command, ['convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', 'compression_type=zstd', 'disk.raw', 'packed.qcow2'], folder);
  expect(run('qemu-img', ['check', 'packed.qcow2'], folder)).toMatch(/No errors.* 100\.00% compressed clusters/s);
  run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', 'disk.raw', 'packed.qcow2'], folder);
});
