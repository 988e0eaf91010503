/**
 * Reading the parts of an image that are stored in another form (compressed clusters, grains, blocks): each decodes to one unit of guest bytes. Units that are
 * neighbours in the file are read in one request as far as they are needed, and the last ones decoded are kept: a guest reads a unit in small pieces.
 */
import { corrupt } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { Lru } from '../base/lru.ts';
import { KiB, SECTOR } from '../base/units.ts';
import { readBytes, type Storage } from '../storage/storage.ts';

const DECODED_UNITS = 8;
/** The most encoded bytes that are read in one request. */
const ENCODED_WINDOW = 512 * KiB;

/** Where a unit's encoded bytes start and how many the decoder may take (they may run past the end of the file). */
export interface EncodedPlace {
  readonly hostOffset: number;
  readonly length: number;
}

/** The units of an image, as its driver knows them. */
export interface EncodedUnits {
  readonly storage: Storage;
  /** The format's name, and a unit's, for errors. */
  readonly format: string;
  readonly what: string;
  /** Guest bytes of a unit. */
  readonly unitSize: number;
  /** The place of a unit that is encoded; tables are read if needed. */
  place(index: number): Io<EncodedPlace>;
  /** The place of a unit, if memory tells that it is encoded. */
  known(index: number): EncodedPlace | undefined;
  /** The guest bytes of a unit. Throws `corrupt`. */
  decode(bytes: Uint8Array, place: EncodedPlace): Uint8Array;
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
    const { unitSize } = this.#units;
    const window: EncodedWindow = { offset: 0, bytes: new Uint8Array(0) };
    const last = Math.floor((offset + into.length - 1) / unitSize);
    for (let done = 0; done < into.length; ) {
      const index = Math.floor((offset + done) / unitSize);
      const within = (offset + done) % unitSize;
      const length = Math.min(into.length - done, unitSize - within);
      const bytes = yield* this.#decode(index, { window, last });
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
    const bytes = this.#units.decode(window.bytes.subarray(hostOffset - window.offset, end - window.offset), place);
    const spare = this.#decoded.size >= DECODED_UNITS ? this.#decoded.victim(() => true) : undefined;
    if (spare) this.#decoded.delete(spare[0]);
    this.#decoded.set(index, { place, bytes });
    return bytes;
  }

  /** The end, in the file, of the units from `index` to `last`, as far as they are neighbours and fit into one request. */
  #runEnd(index: number, last: number, first: EncodedPlace): number {
    let end = first.hostOffset + first.length;
    for (let next = index + 1; next <= last; next++) {
      const place = this.#units.known(next);
      // One unit may end in the sector in which the next begins.
      if (!place || place.hostOffset < end - SECTOR || place.hostOffset > end) break;
      if (place.hostOffset + place.length - first.hostOffset > ENCODED_WINDOW) break;
      end = place.hostOffset + place.length;
    }
    return end;
  }
}
