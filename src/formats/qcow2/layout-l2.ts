/**
 * Entries of L2 tables, standard (8 bytes) and extended (16). An extended entry has a bitmap behind it with two bits for each of 32
 * subclusters: allocated, and reads as zero. The functions here treat both kinds alike: a standard entry counts as one with a single
 * subcluster, whose two bits follow from its offset and its zero flag. Pure; tables are changed in place.
 */
import { setU64be, TWO_32 } from '../../base/bytes.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, type CompressedPlace, compressedPlace, entryOffset, putCompressed, ZERO_LOW } from './layout-tables.ts';

/** Subclusters of a cluster with extended L2 entries. */
export const SUBCLUSTERS = 32;

/** The values of a new entry. */
export interface EntryValue {
  /** Host offset, 0 for none; in an external data file 0 is a place too, if `copied`. */
  readonly offset: number;
  /** Exactly one reference. */
  readonly copied: boolean;
  /** Subclusters whose bytes are at `offset`, a bit each. */
  readonly allocated: number;
  /** Subclusters that read as zero, a bit each; never one that is allocated. */
  readonly zero: number;
}

/** Bits [from, to) of a word. */
export const bitRange = (from: number, to: number): number => (to - from >= 32 ? -1 : ((1 << (to - from)) - 1) << from);

/** How many bits are set in a row from bit `from` upwards. */
export const onesFrom = (bits: number, from: number): number => {
  const clear = ~(bits >>> from);
  if (clear === 0) return 32;
  return Math.min(32 - from, 31 - Math.clz32(clear & -clear));
};

/** Reads and writes the entries of one image's L2 tables. `index` counts entries. */
export class EntryShape {
  /** Bytes of an entry. */
  readonly bytes: number;
  /** Subclusters of a cluster: 32 or 1. */
  readonly subclusters: number;
  /** The bits of all subclusters. */
  readonly all: number;
  /** Guest data lies in an external data file. */
  readonly external: boolean;

  constructor(extended: boolean, external: boolean) {
    this.external = external;
    this.bytes = extended ? 16 : 8;
    this.subclusters = extended ? SUBCLUSTERS : 1;
    this.all = bitRange(0, this.subclusters);
  }

  high(table: DataView, index: number): number {
    return table.getUint32(index * this.bytes);
  }

  low(table: DataView, index: number): number {
    return table.getUint32(index * this.bytes + 4);
  }

  compressed(table: DataView, index: number): boolean {
    return (this.high(table, index) & COMPRESSED_HIGH) !== 0;
  }

  copied(table: DataView, index: number): boolean {
    return (this.high(table, index) & COPIED_HIGH) !== 0;
  }

  /** Host offset of an entry that is not compressed, 0 for none. */
  offset(table: DataView, index: number): number {
    return entryOffset(this.high(table, index), this.low(table, index));
  }

  /** Host offset of a standard entry whose cluster is read unchanged; 0 for any other. */
  plainOffset(table: DataView, index: number): number {
    const high = table.getUint32(index * 8);
    const low = table.getUint32(index * 8 + 4);
    return (high & COMPRESSED_HIGH) === 0 && (low & ZERO_LOW) === 0 ? entryOffset(high, low) : 0;
  }

  /**
   * A cluster that is not compressed has a place, at `offset`. For the first cluster of an external data file only the copied flag
   * distinguishes a place from none, unless a standard entry says zero.
   */
  placed(table: DataView, index: number): boolean {
    if (this.offset(table, index) !== 0) return true;
    if (!this.external || !this.copied(table, index)) return false;
    return this.subclusters > 1 || (this.low(table, index) & ZERO_LOW) === 0;
  }

  /** Where a compressed cluster's bytes are. */
  compressedAt(table: DataView, index: number, clusterBits: number): CompressedPlace {
    return compressedPlace(this.high(table, index), this.low(table, index), clusterBits);
  }

  /** Subclusters whose bytes are in the cluster, a bit each. */
  allocated(table: DataView, index: number): number {
    if (this.subclusters > 1) return table.getInt32(index * 16 + 12);
    return (this.low(table, index) & ZERO_LOW) === 0 && !this.compressed(table, index) && this.placed(table, index) ? 1 : 0;
  }

