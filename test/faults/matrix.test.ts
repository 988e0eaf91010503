/**
 * The fault matrix: every storage call of a workload fails once, in turn, in every way. The request that met it gets the error; then
 * either the same request succeeds, or (after a failed flush or table switch) the disk refuses changes until it is opened again. In both
 * cases nothing that was flushed is lost, no byte is wrong and check finds no corruption.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { runAsync } from '../../src/base/io.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { type Fault, type FaultKind, FaultStorage } from '../layers/faults.ts';
import { firstDifference } from '../model/naive.ts';
import { Random } from '../random.ts';

type Step = { readonly name: string; run(disk: Disk): Promise<unknown>; model(contents: Uint8Array[]): void; readonly durable?: boolean };

interface Workload {
  readonly name: string;
  readonly format: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly size: number;
  /** Strike only every so many calls, where there are very many alike. */
  readonly stride?: number;
  steps(random: Random, size: number): Step[];
}

/** `contents[0]` is the disk, the rest are snapshots by order of creation. */
const write = (offset: number, bytes: Uint8Array): Step => ({
  name: `write ${offset} ${bytes.length}`,
  run: (disk) => disk.write(offset, bytes),
  model: ([disk]) => disk?.set(bytes, offset),
});
const compressed = (offset: number, bytes: Uint8Array): Step => ({
  name: `write compressed ${offset} ${bytes.length}`,
  run: (disk) => runAsync(disk.node.writeCompressed(offset, bytes)),
  model: ([disk]) => disk?.set(bytes, offset),
});
const zero = (offset: number, length: number, unmap: boolean): Step => ({
  name: `zero ${offset} ${length}`,
  run: (disk) => disk.zero(offset, length, { unmap }),
  model: ([disk]) => disk?.fill(0, offset, offset + length),
});
const discard = (offset: number, length: number): Step => ({
  name: `discard ${offset} ${length}`,
  run: (disk) => disk.discard(offset, length),
  model: ([disk]) => disk?.fill(0, offset, offset + length),
});
const flush: Step = { name: 'flush', run: (disk) => disk.flush(), model: () => undefined, durable: true };
const create = (name: string): Step => ({
  name: `snapshot ${name}`,
  run: (disk) => disk.snapshots.create({ name }),
  model: (contents) => contents.push((contents[0] as Uint8Array).slice()),
  durable: true,
});
const apply = (name: string, index: number): Step => ({
  name: `apply ${name}`,
  run: (disk) => disk.snapshots.apply(name),
  model: (contents) => {
    contents[0] = (contents[index] as Uint8Array).slice();
  },
  durable: true,
});
const remove = (name: string, index: number): Step => ({
  name: `delete ${name}`,
  run: (disk) => disk.snapshots.delete(name),
  model: (contents) => contents.splice(index, 1),
  durable: true,
});
const resize = (size: number): Step => ({
  name: `resize ${size}`,
  run: (disk) => disk.resize(size),
  model: (contents) => {
    const bytes = new Uint8Array(size);
    bytes.set((contents[0] as Uint8Array).subarray(0, size));
    contents[0] = bytes;
  },
  durable: true,
});

const scattered = (random: Random, size: number, count: number, most: number): Step[] =>
  Array.from({ length: count }, () => {
    const offset = random.between(0, size - 1);
    return write(offset, random.bytes(Math.min(size - offset, random.between(1, most))));
  });

const withSnapshots = (random: Random, size: number): Step[] => [
  ...scattered(random, size, 4, 9000),
  create('a'),
  ...scattered(random, size, 3, 9000),
  create('b'),
  ...scattered(random, size, 2, 9000),
  apply('a', 1),
  ...scattered(random, size, 2, 9000),
  remove('a', 1),
  flush,
];

const mixed = (random: Random, size: number): Step[] => [
  ...scattered(random, size, 5, 9000),
  flush,
  zero(8192, 20_000, false),
  discard(32_768, 16_384),
  ...scattered(random, size, 3, 9000),
  zero(0, 65_536, true),
  flush,
  ...scattered(random, size, 3, 300),
  flush,
];

