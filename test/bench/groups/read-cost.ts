/**
 * What size, snapshots and chains cost a reader: the engine against itself, on OPFS in a worker. Each pair of images holds the same bytes in
 * clusters of 64 KiB; random reads of 4 KiB go to what is allocated, tables warm.
 */
import type { Io } from '../../../src/base/io.ts';
import { createDisk, type Disk, memoryStorage, openDisk, type Storage } from '../../../src/index.ts';
import { FilterStorage } from '../../../src/layers/filter.ts';
import { type Bench, type Group, interleave, noise, type Row, shuffled, timeCalls } from '../harness.ts';
import { bareHandle, KIB, MIB, opfsOver, removeFile } from '../opfs-files.ts';

const CLUSTER = 64 * KIB;
const GIB = 1024 * MIB;
const CLUSTERS = 4096;
const CALLS = 1000;
/** As many rounds as this for each that was asked for. */
const SHORT = 10;
const SNAPSHOTS = 1000;
const CHAIN = 16;

const rows: readonly Row[] = [
  { id: 'cost-1t', what: 'read cost: image of 1 TiB, data all over it', anchor: 'the same bytes in an image of 1 GiB', target: 1.2 },
  { id: 'cost-snapshots', what: 'read cost: 1,000 snapshots', anchor: 'no snapshots', target: 1.05 },
  { id: 'cost-chain', what: 'read cost: chain of 16, data in the base', anchor: 'the base alone', target: 4 },
];

export const readCost: Group = { name: 'read cost', where: 'worker', rows, measure };

async function measure(bench: Bench): Promise<void> {
  const close = (disk: Disk) => disk.close();
  if (bench.wants('cost-1t')) {
    const small = await filled('bench-small', GIB);
    const large = await filled('bench-large', 1024 * GIB);
    await compareReads(bench, 'cost-1t', { anchor: small, ours: large }, { anchor: GIB, ours: 1024 * GIB });
    await Promise.all([small, large].map(close));
  }
  if (bench.wants('cost-snapshots')) {
    const plain = await filled('bench-small', GIB);
    const many = await withSnapshots();
    await compareReads(bench, 'cost-snapshots', { anchor: plain, ours: many }, { anchor: GIB, ours: GIB });
    await Promise.all([plain, many].map(close));
  }
  if (bench.wants('cost-chain')) {
    const base = await filled('bench-small', GIB);
    const top = await chain(await filled('bench-base', GIB));
    await compareReads(bench, 'cost-chain', { anchor: base, ours: top }, { anchor: GIB, ours: GIB });
    await Promise.all([base, top].map(close));
  }
  for (const name of ['bench-small', 'bench-large', 'bench-base', 'bench-snapshots']) await removeFile(name);
}

/** A disk with as many clusters as every other, at even distances. */
async function filled(name: string, size: number): Promise<Disk> {
  const disk = await createDisk(await opfsOver(name, await bareHandle(name)), { format: 'qcow2', size });
  fill(disk, size);
  disk.flushSync();
  return disk;
}

function fill(disk: Disk, size: number): void {
  const bytes = noise(CLUSTER);
  for (let index = 0; index < CLUSTERS; index++) disk.writeSync(index * (size / CLUSTERS), bytes);
}

/** Made in memory, where a snapshot's flushes cost nothing. */
async function withSnapshots(): Promise<Disk> {
  const memory = memoryStorage();
  const disk = await createDisk(memory, { format: 'qcow2', size: GIB });
  fill(disk, GIB);
  for (let index = 0; index < SNAPSHOTS; index++) await disk.snapshots.create({ name: `snapshot ${index}` });
  const storage = await opfsOver('bench-snapshots', await bareHandle('bench-snapshots'));
  const made = await openDisk(memory, { format: 'raw', readOnly: true });
  const into = await openDisk(storage, { format: 'raw' });
  await into.resize(made.size);
  for (let at = 0; at < made.size; at += MIB) into.writeSync(at, made.readSync(at, Math.min(MIB, made.size - at)));
  await into.flush();
  return openDisk(storage, { format: 'qcow2' });
}

/** Each overlay that is made opens those below and closes them again; the worker's end closes this one. */
class KeptOpen extends FilterStorage {
  override *close(): Io<void> {}
}

/** Empty overlays over a base. */
async function chain(base: Disk): Promise<Disk> {
  await base.close();
  let below: Storage = new KeptOpen(await opfsOver('bench-base', await bareHandle('bench-base', { keep: true })));
  let top: Disk | undefined;
  const storages = new Map<string, Storage>([['0', below]]);
  for (let level = 1; level < CHAIN; level++) {
    below = memoryStorage();
    const resolve = ({ name }: { name: string }) => storages.get(name) as Storage;
    const options = { format: 'qcow2', size: GIB, backing: { name: String(level - 1), format: 'qcow2' }, resolve };
    const made = await createDisk(below, options);
    storages.set(String(level), below);
    top = made;
  }
  return top as Disk;
}

async function compareReads(bench: Bench, id: string, disks: { anchor: Disk; ours: Disk }, sizes: { anchor: number; ours: number }): Promise<void> {
  bench.progress(id);
  const blocks = CLUSTER / (4 * KIB);
  const order = shuffled(CLUSTERS * blocks);
  const into = new Uint8Array(4 * KIB);
  const side = (disk: Disk, size: number) => (round: number) =>
    timeCalls(CALLS, (index) => {
      const block = order[(round * CALLS + index) % order.length] as number;
      disk.readSync(Math.floor(block / blocks) * (size / CLUSTERS) + (block % blocks) * 4 * KIB, into);
    });
  // Every table once, so that they are warm as far as they are kept.
  for (const [disk, size] of [[disks.anchor, sizes.anchor] as const, [disks.ours, sizes.ours] as const])
    for (let index = 0; index < CLUSTERS; index++) disk.readSync(index * (size / CLUSTERS), into);
  bench.record(id, await interleave(bench.rounds * SHORT, { anchor: side(disks.anchor, sizes.anchor), ours: side(disks.ours, sizes.ours) }));
}
