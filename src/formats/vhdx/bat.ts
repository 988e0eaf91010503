/**
 * The block allocation table ([MS-VHDX] 2.5): an entry of 64 bits for each payload block, and after each `chunkRatio` of them one for a block of sector
 * bitmaps. In memory page by page; changes stay there until a flush takes them (`seal`) and brings them to the file through the log.
 */
import { TWO_32 } from '../../base/bytes.ts';
import { corrupt, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { MiB } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { FORMAT, overlap, PAGE, type Range } from './layout.ts';

/** States of a payload block. The others, without a parent, read as zero too, but for those that are reserved. */
export const STATE = { notPresent: 0, undefined: 1, zero: 2, unmapped: 3, full: 6, partial: 7 } as const;
const READS_ZERO: readonly number[] = [STATE.notPresent, STATE.undefined, STATE.zero, STATE.unmapped, 5];

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
  readonly reserved: readonly Range[];
}

const ENTRIES = PAGE / 8;
/** Bytes that are read at once when the whole table is gone over. */
const SCAN = 64 * PAGE;

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

/** Where an entry is, and what it is judged by. */
interface Judged {
  readonly index: number;
  readonly block: number;
  readonly fileSize: number;
  readonly bat: BatOptions;
}

/** What is wrong with the place of a block, in QEMU's words; nothing if it is right. The last block may be as short in the file as it is on the disk. */
export function wrongPlace({ offset }: Entry, { index, block, fileSize, bat }: Judged): string | undefined {
  const { blockSize, reserved, size } = bat;
  const place = { start: offset, end: offset + blockSize };
  const other = reserved.find((one) => overlap(one, place));
  if (other) return `VHDX region ${place.start}-${place.end} overlaps with region ${other.start}-${other.end}`;
  const end = offset + Math.min(blockSize, size - block * blockSize);
  if (end <= fileSize) return undefined;
  const what = offset >= fileSize ? `start offset ${offset}` : `end offset ${end - 1}`;
  return `VHDX BAT entry ${index} ${what} points after end of file (${fileSize}). Image has probably been truncated.`;
}

/** See the top of this file. */
export class Bat {
  readonly #storage: Storage;
  readonly options: BatOptions;
  readonly #pages = new Map<number, DataView>();
  readonly #dirty = new Set<number>();
  readonly #sealed = new Map<number, Uint8Array>();

  constructor(storage: Storage, options: BatOptions) {
    this.#storage = storage;
    this.options = options;
  }

  /** The entry of a payload block, if it is in memory. */
  get(block: number): Entry | undefined {
    const index = entryOf(block, this.options.chunkRatio);
    const page = this.#pages.get(Math.floor(index / ENTRIES));
    return page && parseEntry(page, (index % ENTRIES) * 8);
  }

  /** Reads the entries about a payload block in. Throws if the block's own entry is wrong. */
  *load(block: number): Io<void> {
    const index = entryOf(block, this.options.chunkRatio);
    const number = Math.floor(index / ENTRIES);
    if (!this.#pages.has(number)) {
      const bytes = yield* readBytes(this.#storage, this.options.offset + number * PAGE, PAGE);
      // Others may have read it meanwhile, and changed it.
      if (!this.#pages.has(number)) this.#pages.set(number, new DataView(bytes.buffer));
    }
    const entry = this.get(block) as Entry;
    if (this.isSound(entry)) return;
    const place = { field: 'BAT', offset: this.options.offset + index * 8 };
    const wrong = entry.state === STATE.full ? wrongPlace(entry, { index, block, fileSize: this.#storage.size, bat: this.options }) : undefined;
    if (wrong) throw corrupt(FORMAT, wrong, place);
    throw unsupported(FORMAT, `BAT entry ${index} has state ${entry.state}`, place);
  }

  /** False for an entry that `load` throws an error for. The end of a block that is being written may lie past the file's. */
  isSound({ state, offset }: Entry): boolean {
    if (state !== STATE.full) return READS_ZERO.includes(state);
    const place = { start: offset, end: offset + this.options.blockSize };
    return offset < this.#storage.size && !this.options.reserved.some((one) => overlap(one, place));
  }

  /** Shows each entry of a payload block in the file, with its number. */
  *scan(look: (index: number, entry: Entry, block: number) => void): Io<void> {
    const { blocks, chunkRatio, offset } = this.options;
    const entries = blocks === 0 ? 0 : entryOf(blocks - 1, chunkRatio) + 1;
    for (let first = 0; first < entries; first += SCAN / 8) {
      const bytes = yield* readBytes(this.#storage, offset + first * 8, Math.min(SCAN, Math.ceil(((entries - first) * 8) / PAGE) * PAGE));
      const data = new DataView(bytes.buffer);
      for (let index = first; index < Math.min(entries, first + SCAN / 8); index++) {
        if (index % (chunkRatio + 1) === chunkRatio) continue;
        look(index, parseEntry(data, (index - first) * 8), index - Math.floor(index / (chunkRatio + 1)));
      }
    }
  }

  /** Changes the entry of a block that is in memory. Written by the next flush. */
  set(block: number, entry: Entry): void {
    const index = entryOf(block, this.options.chunkRatio);
    const number = Math.floor(index / ENTRIES);
    const page = this.#pages.get(number);
    if (!page) return;
    encodeEntry(page, (index % ENTRIES) * 8, entry);
    this.#dirty.add(number);
  }

  /** See `Sealed`. */
  seal(): void {
    for (const number of this.#dirty) {
      const page = this.#pages.get(number);
      if (page) this.#sealed.set(number, new Uint8Array(page.buffer.slice(0)));
    }
    this.#dirty.clear();
  }

  /** See `Sealed`. */
  unseal(): void {
    for (const number of this.#sealed.keys()) this.#dirty.add(number);
    this.#sealed.clear();
  }

  /** Some sealed changes are not written yet. */
  get hasSealed(): boolean {
    return this.#sealed.size > 0;
  }

  /** At most `most` sealed pages that are not written, by their offset in the file. */
  sealed(most: number): { offset: number; bytes: Uint8Array }[] {
    const pages = [...this.#sealed].sort(([a], [b]) => a - b).slice(0, most);
    return pages.map(([number, bytes]) => ({ offset: this.options.offset + number * PAGE, bytes }));
  }

  /** Notes that a sealed page is in the file. */
  written(offset: number): void {
    this.#sealed.delete((offset - this.options.offset) / PAGE);
  }
}
