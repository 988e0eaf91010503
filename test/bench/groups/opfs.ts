/**
 * The engine on OPFS, synchronous in a dedicated worker, against the bare access handle: of the same file where bytes are only read or written
 * over, of a file of its own where the image grows. Tables are warm and no cache is on unless a row says so. Write-back is the block cache.
 */
import { CacheStorage, createDisk, type Disk, openDisk } from '../../../src/index.ts';
import { type Bench, type Group, generator, interleave, noise, type Row, shuffled, timeCalls } from '../harness.ts';
import { type BareHandle, bareHandle, KIB, MIB, opfsOver } from '../opfs-files.ts';

const DISK_SIZE = 256 * MIB;
/** Of the disks that grow, and the file that grows beside them. */
const GROWING_SIZE = 4096 * MIB;
const WRITES = 1000;
/** What is flushed only at its end: 64 MiB. */
const LONG_WRITES = 16_384;
/** Rounds of a few milliseconds are many, so that most of them meet nobody else on the processor. */
const SHORT = 10;

const READ = { anchor: 'bare handle, same file' };
const WRITE = { anchor: 'the same on the bare handle' };

/** The id of a row without a name of its own. */
function idOf(verb: 'read' | 'write', size: '512 B' | '4 KiB' | '64 KiB' | '1 MiB', sequential: boolean): string {
  return `opfs-${verb}-${size.replace(' ', '').toLowerCase()}-${sequential ? 'sequential' : 'random'}`;
}

const rows: readonly Row[] = [
  { id: 'opfs-read-4k', what: '4 KiB random read, qcow2 on OPFS, sync in the worker, tables warm, cache off', ...READ, target: 1.25 },
  { id: 'opfs-read-4k-cached', what: '4 KiB random read, all in cache', ...READ, target: 0.4 },
  { id: 'opfs-read-1m', what: '1 MiB sequential read, cache off', ...READ, target: 1.05 },
  { id: 'opfs-read-512', what: '512 B random read, cache off', ...READ },
  { id: 'opfs-read-64k', what: '64 KiB random read, cache off', ...READ },
  {
    id: 'opfs-write-4k-new-writeback',
    what: '4 KiB sequential writes of 64 MiB, write-back, flush at the end, clusters new',
    anchor: 'bare handle, 4 KiB writes + flush',
    target: 0.15,
  },
  {
    id: 'opfs-write-merged-bare',
    what: 'the same 64 MiB by the bare handle in writes of 1 MiB, flush at the end: the least that merging comes down to',
    anchor: 'bare handle, 4 KiB writes + flush',
  },
  {
    id: 'opfs-write-4k-writeback',
    what: '4 KiB random writes over allocated clusters, write-back, flush every 1,000',
    ...WRITE,
    target: 0.6,
  },
  { id: 'opfs-write-4k-allocating', what: '4 KiB random writes, all allocating, flush every 1,000', ...WRITE, target: 1.2 },
  { id: 'opfs-write-4k-new', what: '4 KiB sequential writes of 64 MiB, cache off, flush at the end, clusters new', ...WRITE },
  { id: 'opfs-write-4k', what: '4 KiB random writes over allocated clusters, cache off, flush every 1,000', ...WRITE },
  { id: 'opfs-write-1m', what: '1 MiB sequential writes over allocated clusters, cache off', ...WRITE },
  ...(['512 B', '4 KiB', '64 KiB'] as const).map((size) => ({ id: idOf('read', size, true), what: `${size} sequential read, cache off`, ...READ })),
  { id: idOf('read', '1 MiB', false), what: '1 MiB random read, cache off', ...READ },
  ...(['512 B', '64 KiB', '1 MiB'] as const).map((size) => ({
    id: idOf('write', size, false),
    what: `${size} random writes over allocated clusters, cache off`,
    ...WRITE,
  })),
  ...(['512 B', '4 KiB', '64 KiB'] as const).map((size) => ({
    id: idOf('write', size, true),
    what: `${size} sequential writes over allocated clusters, cache off`,
    ...WRITE,
  })),
];

export const opfs: Group = { name: 'engine on OPFS', where: 'worker', rows, measure };

