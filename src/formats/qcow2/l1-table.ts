/** The L1 table of an open image in memory, and the entries of it that have to be written. */
import { view } from '../../base/bytes.ts';
import type { DebugHook } from '../../base/debug-events.ts';
import type { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import { l1EntriesIn, lostL1Entry } from './file-tables.ts';
import type { Header } from './layout.ts';
import { COPIED_HIGH, entryOffset, putEntry } from './layout-tables.ts';

export class L1Table {
  readonly #header: Header;
  readonly #table: DataView;
  /** Entries that could be read: all, unless the file was cut off in the table. */
  readonly known: number;
  readonly #dirty = new Set<number>();

  /** `fileSize`: bytes of the file that the table was read from; absent for a table that was just written whole. */
  constructor(header: Header, bytes: Uint8Array, fileSize?: number) {
    this.#header = header;
    this.#table = view(bytes);
    this.known = fileSize === undefined ? this.size : l1EntriesIn(header, fileSize);
  }

  /** Entries. */
  get size(): number {
    return this.#table.byteLength / 8;
  }

  /** Some entries are not in the file yet. */
  get hasChanges(): boolean {
    return this.#dirty.size > 0;
  }

  /** Host offset in an entry, 0 where there is no L2 table; and whether the table is ours alone. */
  entry(index: number): { offset: number; copied: boolean; high: number; low: number } {
    const high = this.#table.getUint32(index * 8);
    const low = this.#table.getUint32(index * 8 + 4);
    return { offset: entryOffset(high, low), copied: (high & COPIED_HIGH) !== 0, high, low };
  }

  /** Just the offset, for the read path; 0 past the end of the table. */
  offset(index: number): number {
    return index < this.size ? entryOffset(this.#table.getUint32(index * 8), this.#table.getUint32(index * 8 + 4)) : 0;
  }

  /** Written by the next flush. */
  put(index: number, offset: number, copied: boolean): void {
    putEntry(this.#table, index, offset, copied);
    this.#dirty.add(index);
  }

  /** The error for an entry past the end of the file: its table is lost, and so are the guest's bytes there. */
  fault(index: number): DiskError | undefined {
    return index < this.known || index >= this.size ? undefined : lostL1Entry(this.#header, index);
  }

  /** The table's bytes, for a copy. */
  copy(): Uint8Array {
    return new Uint8Array(this.#table.buffer, this.#table.byteOffset, this.#table.byteLength).slice();
  }

  /** Writes changed entries, neighbours at once. `place`: the table's offset in the file. */
  *write(storage: Storage, place: number, debug: DebugHook | undefined): Io<void> {
    const dirty = [...this.#dirty].sort((a, b) => a - b);
    for (let i = 0; i < dirty.length; ) {
      const first = dirty[i] as number;
      let count = 1;
      while (dirty[i + count] === first + count) count++;
      const bytes = new Uint8Array(this.#table.buffer, this.#table.byteOffset + first * 8, count * 8);
      if (debug) yield* debug('l1_update');
      yield* storage.write(place + first * 8, bytes);
      i += count;
    }
    this.#dirty.clear();
  }
}
