/**
 * An image whose guest bytes lie in units of one size, in any order one behind the other, and whose map has an entry for each unit of the disk.
 *
 * Crash argument. Before the first change of an opening the driver marks the image as its format wants it (`begin`), behind a barrier. A new unit gets a place
 * that no durable entry points at (file-end.ts), its data is written there, and the entry changes in memory. A flush (write-order.ts) first makes the file as
 * long as its units, and writes the map behind a barrier. A unit that is given up loses its entry in memory, and its place is handed out again only once a
 * flush has made that durable (freed-units.ts). So a cut leaves places that nothing points at, never an entry that points at bytes which are not there,
 * or which another entry points at. Units that are moved are new units with the old bytes.
 */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { MiB } from '../base/units.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import type { EntryTable } from '../tables/entry-table.ts';
import type { FileEnd, TakenUnit } from '../tables/file-end.ts';
import { FreedUnits } from '../tables/freed-units.ts';
import { WriteOrder } from '../tables/write-order.ts';
import type { BelowReference, Extent, FormatInfo, FreshPlacement, Placement } from './driver.ts';
import type { ToolImage } from './tools.ts';

/** A unit that has no place: what is below shows, or zeros hide it. */
export const NOWHERE = -1;
export const ZEROS = -2;

/** Bytes that are moved at a time. */
const PIECE = MiB;

/** The parts of such an image. `end` is absent if the image is only read. */
export interface UnitParts {
  readonly format: string;
  readonly clusterSize: number;
  readonly map: EntryTable;
  readonly end?: FileEnd;
}

/** See the top of this file. */
export abstract class UnitImage implements ToolImage {
  readonly format: string;
  readonly storage: Storage;
  readonly debug: Storage['debugEvent'];
  readonly clusterSize: number;
  protected map: EntryTable;
  protected end: FileEnd | undefined;
  protected readonly order: WriteOrder;
  /** The image is marked, and may change. */
  protected begun = false;
  /** Units that have a place keep it, also where they become zeros. */
  protected readonly keepsPlaces: boolean = false;
  readonly #freed = new FreedUnits((units) => this.end?.release(units));

