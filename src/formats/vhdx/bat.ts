/**
 * The block allocation table ([MS-VHDX] 2.5): an entry of 64 bits for each payload block, and after each `chunkRatio` of them one for a block of sector
 * bitmaps, which only a child has. In memory page by page; changes stay there until a flush takes them (`seal`) and brings them to the file through the log,
 * bits before the entries of their blocks: a block that becomes partially present must not show what its bits said before.
 */
import { TWO_32 } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { MiB } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { FORMAT, overlap, PAGE, type Range } from './layout.ts';
import type { PageWrite } from './log.ts';
import { Pages } from './pages.ts';
import { type BlockBits, SectorBitmaps } from './sector-bitmaps.ts';

/** States of a payload block; of a bitmap block only the first and `full`. */
export const STATE = { notPresent: 0, undefined: 1, zero: 2, unmapped: 3, full: 6, partial: 7 } as const;
/** The state 5 was that of unmapped blocks in drafts of the format. */
const READS_ZERO: readonly number[] = [STATE.undefined, STATE.zero, STATE.unmapped, 5];

/** An entry: the state, and the block's place in bytes from the file's beginning. */
export interface Entry {
  readonly state: number;
  readonly offset: number;
}

/** What a table describes. `reserved`: what no block may lie over. */
export interface BatOptions {
  readonly offset: number;
  /** Bytes of the disk. */
  readonly size: number;
  readonly blocks: number;
  readonly chunkRatio: number;
  readonly blockSize: number;
  readonly logicalSector: number;
  readonly hasParent: boolean;
  readonly reserved: readonly Range[];
}

/** Entries of a page. */
const ENTRIES = PAGE / 8;
/** Bytes that are read at once when the whole table is gone over. */
const SCAN = 64 * PAGE;
/** Bytes of a block of sector bitmaps. */
export const BITMAP_BLOCK = MiB;

/** The number of a payload block's entry. */
export const entryOf = (block: number, chunkRatio: number): number => block + Math.floor(block / chunkRatio);

const parseEntry = (data: DataView, at: number): Entry => {
  const low = data.getUint32(at, true);
  return { state: low & 7, offset: data.getUint32(at + 4, true) * TWO_32 + (low - (low % MiB)) };
};

/** Writes an entry at a byte of a table. */
export const encodeEntry = (data: DataView, at: number, { state, offset }: Entry): void => {
  data.setUint32(at, (offset % TWO_32) + state, true);
  data.setUint32(at + 4, Math.floor(offset / TWO_32), true);
};

/** Where an entry is, and what it is judged by. `block`: absent for a block of sector bitmaps. */
interface Judged {
  readonly index: number;
  readonly block: number | undefined;
  readonly fileSize: number;
  readonly bat: BatOptions;
}

/** What is wrong with the place of a block, in QEMU's words; nothing if it is right. The last block may be as short in the file as it is on the disk. */
export function wrongPlace({ offset }: Entry, { index, block, fileSize, bat }: Judged): string | undefined {
  const { blockSize, reserved, size } = bat;
  const length = block === undefined ? BITMAP_BLOCK : blockSize;
  const place = { start: offset, end: offset + length };
  const other = reserved.find((one) => overlap(one, place));
  if (other) return `VHDX region ${place.start}-${place.end} overlaps with region ${other.start}-${other.end}`;
  const end = offset + (block === undefined ? length : Math.min(blockSize, size - block * blockSize));
  if (end <= fileSize) return undefined;
  const what = offset >= fileSize ? `start offset ${offset}` : `end offset ${end - 1}`;
  return `VHDX BAT entry ${index} ${what} points after end of file (${fileSize}). Image has probably been truncated.`;
}

/** See the top of this file. */
export class Bat {
  readonly #storage: Storage;
  readonly #entries: Pages;
  readonly bitmaps: SectorBitmaps;
  #options: BatOptions;

