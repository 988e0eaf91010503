/**
 * One dirty bitmap in memory: a bit for each 2^granularityBits guest bytes. It is kept in pages of one cluster, as its table in the file
 * has them; a page is read when it is first changed, so that a huge bitmap costs only its changed pages. Nothing here writes: bitmaps.ts
 * stores bitmaps and decides the meaning of a failure.
 */
import { divideUp, isZero, roundUp } from '../../base/bytes.ts';
import { corrupt, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { DirtyRun, DirtyRuns } from '../tools.ts';
import { readBitmapTable } from './file-bitmaps.ts';
import { FORMAT } from './layout.ts';
import { ALL_ONES, ALL_ZEROES, type BitmapEntry, bitmapBytes } from './layout-bitmaps.ts';

export interface StoredBitmapOptions {
  readonly storage: Storage;
  readonly clusterSize: number;
  /** Guest bytes. */
  readonly size: number;
  readonly name: string;
  readonly granularityBits: number;
  readonly enabled: boolean;
  /** The bitmap in the file; absent for a new one. */
  readonly entry?: BitmapEntry;
  readonly inconsistent?: boolean;
}

interface Page {
  readonly bits: Uint8Array;
  /** The page differs from the file. */
  changed: boolean;
}

export class StoredBitmap implements DirtyRuns {
  readonly name: string;
  readonly granularityBits: number;
  enabled: boolean;
  /** Its contents are not known to be right: it can only be removed. */
  inconsistent: boolean;
  /** The bitmap as the directory in the file has it. */
  entry: BitmapEntry | undefined;
  readonly #storage: Storage;
  readonly #clusterSize: number;
  #size: number;
  /** The places of the pages that are not in memory; read when first needed. */
  #table: Float64Array | undefined;
  readonly #pages = new Map<number, Page>();
  /** The page used last. */
  #last: { readonly index: number; readonly bits: Uint8Array } | undefined;
  #changed: boolean;

  constructor(options: StoredBitmapOptions) {
    this.#storage = options.storage;
    this.#clusterSize = options.clusterSize;
    this.#size = options.size;
    this.name = options.name;
    this.granularityBits = options.granularityBits;
    this.enabled = options.enabled;
    this.inconsistent = options.inconsistent ?? false;
    this.entry = options.entry;
    this.#changed = options.entry === undefined;
    if (!options.entry) this.#table = new Float64Array(this.#pageCount(this.#size));
  }

  /** Guest bytes. */
  get size(): number {
    return this.#size;
  }

  /** Guest bytes for each bit. */
  get granularity(): number {
    return 2 ** this.granularityBits;
  }

  /** The bitmap in memory differs from the one in the file. */
  get changed(): boolean {
    return this.#changed;
  }

  /** Reads the table. Throws `corrupt` if it is not one for a disk of this size. */
  *load(): Io<Float64Array> {
    if (this.#table) return this.#table;
    const entry = this.entry as BitmapEntry;
    if (entry.tableSize !== this.#pageCount(this.#size))
      throw corrupt(FORMAT, `Could not read bitmap '${this.name}' from image: Invalid argument`, { field: 'bitmap_table_size' });
    const table = yield* readBitmapTable(this.#storage, entry, this.#clusterSize);
    this.#table ??= table;
    return this.#table;
  }

  /** Forgets the table if it can be read again. */
  unload(): void {
    if (!this.#changed && this.#pages.size === 0) this.#table = undefined;
  }

  /** Sets the bits of every piece that a guest range touches. */
  *set(offset: number, length: number): Io<void> {
    if (length === 0) return;
    const first = Math.floor(offset / this.granularity);
    const end = divideUp(offset + length, this.granularity);
    const perPage = this.#clusterSize * 8;
    for (let at = first; at < end; ) {
      const index = Math.floor(at / perPage);
      const to = Math.min(end, (index + 1) * perPage);
      const table = yield* this.load();
      if (this.#pages.has(index) || table[index] !== ALL_ONES) {
        const page = yield* this.#own(index);
        if (fillBits(page.bits, at - index * perPage, to - index * perPage)) {
          page.changed = true;
          this.#changed = true;
        }
      }
      at = to;
    }
  }

  /** Clears every bit. */
  clear(): void {
    this.#table = new Float64Array(this.#pageCount(this.#size));
    this.#pages.clear();
    this.#last = undefined;
    this.#changed = true;
  }

  /** Adjusts the bitmap to another size of the disk: added bytes are not dirty. */
  *truncate(size: number): Io<void> {
    if (size === this.#size) return;
    const table = yield* this.load();
    const kept = divideUp(Math.min(size, this.#size), this.granularity);
    const perPage = this.#clusterSize * 8;
    const full = Math.floor(kept / perPage);
    const within = kept % perPage;
    // Bits past the end may be set in the file; they must not become valid.
    if (within > 0 && (this.#pages.has(full) || table[full] !== ALL_ZEROES)) {
      const page = yield* this.#own(full);
      clearBits(page.bits, within);
      page.changed = true;
    }
    const pages = divideUp(kept, perPage);
    for (const index of [...this.#pages.keys()]) if (index >= pages) this.#pages.delete(index);
    const next = new Float64Array(this.#pageCount(size));
    next.set(table.subarray(0, Math.min(pages, next.length)));
    this.#table = next;
    this.#size = size;
    this.#last = undefined;
    this.#changed = true;
  }

  /** Throws `refused` if the contents must not be used. */
  requireUsable(): void {
    if (this.inconsistent)
      throw new DiskError('refused', `${FORMAT}: Bitmap '${this.name}' is inconsistent and cannot be used: remove it`, {
        format: FORMAT,
        field: 'in_use',
      });
  }

  *next(from: number): Io<DirtyRun | undefined> {
    this.requireUsable();
    // The last piece may reach past the end of the disk.
    if (from >= this.#size) return undefined;
    const bits = divideUp(this.#size, this.granularity);
    const first = yield* this.#find(Math.floor(from / this.granularity), bits, 1);
    if (first >= bits) return undefined;
    const end = yield* this.#find(first, bits, 0);
    const start = Math.max(from, first * this.granularity);
    return { start, length: Math.min(this.#size, end * this.granularity) - start };
  }

  /** The table that stores the bitmap, with every changed page at the place that `place` returns. Nothing changes here: see `stored`. */
  *tableFor(place: (page: Uint8Array) => Io<number>): Io<Float64Array> {
    const table = (yield* this.load()).slice();
    for (const [index, { bits, changed }] of this.#pages) if (changed) table[index] = isZero(bits) ? ALL_ZEROES : yield* place(bits);
    return table;
  }

  /** The first bit from `from` on, below `end`, that has this value; `end` if there is none. */
  *#find(from: number, end: number, value: 0 | 1): Io<number> {
    const perPage = this.#clusterSize * 8;
    for (let at = from; at < end; ) {
      const index = Math.floor(at / perPage);
      const limit = Math.min(end, (index + 1) * perPage);
      const page = yield* this.#look(index);
      if (page === value) return at;
      if (typeof page !== 'number') {
        const found = findBit(page, at - index * perPage, limit - index * perPage, value);
        if (found >= 0) return index * perPage + found;
      }
      at = limit;
    }
    return end;
  }

  /** A page for reading; a number if all of its bits have that value. */
  *#look(index: number): Io<Uint8Array | 0 | 1> {
    const own = this.#pages.get(index);
    if (own) return own.bits;
    const place = (yield* this.load())[index] as number;
    if (place === ALL_ZEROES || place === ALL_ONES) return place;
    if (this.#last?.index === index) return this.#last.bits;
    const bits = yield* this.#read(place);
    this.#last = { index, bits };
    return bits;
  }

  /** A page for changing. */
  *#own(index: number): Io<Page> {
    const there = this.#pages.get(index);
    if (there) return there;
    const seen = yield* this.#look(index);
    const bits = typeof seen === 'number' ? new Uint8Array(this.#clusterSize).fill(seen * 0xff) : seen;
    // Another write may have come first while the page was read.
    const page = this.#pages.get(index) ?? { bits, changed: false };
    this.#pages.set(index, page);
    return page;
  }

  *#read(place: number): Io<Uint8Array> {
    if (place + this.#clusterSize > roundUp(this.#storage.size, this.#clusterSize))
      throw corrupt(FORMAT, `a cluster of bitmap '${this.name}' at 0x${place.toString(16)} lies past the end of the file`, {
        field: 'bitmap table',
        offset: place,
      });
    return yield* readBytes(this.#storage, place, this.#clusterSize);
  }

  #pageCount(size: number): number {
    return divideUp(bitmapBytes(size, this.granularityBits), this.#clusterSize);
  }
}

/** Sets bits [from, to), the least significant of a byte first. True if any was clear. */
function fillBits(bits: Uint8Array, from: number, to: number): boolean {
  let changed = false;
  for (let at = from; at < to; ) {
    const byte = at >>> 3;
    const bit = at & 7;
    const count = Math.min(8 - bit, to - at);
    const old = bits[byte] as number;
    const now = old | (((1 << count) - 1) << bit);
    if (now !== old) changed = true;
    bits[byte] = now;
    at += count;
  }
  return changed;
}

/** Clears every bit from `from` on. */
function clearBits(bits: Uint8Array, from: number): void {
  const byte = from >>> 3;
  bits[byte] = (bits[byte] as number) & ((1 << (from & 7)) - 1);
  bits.fill(0, byte + 1);
}

/** The first bit of [from, to) that has this value, or -1. */
function findBit(bits: Uint8Array, from: number, to: number, value: 0 | 1): number {
  const none = value === 1 ? 0 : 0xff;
  for (let at = from; at < to; ) {
    const byte = bits[at >>> 3] as number;
    if (byte === none) {
      at = (at | 7) + 1;
      continue;
    }
    if (((byte >>> (at & 7)) & 1) === value) return at;
    at++;
  }
  return -1;
}
