/**
 * What a qcow2 image would take, computed as `qemu-img measure` does it: a header, L2 tables and an L1 table for the whole disk, and reference
 * counts for all of that, the data and themselves. Pure.
 */
import { divideUp, roundUp } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import { parseSize } from '../../base/units.ts';
import { luksLength, luksOptions } from '../../crypto/luks-options.ts';
import type { CreateParameters, Measurement } from '../descriptor.ts';
import type { BitmapInfo } from '../driver.ts';
import { measureBitmaps } from './bitmaps.ts';
import { encryptionChoice } from './encryption.ts';
import { FORMAT, MAX_L1_BYTES } from './layout.ts';

/** See `FormatDescriptor.measure`. */
export function measureImage({ size, backing, options, bitmaps }: CreateParameters & { readonly bitmaps?: readonly BitmapInfo[] }): Measurement {
  const { compat = '1.1', preallocation = 'off' } = options;
  const extended = options.extended_l2 === true || options.extended_l2 === 'on';
  if (!['0.10', 'v2', '1.1', 'v3'].includes(String(compat))) throw refused('compat', `Invalid compatibility level: '${compat}'`);
  const unit = clusterSize(options.cluster_size, extended);
  const version2 = compat === '0.10' || compat === 'v2';
  const bits = refcountBits(options.refcount_bits, version2);
  const disk = roundUp(size, unit);
  const l2Entries = unit / (extended ? 16 : 8);
  const tables = divideUp(disk / unit, l2Entries);
  if (tables * 8 > MAX_L1_BYTES) throw refused('size', 'The image size is too large (try using a larger cluster size)');
  const counted = 1 + tables + divideUp(tables * 8, unit) + disk / unit;
  // As in QEMU, the reference counts of the encryption header are left out.
  const encryption = encryptionChoice({ options }) === 'luks' ? roundUp(luksLength(luksOptions(options, FORMAT, 'encrypt.')), unit) : 0;
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

function clusterSize(option: unknown, extended: boolean): number {
  const bytes = typeof option === 'number' ? option : option === undefined ? 65536 : parseSize(String(option));
  if (!Number.isInteger(Math.log2(bytes)) || bytes < 512 || bytes > 2 ** 21)
    throw refused('cluster_size', 'Cluster size must be a power of two between 512 and 2048k');
  if (extended && bytes < 16384) throw refused('cluster_size', 'Extended L2 entries are only supported with cluster sizes of at least 16384 bytes');
  return bytes;
}

function refcountBits(option: unknown, version2: boolean): number {
  const bits = option === undefined ? 16 : Number(option);
  if (!Number.isInteger(Math.log2(bits)) || bits > 64)
    throw refused('refcount_bits', 'Refcount width must be a power of two and may not exceed 64 bits');
  if (version2 && bits !== 16)
    throw refused('refcount_bits', 'Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)');
  return bits;
}

const refused = (field: string, message: string): DiskError => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
