/**
 * Pages of a VHDX file that change only through its log, in memory: those of the BAT and of sector bitmaps. A page is known by its offset in the file. Changes
 * stay here until a flush takes them (`seal`) and brings them to the file.
 */
import type { Io } from '../../base/io.ts';
import { Lru } from '../../base/lru.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import { PAGE } from './layout.ts';
import type { PageWrite } from './log.ts';

/** See the top of this file. */
export class Pages {
  readonly #storage: Storage;
  readonly #kept: Lru<number, DataView>;
  readonly #bounded: boolean;
  readonly #pins = new Map<number, number>();
  readonly #dirty = new Set<number>();
  readonly #sealed = new Map<number, Uint8Array>();
  /** Those of them that were written; the flush is not over. */
  readonly #written = new Set<number>();

  /** `most`: pages that are kept, besides those that are changed or pinned; default all. */
  constructor(storage: Storage, most = Number.POSITIVE_INFINITY) {
    this.#storage = storage;
    this.#kept = new Lru(most);
    this.#bounded = Number.isFinite(most);
  }

  /** A page, if it is in memory. */
  get(offset: number): DataView | undefined {
    return this.#bounded ? this.#kept.get(offset) : this.#kept.peek(offset);
  }

  /** Reads a page in: `get` finds it then. */
  *load(offset: number): Io<void> {
    if (this.#kept.peek(offset)) return;
    const bytes = yield* readBytes(this.#storage, offset, PAGE);
    // Others may have read it meanwhile, and changed it.
    if (!this.#kept.peek(offset)) this.#keep(offset, new DataView(bytes.buffer));
  }

  /** A page in memory that the caller changes. Written by the next flush. */
  change(offset: number): DataView {
    const page = this.#kept.peek(offset);
    if (!page) throw new Error('tabdisk: a page of a VHDX file is changed that is not in memory');
    this.#dirty.add(offset);
    return page;
  }

  /** Keeps a page that is in memory there, until `unpin` was called as often. */
  pin(offset: number): void {
    this.#pins.set(offset, (this.#pins.get(offset) ?? 0) + 1);
  }

  /** See `pin`. */
  unpin(offset: number): void {
    const left = (this.#pins.get(offset) ?? 0) - 1;
    if (left > 0) this.#pins.set(offset, left);
    else this.#pins.delete(offset);
  }

  /** Forgets all, changes too: nothing points at these pages any more. */
  clear(): void {
    this.#kept.clear();
    this.#dirty.clear();
  }

  /** See `Sealed`. */
  seal(): void {
    for (const offset of this.#dirty) {
      const page = this.#kept.peek(offset) as DataView;
      this.#sealed.set(offset, new Uint8Array(page.buffer.slice(0)));
    }
    this.#dirty.clear();
  }

  /** See `Sealed`. */
  unseal(durable: boolean): void {
    if (!durable) for (const offset of this.#written) if (this.#kept.peek(offset)) this.#dirty.add(offset);
    this.#written.clear();
    for (const offset of this.#sealed.keys()) if (this.#kept.peek(offset)) this.#dirty.add(offset);
    this.#sealed.clear();
  }

  /** Some sealed changes are not written yet. */
  get hasSealed(): boolean {
    return this.#sealed.size > 0;
  }

  /** At most `most` sealed pages that are not written, in the order of the file. */
  sealed(most: number): PageWrite[] {
    const pages = [...this.#sealed].sort(([a], [b]) => a - b).slice(0, most);
    return pages.map(([offset, bytes]) => ({ offset, bytes }));
  }

  /** Notes that a sealed page is in the file. */
  written(offset: number): void {
    if (this.#sealed.delete(offset)) this.#written.add(offset);
  }

  #isChanged(offset: number): boolean {
    return this.#dirty.has(offset) || this.#sealed.has(offset) || this.#written.has(offset);
  }

  #keep(offset: number, page: DataView): void {
    this.#kept.set(offset, page);
    while (this.#kept.size > this.#kept.capacity) {
      const spare = this.#kept.victim((_, key) => key !== offset && !this.#pins.has(key) && !this.#isChanged(key));
      if (!spare) return;
      this.#kept.delete(spare[0]);
    }
  }
}
