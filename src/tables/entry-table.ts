/**
 * A flat table of 32-bit entries in an image (a block map), in memory page by page. Changes stay in memory until the driver's flush writes them in its
 * order; a flush writes what had changed when it began (`seal`), for a change that comes while it waits needs another barrier before it.
 */
import { corrupt, type DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { SECTOR } from '../base/units.ts';
import type { Storage } from '../storage/storage.ts';

/** Bytes that are read at once. */
const PAGE = 4096;
const ENTRIES = PAGE / 4;

/** Where a table is, and how its entries lie there. */
export interface EntryTableOptions {
  /** Bytes from the file's beginning: a multiple of 512. */
  readonly offset: number;
  readonly entries: number;
  readonly littleEndian: boolean;
  /** The format's name and the table's, for errors. */
  readonly format: string;
  readonly what: string;
}

interface Page {
  readonly bytes: Uint8Array;
  readonly data: DataView;
}

/** See the top of this file. */
export class EntryTable {
  readonly #storage: Storage;
  #options: EntryTableOptions;
  readonly #pages = new Map<number, Page>();
  /** Pages with changes; those that `seal` took, as they were then; and those of them that were written. */
  readonly #dirty = new Set<number>();
  readonly #sealed = new Map<number, Uint8Array>();
  readonly #written = new Set<number>();

  /** Throws `corrupt` for a table that is not wholly in the file. */
  constructor(storage: Storage, options: EntryTableOptions) {
    this.#storage = storage;
    this.#options = options;
    if (options.offset + options.entries * 4 > storage.size) throw this.#cut();
  }

  /** Entries of the table. */
  get length(): number {
    return this.#options.entries;
  }

  /** An entry, if it is in memory. */
  get(index: number): number | undefined {
    return this.#pages.get(Math.floor(index / ENTRIES))?.data.getUint32((index % ENTRIES) * 4, this.#options.littleEndian);
  }

  /** Reads the entries about an index in: `get` finds them then. */
  *load(index: number): Io<void> {
    const number = Math.floor(index / ENTRIES);
    if (this.#pages.has(number)) return;
    const bytes = new Uint8Array(PAGE);
    yield* this.#storage.read(this.#options.offset + number * PAGE, bytes.subarray(0, this.#lengthOf(number)));
    // Others may have read it meanwhile, and changed it.
    if (!this.#pages.has(number)) this.#pages.set(number, { bytes, data: new DataView(bytes.buffer) });
  }

  /** Reads all entries in. */
  *loadAll(): Io<void> {
    for (let index = 0; index < this.length; index += ENTRIES) yield* this.load(index);
  }

  /** Changes an entry that is in memory. Written by the next flush. */
  set(index: number, value: number): void {
    const number = Math.floor(index / ENTRIES);
    this.#pages.get(number)?.data.setUint32((index % ENTRIES) * 4, value, this.#options.littleEndian);
    this.#dirty.add(number);
  }

  /** See `Sealed`. */
  seal(): void {
    for (const number of this.#dirty) {
      const bytes = this.#pages.get(number)?.bytes.slice(0, this.#lengthOf(number));
      if (bytes) this.#sealed.set(number, bytes);
    }
    this.#dirty.clear();
  }

  /** Some sealed changes are not written yet. */
  get hasSealed(): boolean {
    return this.#sealed.size > 0;
  }

  /** See `Sealed`. */
  unseal(durable: boolean): void {
    for (const number of this.#sealed.keys()) this.#dirty.add(number);
    if (!durable) for (const number of this.#written) this.#dirty.add(number);
    this.#sealed.clear();
    this.#written.clear();
  }

  /** Writes what was sealed, in the order of the file. */
  *write(): Io<void> {
    for (const [number, bytes] of [...this.#sealed].sort(([a], [b]) => a - b)) {
      yield* this.#storage.write(this.#options.offset + number * PAGE, bytes);
      this.#sealed.delete(number);
      this.#written.add(number);
    }
  }

  /** Makes the table longer, in memory: the file has room behind it. The new entries are `value`, whatever the file has there. */
  *extend(entries: number, value: number): Io<void> {
    const old = this.length;
    if (old % ENTRIES !== 0) yield* this.load(old);
    this.#options = { ...this.#options, entries };
    for (let index = old; index < entries; index++) {
      const number = Math.floor(index / ENTRIES);
      if (!this.#pages.has(number)) {
        const bytes = new Uint8Array(PAGE);
        this.#pages.set(number, { bytes, data: new DataView(bytes.buffer) });
      }
      this.set(index, value);
    }
  }

  /** Bytes of a page that belong to the table: whole sectors, as far as the file goes. */
  #lengthOf(number: number): number {
    const { offset, entries } = this.#options;
    const start = number * PAGE;
    const length = Math.min(PAGE, Math.ceil((entries * 4) / SECTOR) * SECTOR - start);
    return Math.min(length, this.#storage.size - offset - start);
  }

  #cut(): DiskError {
    const { format, what, offset } = this.#options;
    return corrupt(format, `the ${what} lies past the end of the file`, { field: what, offset });
  }
}
