/** Records a workload and explores what a cut can leave of it. */

import { createDisk, openDisk } from '../../src/disk/open.ts';
import type { Resolve } from '../../src/disk/reference.ts';
import { CacheStorage } from '../../src/layers/cache.ts';
import { CacheMemory } from '../../src/layers/cache-lines.ts';
import type { CacheMode } from '../../src/node/cache-mode.ts';
import { type MemoryStorage, memoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { type LogEntry, RecorderStorage } from '../layers/recorder.ts';
import { BlockMedium } from '../model/block-medium.ts';
import { Random } from '../random.ts';
import { explore, judgeDisk } from './explorer.ts';
import type { Files } from './files.ts';
import { filled, Guest, SECRET, SECTOR } from './guest.ts';
import { WaitingStorage } from './waiting-storage.ts';
import type { Workload } from './workload.ts';

export interface RunOptions {
  readonly seed: number;
  readonly limit: number;
  readonly subsets: number;
  readonly sample?: (files: Files) => void;
  /** With a block cache over each file that is opened, and this mode. */
  readonly cache?: CacheMode;
  /** See `Exploration.from`. */
  readonly from?: number;
  /** For the test of the test: treats barriers as if they were not there. */
  readonly ignoreBarriers?: boolean;
}

/** The file that a workload opens. */
const TOP = 'disk';
/** Contents of the backing file: numbers that no write uses. */
const BACKING_STAMP = 1_000_000;
const MIDDLE_STAMP = 2_000_000;

/** Returns how many states were looked at; throws at the first wrong one, with workload and seed. */
export async function runWorkload(workload: Workload, options: RunOptions): Promise<number> {
  const { format, sectors, backing, recorded = [] } = workload;
  const random = new Random(options.seed);
  const files = new Map<string, MemoryStorage>();
  const make = (name: string) => {
    const file = memoryStorage({ name });
    files.set(name, file);
    return file;
  };
  const contents = Array.from({ length: sectors }, () => 0);
  if (backing)
    for (const [sector, stamp] of (await makeBacking(make('base'), sectors + (backing === 'shorter' ? -57 : 57), 0)).entries())
      contents[sector] = stamp;
  if (workload.other) await makeBacking(make('other'), sectors + 20, 3);
  if (workload.middle) await makeMiddle(make('mid'), files, contents);
  const named = backing ? { backing: { name: workload.middle ? 'mid' : 'base', format: 'qcow2' } } : {};
  const create: Resolve = ({ name }) => files.get(name) ?? make(name);
  if (workload.make) contents.splice(0, sectors, ...(await workload.make(make, sectors)));
  else
    await (await createDisk(make(TOP), { format, size: sectors * SECTOR, ...workload.options, ...named, resolve: create, secret: SECRET })).flush();
  const log: LogEntry[] = [];
  const start = new Map<string, Uint8Array>();
  const storages = new Map<string, Storage>(files);
  for (const name of [TOP, ...recorded]) {
    const bytes = (files.get(name) as MemoryStorage).bytes();
    start.set(name, bytes);
    storages.set(name, new RecorderStorage(memoryStorage({ name, bytes }), log));
  }
  const opened = (name: string): Storage => {
    const recorder = storages.get(name) as Storage;
    const medium = workload.blocks === undefined ? recorder : new BlockMedium(recorder, workload.blocks);
    const file = workload.waits ? new WaitingStorage(medium, random) : medium;
    // Growth in small steps keeps the states small.
    return options.cache ? new CacheStorage(file, { memory: new CacheMemory(0), growth: 4096 }) : file;
  };
  const resolve: Resolve = ({ name, from }) => opened(name || (from === TOP && files.has('mid') ? 'mid' : 'base'));
  const writableBacking = recorded.includes('base') ? { writableBacking: workload.depth ?? 1 } : {};
  const cache = options.cache ? { cache: options.cache } : {};
  const reopen = () => openDisk(opened(TOP), { format, resolve, secret: SECRET, ...writableBacking, ...cache });
  const disk = await reopen();
  const given = (await disk.snapshots.list()).map(({ name }) => name);
  const guest = new Guest(disk, { reopen, log, contents: contents.slice(0, sectors), given });
  await workload.run(guest, random, resolve);
  // Who ignores flushes promises that what was closed is whole, if the power lasts that long, and nothing before.
  const closedOnly = options.cache === 'unsafe';
  if (closedOnly) await guest.close();
  else await guest.flush();
  try {
    return await explore({
      start,
      log: options.ignoreBarriers ? withoutBarriers(log) : log,
      timeline: guest.timeline,
      random,
      subsets: options.subsets,
      ...(closedOnly ? { from: 1, limit: 1 } : { from: options.from ?? 0, limit: options.limit }),
      judge: judgeDisk({
        format,
        top: TOP,
        raw: workload.options.data_file_raw ? 'data' : undefined,
        // A renamed backing file is still the same one.
        resolve: (name) => (files.get(name) ?? files.get('base')) as Storage,
        random,
      }),
      ...(options.sample ? { sample: options.sample } : {}),
    });
  } catch (error) {
    throw new Error(`workload "${workload.name}", seed ${options.seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

/** A backing file with a number of its own in four of five sectors. Returns the numbers. */
async function makeBacking(storage: Storage, sectors: number, hole: number): Promise<number[]> {
  const disk = await createDisk(storage, { format: 'qcow2', size: sectors * SECTOR, cluster_size: 1024 });
  const numbers = Array.from({ length: sectors }, (_, sector) => (sector % 5 === hole ? 0 : BACKING_STAMP + sector));
  for (const [sector, stamp] of numbers.entries()) if (stamp !== 0) await disk.write(sector * SECTOR, filled(1, stamp));
  await disk.flush();
  return numbers;
}

/** An image over `base` that is shorter than `contents`, which it changes to what shows through it. */
async function makeMiddle(storage: Storage, files: ReadonlyMap<string, MemoryStorage>, contents: number[]): Promise<void> {
  const sectors = contents.length - 40;
  const resolve: Resolve = ({ name }) => files.get(name) as Storage;
  const disk = await createDisk(storage, {
    format: 'qcow2',
    size: sectors * SECTOR,
    cluster_size: 2048,
    backing: { name: 'base', format: 'qcow2' },
    resolve,
  });
  contents.fill(0, sectors);
  for (let sector = 3; sector < sectors - 7; sector += 23) {
    const stamp = MIDDLE_STAMP + sector;
    await disk.write(sector * SECTOR, filled(7, stamp));
    contents.fill(stamp, sector, sector + 7);
  }
  await disk.flush();
}

/** The log as if nothing but the guest's last word had been flushed; the positions stay. */
function withoutBarriers(log: readonly LogEntry[]): readonly LogEntry[] {
  const last = log.findLastIndex(({ kind }) => kind === 'flush');
  return log.map((entry, index) =>
    entry.kind === 'barrier' || (entry.kind === 'flush' && index < last)
      ? { file: entry.file, kind: 'write', offset: 0, bytes: new Uint8Array() }
      : entry,
  );
}
