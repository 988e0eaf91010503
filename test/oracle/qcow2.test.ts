/**
 * We and QEMU take turns on one image: random operations by one, checked and read by the other, over cluster sizes, refcount widths,
 * versions, odd sizes and backing files. Snapshots made on one side are applied on the other.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Resolve } from '../../src/disk/chain.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { firstDifference, NaiveDisk } from '../model/naive.ts';
import { requireSame, runOperations } from '../model/operations.ts';
import { Random } from '../random.ts';
import { qemuImg, qemuIo, requireClean, run } from './qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-oracle-'));
afterAll(() => rmSync(folder, { recursive: true }));

const resolve: Resolve = ({ name, from }) => nodeFileStorage(join(dirname(from), name), { readOnly: true });
const open = (path: string, readOnly = false): Promise<Disk> => openDisk(nodeFileStorage(path, { readOnly }), { format: 'qcow2', readOnly, resolve });

interface Configuration {
  readonly cluster_size: number;
  readonly refcount_bits?: number;
  readonly compat?: string;
  readonly extended_l2?: 'on';
  readonly backing?: boolean;
}

const configurations: readonly Configuration[] = [
  ...[512, 1024, 4096, 65536, 2097152].map((cluster_size) => ({ cluster_size })),
  ...[1, 2, 4, 8, 32, 64].map((refcount_bits) => ({ cluster_size: 512, refcount_bits })),
  { cluster_size: 65536, refcount_bits: 1 },
  { cluster_size: 2097152, refcount_bits: 64 },
  ...[512, 65536].map((cluster_size) => ({ cluster_size, compat: '0.10' })),
  ...[512, 4096, 65536].map((cluster_size) => ({ cluster_size, backing: true })),
  { cluster_size: 4096, compat: '0.10', backing: true },
  ...[16384, 65536].flatMap((cluster_size) => [
    { cluster_size, extended_l2: 'on' as const },
    { cluster_size, extended_l2: 'on' as const, backing: true },
  ]),
  { cluster_size: 16384, extended_l2: 'on', refcount_bits: 1 },
  { cluster_size: 2097152, extended_l2: 'on', refcount_bits: 64 },
];

/** Random qemu-io and qemu-img commands, and the same on the naive disk. */
function qemuTurn(path: string, naive: NaiveDisk, random: Random, { compat, refcount_bits, cluster_size }: Configuration): void {
  const commands: string[] = [];
  for (let i = 0; i < 15; i++) {
    const offset = random.between(0, naive.size / 512 - 1) * 512;
    const length = Math.min(naive.size - offset, random.between(1, random.pick([20, 400])) * 512);
    const what = random.pick(['write', 'write', 'write', 'zero', 'unmap', 'discard'] as const);
    if (what === 'write') {
      const pattern = random.between(1, 255);
      commands.push(`write -P ${pattern} ${offset} ${length}`);
      naive.bytes.fill(pattern, offset, offset + length);
    } else if (what === 'discard' && compat !== '0.10') {
      commands.push(`discard ${offset} ${length}`);
      const start = Math.ceil(offset / cluster_size) * cluster_size;
      const end = offset + length === naive.size ? naive.size : Math.floor((offset + length) / cluster_size) * cluster_size;
      if (start < end) naive.bytes.fill(0, start, end);
    } else {
      commands.push(`write -z ${what === 'unmap' ? '-u ' : ''}${offset} ${length}`);
      naive.bytes.fill(0, offset, offset + length);
    }
  }
  qemuIo(path, 'qcow2', commands);
  if (refcount_bits === 1) return;
  const names = [...naive.snapshots.keys()];
  const name = random.pick(names.length > 0 ? names : ['']);
  const what = names.length === 0 ? 'create' : random.pick(['create', 'apply', 'delete'] as const);
  if (what === 'create') {
    const fresh = `q${random.between(1, 1e9)}`;
    qemuImg('snapshot', '-c', fresh, path);
    naive.snapshot(fresh);
  } else if (what === 'apply') {
    qemuImg('snapshot', '-a', name, path);
    naive.revert(name);
  } else {
    qemuImg('snapshot', '-d', name, path);
    naive.snapshots.delete(name);
  }
}