async function measure(bench: Bench): Promise<void> {
  await measureAllocated(bench);
  await measureGrowing(bench);
  await measureMerged(bench);
}

/** A disk all of whose clusters are allocated, one behind the other. */
interface AllocatedDisk {
  readonly disk: Disk;
  readonly handle: BareHandle;
  /** Where guest byte 0 is in the file. */
  readonly hostStart: number;
}

async function allocatedDisk(): Promise<AllocatedDisk> {
  const handle = await bareHandle('bench-allocated');
  const disk = await createDisk(await opfsOver('bench-allocated', handle), { format: 'qcow2', size: DISK_SIZE });
  const block = noise(MIB);
  for (let at = 0; at < DISK_SIZE; at += MIB) disk.writeSync(at, block);
  disk.flushSync();
  for await (const run of disk.map()) {
    if (run.length !== DISK_SIZE || run.offset === undefined) throw new Error('the disk does not lie in one run');
    return { disk, handle, hostStart: run.offset };
  }
  throw new Error('the disk has no runs');
}

async function measureAllocated(bench: Bench): Promise<void> {
  const { disk, handle, hostStart } = await allocatedDisk();
  const reads: [id: string, size: number, sequential: boolean, calls: number][] = [
    ['opfs-read-4k', 4 * KIB, false, 1000],
    ['opfs-read-1m', MIB, true, 32],
    ['opfs-read-512', 512, false, 1000],
    ['opfs-read-64k', 64 * KIB, false, 300],
    [idOf('read', '512 B', true), 512, true, 2000],
    [idOf('read', '4 KiB', true), 4 * KIB, true, 2000],
    [idOf('read', '64 KiB', true), 64 * KIB, true, 300],
    [idOf('read', '1 MiB', false), MIB, false, 64],
  ];
  for (const [id, size, sequential, calls] of reads) {
    if (!bench.wants(id)) continue;
    bench.progress(id);
    const places = placesOf(size, sequential);
    const into = new Uint8Array(size);
    bench.record(
      id,
      await interleave(bench.rounds * SHORT, {
        anchor: (round) => timeCalls(calls, (index) => void handle.read(into, { at: hostStart + places(round * calls + index) })),
        ours: (round) => timeCalls(calls, (index) => void disk.readSync(places(round * calls + index), into)),
      }),
    );
  }
  await measureCachedReads(bench, handle, hostStart);
  const cached = await openDisk(new CacheStorage(await opfsOver('bench-allocated', handle)), { format: 'qcow2' });
  const writes: [id: string, size: number, sequential: boolean, calls: number, disk: Disk][] = [
    ['opfs-write-4k', 4 * KIB, false, WRITES, disk],
    ['opfs-write-1m', MIB, true, 64, disk],
    [idOf('write', '512 B', false), 512, false, WRITES, disk],
    [idOf('write', '512 B', true), 512, true, WRITES, disk],
    [idOf('write', '4 KiB', true), 4 * KIB, true, WRITES, disk],
    [idOf('write', '64 KiB', false), 64 * KIB, false, 500, disk],
    [idOf('write', '64 KiB', true), 64 * KIB, true, 500, disk],
    [idOf('write', '1 MiB', false), MIB, false, 64, disk],
    // Last: both disks are over one handle.
    ['opfs-write-4k-writeback', 4 * KIB, false, WRITES, cached],
  ];
  for (const [id, size, sequential, calls, disk] of writes) {
    if (!bench.wants(id)) continue;
    bench.progress(id);
    const places = placesOf(size, sequential);
    const bytes = noise(size);
    bench.record(
      id,
      await interleave(bench.rounds, {
        anchor: (round) =>
          timeCalls(calls, (index) => {
            handle.write(bytes, { at: hostStart + places(round * calls + index) });
            if (index === calls - 1) handle.flush();
          }),
        ours: (round) =>
          timeCalls(calls, (index) => {
            disk.writeSync(places(round * calls + index), bytes);
            if (index === calls - 1) disk.flushSync();
          }),
      }),
    );
  }
  // Both are over the same handle, whose last word is the cache's.
  cached.flushSync();
  await disk.close();
}

