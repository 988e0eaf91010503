/**
 * We and QEMU take turns on one image: random operations by one, checked and read by the other, in every configuration there is. Whatever
 * comes out, `info`, `map`, `check`, `measure` and `compare` say the same of it on both command lines.
 * `TABDISK_ORACLE_SEEDS` says how many seeds each configuration gets (1), `TABDISK_SEED` where they start (1),
 * `TABDISK_ORACLE_ROUNDS` how many turns each side has (1).
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { resolve as absolute, dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runAsync } from '../../src/base/io.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import type { Resolve } from '../../src/disk/reference.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { NaiveDisk } from '../model/naive.ts';
import { requireSame, runOperations } from '../model/operations.ts';
import { Random } from '../random.ts';
import { usualFolder } from '../temporary-folder.ts';
import { CONFIGURATIONS, type Configuration } from './configurations.ts';
import { qemuImg, qemuIo, requireClean, run } from './qemu.ts';
import { requireSameWords } from './same-words.ts';

const SEEDS = Number(process.env.TABDISK_ORACLE_SEEDS ?? 1);
const FIRST = Number(process.env.TABDISK_SEED ?? 1);
const ROUNDS = Number(process.env.TABDISK_ORACLE_ROUNDS ?? 1);
const PASSPHRASE = 'passphrase';
const SECRET = ['--object', `secret,id=s,data=${PASSPHRASE}`];

const folder = mkdtempSync(join(usualFolder(), 'tabdisk-oracle-'));
afterAll(() => rmSync(folder, { recursive: true }));

const resolve: Resolve = ({ kind, name, from, create, writable }) =>
  nodeFileStorage(absolute(dirname(from), name), create ? { create: 'truncate' } : { readOnly: kind === 'backing' || !writable });
const open = (path: string, readOnly = false): Promise<Disk> =>
  openDisk(nodeFileStorage(path, { readOnly }), { format: 'qcow2', readOnly, resolve, secret: PASSPHRASE });

const isEncrypted = ({ options }: Configuration) => options['encrypt.format'] !== undefined;

/** The image on a command line. */
const named = (path: string, configuration: Configuration): string[] =>
  isEncrypted(configuration) ? [...SECRET, '--image-opts', `driver=qcow2,encrypt.key-secret=s,file.filename=${path}`] : ['-f', 'qcow2', path];

const version2 = ({ options }: Configuration) => options.compat === '0.10';

/** How many snapshots an image may have at a time: a cluster counts one more reference for each, and one more while one is applied. */
function mostSnapshots({ options }: Configuration): number {
  if (options.data_file !== undefined) return 0;
  return options.refcount_bits === undefined ? 4 : Math.min(4, Math.max(0, 2 ** Number(options.refcount_bits) - 3));
}

/**
 * Compressed clusters by their offsets, with their bytes. They come by themselves and at the end: QEMU compresses only where nothing is, and if
 * others give clusters up in between, QEMU 7.2 goes on packing compressed bytes into a cluster that something else has by then.
 */
function qemuCompresses(path: string, naive: NaiveDisk, configuration: Configuration, clusters: ReadonlyMap<number, number>): void {
  const places = [...clusters].map(([start, pattern]) => ({
    start,
    pattern,
    length: Math.min(naive.size - start, configuration.options.cluster_size),
  }));
  qemuIo(named(path, configuration), 'qcow2', [
    ...places.map(({ start, length }) => `discard ${start} ${length}`),
    ...places.map(({ start, length, pattern }) => `write -c -P ${pattern} ${start} ${length}`),
  ]);
  for (const { start, length, pattern } of places) naive.bytes.fill(pattern, start, start + length);
}

