/** An extent with tables, as a part of a disk: where grains are and may go (grain-tables.ts has the crash argument), growth, compressed grains. */
import { roundDown, setU64le, view } from '../../base/bytes.ts';
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { EncodedReads } from '../../tables/encoded-reads.ts';
import type { TakenUnit } from '../../tables/file-end.ts';
import type { Table } from '../../tables/table-cache.ts';
import type { Extent, FreshPlacement, Placement } from '../driver.ts';
import type { DiskPart, Growth, PartOptions } from './extents.ts';
import { EMPTY, full, GrainTables, MAX_FILE, notWhole } from './grain-tables.ts';
import { encodeGrain, grainReads } from './grains.ts';
import { FORMAT, largerShape, type Shape } from './layout.ts';

/** See the top of this file. */
export class SparsePart implements DiskPart {
  readonly storage: Storage;
  readonly grainSize: number;
  readonly kind: string;
  size: number;
  readonly #tables: GrainTables;
  readonly #start: number;
  readonly #reads: EncodedReads;

  /** Throws `corrupt` if a directory is not wholly in the file. */
  constructor(storage: Storage, shape: Shape, { size, kind, start, readOnly }: PartOptions) {
    this.storage = storage;
    this.size = size;
    this.kind = kind;
    this.#start = start;
    this.grainSize = shape.grainSize;
    this.#tables = new GrainTables(storage, shape, readOnly);
    this.#reads = this.#encoded();
  }

  get shape(): Shape {
    return this.#tables.shape;
  }

  get compressed(): boolean {
    return this.shape.compressed;
  }

  get zeroGrains(): boolean {
    return this.shape.zeroGrains;
  }

  get fixed(): string | undefined {
    return this.shape.fixed;
  }

  look(offset: number, length: number): Extent | undefined {
    const { grainSize, storage } = this;
    const tables = this.#tables;
    const within = offset % grainSize;
    const first = (offset - within) / grainSize;
    const grain = tables.known(first);
    if (grain === undefined) return undefined;
    const data = typeof grain === 'number' && !this.compressed;
    let index = first + 1;
    while (index * grainSize < offset + length) {
      const next = tables.known(index);
      if (data ? next !== grain + (index - first) * grainSize : typeof grain === 'number' ? typeof next !== 'number' : next !== grain) break;
      index++;
    }
    const run = Math.min(length, index * grainSize - offset);
    if (grain === 'none') return { kind: 'backing', length: run };
    if (grain === 'zero') return { kind: 'zero', length: run };
    return data ? { kind: 'data', length: run, storage, hostOffset: grain + within } : { kind: 'encoded', length: run, compressed: true };
  }

  load(offset: number): Io<void> {
    return this.#tables.load(Math.floor(offset / this.grainSize));
  }

  place(offset: number, length: number): Placement | undefined {
    const { grainSize, storage } = this;
    const all = this.#tables;
    const within = offset % grainSize;
    const start = offset - within;
    const index = start / grainSize;
    const grain = all.known(index);
    if (grain === undefined || this.compressed) return undefined;
    const inside = Math.min(length, grainSize - within);
    if (typeof grain === 'number') return { length: inside, storage, hostOffset: grain + within };
    let tables: readonly Table[] | undefined;
    try {
      tables = all.end.size + grainSize <= MAX_FILE ? all.tablesFor(index) : undefined;
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
    }
    const unit = tables && all.end.take();
    if (!tables || !unit) return undefined;
    const hostOffset = all.end.offset(unit.index);
    const fresh = this.#fresh({ start, index, tables, unit, wasEmpty: grain === 'none' });
    return { length: inside, storage, hostOffset: hostOffset + within, fresh };
  }

