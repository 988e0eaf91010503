/**
 * Resizing. Crash argument: growing makes the tables large enough first, each step durable, then changes the size in one header
 * write; shrinking changes the size first and then gives up the clusters past it. A cut in between leaves clusters past the end
 * that a later growth clears before it shows them. An external data file is grown, with zeros, before the size changes, and cut off after it.
 */
import { roundUp } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { ResizeOptions } from '../driver.ts';
import { unmap } from './allocate.ts';
import { growL1 } from './l1-growth.ts';
import { FORMAT, l1EntriesFor } from './layout.ts';
import type { Metadata } from './metadata.ts';
import { PREALLOCATION } from './options.ts';
import { type Preallocation, preallocate } from './preallocate.ts';

/** See `ImageDriver.resize`. `size` must be a multiple of 512. */
export function* resize(meta: Metadata, size: number, { beforeGrowth, preallocation = 'off' }: ResizeOptions): Io<void> {
  const mode = modeOf(meta, preallocation);
  if (size % 512 !== 0) throw new DiskError('refused', `${FORMAT}: the size must be a multiple of 512 bytes`, { format: FORMAT, field: 'size' });
  if (meta.header.version < 3 && meta.snapshots.length > 0)
    throw new DiskError('refused', `${FORMAT}: a version 2 image with snapshots cannot be resized`, { format: FORMAT, field: 'size' });
  meta.requireSound();
  const old = meta.header.size;
  if (size > old) {
    yield* meta.lock.run(() => prepareGrowth(meta, size));
    if (beforeGrowth) yield* beforeGrowth();
    yield* preallocate(meta, { from: roundUp(old, meta.clusterSize), to: size }, mode);
  }
  yield* meta.lock.run(() => setSize(meta, size));
  if (size < old) yield* meta.lock.run(() => dropPast(meta, size));
  if (size < old && meta.external) yield* cutData(meta, size);
}

function modeOf(meta: Metadata, preallocation: string): Preallocation {
  const mode = PREALLOCATION.values.find((known) => known === preallocation);
  const place = { format: FORMAT, field: 'preallocation' };
  if (!mode) throw new DiskError('refused', `${FORMAT}: unknown preallocation mode "${preallocation}"`, place);
  if (mode !== 'off' && meta.encryption)
    throw new DiskError('unsupported', `${FORMAT}: an encrypted image cannot grow with preallocation: its zeros would not read as zeros`, place);
  // A raw data file shows all of the disk, so the image must map all of it.
  return meta.rawData && mode === 'off' ? 'metadata' : mode;
}

/** See `ImageDriver.makeEmpty`. Clusters are given up one by one, each before its backing file's contents are read in its place. */
export function* makeEmpty(meta: Metadata): Io<void> {
  meta.requireSound();
  if (meta.debug) yield* meta.debug('empty_image_prepare');
  yield* meta.lock.run(() => dropPast(meta, 0));
  // Not before the entries are durable: until then they show these bytes, not those of a backing file.
  if (meta.rawData) yield* meta.data.zero(0, meta.header.size);
  else if (meta.external) yield* meta.data.discard(0, meta.header.size);
}

function* cutData({ data }: Metadata, size: number): Io<void> {
  yield* data.truncate(size);
  yield* data.flush();
}

function* prepareGrowth(meta: Metadata, size: number): Io<void> {
  yield* dropPast(meta, meta.header.size);
  yield* growL1(meta, size);
  if (!meta.external) return;
  // Bytes past the disk's end belong to nothing, and must not become visible again.
  if (meta.data.size > meta.header.size) yield* meta.data.truncate(meta.header.size);
  yield* cutData(meta, size);
}

function* setSize(meta: Metadata, size: number): Io<void> {
  yield* meta.flush();
  yield* meta.switchTo({ size }, {});
}

/** Gives up every cluster and L2 table that lies wholly past `size`. Durable when it returns. */
export function* dropPast(meta: Metadata, size: number): Io<void> {
  const end = meta.l1.size * meta.l2Coverage;
  for (let at = roundUp(size, meta.clusterSize); at < end; ) {
    const l1Index = Math.floor(at / meta.l2Coverage);
    const next = (l1Index + 1) * meta.l2Coverage;
    if (meta.l1.offset(l1Index) !== 0) yield* unmap(meta, at, next - at);
    at = next;
  }
  yield* meta.flush();
  let dropped = 0;
  for (let index = l1EntriesFor(size, meta.header); index < meta.l1.size; index++) {
    const { offset } = meta.l1.entry(index);
    if (offset === 0) continue;
    if (meta.debug && dropped++ === 0) yield* meta.debug('l1_shrink_write_table');
    meta.setL1(index, 0);
    meta.l2.drop(offset);
    meta.refcounts.free(offset, meta.clusterSize);
  }
  if (meta.debug && dropped > 0) yield* meta.debug('l1_shrink_free_l2_clusters');
  yield* meta.flush();
}