/** Random qemu-io and qemu-img commands, and the same on the naive disk. */
function qemuTurn(path: string, naive: NaiveDisk, random: Random, configuration: Configuration): void {
  const clusterSize = configuration.options.cluster_size;
  const commands: string[] = [];
  const compressed = new Map<number, number>();
  for (let i = 0; i < 15; i++) {
    const offset = random.between(0, naive.size / 512 - 1) * 512;
    const length = Math.min(naive.size - offset, random.between(1, random.pick([20, 400])) * 512);
    const what = random.pick(['write', 'write', configuration.compressed ? 'compressed' : 'write', 'zero', 'unmap', 'discard'] as const);
    if (what === 'write') {
      const pattern = random.between(1, 255);
      commands.push(`write -P ${pattern} ${offset} ${length}`);
      naive.bytes.fill(pattern, offset, offset + length);
    } else if (what === 'compressed') {
      compressed.set(Math.floor(offset / clusterSize) * clusterSize, random.between(1, 255));
    } else if (what === 'discard' && !version2(configuration)) {
      commands.push(`discard ${offset} ${length}`);
      const start = Math.ceil(offset / clusterSize) * clusterSize;
      const end = offset + length === naive.size ? naive.size : Math.floor((offset + length) / clusterSize) * clusterSize;
      if (start < end) naive.bytes.fill(0, start, end);
    } else {
      commands.push(`write -z ${what === 'unmap' ? '-u ' : ''}${offset} ${length}`);
      naive.bytes.fill(0, offset, offset + length);
    }
  }
  qemuIo(named(path, configuration), 'qcow2', commands);
  if (compressed.size > 0) qemuCompresses(path, naive, configuration, compressed);
  const most = mostSnapshots(configuration);
  if (most > 0) qemuSnapshot(isEncrypted(configuration) ? named(path, configuration) : [path], naive, random, most);
  if (!version2(configuration) && random.chance(0.5)) {
    const size = Math.floor((naive.size * random.between(80, 125)) / 100 / 512) * 512;
    qemuImg('resize', '-q', '--shrink', ...named(path, configuration), String(size));
    naive.resize(size);
  }
}

function qemuSnapshot(image: readonly string[], naive: NaiveDisk, random: Random, most: number): void {
  const names = [...naive.snapshots.keys()];
  const name = random.pick(names.length > 0 ? names : ['']);
  const what =
    names.length === 0 ? 'create' : random.pick(names.length < most ? (['create', 'apply', 'delete'] as const) : (['apply', 'delete'] as const));
  if (what === 'create') {
    const fresh = `q${random.between(1, 1e9)}`;
    qemuImg('snapshot', '-c', fresh, ...image);
    naive.snapshot(fresh);
  } else if (what === 'apply') {
    qemuImg('snapshot', '-a', name, ...image);
    naive.revert(name);
  } else {
    qemuImg('snapshot', '-d', name, ...image);
    naive.snapshots.delete(name);
  }
}

/** Some clusters written compressed by us. */
async function compressSome(disk: Disk, naive: NaiveDisk, random: Random, clusterSize: number): Promise<void> {
  for (let i = 0; i < 6; i++) {
    const start = random.between(0, Math.ceil(naive.size / clusterSize) - 1) * clusterSize;
    const bytes = random.bytes(Math.min(clusterSize, naive.size - start));
    await runAsync(disk.node.writeCompressed(start, bytes));
    naive.bytes.set(bytes, start);
  }
}

/** The image and its expected contents, as `compare` takes them. */
const beside = (path: string, raw: string, configuration: Configuration): string[] =>
  isEncrypted(configuration) ? [...named(path, configuration), `driver=raw,file.filename=${raw}`] : ['-f', 'qcow2', '-F', 'raw', path, raw];

/** What qemu-img reads from an image must be the naive disk's bytes. */
function requireQemuSees(images: readonly string[], context: string): void {
  const { status, stdout, stderr } = run('qemu-img', ['compare', ...images]);
  if (status !== 0) throw new Error(`${context}: qemu-img compare ended with ${status}: ${stdout}${stderr}`);
}

async function makeBacking(random: Random, size: number): Promise<{ name: string; bytes: Uint8Array }> {
  const name = `base-${random.seed}.qcow2`;
  const path = join(folder, name);
  rmSync(path, { force: true });
  const base = await createDisk(nodeFileStorage(path, { create: 'must-not-exist' }), { format: 'qcow2', size, cluster_size: 4096 });
  const naive = new NaiveDisk(size);
  await runOperations(base, naive, random, { count: 20, allowed: { snapshots: 0, resize: false, sizeUnit: 512, discardUnit: 0 } });
  await base.close();
  return { name, bytes: naive.bytes };
}

