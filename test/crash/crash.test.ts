/**
 * The crash explorer over every workload. `npm run test:crash` looks at many more states (TABDISK_CRASH_STATES) than a usual run, and
 * prints how many.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { runSync } from '../../src/base/io.ts';
import { Snapshots } from '../../src/disk/snapshots.ts';
import { Metadata } from '../../src/formats/qcow2/metadata.ts';
import { Refcounts } from '../../src/formats/qcow2/refcounts.ts';
import { CacheStorage } from '../../src/layers/cache.ts';
import { NodeJobs } from '../../src/node/node-jobs.ts';
import { FileEnd } from '../../src/tables/file-end.ts';
import { FreedClusters } from '../../src/tables/freed-clusters.ts';
import { FreedUnits } from '../../src/tables/freed-units.ts';
import { Space } from '../../src/tables/space.ts';
import { TableCache } from '../../src/tables/table-cache.ts';
import { RecorderStorage } from '../layers/recorder.ts';
import { run } from '../oracle/qemu.ts';
import type { Files } from './files.ts';
import { SECRET } from './guest.ts';
import { machineWorkloads, runMachineWorkload, STEPS } from './machine.ts';
import { runWorkload } from './run.ts';
import { workloads } from './workloads.ts';

const shares = machineWorkloads.length + workloads.reduce((sum, { share = 1 }) => sum + share, 0);
const perWorkload = Math.ceil(Number(process.env.TABDISK_CRASH_STATES ?? 12_000) / shares);
const folder = mkdtempSync(join(tmpdir(), 'tabdisk-crash-'));
let seen = 0;
let judged = 0;

afterAll(() => {
  rmSync(folder, { recursive: true });
  process.stdout.write(
    `crash explorer: ${seen} states of ${workloads.length + machineWorkloads.length} workloads, ${judged} of them also judged by qemu-img check\n`,
  );
});

/** The real qemu-img: leaks are allowed, corruption is not, unless the dirty bit says that whoever opens the image repairs it. */
function secondOpinion(files: Files): void {
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
  judged++;
  const dirty = ((files.get('disk')?.[79] ?? 0) & 1) !== 0;
  const encrypted = (files.get('disk')?.[35] ?? 0) !== 0;
  const data = files.has('data') ? `,data-file.filename=${join(folder, 'data')}` : '';
  const options = `driver=qcow2,file.filename=${join(folder, 'disk')}${data}${encrypted ? ',encrypt.key-secret=s' : ''}`;
  requireNoCorruption([...(dirty ? ['-r', 'all'] : []), '--object', `secret,id=s,data=${SECRET}`, '--image-opts', options]);
}

/** QEMU, which has no check for VHD, opens it: every block of the table is in the file. */
function opensAsVpc(files: Files): void {
  judged++;
  writeFileSync(join(folder, 'disk'), files.get('disk') as Uint8Array);
  const { status, stderr } = run('qemu-img', ['info', '-f', 'vpc', join(folder, 'disk')]);
  if (status !== 0) throw new Error(`qemu-img info ended with ${status}: ${stderr.slice(0, 400)}`);
}

/** The same for VHDX: QEMU replays the log first, and then nothing may be wrong. */
function replayed(files: Files): void {
  judged++;
  writeFileSync(join(folder, 'disk'), files.get('disk') as Uint8Array);
  requireNoCorruption(['-r', 'all', '-f', 'vhdx', join(folder, 'disk')]);
}

/** The same for the drives of a machine, each an image by itself. */
function soundDrives(files: Files): void {
  judged++;
  for (const [name, bytes] of files) {
    writeFileSync(join(folder, name), bytes);
    requireNoCorruption(['-f', 'qcow2', join(folder, name)]);
  }
}

function requireNoCorruption(args: readonly string[]): void {
  const { status, stderr } = run('qemu-img', ['check', ...args]);
  if (status !== 0 && status !== 3) throw new Error(`qemu-img check ended with ${status}: ${stderr.slice(0, 400)}`);
}