const growing = (random: Random, size: number): Step[] => [
  ...scattered(random, size, 4, 9000),
  resize(size * 3),
  ...scattered(random, size * 3, 3, 9000),
  resize(size / 2),
  flush,
];

/** Clusters of 4 KiB of which about half get smaller. */
const packed = (random: Random, size: number): Step[] => {
  const clusters = (count: number): Step[] =>
    Array.from({ length: count }, () => {
      const bytes = random.bytes(random.between(1, 3) * 4096);
      for (let at = 0; at + 4096 <= bytes.length; at += 4096) if (random.chance(0.7)) bytes.fill(at % 251, at + random.between(20, 3000), at + 4096);
      return compressed(random.between(0, size / 4096 - 3) * 4096, bytes);
    });
  return [
    ...clusters(6),
    flush,
    ...scattered(random, size, 2, 9000),
    ...clusters(3),
    create('a'),
    ...clusters(4),
    discard(8192, 32_768),
    ...clusters(3),
    apply('a', 1),
    ...clusters(2),
    flush,
  ];
};

const sequential = (random: Random, size: number): Step[] => [
  ...Array.from({ length: 8 }, (_, i) => write((i * size) / 8, random.bytes(size / 8))),
  flush,
];

const workloads: readonly Workload[] = [
  {
    name: 'raw',
    format: 'raw',
    options: {},
    size: 1 << 18,
    steps: (random, size) => [...scattered(random, size, 6, 9000), flush, zero(100, 5000, true), flush],
  },
  ...[{ cluster_size: 512 }, { cluster_size: 4096 }, { cluster_size: 4096, refcount_bits: 1 }, { cluster_size: 16384, extended_l2: 'on' }].map(
    (options) => ({
      name: 'mixed',
      format: 'qcow2',
      options,
      size: 1 << 18,
      steps: mixed,
    }),
  ),
  ...[{ cluster_size: 512 }, { cluster_size: 4096 }, { cluster_size: 512, refcount_bits: 64 }].map((options) => ({
    name: 'snapshots',
    format: 'qcow2',
    options,
    size: 1 << 17,
    steps: withSnapshots,
  })),
  ...[{ cluster_size: 512 }, { cluster_size: 4096 }].map((options) => ({ name: 'resize', format: 'qcow2', options, size: 1 << 17, steps: growing })),
  ...[{ cluster_size: 4096 }, { cluster_size: 4096, refcount_bits: 8 }].map((options) => ({
    name: 'compressed',
    format: 'qcow2',
    options,
    size: 1 << 17,
    steps: packed,
  })),
  // 64-bit counts in 512-byte clusters: new refcount blocks all the time, and a larger refcount table.
  { name: 'refcount growth', format: 'qcow2', options: { cluster_size: 512, refcount_bits: 64 }, size: 1 << 21, stride: 11, steps: sequential },
  { name: 'sequential', format: 'qcow2', options: { cluster_size: 65536, compat: '1.1' }, size: 1 << 20, steps: sequential },
];

let cases = 0;
afterAll(() => process.stdout.write(`fault matrix: ${cases} cases of ${workloads.length} workloads\n`));

/** A workload as all its cases begin it: the image, which is new, and the steps. */
interface Start {
  readonly image: Uint8Array;
  readonly steps: readonly Step[];
}

async function begin({ format, size, options, steps }: Workload): Promise<Start> {
  const file = memoryStorage();
  await (await createDisk(file, { format, size, ...options })).flush();
  return { image: file.bytes(), steps: steps(new Random(3), size) };
}