/** What qemu-img reads from an image must be the naive disk's bytes. */
function requireQemuSees(path: string, naive: NaiveDisk, context: string): void {
  const raw = join(folder, 'expected.raw');
  writeFileSync(raw, naive.bytes);
  const { status, stdout, stderr } = run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', path, raw]);
  if (status !== 0) throw new Error(`${context}: qemu-img compare ended with ${status}: ${stdout}${stderr}`);
}

/** Our map of an image must be QEMU's. */
async function requireSameMap(path: string, disk: Disk, context: string): Promise<void> {
  const theirs = JSON.parse(qemuImg('map', '--output=json', '-f', 'qcow2', path));
  const ours = [];
  for await (const { compressed: _, ...run } of disk.map()) ours.push(run);
  expect(ours, context).toEqual(theirs);
}

async function makeBacking(random: Random, size: number): Promise<{ name: string; bytes: Uint8Array }> {
  const name = `base-${random.seed}.qcow2`;
  const path = join(folder, name);
  rmSync(path, { force: true });
  const base = await createDisk(nodeFileStorage(path, { create: 'must-not-exist' }), { format: 'qcow2', size, cluster_size: 4096 });
  const naive = new NaiveDisk(size);
  await runOperations(base, naive, random, { count: 20, allowed: { snapshots: false, resize: false, sizeUnit: 512, discardUnit: 0 } });
  await base.close();
  return { name, bytes: naive.bytes };
}

async function start(path: string, random: Random, configuration: Configuration, byQemu: boolean): Promise<NaiveDisk> {
  const { backing: hasBacking, ...options } = configuration;
  const naive = new NaiveDisk(random.between(6000, 9000) * 512);
  // The backing file is shorter or longer than the overlay by turns.
  const base = hasBacking ? await makeBacking(random, naive.size + random.pick([-1, 1]) * 512 * random.between(1, 999)) : undefined;
  if (base) naive.bytes.set(base.bytes.subarray(0, naive.size));
  rmSync(path, { force: true });
  if (byQemu) {
    const list = Object.entries(options).map(([name, value]) => `${name}=${value}`);
    qemuImg('create', '-q', '-f', 'qcow2', '-o', list.join(','), ...(base ? ['-b', base.name, '-F', 'qcow2'] : []), path, String(naive.size));
  } else {
    const backing = base ? { backing: { name: base.name, format: 'qcow2' }, resolve } : {};
    await (
      await createDisk(nodeFileStorage(path, { create: 'must-not-exist' }), { format: 'qcow2', size: naive.size, ...options, ...backing })
    ).close();
  }
  return naive;
}

describe.each(configurations)('qcow2 %o', (configuration) => {
  it.each([
    { seed: 1, byQemu: false },
    { seed: 2, byQemu: true },
  ])('takes turns with QEMU, seed $seed', async ({ seed, byQemu }) => {
    const random = new Random(seed);
    const path = join(folder, `turns-${process.pid}.qcow2`);
    const naive = await start(path, random, configuration, byQemu);
    const version2 = configuration.compat === '0.10';
    const allowed = {
      snapshots: configuration.refcount_bits !== 1,
      resize: !version2,
      sizeUnit: 512,
      // Version 2 cannot say "zero" over a backing file, so there discard does nothing.
      discardUnit: version2 && configuration.backing ? 0 : configuration.cluster_size,
    };
    for (let round = 0; round < 3; round++) {
      const context = `${JSON.stringify(configuration)} seed ${seed} round ${round}`;
      const disk = await open(path);
      await runOperations(disk, naive, random, { count: 40, allowed });
      await disk.close();
      requireClean(path, `${context}, after us`);
      requireQemuSees(path, naive, `${context}, after us`);
      qemuTurn(path, naive, random, configuration);
      requireClean(path, `${context}, after QEMU`);
      const again = await open(path, true);
      await requireSame(again, naive, `${context}, after QEMU`);
      await requireSameMap(path, again, context);
      const theirs = JSON.parse(qemuImg('check', '--output=json', '-f', 'qcow2', path));
      const ours = await again.check();
      expect(ours, context).toMatchObject({
        corruptions: 0,
        leaks: 0,
        checkErrors: 0,
        totalClusters: theirs['total-clusters'],
        allocatedClusters: theirs['allocated-clusters'] ?? 0,
        fragmentedClusters: theirs['fragmented-clusters'] ?? 0,
        imageEndOffset: theirs['image-end-offset'],
      });
      await again.close();
    }
  });
});