describe('after a power cut', () => {
  it.each(workloads)('$name', { timeout: 3_600_000 }, async (workload) => {
    // Seeds until there were enough states; each seed may use them all.
    let states = 0;
    const wanted = Math.ceil(perWorkload * (workload.share ?? 1));
    for (let seed = 1; states < wanted; seed++) {
      const opinion = { qcow2: secondOpinion, vpc: opensAsVpc, vhdx: replayed }[workload.format];
      const sample = opinion && !workload.backing ? { sample: opinion } : {};
      states += await runWorkload(workload, { seed, limit: wanted - states, subsets: 4, ...sample });
    }
    seen += states;
    expect(states).toBe(wanted);
  });
});

describe('after a power cut', () => {
  it.each(machineWorkloads)('$name', { timeout: 3_600_000 }, async (workload) => {
    let states = 0;
    const perStep = Math.ceil(perWorkload / STEPS.length);
    for (let seed = 1; states < perWorkload; seed++)
      states += await runMachineWorkload(workload, { seed, limit: Math.min(perStep, perWorkload - states), subsets: 4, sample: soundDrives });
    seen += states;
    expect(states).toBe(perWorkload);
  });
});

/**
 * Cache modes, with the part of a log that each begins at. A mode that bypasses caches differs from its neighbour by that alone, and here the
 * cache is on in any case: each workload has one of the two.
 */
const MODES = [
  [
    ['writeback', 0],
    ['directsync', 0.5],
  ],
  [
    ['none', 0.5],
    ['writethrough', 0],
  ],
] as const;

describe('after a power cut, with a block cache', () => {
  it.each(workloads.map((workload, index) => ({ name: workload.name, workload, modes: MODES[index % 2] })))(
    '$name',
    { timeout: 3_600_000 },
    async ({ workload, modes = [] }) => {
      const wanted = Math.ceil((perWorkload * (workload.share ?? 1)) / 8);
      for (const [cache, from] of modes) {
        let states = 0;
        for (let seed = 1; states < wanted; seed++) states += await runWorkload(workload, { seed, limit: wanted - states, subsets: 4, cache, from });
        seen += states;
      }
      seen += await runWorkload(workload, { seed: 1, limit: 1, subsets: 0, cache: 'unsafe' });
    },
  );

  it('a cache that forgets order at a barrier is found', async () => {
    const bare = vi.spyOn(CacheStorage.prototype, 'barrier').mockImplementation(function* (this: CacheStorage) {
      yield* this.next.barrier();
    });
    const find = workloads.find(({ name }) => name.startsWith('qcow2 writes')) as (typeof workloads)[number];
    await expect(runWorkload(find, { seed: 1, limit: 1000, subsets: 4, cache: 'writeback' })).rejects.toThrow(/after a cut/);
    bare.mockRestore();
  });
});

const { add } = FreedClusters.prototype;
const { add: addUnit } = FreedUnits.prototype;