  constructor(storage: Storage, options: BatOptions) {
    this.#storage = storage;
    this.#entries = new Pages(storage);
    this.bitmaps = new SectorBitmaps(storage);
    this.#options = options;
  }

  get options(): BatOptions {
    return this.#options;
  }

  /** Describes a larger disk, or one without a parent. The pages of a table that moved are those of its new place. */
  renew(options: Partial<BatOptions>): void {
    if (options.offset !== undefined && options.offset !== this.#options.offset) this.#entries.clear();
    this.#options = { ...this.#options, ...options };
  }

  #pageOf(index: number): number {
    return this.#options.offset + Math.floor(index / ENTRIES) * PAGE;
  }

  #entryAt(index: number): Entry | undefined {
    const page = this.#entries.get(this.#pageOf(index));
    return page && parseEntry(page, (index % ENTRIES) * 8);
  }

  /** The entry of a payload block, if it is in memory. */
  get(block: number): Entry | undefined {
    return this.#entryAt(entryOf(block, this.#options.chunkRatio));
  }

  #bitmapIndex(block: number): number {
    const { chunkRatio } = this.#options;
    return Math.floor(block / chunkRatio) * (chunkRatio + 1) + chunkRatio;
  }

  /** Where the bits of a payload block are: `none` if its chunk has no block of bitmaps, undefined if the entry of that is not in memory. */
  bitsOf(block: number): BlockBits | 'none' | undefined {
    const { chunkRatio, blockSize, logicalSector } = this.#options;
    const entry = this.#entryAt(this.#bitmapIndex(block));
    if (!entry) return undefined;
    if (entry.state !== STATE.full) return 'none';
    const count = blockSize / logicalSector;
    return { offset: entry.offset, first: (block % chunkRatio) * count, count };
  }

  /** Reads the entry of a payload block in. */
  loadEntry(block: number): Io<void> {
    return this.#entries.load(this.#pageOf(entryOf(block, this.#options.chunkRatio)));
  }

  /** Reads in what tells of the sector at `within` bytes of a payload block. Throws if an entry is wrong. */
  *load(block: number, within = 0): Io<void> {
    const index = entryOf(block, this.#options.chunkRatio);
    yield* this.loadEntry(block);
    const entry = this.get(block) as Entry;
    if (!this.isSound(entry)) throw this.#fault(entry, index, block);
    if (entry.state !== STATE.partial) return;
    const bits = yield* this.loadBitsOf(block);
    if (bits === 'none') throw corrupt(FORMAT, `BAT entry ${index} has state 7, and there is no sector bitmap for it`, this.#placeOf(index));
    yield* this.bitmaps.load(bits, Math.floor(within / this.#options.logicalSector));
  }

  /** `bitsOf`, after reading the entry. Throws if that is wrong. */
  *loadBitsOf(block: number): Io<BlockBits | 'none'> {
    const index = this.#bitmapIndex(block);
    yield* this.#entries.load(this.#pageOf(index));
    const entry = this.#entryAt(index) as Entry;
    if (entry.state !== STATE.full && entry.state !== STATE.notPresent) throw this.#fault(entry, index, undefined);
    if (entry.state === STATE.full && !this.#isInFile(entry, BITMAP_BLOCK)) throw this.#fault(entry, index, undefined);
    return this.bitsOf(block) as BlockBits | 'none';
  }

  #placeOf(index: number) {
    return { field: 'BAT', offset: this.#options.offset + index * 8 };
  }

  #fault(entry: Entry, index: number, block: number | undefined) {
    const hasPlace = entry.state === STATE.full || (entry.state === STATE.partial && this.#options.hasParent && block !== undefined);
    const wrong = hasPlace ? wrongPlace(entry, { index, block, fileSize: this.#storage.size, bat: this.#options }) : undefined;
    if (wrong) return corrupt(FORMAT, wrong, this.#placeOf(index));
    return unsupported(FORMAT, `BAT entry ${index} has state ${entry.state}`, this.#placeOf(index));
  }

  /** False for an entry that `load` throws an error for. The end of a block that is being written may lie past the file's. */
  isSound(entry: Entry): boolean {
    const { state } = entry;
    if (state === STATE.full || (state === STATE.partial && this.#options.hasParent)) return this.#isInFile(entry, this.#options.blockSize);
    return state === STATE.notPresent || READS_ZERO.includes(state);
  }

  #isInFile({ offset }: Entry, length: number): boolean {
    const place = { start: offset, end: offset + length };
    return offset < this.#storage.size && !this.#options.reserved.some((one) => overlap(one, place));
  }

  /** Shows each entry in the file, with the number of its payload block; a child's blocks of bitmaps have none. */
  *scan(look: (index: number, entry: Entry, block: number | undefined) => void): Io<void> {
    const { offset, chunkRatio, hasParent } = this.#options;
    const entries = this.#length;
    for (let first = 0; first < entries; first += SCAN / 8) {
      const bytes = yield* readBytes(this.#storage, offset + first * 8, Math.min(SCAN, Math.ceil(((entries - first) * 8) / PAGE) * PAGE));
      const data = new DataView(bytes.buffer);
      for (let index = first; index < Math.min(entries, first + SCAN / 8); index++) {
        const isBitmap = index % (chunkRatio + 1) === chunkRatio;
        if (isBitmap && !hasParent) continue;
        const block = index - Math.floor(index / (chunkRatio + 1));
        if (isBitmap || block < this.#options.blocks) look(index, parseEntry(data, (index - first) * 8), isBitmap ? undefined : block);
      }
    }
  }

  get #length(): number {
    const { blocks, chunkRatio, hasParent } = this.#options;
    if (blocks === 0) return 0;
    return hasParent ? Math.ceil(blocks / chunkRatio) * (chunkRatio + 1) : entryOf(blocks - 1, chunkRatio) + 1;
  }

  /** Changes the entry of a block that is in memory. Written by the next flush. */
  set(block: number, entry: Entry): void {
    this.#setAt(entryOf(block, this.#options.chunkRatio), entry);
  }

  /** Says where the bitmap block of a payload block's chunk is; the entry is in memory. */
  setBitmap(block: number, offset: number): void {
    this.#setAt(this.#bitmapIndex(block), { state: STATE.full, offset });
  }

  /** Makes entries [from, to) say that their blocks are not present. */
  *clearEntries(from: number, to: number): Io<void> {
    for (let index = from; index < to; index++) {
      const page = this.#pageOf(index);
      yield* this.#entries.load(page);
      const entry = this.#entryAt(index) as Entry;
      if (entry.state !== STATE.notPresent || entry.offset !== 0) this.#setAt(index, { state: STATE.notPresent, offset: 0 });
    }
  }

  #setAt(index: number, entry: Entry): void {
    encodeEntry(this.#entries.change(this.#pageOf(index)), (index % ENTRIES) * 8, entry);
  }

  /** See `Sealed`. */
  seal(): void {
    this.bitmaps.pages.seal();
    this.#entries.seal();
  }

  /** See `Sealed`. */
  unseal(durable: boolean): void {
    this.bitmaps.pages.unseal(durable);
    this.#entries.unseal(durable);
  }

  /** Some sealed changes are not written yet. */
  get hasSealed(): boolean {
    return this.bitmaps.pages.hasSealed || this.#entries.hasSealed;
  }

  /** At most `most` sealed pages that are not written, in the order in which they may become visible. */
  sealed(most: number): PageWrite[] {
    const bits = this.bitmaps.pages.sealed(most);
    return [...bits, ...this.#entries.sealed(most - bits.length)];
  }

  /** Notes that a sealed page is in the file. */
  written(offset: number): void {
    this.bitmaps.pages.written(offset);
    this.#entries.written(offset);
  }
}
