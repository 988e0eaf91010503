/**
 * What the tables of a VMDK image say, as qemu-img check looks at them: it stops at the first grain that cannot be read, and has failed then. Grains that nothing
 * names are not counted, by QEMU neither; they are used again (grain-tables.ts).
 */

import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { CheckOptions, CheckResult } from '../tools.ts';
import type { DiskPart } from './extents.ts';
import { FORMAT } from './layout.ts';
import { SparsePart } from './sparse.ts';

/** See `ImageTools.check`. */
export function* checkParts(pieces: readonly { start: number; part: DiskPart }[], { repair, onMessage, signal }: CheckOptions): Io<CheckResult> {
  if (repair) throw unsupported(FORMAT, 'This image format does not support repairing');
  const messages: string[] = [];
  for (const { start, part } of pieces) {
    if (!(part instanceof SparsePart)) continue;
    yield* part.walk(
      (index, wrong) => {
        const sector = (start + index * part.grainSize) / SECTOR;
        messages.push(
          wrong === 'past the end'
            ? `ERROR: cluster offset for sector ${sector} points after EOF`
            : `ERROR: could not get cluster_offset for sector ${sector}`,
        );
        return false;
      },
      () => {
        if (signal?.aborted) throw new DiskError('aborted', 'the check was stopped', { format: FORMAT });
      },
    );
    if (messages.length > 0) break;
  }
  for (const message of messages) onMessage?.(message);
  const nothing = { leaks: 0, corruptions: 0, corruptionsFixed: 0, leaksFixed: 0, fragmentedClusters: 0, compressedClusters: 0 };
  return { ...nothing, checkErrors: messages.length, totalClusters: 0, allocatedClusters: 0, imageEndOffset: 0, messages };
}