describe('a planted bug is found within 1,000 states', () => {
  const find = (name: string) => workloads.find((workload) => workload.name.startsWith(name)) as (typeof workloads)[number];
  const options = { seed: 1, limit: 1000, subsets: 4 };

  it('nothing is ordered: tables before counts', async () => {
    await expect(runWorkload(find('qcow2 writes'), { ...options, ignoreBarriers: true })).rejects.toThrow(/after a cut/);
  });

  it('nothing is ordered: pages of a table before the log that has them', async () => {
    await expect(runWorkload(find('vhdx writes'), { ...options, ignoreBarriers: true })).rejects.toThrow(/after a cut/);
  });

  it.each(['vdi of small blocks discards and grows {"over":false,"full":true}', 'vdi committed into its parent', 'parallels discards and grows'])(
    'nothing is ordered: %s',
    async (name) => {
      await expect(runWorkload(find(name), { ...options, ignoreBarriers: true })).rejects.toThrow(/after a cut/);
    },
  );

  it.each(['vdi of small blocks discards and grows {"over":true', 'parallels discards and grows'])(
    'units that are given up are used again at once: %s',
    async (name) => {
      const early = vi.spyOn(FreedUnits.prototype, 'add').mockImplementation(function (this: FreedUnits, unit) {
        addUnit.call(this, unit);
        this.seal();
        this.unseal(true);
      });
      await expect(runWorkload(find(name), { ...options, limit: 3000 })).rejects.toThrow(/after a cut/);
      early.mockRestore();
    },
  );

  it('nothing is ordered: tables of a qcow image before their clusters', async () => {
    await expect(runWorkload(find('qcow writes'), { ...options, ignoreBarriers: true })).rejects.toThrow(/after a cut/);
  });

  it('nothing is ordered: entries before their grains', async () => {
    await expect(runWorkload(find('vmdk in small grains {"tables":true'), { ...options, ignoreBarriers: true })).rejects.toThrow(/after a cut/);
  });

  it('grains that are given up are used again while tables name them', async () => {
    const { take } = FileEnd.prototype;
    let end: FileEnd | undefined;
    const seen = vi.spyOn(FileEnd.prototype, 'take').mockImplementation(function (this: FileEnd) {
      end = this;
      return take.call(this);
    });
    const early = vi.spyOn(FreedClusters.prototype, 'add').mockImplementation((first) => end?.release(first < 0 ? [] : [first]));
    await expect(runWorkload(find('vmdk in small grains {"tables":true'), options)).rejects.toThrow(/after a cut/);
    early.mockRestore();
    seen.mockRestore();
  });

  it('a larger VMDK is shown before its tables are there', async () => {
    await expect(runWorkload(find('vmdk grows {"longText"'), { ...options, ignoreBarriers: true })).rejects.toThrow(/after a cut/);
  });

  it('nothing is ordered: subclusters before their bytes', async () => {
    await expect(runWorkload(find('qcow2 subclusters over'), { ...options, ignoreBarriers: true })).rejects.toThrow(/after a cut.*sector/);
  });

  it('freed clusters are used again at once', async () => {
    const early = vi.spyOn(Refcounts.prototype, 'free').mockImplementation(function (this: Refcounts, offset, length) {
      runSync(this.release(offset, length));
    });
    const found = runWorkload(find('qcow2 zeroes and discards'), options);
    await expect(found).rejects.toThrow(/after a cut/);
    early.mockRestore();
  });

  it('places of blocks that were given up are used again at once', async () => {
    const early = vi.spyOn(Space.prototype, 'free').mockImplementation(function (this: Space, offset) {
      this.giveBack({ offset, untouched: false });
    });
    await expect(runWorkload(find('vpc zeroes'), { ...options, limit: 200 })).rejects.toThrow(/after a cut/);
    early.mockRestore();
  });

  it('a flush writes what changed while it waited', async () => {
    const { write } = TableCache.prototype;
    const late = vi.spyOn(TableCache.prototype, 'write').mockImplementation(function* (this: TableCache, which) {
      this.seal();
      yield* write.call(this, which);
    });
    await expect(runWorkload(find('qcow2 requests at the same time over'), { ...options, limit: 20_000 })).rejects.toThrow(/after a cut/);
    late.mockRestore();
  });

  it('what is freed while a flush waits is used again before the next', async () => {
    const early = vi.spyOn(FreedClusters.prototype, 'add').mockImplementation(function (this: FreedClusters, first, count) {
      add.call(this, first, count);
      this.seal();
    });
    await expect(runWorkload(find('qcow2 requests at the same time over'), { ...options, limit: 20_000 })).rejects.toThrow(/after a cut/);
    early.mockRestore();
  });

  it('a header is in force before the name it refers to', async () => {
    const early = vi.spyOn(Metadata.prototype, 'putFirstSector').mockImplementation(function* (this: Metadata, bytes, header) {
      yield* this.storage.write(0, bytes);
      this.header = header;
    });
    const found = runWorkload(find('qcow2 another name for the backing file {"cluster_size":65536}'), options);
    await expect(found).rejects.toThrow(/after a cut/);
    early.mockRestore();
  });

  it('a bitmap directory is in force before what it names is written', async () => {
    const early = vi.spyOn(Metadata.prototype, 'putFirstSector').mockImplementation(function* (this: Metadata, bytes, header) {
      yield* this.storage.write(0, bytes);
      this.header = header;
    });
    await expect(runWorkload(find('qcow2 bitmaps {"cluster_size":8192}'), options)).rejects.toThrow(/after a cut/);
    early.mockRestore();
  });

  it('compressed bytes go to clusters that are being given back', async () => {
    const early = vi.spyOn(Refcounts.prototype, 'free').mockImplementation(function (this: Refcounts, offset, length) {
      runSync(this.release(offset, length));
    });
    await expect(runWorkload(find('qcow2 compressed clusters'), options)).rejects.toThrow(/after a cut/);
    early.mockRestore();
  });

  it('a commit empties the disk before its backing file is durable', async () => {
    const lost = vi.spyOn(RecorderStorage.prototype, 'flush').mockImplementation(function* (this: RecorderStorage) {
      yield* this.next.flush();
      this.log.push({ file: this.name, kind: this.name === 'base' ? 'barrier' : 'flush' });
    });
    await expect(runWorkload(find('qcow2 commit'), options)).rejects.toThrow(/after a cut/);
    lost.mockRestore();
  });

  it('a stream whose backing file goes before what came up is durable', async () => {
    await expect(runWorkload(find('qcow2 stream'), { ...options, ignoreBarriers: true })).rejects.toThrow(/after a cut/);
  });

  it('a commit that hears nothing of what the guest writes meanwhile', async () => {
    // The first commits of other seeds are called off late, and a whole one comes after the 1,000.
    const deaf = vi.spyOn(NodeJobs.prototype, 'changed').mockImplementation(() => undefined);
    await expect(runWorkload(find('qcow2 commit into a longer backing file under'), { ...options, seed: 3 })).rejects.toThrow(/after a cut/);
    deaf.mockRestore();
  });

  it('lazy counts without the dirty bit', async () => {
    const unmarked = vi.spyOn(Metadata.prototype, 'setFeatures').mockImplementation(function* (this: Metadata, change) {
      this.header = { ...this.header, ...change };
    });
    await expect(runWorkload(find('qcow2 lazy'), options)).rejects.toThrow(/after a cut/);
    unmarked.mockRestore();
  });

  it('tables point at data in another file that only a barrier has followed', async () => {
    const early = vi.spyOn(RecorderStorage.prototype, 'flush').mockImplementation(function* (this: RecorderStorage) {
      yield* this.next.flush();
      this.log.push({ file: this.name, kind: this.name === 'data' ? 'barrier' : 'flush' });
    });
    await expect(runWorkload(find('qcow2 external data file'), options)).rejects.toThrow(/after a cut/);
    early.mockRestore();
  });

  it('an emptied image gives up its data file before its tables', async () => {
    const early = vi.spyOn(Metadata.prototype, 'makeRoom').mockImplementation(function* (this: Metadata) {
      if (this.external) yield* this.data.discard(0, this.header.size);
    });
    await expect(runWorkload(find('qcow2 commit out of'), options)).rejects.toThrow(/after a cut/);
    early.mockRestore();
  });

  it("a set of snapshots takes another's name at once", async () => {
    const { create } = Snapshots.prototype;
    const early = vi.spyOn(Snapshots.prototype, 'create').mockImplementation(function (this: Snapshots, given) {
      return create.call(this, { ...given, name: given.name.replace('.tabdisk-new', '') });
    });
    const [workload] = machineWorkloads as [(typeof machineWorkloads)[number]];
    await expect(runMachineWorkload(workload, { ...options, seed: 2 })).rejects.toThrow(/by name, x is a mixture/);
    early.mockRestore();
  });

  it('and without the bugs the same states are right', async () => {
    expect(await runWorkload(find('qcow2 writes'), options)).toBeGreaterThan(500);
    expect(await runWorkload(find('qcow2 zeroes and discards'), options)).toBeGreaterThan(500);
    expect(await runWorkload(find('qcow2 compressed clusters'), options)).toBeGreaterThan(500);
  });
});
