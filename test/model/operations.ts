/**
 * Random operations on a disk and on the naive disk beside it. Nothing here is Node's, so the same runs go over every storage, in
 * Node and in the browser.
 */
import type { Disk } from '../../src/disk/disk.ts';
import type { Random } from '../random.ts';
import { firstDifference, type NaiveDisk } from './naive.ts';

/** What a run may do besides writing, zeroing, reading and flushing. */
export interface Allowed {
  /** At most so many at a time. */
  readonly snapshots: number;
  readonly resize: boolean;
  /** The format does not shrink. */
  readonly growsOnly?: boolean;
  /** Sizes are multiples of this. */
  readonly sizeUnit: number;
  /** A discarded range reads as zero afterwards only where the format says so; clusters of this many bytes. 0: do not discard. */
  readonly discardUnit: number;
}

/** The contents of a disk must be the naive disk's. */
export async function requireSame(disk: Disk, naive: NaiveDisk, context: string): Promise<void> {
  if (disk.size !== naive.size) throw new Error(`${context}: the disk has ${disk.size} bytes, should have ${naive.size}`);
  const at = firstDifference(await disk.read(0, disk.size), naive.bytes);
  if (at >= 0) throw new Error(`${context}: byte ${at} differs`);
}

type Operation = (disk: Disk, naive: NaiveDisk, random: Random) => Promise<string>;

function range(naive: NaiveDisk, random: Random, most: number): { offset: number; length: number } {
  // Often near the start and the end, where tables begin and tails are cut off.
  const offset = random.chance(0.2) ? Math.max(0, naive.size - random.between(1, most)) : random.between(0, naive.size - 1);
  return { offset, length: Math.min(naive.size - offset, random.between(1, most)) };
}

const write: Operation = async (disk, naive, random) => {
  const { offset, length } = range(naive, random, random.pick([700, 9000, 200_000]));
  const bytes = random.bytes(length);
  await disk.write(offset, bytes);
  naive.bytes.set(bytes, offset);
  return `write ${offset} ${length}`;
};

const zero: Operation = async (disk, naive, random) => {
  const { offset, length } = range(naive, random, random.pick([700, 200_000, 1_000_000]));
  const unmap = random.chance(0.5);
  await disk.zero(offset, length, { unmap });
  naive.bytes.fill(0, offset, offset + length);
  return `zero ${offset} ${length} ${unmap}`;
};

const read: Operation = async (disk, naive, random) => {
  const { offset, length } = range(naive, random, random.pick([700, 100_000]));
  const at = firstDifference(await disk.read(offset, length), naive.bytes.subarray(offset, offset + length));
  if (at >= 0) throw new Error(`read ${offset} ${length}: byte ${offset + at} differs`);
  return `read ${offset} ${length}`;
};

const flush: Operation = async (disk) => {
  await disk.flush();
  return 'flush';
};

/** Whole clusters read as zero afterwards; the rest keeps its bytes. */
function discard(unit: number): Operation {
  return async (disk, naive, random) => {
    const { offset, length } = range(naive, random, random.pick([3 * unit, 500_000]));
    await disk.discard(offset, length);
    const start = Math.ceil(offset / unit) * unit;
    const end = offset + length === naive.size ? naive.size : Math.floor((offset + length) / unit) * unit;
    if (start < end) naive.bytes.fill(0, start, end);
    return `discard ${offset} ${length}`;
  };
}

function resize(unit: number, least: number, most: number): Operation {
  return async (disk, naive, random) => {
    const size = Math.max(unit, Math.floor((naive.size * random.between(least, most)) / 100 / unit) * unit);
    await disk.resize(size);
    naive.resize(size);
    return `resize ${size}`;
  };
}

const snapshot = async (disk: Disk, naive: NaiveDisk, random: Random, most: number): Promise<string> => {
  const names = [...naive.snapshots.keys()];
  let what = names.length === 0 ? 'create' : 'delete';
  if (names.length > 0 && names.length < most) what = random.pick(['create', 'apply', 'apply', 'delete', 'open']);
  // Where there is room for one only, that one is applied, too.
  else if (names.length > 0 && most === 1) what = random.pick(['apply', 'delete']);
  const name = what === 'create' ? `s${random.between(1, 1e9)}` : random.pick(names);
  if (what === 'create') {
    await disk.snapshots.create({ name });
    naive.snapshot(name);
  } else if (what === 'apply') {
    await disk.snapshots.apply(name);
    naive.revert(name);
  } else if (what === 'delete') {
    await disk.snapshots.delete(name);
    naive.snapshots.delete(name);
  } else {
    const view = await disk.snapshots.open(name);
    const at = firstDifference(await view.read(0, view.size), naive.snapshots.get(name) as Uint8Array);
    if (at >= 0) throw new Error(`snapshot ${name}: byte ${at} differs`);
    await view.close();
  }
  return `snapshot ${what} ${name}`;
};

/** Runs `count` random operations. A failure names the seed and everything done so far. */
export async function runOperations(
  disk: Disk,
  naive: NaiveDisk,
  random: Random,
  { count, allowed }: { count: number; allowed: Allowed },
): Promise<void> {
  const log: string[] = [];
  const menu: Operation[] = [write, write, write, write, zero, read, read, flush];
  if (allowed.discardUnit > 0) menu.push(discard(allowed.discardUnit));
  const [least, most] = allowed.growsOnly ? [100, 112] : [70, 135];
  try {
    for (let i = 0; i < count; i++) {
      if (allowed.snapshots > 0 && random.chance(0.08)) log.push(await snapshot(disk, naive, random, allowed.snapshots));
      else if (allowed.resize && random.chance(0.05)) log.push(await resize(allowed.sizeUnit, least, most)(disk, naive, random));
      else log.push(await random.pick(menu)(disk, naive, random));
    }
  } catch (error) {
    throw new Error(`seed ${random.seed}, after ${log.length} operations (${log.slice(-12).join('; ')}): ${error}`, { cause: error });
  }
}