  constructor(storage: Storage, { format, clusterSize, map, end }: UnitParts) {
    this.storage = storage;
    this.debug = storage.debugEvent;
    this.format = format;
    this.clusterSize = clusterSize;
    this.map = map;
    this.end = end;
    const pending = () => this.map.hasSealed;
    this.order = new WriteOrder(storage, {
      format,
      changes: [{ seal: () => this.map.seal(), unseal: (durable) => this.map.unseal(durable) }, this.#freed],
      stages: [
        { pending, write: () => this.beforeMap() },
        { pending, write: () => this.map.write() },
      ],
    });
  }

  abstract readonly size: number;
  /** Entries of the map for units of the disk. */
  protected abstract readonly units: number;

  /** A format with images below has entries for zeros that hide them. */
  get backing(): BelowReference | undefined {
    return undefined;
  }

  /** Host offset of a unit of the disk, `NOWHERE` or `ZEROS`; undefined if its entry is not in memory, or wrong. */
  protected abstract find(index: number): number | undefined;
  /** Reads the entry of a unit in. Throws the error if it is wrong. */
  protected abstract loadEntry(index: number): Io<void>;
  /** Changes the entry of a unit, which is in memory: to a host offset, `NOWHERE` or `ZEROS`. */
  protected abstract point(index: number, to: number): void;
  /** Marks the image before its first change, behind a barrier; sets `begun`. */
  protected abstract begin(): Io<void>;

  /** No entry could point at the end of the file. */
  protected get full(): boolean {
    return false;
  }

  /** No entry could point at the end of the file before a flush has released what was given up. */
  protected get crowded(): boolean {
    return false;
  }

  /** What a flush writes before the map. */
  protected *beforeMap(): Io<void> {
    if (this.end && this.end.count > 0) yield* this.end.grow();
  }

  look(offset: number, length: number): Extent | undefined {
    const { clusterSize, storage } = this;
    const within = offset % clusterSize;
    const index = (offset - within) / clusterSize;
    const place = this.find(index);
    if (place === undefined) return undefined;
    if (place >= 0) return { kind: 'data', length: Math.min(length, clusterSize - within), storage, hostOffset: place + within };
    let end = (index + 1) * clusterSize;
    while (end < offset + length && this.find(end / clusterSize) === place) end += clusterSize;
    return { kind: place === NOWHERE ? 'backing' : 'zero', length: Math.min(length, end - offset) };
  }

  load(offset: number): Io<void> {
    return this.loadEntry(Math.floor(offset / this.clusterSize));
  }

  place(offset: number, length: number): Placement | undefined {
    const { clusterSize, storage, end } = this;
    const within = offset % clusterSize;
    const index = (offset - within) / clusterSize;
    const place = this.begun && end ? this.find(index) : undefined;
    if (place === undefined || !end) return undefined;
    if (place >= 0) return { length: Math.min(length, clusterSize - within), storage, hostOffset: place + within };
    const unit = this.full || this.crowded ? undefined : end.take();
    if (!unit) return undefined;
    const commit = (): void => this.point(index, end.offset(unit.index));
    return freshUnit(end, unit, { offset, length, within, clusterSize, storage, wasEmpty: true, commit });
  }

  *prepare(offset: number): Io<void> {
    yield* this.requireBegun();
    yield* this.load(offset);
    if (this.full) throw new DiskError('no-space', `${this.format}: the table cannot point behind the end of this file`, { format: this.format });
    if (this.crowded) yield* this.flush();
    if (this.end) yield* this.end.ready();
  }

  /** Throws if the image is open for a check. */
  protected requireWritable(): void {
    const { format } = this;
    if (!this.end) throw new DiskError('read-only', `${this.storage.name} is open for a check only`, { format });
  }

  /** For every change: throws if the image is open for a check, and marks it. */
  protected *requireBegun(): Io<void> {
    this.requireWritable();
    if (this.begun) return;
    yield* this.order.lock.run(
      function* (this: UnitImage): Io<void> {
        if (!this.begun) yield* this.begin();
      }.bind(this),
    );
  }

  *zero(offset: number, length: number, { unmap }: { unmap: boolean }): Io<number> {
    const index = Math.floor(offset / this.clusterSize);
    const done = Math.min(length, this.clusterSize);
    yield* this.loadEntry(index);
    const place = this.find(index) as number;
    if (place === ZEROS || (place === NOWHERE && !this.backing)) return done;
    if (place >= 0 && (!unmap || this.keepsPlaces)) return 0;
    yield* this.requireBegun();
    this.point(index, ZEROS);
    this.giveUp(place);
    return done;
  }

  *discard(offset: number, length: number): Io<number> {
    const done = Math.min(length, this.clusterSize - (offset % this.clusterSize));
    const whole = done === this.clusterSize || (offset % this.clusterSize === 0 && offset + done === this.size);
    if (whole) yield* this.zero(offset, done, { unmap: true });
    return done;
  }

  /** The place of a unit whose entry was changed is nobody's any more. A place out of the row stays unused. */
  protected giveUp(place: number): void {
    const unit = place < 0 ? undefined : this.end?.unitAt(place);
    if (unit !== undefined) this.#freed.add(unit);
  }

  /**
   * Copies the units that lie before a place in the file to its end, behind that place. Returns their new places; no entry points there yet. Runs with nothing
   * else in flight, and the whole map in memory.
   */
  protected *copyAway(before: number): Io<ReadonlyMap<number, number>> {
    const { clusterSize } = this;
    const end = this.end as FileEnd;
    const copies = new Map<number, number>();
    if (end.size < before) end.takeRun(Math.ceil((before - end.size) / clusterSize));
    for (let index = 0; index < this.units; index++) {
      const place = this.find(index);
      if (place === undefined || place < 0 || place >= before) continue;
      copies.set(index, end.size);
      end.takeRun(1);
      yield* this.#copy(place, copies.get(index) as number);
    }
    return copies;
  }

  /** Moves the last units into the holes. Durable when it returns. Runs with nothing else in flight, and the whole map in memory. */
  protected *fillHoles(): Io<void> {
    const end = this.end as FileEnd;
    if (end.lowestHole === undefined) return;
    const owners = new Map<number, number>();
    for (let index = 0; index < this.units; index++) {
      const unit = end.unitAt(this.find(index) ?? NOWHERE);
      if (unit !== undefined) owners.set(unit, index);
    }
    for (let last = end.count - 1; (end.lowestHole ?? last) < last; last--) {
      const owner = owners.get(last);
      const hole = owner === undefined ? undefined : end.take();
      if (owner === undefined || !hole) continue;
      yield* this.#copy(end.offset(last), end.offset(hole.index));
      this.point(owner, end.offset(hole.index));
      this.giveUp(end.offset(last));
    }
    yield* this.flush();
  }

  /** Holes are not read: a header may state units that are far larger than the file. */
  *#copy(from: number, to: number): Io<void> {
    const { storage, clusterSize } = this;
    for (let done = 0; done < clusterSize; ) {
      const left = clusterSize - done;
      const { zero, length } = from + done < storage.size ? yield* storage.map(from + done, left) : { zero: true, length: left };
      const piece = zero ? length : Math.min(length, PIECE);
      if (zero) yield* storage.zero(to + done, piece);
      else yield* storage.write(to + done, yield* readBytes(storage, from + done, piece));
      done += piece;
    }
  }

  info(): FormatInfo {
    return { clusterSize: this.clusterSize };
  }

  flush(): Io<void> {
    return this.order.lock.run(() => this.order.flush(this.debug));
  }

  abstract close(): Io<void>;
}

/** A piece of a request that goes to a new unit. */
interface UnitPiece {
  readonly offset: number;
  readonly length: number;
  /** Bytes from the unit's beginning. */
  readonly within: number;
  readonly clusterSize: number;
  readonly storage: Storage;
  readonly wasEmpty: boolean;
  readonly commit: () => void;
  /** Called when the place is given back. */
  readonly abort?: () => void;
}

/** The placement of a piece in a unit that was taken: every one has the same shape, for speed. */
export function freshUnit(end: FileEnd, unit: TakenUnit, piece: UnitPiece): Placement {
  const { offset, length, within, clusterSize, storage, wasEmpty, commit, abort } = piece;
  const start = offset - within;
  const fresh: FreshPlacement = {
    start,
    end: start + clusterSize,
    untouched: unit.untouched,
    wasEmpty,
    commit,
    abort: (unused) => {
      end.giveBack(unit, unused);
      abort?.();
    },
  };
  return { length: Math.min(length, clusterSize - within), storage, hostOffset: end.offset(unit.index) + within, fresh };
}
