/**
 * Space set aside when an image is made or grows: `metadata` maps every guest cluster and leaves a hole for it at the file's end, `falloc` and `full` also
 * fill it with zeros (no storage here can set space aside without writing it). Tables and clusters get the places that guest writes in order would give
 * them, which is QEMU's layout. With extended L2 entries the clusters get their places only, and go on showing a backing file. This runs before the
 * disk's new size is in the header, so that a cut leaves an image of the old one.
 */
import { roundUp } from '../../base/bytes.ts';
import type { Io } from '../../base/io.ts';
import { writeZeroes } from '../../storage/storage.ts';
import { allocate } from './allocate.ts';
import type { Metadata } from './metadata.ts';
import type { PREALLOCATION } from './options.ts';

/** The values of `preallocation`. */
export type Preallocation = (typeof PREALLOCATION.values)[number];

/** Gives every cluster of a part of the disk a place. The L1 table must reach that far; no other request may use that part yet. */
export function* preallocate(meta: Metadata, { from, to }: { from: number; to: number }, mode: Preallocation): Io<void> {
  if (mode === 'off') return;
  const { data: storage } = meta;
  const total = roundUp(to, meta.subclusterSize);
  // There are no bytes behind this offset yet; before it, bytes of clusters that were given up may lie. A data file was just made longer there.
  const known = meta.external ? 0 : storage.size;
  let after: number | undefined;
  for (let at = from; at < total; ) {
    const { hostOffset, length, fresh } = yield* allocate(meta, { offset: at, length: total - at, after, empty: true });
    const stale = Math.max(0, Math.min(length, known - hostOffset));
    yield* writeZeroes(storage, hostOffset, mode === 'metadata' ? stale : length);
    fresh?.commit();
    at += length;
    after = hostOffset + length;
  }
  if (after !== undefined && after > storage.size) yield* storage.truncate(after);
  yield* meta.flushCounts();
}
