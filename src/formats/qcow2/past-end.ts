/** Whether clusters past the end of an image's file are counted as used: a sound image has such only after a power cut, an image that was cut short always. */
import { divideUp, isZero } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Refcounts } from './refcounts.ts';

/** True if such clusters may be counted as used, or if the counts that would tell cannot be read. `fileSize` and `clusterSize` in bytes. */
export function* countsPastEnd(refcounts: Refcounts, { fileSize, clusterSize }: { fileSize: number; clusterSize: number }): Io<boolean> {
  const { blockEntries } = refcounts;
  const end = divideUp(fileSize, clusterSize);
  const index = Math.floor(end / blockEntries);
  for (const used of refcounts.table.inUse()) if (used > index) return true;
  try {
    const block = yield* refcounts.loadBlock(index);
    // A count that is narrower than a byte shares it with others.
    return block !== undefined && !isZero(block.bytes.subarray(Math.floor(((end % blockEntries) * clusterSize) / blockEntries)));
  } catch (error) {
    if (error instanceof DiskError && error.kind === 'corrupt') return true;
    throw error;
  }
}
