/**
 * The chunks of a drive that were written since the tracking began: for incremental exports and for showing changes. Sparse, so
 * that a large disk costs nothing until it is written. A write marks every chunk that it touches, also if it fails: some of its bytes may have
 * arrived.
 */
import { divideUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import type { ByteRange } from '../base/ranges.ts';
import { MiB, SECTOR } from '../base/units.ts';

/** QEMU's chunk of 2048 sectors. */
export const DEFAULT_DIRTY_GRANULARITY = MiB;

/** Bits in a page of the bitmap. */
const PAGE_BITS = 32_768;

/** One bit a chunk. */
export class DirtyBitmap {
  /** Bytes in a chunk. */
  readonly granularity: number;
  #size: number;
  #count = 0;
  readonly #pages = new Map<number, Uint8Array>();

  /** Throws `refused` unless the granularity is a power of two of at least a sector. */
  constructor(size: number, granularity: number = DEFAULT_DIRTY_GRANULARITY) {
    if (!Number.isInteger(Math.log2(granularity)) || granularity < SECTOR)
      throw new DiskError('refused', `The granularity of a dirty bitmap is a power of two from ${SECTOR} on, not ${granularity}`, {
        field: 'granularity',
      });
    this.granularity = granularity;
    this.#size = size;
  }

  /** Bytes that are tracked. */
  get size(): number {
    return this.#size;
  }

  /** Dirty chunks. */
  get count(): number {
    return this.#count;
  }

  /** Bytes in dirty chunks; the last chunk may be cut off. */
  get bytes(): number {
    let total = 0;
    for (const { start, end } of this) total += end - start;
    return total;
  }

  /** Whether the chunk at an offset is dirty; false past the end. */
  get(offset: number): boolean {
    return offset < this.#size && this.#bit(Math.floor(offset / this.granularity));
  }

  /** Marks every chunk that the range touches. */
  mark(offset: number, length: number): void {
    this.#change(offset, length, true);
  }

  /** Clears every chunk that the range touches; without a range, all. */
  reset(offset = 0, length = this.#size - offset): void {
    this.#change(offset, length, false);
  }

  /** The disk has another size now: chunks past its end are forgotten, new ones are clean. */
  resize(size: number): void {
    if (size < this.#size) {
      // A chunk that the new end cuts stays as it is.
      const kept = divideUp(size, this.granularity) * this.granularity;
      if (kept < this.#size) this.reset(kept);
    }
    this.#size = size;
  }

  /** The dirty ranges in order, neighbours as one, cut off at the end of the disk. */
  *[Symbol.iterator](): Generator<ByteRange, void, undefined> {
    const { granularity } = this;
    let open: { start: number; end: number } | undefined;
    for (const page of [...this.#pages.keys()].sort((a, b) => a - b)) {
      for (let chunk = page * PAGE_BITS; chunk < (page + 1) * PAGE_BITS; chunk++) {
        if (!this.#bit(chunk)) continue;
        const start = chunk * granularity;
        const end = Math.min(start + granularity, this.#size);
        if (open?.end === start) open.end = end;
        else {
          if (open) yield open;
          open = { start, end };
        }
      }
    }
    if (open) yield open;
  }

  #bit(chunk: number): boolean {
    const page = this.#pages.get(Math.floor(chunk / PAGE_BITS));
    const at = chunk % PAGE_BITS;
    return page !== undefined && ((page[at >> 3] ?? 0) & (1 << (at & 7))) !== 0;
  }

  #change(offset: number, length: number, dirty: boolean): void {
    const end = Math.min(offset + length, this.#size);
    if (length <= 0 || offset >= end) return;
    const last = Math.floor((end - 1) / this.granularity);
    for (let chunk = Math.floor(offset / this.granularity); chunk <= last; chunk++) {
      if (this.#bit(chunk) === dirty) continue;
      const number = Math.floor(chunk / PAGE_BITS);
      const page = this.#pages.get(number) ?? new Uint8Array(PAGE_BITS / 8);
      this.#pages.set(number, page);
      const at = chunk % PAGE_BITS;
      page[at >> 3] = (page[at >> 3] ?? 0) ^ (1 << (at & 7));
      this.#count += dirty ? 1 : -1;
    }
  }
}