/** Reads of what fits in the cache and was read before. */
async function measureCachedReads(bench: Bench, handle: BareHandle, hostStart: number): Promise<void> {
  const id = 'opfs-read-4k-cached';
  if (!bench.wants(id)) return;
  bench.progress(id);
  const disk = await openDisk(new CacheStorage(await opfsOver('bench-allocated', handle)), { format: 'qcow2', readOnly: true });
  const calls = 10_000;
  const order = shuffled((32 * MIB) / (4 * KIB));
  const places = (index: number) => (order[index % order.length] as number) * 4 * KIB;
  const into = new Uint8Array(4 * KIB);
  for (let index = 0; index < order.length; index++) disk.readSync(places(index), into);
  bench.record(
    id,
    await interleave(bench.rounds, {
      anchor: () => timeCalls(calls, (index) => void handle.read(into, { at: hostStart + places(index) })),
      ours: () => timeCalls(calls, (index) => void disk.readSync(places(index), into)),
    }),
  );
}

/** Offsets of one size, in order or all over the disk. */
function placesOf(size: number, sequential: boolean): (index: number) => number {
  const count = DISK_SIZE / size;
  const order = sequential ? undefined : shuffled(count);
  return (index) => (order ? (order[index % count] as number) : index % count) * size;
}

/** What the flush leaves to be won by merging writes. */
async function measureMerged(bench: Bench): Promise<void> {
  const id = 'opfs-write-merged-bare';
  if (!bench.wants(id)) return;
  bench.progress(id);
  const total = LONG_WRITES * 4 * KIB;
  const [small, large] = [noise(4 * KIB), noise(MIB)];
  const side = async (name: string, bytes: Uint8Array<ArrayBuffer>) => {
    const handle = await bareHandle(name);
    const calls = total / bytes.length;
    // Microseconds for 4 KiB, however large the calls are.
    const round = (round: number) =>
      (timeCalls(calls, (index) => {
        handle.write(bytes, { at: round * total + index * bytes.length });
        if (index === calls - 1) handle.flush();
      }) *
        calls) /
      LONG_WRITES;
    return { handle, round };
  };
  const anchor = await side('bench-growing-bare', small);
  const ours = await side('bench-growing', large);
  bench.record(id, await interleave(bench.rounds, { anchor: anchor.round, ours: ours.round }));
  anchor.handle.close();
  ours.handle.close();
}

/** Every write meets a cluster that nobody wrote to; a round ends with its flush. */
async function measureGrowing(bench: Bench): Promise<void> {
  const bytes = noise(4 * KIB);
  const clusters = shuffled(GROWING_SIZE / (64 * KIB));
  const random = generator(7);
  const within = clusters.map(() => (random() % 16) * 4 * KIB);
  const kinds: [id: string, writes: number, place: (index: number) => number, cached?: true][] = [
    ['opfs-write-4k-allocating', WRITES, (index) => (clusters[index] as number) * 64 * KIB + (within[index] as number)],
    ['opfs-write-4k-new', LONG_WRITES, (index) => index * 4 * KIB],
    ['opfs-write-4k-new-writeback', LONG_WRITES, (index) => index * 4 * KIB, true],
  ];
  for (const [id, writes, place, cached] of kinds) {
    if (!bench.wants(id)) continue;
    bench.progress(id);
    const bare = await bareHandle('bench-growing-bare');
    const file = await opfsOver('bench-growing', await bareHandle('bench-growing'));
    const disk = await createDisk(cached ? new CacheStorage(file) : file, { format: 'qcow2', size: GROWING_SIZE });
    bench.record(
      id,
      await interleave(bench.rounds, {
        anchor: (round) =>
          timeCalls(writes, (index) => {
            bare.write(bytes, { at: place(round * writes + index) });
            if (index === writes - 1) bare.flush();
          }),
        ours: (round) =>
          timeCalls(writes, (index) => {
            disk.writeSync(place(round * writes + index), bytes);
            if (index === writes - 1) disk.flushSync();
          }),
      }),
    );
    bare.close();
    await disk.close();
  }
}
