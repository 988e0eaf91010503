/** An open growing disk: a catalog with an entry for each extent of the disk, and in front of each extent a bitmap of the sectors that were written. */
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Lru } from '../../base/lru.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { EntryTable } from '../../tables/entry-table.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { Extent } from '../driver.ts';
import { ReadImage } from '../read-image.ts';
import { ABSENT, FORMAT, type Header, parseHeader } from './layout.ts';

/** Bitmaps that are kept in memory; of the largest extents each has 2 KiB. */
const BITMAPS = 1024;

/** Opens an image. */
export function* openImage(storage: Storage, _: OpenParameters): Io<BochsImage> {
  return new BochsImage(storage, parseHeader(yield* readBytes(storage, 0, Math.min(SECTOR, storage.size))));
}

export class BochsImage extends ReadImage {
  readonly format = FORMAT;
  readonly size: number;
  readonly #header: Header;
  readonly #catalog: EntryTable;
  /** By extent: a bit for each sector that the extent has, the lowest bit first. */
  readonly #bitmaps = new Lru<number, Uint8Array>(BITMAPS);

  constructor(storage: Storage, header: Header) {
    super(storage);
    this.size = header.size;
    this.#header = header;
    const { catalogOffset: offset, extents: entries } = header;
    this.#catalog = new EntryTable(storage, { offset, entries, littleEndian: true, format: FORMAT, what: 'catalog' });
  }

  look(offset: number, length: number): Extent | undefined {
    const { extentSize, bitmapSize } = this.#header;
    const index = Math.floor(offset / extentSize);
    const entry = this.#catalog.get(index);
    if (entry === undefined) return undefined;
    if (entry === ABSENT) {
      let end = (index + 1) * extentSize;
      while (end < offset + length && this.#catalog.get(end / extentSize) === ABSENT) end += extentSize;
      return { kind: 'zero', length: Math.min(length, end - offset) };
    }
    const bitmap = this.#bitmaps.get(index);
    if (!bitmap) return undefined;
    const within = offset % extentSize;
    const first = Math.floor(within / SECTOR);
    const last = Math.floor((Math.min(within + length, extentSize) - 1) / SECTOR);
    const written = isSet(bitmap, first);
    let end = first + 1;
    while (end <= last && isSet(bitmap, end) === written) end++;
    const run = Math.min(length, end * SECTOR - within);
    if (!written) return { kind: 'zero', length: run };
    const start = this.#place(entry) + bitmapSize;
    if (start + end * SECTOR > this.storage.size) return undefined;
    return { kind: 'data', length: run, storage: this.storage, hostOffset: start + within };
  }

  *load(offset: number, length: number): Io<void> {
    const { extentSize, bitmapSize, catalogOffset } = this.#header;
    const index = Math.floor(offset / extentSize);
    yield* this.#catalog.load(index);
    const entry = this.#catalog.get(index) as number;
    if (entry === ABSENT) return;
    const start = this.#place(entry);
    if (start + bitmapSize > this.storage.size)
      throw corrupt(FORMAT, `extent ${index} lies past the end of the file`, { field: 'catalog', offset: catalogOffset + index * 4 });
    if (!this.#bitmaps.peek(index)) {
      const bitmap = yield* readBytes(this.storage, start, Math.ceil(extentSize / SECTOR / 8));
      const spare = this.#bitmaps.size >= BITMAPS ? this.#bitmaps.victim(() => true) : undefined;
      if (spare) this.#bitmaps.delete(spare[0]);
      this.#bitmaps.set(index, bitmap);
    }
    if (!this.look(offset, length))
      throw corrupt(FORMAT, `sectors of extent ${index} lie past the end of the file`, { field: 'bitmap', offset: start });
  }

  /** Host offset of an extent's bitmap. */
  #place(entry: number): number {
    const { dataOffset, bitmapSize, extentSize } = this.#header;
    return dataOffset + entry * (bitmapSize + extentSize);
  }
}

const isSet = (bitmap: Uint8Array, bit: number): boolean => (((bitmap[bit >> 3] as number) >> (bit & 7)) & 1) === 1;
