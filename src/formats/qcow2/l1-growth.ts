/**
 * A larger L1 table: a copy in unused space, and one header write that switches to it. A cut leaves the old table or the new one; the table that is
 * not in force is counted (a leak) until it is freed.
 */
import { roundUp } from '../../base/bytes.ts';
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { FORMAT, l1EntriesFor, MAX_L1_BYTES } from './layout.ts';
import type { Metadata } from './metadata.ts';

/** Grows the L1 table to at least the entries for `size` guest bytes. */
export function* growL1(meta: Metadata, size: number): Io<void> {
  yield* growTo(meta, size, l1EntriesFor(size, meta.header));
}

/** The same with room to spare, for a disk that grows piece by piece: half as large again, as in QEMU. */
export function* growL1Ahead(meta: Metadata, size: number): Io<void> {
  const needed = l1EntriesFor(size, meta.header);
  let entries = Math.max(1, meta.l1.size);
  while (entries < needed) entries = Math.ceil((entries * 3) / 2);
  yield* growTo(meta, size, needed * 8 <= MAX_L1_BYTES ? Math.min(entries, MAX_L1_BYTES / 8) : needed);
}

function* growTo(meta: Metadata, size: number, entries: number): Io<void> {
  if (entries <= meta.l1.size) return;
  if (entries * 8 > MAX_L1_BYTES)
    throw corrupt(FORMAT, `a disk of ${size} bytes needs an L1 table over 32 MiB with clusters of ${meta.clusterSize}: use larger clusters`, {
      field: 'size',
    });
  yield* meta.flush();
  const old = { offset: meta.header.l1Offset, length: meta.l1.size * 8 };
  const table = new Uint8Array(entries * 8);
  table.set(meta.l1.copy());
  const length = roundUp(table.length, meta.clusterSize);
  if (meta.debug) yield* meta.debug('l1_grow_alloc_table');
  const l1Offset = yield* meta.refcounts.allocate(length / meta.clusterSize);
  try {
    yield* meta.refcounts.write();
    if (meta.debug) yield* meta.debug('l1_grow_write_table');
    yield* meta.storage.write(l1Offset, table);
    if (meta.debug) yield* meta.debug('l1_grow_activate_table');
    yield* meta.switchTo({ l1Size: entries, l1Offset }, { l1: table });
  } catch (error) {
    yield* meta.refcounts.release(l1Offset, length);
    throw error;
  }
  if (old.length > 0) meta.refcounts.free(old.offset, old.length);
  yield* meta.flush();
}
