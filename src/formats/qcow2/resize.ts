/**
 * Resizing. Crash argument: growing makes the tables large enough first, each step durable, then changes the size in one header
 * write; shrinking changes the size first and then gives up the clusters past it. A cut in between leaves clusters past the end
 * that a later growth clears before it shows them.
 */
import { roundUp } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { ResizeOptions } from '../driver.ts';
import { unmap } from './allocate.ts';
import { FORMAT, l1EntriesFor } from './layout.ts';
import type { Metadata } from './metadata.ts';

/** See `ImageDriver.resize`. `size` must be a multiple of 512. */
export function* resize(meta: Metadata, size: number, { beforeGrowth }: ResizeOptions): Io<void> {
  if (size % 512 !== 0) throw new DiskError('refused', `${FORMAT}: the size must be a multiple of 512 bytes`, { format: FORMAT, field: 'size' });
  if (meta.header.version < 3 && meta.snapshots.length > 0)
    throw new DiskError('refused', `${FORMAT}: a version 2 image with snapshots cannot be resized`, { format: FORMAT, field: 'size' });
  meta.requireSound();
  const old = meta.header.size;
  if (size > old) {
    yield* meta.lock.run(() => prepareGrowth(meta, size));
    if (beforeGrowth) yield* beforeGrowth();
  }
  yield* meta.lock.run(() => setSize(meta, size));
  if (size < old) yield* meta.lock.run(() => dropPast(meta, size));
}

/** See `ImageDriver.makeEmpty`. Clusters are given up one by one, each before its backing file's contents are read in its place. */
export function* makeEmpty(meta: Metadata): Io<void> {
  meta.requireSound();
  yield* meta.lock.run(() => dropPast(meta, 0));
}

function* prepareGrowth(meta: Metadata, size: number): Io<void> {
  yield* dropPast(meta, meta.header.size);
  yield* meta.growL1(size);
}

function* setSize(meta: Metadata, size: number): Io<void> {
  yield* meta.flush();
  yield* meta.switchTo({ size }, {});
}

/** Gives up every cluster and L2 table that lies wholly past `size`. */
function* dropPast(meta: Metadata, size: number): Io<void> {
  const end = meta.l1Size * meta.l2Coverage;
  for (let at = roundUp(size, meta.clusterSize); at < end; ) {
    const l1Index = Math.floor(at / meta.l2Coverage);
    const next = (l1Index + 1) * meta.l2Coverage;
    if (meta.l1Offset(l1Index) !== 0) yield* unmap(meta, at, next - at);
    at = next;
  }
  yield* meta.flush();
  for (let index = l1EntriesFor(size, meta.header); index < meta.l1Size; index++) {
    const { offset } = meta.l1(index);
    if (offset === 0) continue;
    meta.setL1(index, 0);
    meta.l2.drop(offset);
    meta.refcounts.free(offset, meta.clusterSize);
  }
  yield* meta.flush();
}
