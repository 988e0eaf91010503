/** The refcount table of an open image in memory: the places of the blocks that hold the counts. */
import { divideUp, isZero, roundUp, setU64be, view } from '../../base/bytes.ts';
import { SECTOR } from '../../base/units.ts';
import { entryOffset } from './layout-tables.ts';

export class RefcountTable {
  readonly #table: DataView;
  /** Host offset of the table. */
  readonly offset: number;

  constructor(bytes: Uint8Array, offset: number) {
    this.#table = view(bytes);
    this.offset = offset;
  }

  get entries(): number {
    return this.#table.byteLength / 8;
  }

  /** Bytes. */
  get length(): number {
    return this.#table.byteLength;
  }

  /** Host offset of block `index`, 0 if there is none, also past the end of the table. */
  blockOffset(index: number): number {
    if (index >= this.entries) return 0;
    const high = this.#table.getUint32(index * 8);
    // Bits 56-63 would point past any file we can open; they are kept, so that the bounds check refuses the entry.
    return entryOffset(high & 0x00ff_ffff, this.#table.getUint32(index * 8 + 4)) + (high >>> 24) * 2 ** 56;
  }

  /** Low bits of an entry that should be 0 are not. */
  reserved(index: number): boolean {
    return (this.#table.getUint32(index * 8 + 4) & 0x1ff) !== 0;
  }

  put(index: number, blockOffset: number): void {
    setU64be(this.#table, index * 8, blockOffset);
  }

  /** Entries that are not 0. */
  *inUse(): Generator<number> {
    const table = this.#table;
    for (let start = 0; start < table.byteLength; start += SECTOR) {
      // Nearly all of a table is empty.
      const part = new DataView(table.buffer, table.byteOffset + start, SECTOR);
      if (isZero(new Uint8Array(part.buffer, part.byteOffset, SECTOR))) continue;
      for (let at = 0; at < SECTOR; at += 8) if (part.getUint32(at + 4) !== 0 || part.getUint32(at) !== 0) yield (start + at) / 8;
    }
  }

  /** The table's bytes, for a copy. */
  copy(): Uint8Array {
    return new Uint8Array(this.#table.buffer, this.#table.byteOffset, this.#table.byteLength).slice();
  }
}

/** How many new blocks and table clusters an area that starts where block `firstBlock` counts needs to count itself: the least that fits. */
export function planGrowth(
  firstBlock: number,
  { blockEntries, clusterSize }: { blockEntries: number; clusterSize: number },
): { blocks: number; tableClusters: number } {
  for (let blocks = 1; ; blocks++) {
    const total = firstBlock + blocks;
    const entries = roundUp(total + divideUp(total, 2), clusterSize / 8);
    const tableClusters = (entries * 8) / clusterSize;
    if (blocks * blockEntries >= blocks + tableClusters) return { blocks, tableClusters };
  }
}
