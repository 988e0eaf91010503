/**
 * The sector bitmaps of a child ([MS-VHDX] 2.7): a bit for each sector of the blocks that are partially present, the lowest of a byte first, set if the sector's
 * bytes are in the child. A bitmap block of 1 MiB serves a chunk, the blocks between two entries for such blocks in the BAT.
 */
import type { Io } from '../../base/io.ts';
import { MiB } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import { PAGE } from './layout.ts';
import { Pages } from './pages.ts';

/** Pages that are kept: 8 MiB. */
const KEPT = (8 * MiB) / PAGE;
const PAGE_BITS = PAGE * 8;

/** The bits of one payload block: where its chunk's bitmap block is, and the block's first bit there. */
export interface BlockBits {
  readonly offset: number;
  readonly first: number;
  /** Sectors of the block. */
  readonly count: number;
}

const pageOf = ({ offset }: BlockBits, bit: number): number => offset + Math.floor(bit / PAGE_BITS) * PAGE;

/** See the top of this file. Sectors are counted from the block's first. */
export class SectorBitmaps {
  readonly pages: Pages;

  constructor(storage: Storage) {
    this.pages = new Pages(storage, KEPT);
  }

  /**
   * How many sectors from `sector` on, at most `most`, are alike, as far as a page tells, and whether they are in the child; undefined if the page is
   * not in memory.
   */
  run(bits: BlockBits, sector: number, most: number): { readonly set: boolean; readonly count: number } | undefined {
    const first = bits.first + sector;
    const page = this.pages.get(pageOf(bits, first));
    if (!page) return undefined;
    const at = first % PAGE_BITS;
    const end = Math.min(at + most, PAGE_BITS);
    const set = isSet(page, at);
    const whole = set ? 0xff : 0;
    let next = at + 1;
    while (next < end) {
      if (next % 8 === 0 && end - next >= 8 && page.getUint8(next / 8) === whole) next += 8;
      else if (isSet(page, next) === set) next++;
      else break;
    }
    return { set, count: next - at };
  }

  /** Reads in what `run` needs for a sector. */
  load(bits: BlockBits, sector: number): Io<void> {
    return this.pages.load(pageOf(bits, bits.first + sector));
  }

  /** Reads in all bits of a block. */
  *loadAll(bits: BlockBits): Io<void> {
    for (const page of pagesOf(bits)) yield* this.pages.load(page);
  }

  /** True if all bits of a block are in memory. */
  has(bits: BlockBits): boolean {
    return pagesOf(bits).every((page) => this.pages.get(page));
  }

  /** Keeps all bits of a block in memory until `unpin` was called as often. */
  pin(bits: BlockBits): void {
    for (const page of pagesOf(bits)) this.pages.pin(page);
  }

  /** See `pin`. */
  unpin(bits: BlockBits): void {
    for (const page of pagesOf(bits)) this.pages.unpin(page);
  }

  /** These sectors are in the child, or not; their bits are in memory. */
  set(bits: BlockBits, sector: number, count: number, value = true): void {
    for (let bit = bits.first + sector; bit < bits.first + sector + count; ) {
      const page = this.pages.change(pageOf(bits, bit));
      const at = bit % PAGE_BITS;
      const byte = at >>> 3;
      if (at % 8 === 0 && bits.first + sector + count - bit >= 8) {
        page.setUint8(byte, value ? 0xff : 0);
        bit += 8;
        continue;
      }
      const mask = 1 << (at & 7);
      page.setUint8(byte, value ? page.getUint8(byte) | mask : page.getUint8(byte) & ~mask);
      bit++;
    }
  }
}

const isSet = (page: DataView, bit: number): boolean => (page.getUint8(bit >>> 3) & (1 << (bit & 7))) !== 0;

function pagesOf(bits: BlockBits): number[] {
  const pages: number[] = [];
  for (let page = pageOf(bits, bits.first); page <= pageOf(bits, bits.first + bits.count - 1); page += PAGE) pages.push(page);
  return pages;
}
