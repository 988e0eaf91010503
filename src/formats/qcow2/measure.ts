/**
 * The space that a qcow2 image would take, computed as `qemu-img measure` does it: a header, L2 tables and an L1 table for the whole disk, and reference
 * counts for all of that, for the data and for themselves. Pure.
 */
import { divideUp, roundUp } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { DiskError } from '../../base/errors.ts';
import { luksLength } from '../../crypto/luks-options.ts';
import type { CreateParameters, Measurement } from '../descriptor.ts';
import type { BitmapInfo } from '../driver.ts';
import { measureBitmaps } from './bitmaps.ts';
import { encryptionChoice, headerOptions } from './encryption.ts';
import { FORMAT, MAX_L1_BYTES } from './layout.ts';
import { createOptions } from './options.ts';

/** QEMU's measure has other words for an unknown version. */
const measureOptions = createOptions.map((option) =>
  option.name === 'compat' ? { ...option, refusal: "Invalid compatibility level: '{value}'" } : option,
) as unknown as typeof createOptions;

/** See `FormatDescriptor.measure`. */
export function measureImage({ size, backing, options, bitmaps }: CreateParameters & { readonly bitmaps?: readonly BitmapInfo[] }): Measurement {
  const values = readOptions(measureOptions, options, FORMAT);
  const { compat, preallocation, extended_l2: extended, cluster_size: unit, refcount_bits: bits } = values;
  if (extended && unit < 16384) throw refused('cluster_size', 'Extended L2 entries are only supported with cluster sizes of at least 16384 bytes');
  const version2 = compat === '0.10' || compat === 'v2';
  if (version2 && bits !== 16)
    throw refused('refcount_bits', 'Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)');
  const disk = roundUp(size, unit);
  const l2Entries = unit / (extended ? 16 : 8);
  const tables = divideUp(disk / unit, l2Entries);
  if (tables * 8 > MAX_L1_BYTES) throw refused('size', 'The image size is too large (try using a larger cluster size)');
  const counted = 1 + tables + divideUp(tables * 8, unit) + disk / unit;
  // As in QEMU, the reference counts of the encryption header are left out.
  const encryption = encryptionChoice(values, options) === 'luks' ? roundUp(luksLength(headerOptions(values)), unit) : 0;
  const metadata = (counted - disk / unit + refcountClusters(counted, unit, bits)) * unit + encryption;
  const everything = backing !== undefined || preallocation === 'full' || preallocation === 'falloc';
  const copied = bitmaps && !version2 ? { bitmaps: measureBitmaps(bitmaps, size, unit) } : {};
  return { size: disk, metadata, unit, everything, ...copied };
}

/** Clusters of the refcount blocks and table that count `clusters` others and themselves. */
function refcountClusters(clusters: number, clusterBytes: number, bits: number): number {
  const perBlock = (clusterBytes * 8) / bits;
  for (let own = 0; ; ) {
    const blocks = divideUp(clusters + own, perBlock);
    const needed = blocks + divideUp(blocks, clusterBytes / 8);
    if (needed === own) return own;
    own = needed;
  }
}

const refused = (field: string, message: string): DiskError => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
