/** The bytes that an image holds itself, whatever its backing file has: QEMU's `is_allocated`. */
import { assert } from '../base/errors.ts';
import type { AsyncDisk } from './async-disk.ts';

/** A run in one state. */
export interface AllocatedRun {
  /** The image itself determines the contents of the run. */
  readonly allocated: boolean;
  /** Bytes. */
  readonly length: number;
}

/** The state at `offset` and how far it reaches, at most `length`. Past the end: not allocated, for 0 bytes. A disk that cannot tell has everything. */
export async function allocatedRun(
  disk: Pick<AsyncDisk, 'size'> & Partial<Pick<AsyncDisk, 'map'>>,
  offset: number,
  length: number,
): Promise<AllocatedRun> {
  assert(offset >= 0 && length >= 0, 'a range begins inside and ends after it begins');
  const inside = Math.min(length, disk.size - offset);
  if (inside <= 0) return { allocated: false, length: 0 };
  if (!disk.map) return { allocated: true, length: inside };
  let found: AllocatedRun | undefined;
  for await (const run of disk.map(offset, inside)) {
    const allocated = run.present && run.depth === 0;
    if (found && found.allocated !== allocated) break;
    found = { allocated, length: (found?.length ?? 0) + run.length };
  }
  return found ?? { allocated: false, length: 0 };
}