  /** Subclusters that read as zero, a bit each. */
  zero(table: DataView, index: number): number {
    if (this.subclusters > 1) return table.getInt32(index * 16 + 8);
    return (this.low(table, index) & ZERO_LOW) !== 0 && !this.compressed(table, index) ? 1 : 0;
  }

  /** The entry has no place and no bits. */
  empty(table: DataView, index: number): boolean {
    const at = index * this.bytes;
    if (table.getUint32(at) !== 0 || table.getUint32(at + 4) !== 0) return false;
    return this.subclusters === 1 || (table.getUint32(at + 8) === 0 && table.getUint32(at + 12) === 0);
  }

  /**
   * How many entries from `index` on, below `end`, continue the first one: all of them empty, or equal in every bit except for a place that
   * moves on by a cluster. At least 1.
   */
  run(table: DataView, { index, end, clusterSize }: { index: number; end: number; clusterSize: number }): number {
    const { bytes } = this;
    const start = index * bytes;
    const high = table.getUint32(start);
    let low = table.getUint32(start + 4);
    if ((high & COMPRESSED_HIGH) !== 0) return 1;
    const step = entryOffset(high, low) === 0 ? 0 : clusterSize;
    let at = start + bytes;
    for (const past = end * bytes; at < past; at += bytes) {
      low += step;
      if (table.getUint32(at + 4) !== low || table.getUint32(at) !== high) break;
      if (bytes > 8 && (table.getUint32(at + 8) !== table.getUint32(start + 8) || table.getUint32(at + 12) !== table.getUint32(start + 12))) break;
    }
    return at / bytes - index;
  }

  /** The image has bytes of the cluster, plain or compressed. */
  holdsData(table: DataView, index: number): boolean {
    return this.compressed(table, index) || this.allocated(table, index) !== 0;
  }

  /** Two tables have the same entry for a cluster, apart from the copied flag. */
  same(table: DataView, other: DataView, index: number): boolean {
    if ((this.high(table, index) & ~COPIED_HIGH) !== (this.high(other, index) & ~COPIED_HIGH)) return false;
    if (this.low(table, index) !== this.low(other, index)) return false;
    return (
      this.subclusters === 1 || (this.allocated(table, index) === this.allocated(other, index) && this.zero(table, index) === this.zero(other, index))
    );
  }

  /** Some bit of a subcluster is set. */
  marked(table: DataView, index: number): boolean {
    return (this.allocated(table, index) | this.zero(table, index)) !== 0;
  }

  /** Both bits of a subcluster are set, or one is allocated without a place. The bits of a compressed cluster have no meaning. */
  contradicts(table: DataView, index: number): boolean {
    if (this.subclusters === 1 || this.compressed(table, index)) return false;
    const allocated = this.allocated(table, index);
    return (allocated & this.zero(table, index)) !== 0 || (allocated !== 0 && !this.placed(table, index));
  }

  /** The fault of an entry in itself, as the end of a sentence about it: off its cluster, or contradicting. */
  fault(table: DataView, index: number, clusterSize: number): string | undefined {
    if (this.contradicts(table, index)) return 'marks its subclusters in ways that contradict each other';
    const offset = this.compressed(table, index) ? 0 : this.offset(table, index);
    return offset % clusterSize === 0 ? undefined : `points at 0x${offset.toString(16)}, not on a cluster`;
  }

  put(table: DataView, index: number, { offset, copied, allocated, zero }: EntryValue): void {
    const at = index * this.bytes;
    setU64be(table, at, offset);
    if (copied) table.setUint32(at, Math.floor(offset / TWO_32) + COPIED_HIGH);
    if (this.subclusters > 1) {
      table.setInt32(at + 8, zero);
      table.setInt32(at + 12, allocated);
    } else if (zero !== 0) table.setUint32(at + 4, table.getUint32(at + 4) | ZERO_LOW);
  }

  /** Points an entry at compressed bytes. False, and nothing written, if the offset has too many bits. */
  putCompressed(table: DataView, index: number, place: CompressedPlace, clusterBits: number): boolean {
    const at = index * this.bytes;
    if (!putCompressed(table, at, place, clusterBits)) return false;
    if (this.subclusters > 1) {
      table.setInt32(at + 8, 0);
      table.setInt32(at + 12, 0);
    }
    return true;
  }
}
