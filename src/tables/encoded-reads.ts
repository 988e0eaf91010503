/**
 * Reading the parts of an image that are stored in another form (compressed clusters, grains, blocks): each decodes to one unit of guest bytes. Units that are
 * neighbours in the file are read in one request as far as they are needed, and the last ones decoded are kept: a guest reads a unit in small pieces.
 */
import { corrupt } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { Lru } from '../base/lru.ts';
import { KiB, MiB, SECTOR } from '../base/units.ts';
import { readBytes, type Storage } from '../storage/storage.ts';

const DECODED_UNITS = 8;
/** The most decoded bytes that are kept, unless one unit alone has more. */
const DECODED_BYTES = 16 * MiB;
/** The most encoded bytes that are read in one request. */
const ENCODED_WINDOW = 512 * KiB;

/** Where a unit's encoded bytes start and how many the decoder may take (they may run past the end of the file). */
export interface EncodedPlace {
  readonly hostOffset: number;
  readonly length: number;
}

/** A unit's index, and its run of guest bytes. */
export interface GuestUnit {
  readonly index: number;
  readonly start: number;
  readonly length: number;
}

/** `EncodedUnits.at` where all units have the same size. */
export const unitsOf =
  (unitSize: number) =>
  (offset: number): GuestUnit => {
    const within = offset % unitSize;
    return { index: (offset - within) / unitSize, start: offset - within, length: unitSize };
  };

/** The units of an image, as its driver knows them. */
export interface EncodedUnits {
  readonly storage: Storage;
  /** The format's name, and a unit's, for errors. */
  readonly format: string;
  readonly what: string;
  /** The unit that has a guest byte, and that unit's guest bytes. */
  at(offset: number): GuestUnit;
  /** The place of a unit that is encoded; tables are read if needed. */
  place(index: number): Io<EncodedPlace>;
  /** The place of a unit, if memory tells that it is encoded. */
  known(index: number): EncodedPlace | undefined;
  /** The guest bytes of a unit. Throws `corrupt`. */
  decode(bytes: Uint8Array, place: EncodedPlace, index: number): Uint8Array;
}

/** Encoded bytes of the file, from `offset` on, that one request has read. */
interface EncodedWindow {
  offset: number;
  bytes: Uint8Array;
}

/** See the top of this file. */
export class EncodedReads {
  readonly #units: EncodedUnits;
  /** Decoded units by their index, with the place they came from. */
  readonly #decoded = new Lru<number, { place: EncodedPlace; bytes: Uint8Array }>(DECODED_UNITS);

  constructor(units: EncodedUnits) {
    this.#units = units;
  }

  /** Forgets a unit that is about to change. */
  forget(index: number): void {
    this.#decoded.delete(index);
  }

  /** Fills `into` with guest bytes, all of them in encoded units. Throws `corrupt`. */
  *read(offset: number, into: Uint8Array): Io<void> {
    const window: EncodedWindow = { offset: 0, bytes: new Uint8Array(0) };
    const last = this.#units.at(offset + into.length - 1).index;
    for (let done = 0; done < into.length; ) {
      const unit = this.#units.at(offset + done);
      const within = offset + done - unit.start;
      const length = Math.min(into.length - done, unit.length - within);
      const bytes = yield* this.#decode(unit.index, { window, last });
      into.set(bytes.subarray(within, within + length), done);
      done += length;
    }
  }

  /** `window` has encoded bytes that an earlier call read along; units up to `last` are needed next. */
  *#decode(index: number, { window, last }: { window: EncodedWindow; last: number }): Io<Uint8Array> {
    const { storage, format, what } = this.#units;
    const place = yield* this.#units.place(index);
    const { hostOffset, length } = place;
    const decoded = this.#decoded.get(index);
    if (decoded && decoded.place.hostOffset === hostOffset && decoded.place.length === length) return decoded.bytes;
    if (hostOffset >= storage.size)
      throw corrupt(format, `a ${what} at 0x${hostOffset.toString(16)} lies past the end of the file`, { field: what, offset: hostOffset });
    // The decoder gets the bytes of the file, without zeros that it could take for data.
    const end = Math.min(hostOffset + length, storage.size);
    if (storage.debugEvent) yield* storage.debugEvent('read_compressed');
    if (hostOffset < window.offset || end > window.offset + window.bytes.length) {
      // A debugger is told of each unit's reading.
      const alongEnd = storage.debugEvent ? end : Math.min(this.#runEnd(index, last, place), storage.size);
      window.offset = hostOffset;
      window.bytes = yield* readBytes(storage, hostOffset, alongEnd - hostOffset);
    }
    const bytes = this.#units.decode(window.bytes.subarray(hostOffset - window.offset, end - window.offset), place, index);
    this.#keep(index, { place, bytes });
    return bytes;
  }

  #keep(index: number, unit: { place: EncodedPlace; bytes: Uint8Array }): void {
    this.#decoded.delete(index);
    let kept = [...this.#decoded].reduce((sum, [, { bytes }]) => sum + bytes.length, unit.bytes.length);
    while (this.#decoded.size >= DECODED_UNITS || (kept > DECODED_BYTES && this.#decoded.size > 0)) {
      const [spare, { bytes }] = this.#decoded.victim(() => true) as [number, { bytes: Uint8Array }];
      this.#decoded.delete(spare);
      kept -= bytes.length;
    }
    this.#decoded.set(index, unit);
  }

  /** The end, in the file, of the units from `index` to `last`, as far as they are neighbours and fit into one request. */
  #runEnd(index: number, last: number, first: EncodedPlace): number {
    let end = first.hostOffset + first.length;
    for (let next = index + 1; next <= last; next++) {
      const place = this.#units.known(next);
      // One unit may end in the sector in which the next begins; small ones that follow each other may lie in the file in any order.
      if (!place || place.hostOffset < Math.max(first.hostOffset, end - SECTOR) || place.hostOffset > end) break;
      if (place.hostOffset + place.length - first.hostOffset > ENCODED_WINDOW) break;
      end = Math.max(end, place.hostOffset + place.length);
    }
    return end;
  }
}
