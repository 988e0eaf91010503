/**
 * qcow2's tables on disk (docs/interop/qcow2 in QEMU's tree): L1 and L2 entries, refcount blocks. Pure: bytes in,
 * values out. Entries are 64 bits, handled as two 32-bit words `high` and `low`, so that flags are tested without BigInt.
 */
import { setU64be, TWO_32 } from '../../base/bytes.ts';

/** Bit 63: exactly one reference, so writing in place is allowed. */
export const COPIED_HIGH = 0x8000_0000;
/** Bit 62: compressed cluster descriptor. */
export const COMPRESSED_HIGH = 0x4000_0000;
/** Bit 0 of a standard cluster descriptor (version 3): reads as zeros. */
export const ZERO_LOW = 1;
/** Bits 32-55 of the host offset. */
const OFFSET_HIGH = 0x00ff_ffff;
/** Bits 9-31 of the host offset. */
const OFFSET_LOW = 0xffff_fe00;

/** Host offset of an L1 entry or a standard L2 entry, bits 9-55. At most 2^56, checked against the file before use. */
export const entryOffset = (high: number, low: number): number => (high & OFFSET_HIGH) * TWO_32 + ((low & OFFSET_LOW) >>> 0);

/** Writes entry `index` of an L1 table: a host offset, and whether it has exactly one reference. */
export function putEntry(table: DataView, index: number, offset: number, copied: boolean): void {
  setU64be(table, index * 8, offset);
  if (copied) table.setUint32(index * 8, Math.floor(offset / TWO_32) + COPIED_HIGH);
}

/** True if reserved bits are set in an L1 entry (0-8, 56-62). */
export const l1Reserved = (high: number, low: number): boolean => (high & 0x7f00_0000) !== 0 || (low & 0x1ff) !== 0;

/** True if reserved bits are set in a standard L2 entry: 1-8, 56-61, and bit 0 in version 2. */
export const l2Reserved = (high: number, low: number, version: number): boolean =>
  (high & 0x3f00_0000) !== 0 || (low & (version === 2 ? 0x1ff : 0x1fe)) !== 0;

/** A compressed cluster descriptor: where its bytes start and how many the reader may take (they may run past the end of file). */
export interface CompressedPlace {
  readonly hostOffset: number;
  readonly length: number;
}

/** Decodes bits 0-61 of a compressed descriptor: x = 62 - (cluster_bits - 8) bits of offset, then additional 512-byte sectors. */
export function compressedPlace(high: number, low: number, clusterBits: number): CompressedPlace {
  const offsetBits = 62 - (clusterBits - 8);
  const highOffsetBits = offsetBits - 32;
  const hostOffset = (high & (2 ** highOffsetBits - 1)) * TWO_32 + low;
  const sectors = (high & 0x3fff_ffff) >>> highOffsetBits;
  return { hostOffset, length: (sectors + 1) * 512 - (hostOffset % 512) };
}

/** Writes an L2 entry at byte `at` of a table: compressed bytes at `hostOffset`. False, and nothing written, if the offset has too many bits. */
export function putCompressed(table: DataView, at: number, { hostOffset, length }: CompressedPlace, clusterBits: number): boolean {
  const highOffsetBits = 62 - (clusterBits - 8) - 32;
  const offsetHigh = Math.floor(hostOffset / TWO_32);
  if (offsetHigh >= 2 ** highOffsetBits) return false;
  const sectors = Math.floor((hostOffset + length - 1) / 512) - Math.floor(hostOffset / 512);
  table.setUint32(at, COMPRESSED_HIGH + sectors * 2 ** highOffsetBits + offsetHigh);
  table.setUint32(at + 4, hostOffset % TWO_32);
  return true;
}

/* Refcounts. */

/** Reads entry `index` of a refcount block. Entries narrower than a byte start at the least significant bit. */
export function getRefcount(block: DataView, index: number, order: number): number {
  switch (order) {
    case 4:
      return block.getUint16(index * 2);
    case 3:
      return block.getUint8(index);
    case 5:
      return block.getUint32(index * 4);
    case 6:
      return block.getUint32(index * 8) * TWO_32 + block.getUint32(index * 8 + 4);
    default: {
      const bits = 1 << order;
      const perByte = 8 >> order;
      return (block.getUint8(Math.floor(index / perByte)) >> ((index % perByte) * bits)) & ((1 << bits) - 1);
    }
  }
}

/** Reads entries from `index` on, as many as `into` takes. */
export function getRefcounts(block: DataView, index: number, order: number, into: Float64Array): void {
  if (order === 4) for (let i = 0; i < into.length; i++) into[i] = block.getUint16((index + i) * 2);
  else for (let i = 0; i < into.length; i++) into[i] = getRefcount(block, index + i, order);
}

/** Writes entry `index` of a refcount block; `value` fits the width. */
export function setRefcount(block: DataView, index: number, order: number, value: number): void {
  switch (order) {
    case 4:
      return block.setUint16(index * 2, value);
    case 3:
      return block.setUint8(index, value);
    case 5:
      return block.setUint32(index * 4, value);
    case 6:
      return setU64be(block, index * 8, value);
    default: {
      const bits = 1 << order;
      const perByte = 8 >> order;
      const at = Math.floor(index / perByte);
      const shift = (index % perByte) * bits;
      block.setUint8(at, (block.getUint8(at) & ~(((1 << bits) - 1) << shift)) | (value << shift));
    }
  }
}

/** The largest refcount of a width; 64-bit counts stop at the largest number that a double counts exactly. */
export const maxRefcount = (order: number): number => (order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (1 << order) - 1);