async function start(path: string, random: Random, { options, backing: hasBacking = false }: Configuration, byQemu: boolean): Promise<NaiveDisk> {
  const naive = new NaiveDisk(random.between(6000, 9000) * 512);
  // The backing file is shorter or longer than the overlay by turns.
  const base = hasBacking ? await makeBacking(random, naive.size + random.pick([-1, 1]) * 512 * random.between(1, 999)) : undefined;
  if (base) naive.bytes.set(base.bytes.subarray(0, naive.size));
  rmSync(path, { force: true });
  // QEMU looks for data files where it is started, not beside the image.
  const dataFile = options.data_file === undefined ? {} : { data_file: join(folder, String(options.data_file)) };
  if (dataFile.data_file !== undefined) rmSync(dataFile.data_file, { force: true });
  // QEMU takes seconds to make a LUKS header.
  if (byQemu && options['encrypt.format'] !== 'luks') {
    const secret = options['encrypt.format'] === undefined ? {} : { 'encrypt.key-secret': 's' };
    const list = Object.entries({ ...options, ...dataFile, ...secret }).map(([name, value]) => `${name}=${value}`);
    qemuImg(
      'create',
      '-q',
      ...SECRET,
      '-f',
      'qcow2',
      '-o',
      list.join(','),
      ...(base ? ['-b', base.name, '-F', 'qcow2'] : []),
      path,
      String(naive.size),
    );
  } else {
    const backing = base ? { backing: { name: base.name, format: 'qcow2' } } : {};
    await (
      await createDisk(nodeFileStorage(path, { create: 'must-not-exist' }), {
        format: 'qcow2',
        size: naive.size,
        resolve,
        secret: PASSPHRASE,
        ...options,
        ...dataFile,
        ...backing,
      })
    ).close();
  }
  return naive;
}

describe.each(CONFIGURATIONS.map((configuration, index) => [JSON.stringify(configuration), configuration, index] as const))(
  '%s',
  (_, configuration, index) => {
    it.each(Array.from({ length: SEEDS }, (_, index) => FIRST + index))('takes turns with QEMU, seed %i', async (seed) => {
      const random = new Random(seed);
      const path = join(folder, 'turns.qcow2');
      const raw = join(folder, 'expected.raw');
      const naive = await start(path, random, configuration, (seed + index) % 2 === 0);
      const words = { named: named(path, configuration), beside: beside(path, raw, configuration) };
      // Holes of a raw data file.
      const holes = configuration.options.data_file_raw === 'on';
      const allowed = {
        snapshots: mostSnapshots(configuration),
        resize: !version2(configuration),
        sizeUnit: 512,
        // Version 2 cannot say "zero" over a backing file, so there discard does nothing.
        discardUnit: version2(configuration) && configuration.backing ? 0 : configuration.options.cluster_size,
      };
      for (let round = 0; round < ROUNDS; round++) {
        const context = `${JSON.stringify(configuration)} seed ${seed} round ${round}`;
        const disk = await open(path);
        if (configuration.compressed) await compressSome(disk, naive, random, configuration.options.cluster_size);
        await runOperations(disk, naive, random, { count: 40, allowed });
        await disk.close();
        requireClean(named(path, configuration), `${context}, after us`);
        writeFileSync(raw, naive.bytes);
        requireQemuSees(beside(path, raw, configuration), `${context}, after us`);
        await requireSameWords(words, { holes, context: `${context}, after us` });
        qemuTurn(path, naive, random, configuration);
        requireClean(named(path, configuration), `${context}, after QEMU`);
        const again = await open(path, true);
        await requireSame(again, naive, `${context}, after QEMU`);
        expect(await again.check(), context).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
        await again.close();
        writeFileSync(raw, naive.bytes);
        await requireSameWords(words, { holes, context: `${context}, after QEMU` });
      }
    });
  },
);
