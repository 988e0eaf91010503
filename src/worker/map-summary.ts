/**
 * The allocation map of a disk, downsampled to buckets. Walks runs, not clusters, so a sparse 1 TiB image takes milliseconds; gives
 * the thread back now and then, so that requests of the guest are served in between.
 */

import { divideUp, roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { SECTOR } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import type { BlockNode, MapRun } from '../disk/node.ts';
import { type JobOptions, Pace } from '../jobs/job.ts';
import type { MapBucket, MapSummary } from './engine.ts';

/** Buckets at most; a page has fewer pixels. */
const MOST_BUCKETS = 65_536;

type Counts = { -readonly [K in keyof MapBucket]: number };

/** At most `buckets` buckets over the whole disk. Throws `refused` for a count out of range, `aborted`. */
export async function mapSummary(disk: Disk, buckets: number, job: JobOptions = {}): Promise<MapSummary> {
  if (buckets < 1 || buckets > MOST_BUCKETS)
    throw new DiskError('refused', `A map has 1 to ${MOST_BUCKETS} buckets, not ${buckets}`, { field: 'buckets' });
  const { size } = disk;
  const bucketSize = Math.max(SECTOR, roundUp(divideUp(size, buckets), SECTOR));
  const counts = Array.from({ length: divideUp(size, bucketSize) }, (): Counts => ({ data: 0, zero: 0, unallocated: 0, backing: 0, compressed: 0 }));
  await runAsync(count(disk.node, counts, bucketSize, job));
  const metadata = new Map<string, number>();
  for (const { what, length } of await disk.metadata()) metadata.set(what, (metadata.get(what) ?? 0) + length);
  return { bucketSize, buckets: counts, metadata: [...metadata].map(([what, length]) => ({ what, length })) };
}

function* count(node: BlockNode, counts: Counts[], bucketSize: number, job: JobOptions): Io<void> {
  const { size } = node;
  const pace = new Pace(job, size);
  for (let at = 0; at < size; ) {
    yield* pace.step(at);
    const run = yield* node.status(at, size - at);
    const state = stateOf(run);
    const end = at + run.length;
    while (at < end) {
      const index = Math.floor(at / bucketSize);
      const part = Math.min(end, (index + 1) * bucketSize) - at;
      (counts[index] as Counts)[state] += part;
      at += part;
    }
  }
  pace.finish();
}

/** One word for a run. What a backing file holds is "backing", whatever it is there. */
function stateOf(run: MapRun): keyof MapBucket {
  if (!run.present) return 'unallocated';
  if (run.depth > 0) return 'backing';
  if (run.zero) return 'zero';
  return run.compressed ? 'compressed' : 'data';
}
