/**
 * The allocation map of a disk, downsampled to buckets. Walks runs, not clusters, so a sparse 1 TiB image takes milliseconds; gives
 * the thread back now and then, so that requests of the guest are served in between. With a snapshot to compare with, it also shows where the
 * disk may differ from it.
 */

import { divideUp, roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { Pace } from '../base/job.ts';
import { SECTOR } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import type { DirtyRuns } from '../formats/tools.ts';
import type { BlockNode, MapRun } from '../node/node.ts';
import type { MapBucket, MapSummary, MapSummaryOptions } from './engine.ts';

/** Buckets at most; a page has fewer pixels. */
const MOST_BUCKETS = 65_536;

type Counts = { -readonly [K in keyof MapBucket]: number };

/**
 * At most `buckets` buckets over the whole disk. Throws `refused` for a count out of range, `not-found` for the snapshot, `aborted`. Progress is in bytes;
 * with `since` each counts twice.
 */
export async function mapSummary(disk: Disk, buckets: number, { since, ...job }: MapSummaryOptions = {}): Promise<MapSummary> {
  if (buckets < 1 || buckets > MOST_BUCKETS)
    throw new DiskError('refused', `A map has 1 to ${MOST_BUCKETS} buckets, not ${buckets}`, { field: 'buckets' });
  await runAsync(disk.keepers.drain());
  const { size } = disk;
  const bucketSize = Math.max(SECTOR, roundUp(divideUp(size, buckets), SECTOR));
  const counts = Array.from({ length: divideUp(size, bucketSize) }, (): Counts => ({ data: 0, zero: 0, unallocated: 0, backing: 0, compressed: 0 }));
  const pace = new Pace(job, since === undefined ? size : 2 * size);
  await runAsync(count(disk.node, counts, bucketSize, pace));
  const metadata = new Map<string, number>();
  for (const { what, length } of await disk.metadata()) metadata.set(what, (metadata.get(what) ?? 0) + length);
  const changed = new Array<number>(counts.length).fill(0);
  if (since !== undefined) await runAsync(disk.snapshots.comparing(since, (runs) => countChanges(runs, changed, bucketSize, { pace, before: size })));
  pace.finish();
  return {
    bucketSize,
    buckets: counts,
    metadata: [...metadata].map(([what, length]) => ({ what, length })),
    ...(since === undefined ? {} : { changed }),
  };
}

function* countChanges(runs: DirtyRuns, changed: number[], bucketSize: number, { pace, before }: { pace: Pace; before: number }): Io<void> {
  for (let run = yield* runs.next(0); run; run = yield* runs.next(run.start + run.length)) {
    yield* pace.step(before + run.start);
    spread(run.start, run.start + run.length, bucketSize, (index, part) => {
      changed[index] = (changed[index] ?? 0) + part;
    });
  }
}

/** Calls back with each bucket that a range has bytes in, and how many. */
function spread(start: number, end: number, bucketSize: number, add: (index: number, bytes: number) => void): void {
  for (let at = start; at < end; ) {
    const index = Math.floor(at / bucketSize);
    const part = Math.min(end, (index + 1) * bucketSize) - at;
    add(index, part);
    at += part;
  }
}

function* count(node: BlockNode, counts: Counts[], bucketSize: number, pace: Pace): Io<void> {
  const { size } = node;
  let at = 0;
  const step = (part: number): Io<void> => pace.ahead(part, at, size);
  while (at < size) {
    yield* pace.step(at);
    const run = yield* node.status(at, size - at, { step });
    const state = stateOf(run);
    spread(at, at + run.length, bucketSize, (index, bytes) => {
      (counts[index] as Counts)[state] += bytes;
    });
    at += run.length;
  }
}

/** One word for a run. Everything in a backing file is "backing", whatever its state there. */
function stateOf(run: MapRun): keyof MapBucket {
  if (!run.present) return 'unallocated';
  if (run.depth > 0) return 'backing';
  if (run.zero) return 'zero';
  return run.compressed ? 'compressed' : 'data';
}