it('a new image is byte for byte the one qemu-img makes', async () => {
  for (const options of [{}, { cluster_size: 512 }, { cluster_size: 2097152, refcount_bits: 1 }, { compat: '0.10' }, { lazy_refcounts: 'on' }]) {
    for (const size of [0, 512, 8 << 20, 3 * 2 ** 30 + 512]) {
      const path = join(folder, 'new.qcow2');
      const list = Object.entries(options).map(([name, value]) => `${name}=${value}`);
      rmSync(path, { force: true });
      qemuImg('create', '-q', '-f', 'qcow2', ...(list.length > 0 ? ['-o', list.join(',')] : []), path, String(size));
      const theirs = nodeFileStorage(path, { readOnly: true });
      const ours = join(folder, 'ours.qcow2');
      rmSync(ours, { force: true });
      await (await createDisk(nodeFileStorage(ours, { create: 'must-not-exist' }), { format: 'qcow2', size, ...options })).close();
      const mine = nodeFileStorage(ours, { readOnly: true });
      const context = `${JSON.stringify(options)} ${size}`;
      expect(mine.size, context).toBe(theirs.size);
      const raw = async (storage: typeof mine) => {
        const disk = await openDisk(storage, { format: 'raw', readOnly: true });
        const bytes = await disk.read(0, disk.size);
        await disk.close();
        return bytes;
      };
      expect(firstDifference(await raw(mine), await raw(theirs)), context).toBe(-1);
    }
  }
});

it('writes land where QEMU puts them', async () => {
  const random = new Random(11);
  for (const cluster_size of [512, 65536]) {
    const [ours, theirs] = ['ours.qcow2', 'theirs.qcow2'].map((name) => join(folder, name)) as [string, string];
    for (const path of [ours, theirs]) rmSync(path, { force: true });
    const disk = await createDisk(nodeFileStorage(ours, { create: 'must-not-exist' }), { format: 'qcow2', size: 32 << 20, cluster_size });
    qemuImg('create', '-q', '-f', 'qcow2', '-o', `cluster_size=${cluster_size}`, theirs, String(32 << 20));
    const commands: string[] = [];
    for (let i = 0; i < 60; i++) {
      const offset = random.between(0, (32 << 11) - 300) * 512;
      const length = random.between(1, 300) * 512;
      const pattern = random.between(1, 255);
      await disk.write(offset, new Uint8Array(length).fill(pattern));
      commands.push(`write -P ${pattern} ${offset} ${length}`);
    }
    await disk.close();
    qemuIo(theirs, 'qcow2', commands);
    const map = (path: string) => JSON.parse(qemuImg('map', '--output=json', '-f', 'qcow2', path));
    expect(map(ours)).toEqual(map(theirs));
  }
});

it('compressed clusters made by QEMU read the same, and survive being overwritten', async () => {
  const random = new Random(5);
  const raw = join(folder, 'source.raw');
  const naive = new NaiveDisk(3 * 1024 * 1024 + 512);
  for (let i = 0; i < 40; i++) {
    const offset = random.between(0, naive.size - 20_000);
    const part = random.chance(0.5) ? random.bytes(random.between(1, 20_000)) : new Uint8Array(random.between(1, 20_000)).fill(i + 1);
    naive.bytes.set(part, offset);
  }
  writeFileSync(raw, naive.bytes);
  for (const options of [
    'cluster_size=64k',
    'cluster_size=512',
    'cluster_size=2M',
    'cluster_size=64k,compression_type=zstd',
    'cluster_size=4k,compression_type=zstd',
  ]) {
    const path = join(folder, 'compressed.qcow2');
    qemuImg('convert', '-c', '-O', 'qcow2', '-o', options, raw, path);
    const copy = new NaiveDisk(naive.size);
    copy.bytes.set(naive.bytes);
    const disk = await open(path);
    await requireSame(disk, copy, options);
    expect((await disk.check()).compressedClusters).toBe(JSON.parse(qemuImg('check', '--output=json', path))['compressed-clusters']);
    await runOperations(disk, copy, random, { count: 40, allowed: { snapshots: true, resize: false, sizeUnit: 512, discardUnit: 0 } });
    await disk.close();
    requireClean(path, options);
    requireQemuSees(path, copy, options);
  }
});