/** Runs a workload with one fault; returns false when the fault came too late to strike. */
async function strike(workload: Workload, { image, steps }: Start, fault: Fault): Promise<boolean> {
  const file = memoryStorage({ bytes: image });
  const faulty = new FaultStorage(file);
  let disk = await openDisk(faulty, { format: workload.format });
  faulty.calls.changes = 0;
  faulty.calls.reads = 0;
  faulty.fault = fault;
  const contents = [new Uint8Array(workload.size)];
  // What is durable, and what may be there besides since then.
  let since: Step[] = [];
  for (const step of steps) {
    const failure = await step.run(disk).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (failure !== undefined) {
      expect(failure, step.name).toBeInstanceOf(DiskError);
      expect(faulty.struck).toBe(true);
      const again = await step.run(disk).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (again !== undefined) {
        // Declared failed: opened again, everything up to the last flush is there; the steps since are repeated.
        expect(again).toMatchObject({ kind: 'io', message: expect.stringContaining('open the image again') });
        await disk.close().catch(() => undefined);
        disk = await openDisk(faulty, { format: workload.format });
        await requireNoCorruption(disk, `${step.name} failed, opened again`);
        if (await alreadyDone(disk, step, contents)) {
          step.model(contents);
          since = [];
          continue;
        }
        for (const earlier of since) await earlier.run(disk);
        await step.run(disk);
      }
    }
    step.model(contents);
    since = step.durable ? [] : [...since, step];
  }
  cases++;
  faulty.fault = undefined;
  await disk.flush();
  await requireContents(disk, contents);
  await disk.close();
  const again = await openDisk(file, { format: workload.format });
  await requireContents(again, contents);
  if (workload.format !== 'raw') await requireNoCorruption(again, 'at the end');
  return faulty.struck;
}

/** A change that is all or nothing may have happened although it was reported as failed. */
async function alreadyDone(disk: Disk, step: Step, contents: readonly Uint8Array[]): Promise<boolean> {
  if (!step.durable || step === flush) return false;
  const after = contents.map((bytes) => bytes.slice());
  step.model(after);
  return requireContents(disk, after).then(
    () => true,
    () => false,
  );
}

async function requireContents(disk: Disk, [contents, ...snapshots]: readonly Uint8Array[]): Promise<void> {
  requireSame('the disk', await disk.read(0, disk.size), contents as Uint8Array);
  const list = await disk.snapshots.list();
  if (list.length !== snapshots.length) throw new Error(`there are ${list.length} snapshots, should be ${snapshots.length}`);
  for (const [index, { id }] of list.entries()) {
    const view = await disk.snapshots.open(id);
    requireSame(`snapshot ${id}`, await view.read(0, view.size), snapshots[index] as Uint8Array);
    await view.close();
  }
}

function requireSame(what: string, found: Uint8Array, right: Uint8Array): void {
  if (found.length !== right.length) throw new Error(`${what} has ${found.length} bytes, should have ${right.length}`);
  const at = firstDifference(found, right);
  if (at >= 0) throw new Error(`byte ${at} of ${what} is ${found[at]}, should be ${right[at]}`);
}

async function requireNoCorruption(disk: Disk, context: string): Promise<void> {
  if (disk.format === 'raw') return;
  const { corruptions, checkErrors, messages } = await disk.check();
  expect(corruptions + checkErrors, `${context}: ${messages.filter((line) => !line.startsWith('Leaked')).slice(0, 3)}`).toBe(0);
}

describe.each(workloads)('$name $format $options', (workload) => {
  it.each([
    ['changes', 'io'],
    ['changes', 'no-space'],
    ['changes', 'short'],
    ['changes', 'late'],
    ['reads', 'io'],
  ] as const)('every call of its %s fails once: %s', { timeout: 600_000 }, async (of, kind: FaultKind) => {
    const start = await begin(workload);
    for (let call = 1; ; call += workload.stride ?? 1) {
      try {
        if (!(await strike(workload, start, { call, of, kind }))) break;
      } catch (error) {
        throw new Error(`call ${call} of ${of}, ${kind}: ${error instanceof Error ? error.message : error}`, { cause: error });
      }
    }
    expect(cases).toBeGreaterThan(0);
  });
});
