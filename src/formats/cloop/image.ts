/** An open cloop image: the offset of each compressed block, and the blocks one behind the other. */
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { Lru } from '../../base/lru.ts';
import { inflateZlib } from '../../compression/inflate.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { type EncodedPlace, EncodedReads, unitsOf } from '../../tables/encoded-reads.ts';
import type { OpenParameters } from '../descriptor.ts';
import type { Extent } from '../driver.ts';
import { ReadImage } from '../read-image.ts';
import { FORMAT, HEADER_SIZE, type Header, OFFSETS_AT, parseHeader, parsePlace } from './layout.ts';

/** Blocks whose offsets are read at once, and how many such pages are kept in memory. */
const PAGE = 512;
const PAGES = 64;

/** Opens an image. */
export function* openImage(storage: Storage, _: OpenParameters): Io<CloopImage> {
  const bytes = yield* readBytes(storage, 0, Math.min(HEADER_SIZE, storage.size));
  return new CloopImage(storage, parseHeader(bytes, storage.size));
}

export class CloopImage extends ReadImage {
  readonly format = FORMAT;
  readonly size: number;
  readonly #header: Header;
  readonly #reads: EncodedReads;
  /** Pages of the table of offsets, each with the first offset of the next one. */
  readonly #pages = new Lru<number, Uint8Array>(PAGES);

  constructor(storage: Storage, header: Header) {
    super(storage);
    const { blockSize, blocks } = header;
    this.size = blockSize * blocks;
    this.#header = header;
    this.#reads = new EncodedReads({
      storage,
      format: FORMAT,
      what: 'compressed block',
      at: unitsOf(blockSize),
      place: (index) => this.#place(index),
      known: (index) => this.#known(index),
      decode: (bytes, place) => decodeBlock(bytes, place, blockSize),
    });
  }

  look(_: number, length: number): Extent {
    return { kind: 'encoded', length, compressed: true };
  }

  *load(): Io<void> {}

  override *decode(offset: number, into: Uint8Array): Io<void> {
    yield* this.#reads.read(offset, into);
  }

  #known(index: number): EncodedPlace | undefined {
    const page = this.#pages.get(Math.floor(index / PAGE));
    const at = (index % PAGE) * 8;
    return page && parsePlace(page.subarray(at, at + 16), index, this.#header);
  }

  *#place(index: number): Io<EncodedPlace> {
    const first = index - (index % PAGE);
    const page =
      this.#pages.get(first / PAGE) ??
      (yield* readBytes(this.storage, OFFSETS_AT + first * 8, (Math.min(PAGE, this.#header.blocks - first) + 1) * 8));
    const spare = this.#pages.size >= PAGES ? this.#pages.victim((_, key) => key !== first / PAGE) : undefined;
    if (spare) this.#pages.delete(spare[0]);
    this.#pages.set(first / PAGE, page);
    const at = (index % PAGE) * 8;
    return parsePlace(page.subarray(at, at + 16), index, this.#header);
  }
}

function decodeBlock(bytes: Uint8Array, { hostOffset }: EncodedPlace, blockSize: number): Uint8Array {
  try {
    return inflateZlib(bytes, blockSize);
  } catch (cause) {
    throw corrupt(FORMAT, 'a compressed block cannot be decoded', { field: 'compressed block', offset: hostOffset, cause });
  }
}