  #fresh({ start, index, tables, unit, wasEmpty }: FreshGrain): FreshPlacement {
    const all = this.#tables;
    const { end } = all;
    const pin = (by: 1 | -1): void => {
      for (const table of tables) table.pins += by;
    };
    pin(1);
    return {
      start: start + this.#start,
      end: Math.min(start + this.grainSize, this.size) + this.#start,
      untouched: unit.untouched,
      wasEmpty,
      commit: () => {
        all.set(index, tables, end.offset(unit.index) / SECTOR);
        pin(-1);
      },
      abort: (unused) => {
        end.giveBack(unit, unused);
        pin(-1);
      },
    };
  }

  *prepare(offset: number): Io<void> {
    const index = Math.floor(offset / this.grainSize);
    const tables = this.#tables;
    if (this.compressed) throw notWhole();
    yield* tables.ready(index);
    tables.grain(index);
    if (tables.end.size + this.grainSize > MAX_FILE) throw full(this.storage);
    yield* tables.end.ready();
  }

  /** Grains that are made to read as zero keep no place. Where the format has no mark for them, they may be left out of an image that has nothing below. */
  *zero(offset: number, length: number, { unmap, over }: { unmap: boolean; over: boolean }): Io<number> {
    const mark = this.shape.zeroGrains ? EMPTY.zero : unmap && !over ? EMPTY.none : undefined;
    return mark === undefined ? 0 : yield* this.#mark(offset, length, mark);
  }

  *discard(offset: number, length: number, { over }: { over: boolean }): Io<void> {
    const { grainSize } = this;
    const first = Math.ceil(offset / grainSize) * grainSize;
    if (first < offset + length) yield* this.zero(first, offset + length - first, { unmap: true, over });
  }

  *#mark(offset: number, length: number, value: number): Io<number> {
    const { grainSize, size } = this;
    const all = this.#tables;
    const end = offset + length === size ? size : roundDown(offset + length, grainSize);
    if (this.compressed || offset % grainSize !== 0 || end <= offset) return 0;
    for (let at = offset; at < end; at += grainSize) {
      const index = at / grainSize;
      let tables = all.tablesFor(index);
      if (!tables) {
        yield* all.ready(index);
        tables = all.tablesFor(index);
      }
      if (tables) all.set(index, tables, value);
    }
    return end - offset;
  }

  decode(offset: number, into: Uint8Array): Io<void> {
    return this.#reads.read(offset, into);
  }

  *writeCompressed(offset: number, bytes: Uint8Array): Io<void> {
    const index = offset / this.grainSize;
    const all = this.#tables;
    yield* all.ready(index);
    if (all.grain(index) !== 'none')
      throw unsupported(FORMAT, `grain ${index} has been written: a streamOptimized image takes each once`, { field: 'subformat', offset });
    const encoded = encodeGrain(bytes, (offset + this.#start) / SECTOR);
    const host = all.append;
    if (host + encoded.length > MAX_FILE) throw full(this.storage);
    all.append += encoded.length;
    yield* this.storage.write(host, encoded);
    yield* all.ready(index);
    const tables = all.tablesFor(index);
    if (tables) all.set(index, tables, host / SECTOR);
  }

  #encoded(): EncodedReads {
    const { grainSize, storage, size } = this;
    const tables = this.#tables;
    return grainReads(storage, {
      ...{ grainSize, size, start: this.#start },
      known: (index) => tables.known(index),
      load: (offset) => this.load(offset),
    });
  }

  /**
   * Crash argument: larger directories, the tables that they add and everything in them are durable before the header, in one sector, states the new size and names them.
   * The old directories become space that nothing names.
   */
  *grow(size: number): Io<Growth> {
    const old = this.size;
    if (this.compressed) throw unsupported(FORMAT, 'a streamOptimized image does not grow', { field: 'subformat' });
    const larger = largerShape(this.shape, size);
    const back = yield* this.#tables.grow(larger, old);
    this.size = size;
    return {
      show: () => this.#show(),
      back: () => {
        this.size = old;
        back();
      },
    };
  }

  *#show(): Io<void> {
    yield* this.flush();
    const sector = yield* readBytes(this.storage, 0, SECTOR);
    const [first = 0, second] = this.#tables.places;
    setU64le(view(sector), 12, this.shape.capacity / SECTOR);
    setU64le(view(sector), 56, first / SECTOR);
    if (second !== undefined) setU64le(view(sector), 48, second / SECTOR);
    yield* this.#tables.order.lock.run(() => this.#tables.order.point(0, sector));
  }

  makeEmpty(): Io<void> {
    return this.#tables.makeEmpty();
  }

  flush(): Io<void> {
    return this.#tables.flush();
  }

  /** Goes over all grains in turn. `tell` hears of each that cannot be read, because its place or its tables are wrong, and ends the walk with false. */
  *walk(tell: (index: number, wrong: 'past the end' | 'unreadable') => boolean, step: () => void): Io<void> {
    const grains = Math.ceil(this.size / this.grainSize);
    for (let index = 0; index < grains; index++) {
      if (index % this.shape.tableEntries === 0) step();
      if (this.#tables.known(index) !== undefined) continue;
      try {
        yield* this.load(index * this.grainSize);
      } catch (error) {
        if (!(error instanceof DiskError) || error.kind !== 'corrupt') throw error;
        if (!tell(index, this.#isPastEnd(index) ? 'past the end' : 'unreadable')) return;
      }
    }
  }

  #isPastEnd(index: number): boolean {
    try {
      const grain = this.#tables.entry(index);
      return typeof grain === 'number' && grain >= this.storage.size;
    } catch {
      return false;
    }
  }
}

/** A grain without a place, and the place that it gets. */
interface FreshGrain {
  /** Bytes from the beginning of the extent. */
  readonly start: number;
  readonly index: number;
  readonly tables: readonly Table[];
  readonly unit: TakenUnit;
  readonly wasEmpty: boolean;
}
