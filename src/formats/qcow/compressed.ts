/** Compressed clusters of an open image: raw deflate. They lie one behind the other in the file, each from the next sector on, as QEMU puts them. */
import { roundUp } from '../../base/bytes.ts';
import { corrupt } from '../../base/errors.ts';
import { SECTOR } from '../../base/units.ts';
import { inflateFast } from '../../compression/compressor.ts';
import { inflateRaw } from '../../compression/inflate.ts';
import type { Storage } from '../../storage/storage.ts';
import { type EncodedPlace, EncodedReads, unitsOf } from '../../tables/encoded-reads.ts';
import type { FileEnd } from '../../tables/file-end.ts';
import { compressedPlace, FORMAT, type Header, isCompressed } from './layout.ts';
import type { Tables } from './tables.ts';

/** Reads the compressed clusters of an image. */
export function compressedReads(storage: Storage, header: Header, tables: Tables): EncodedReads {
  const { clusterSize, clusterBits } = header;

  function known(index: number): EncodedPlace | undefined {
    const entry = tables.l2Entry(index * clusterSize);
    return entry && isCompressed(entry.table.data, entry.index) ? compressedPlace(entry.table.data, entry.index, clusterBits) : undefined;
  }

  function* place(index: number) {
    for (;;) {
      const found = known(index);
      if (found) return found;
      yield* tables.load(index * clusterSize);
    }
  }

  function decode(bytes: Uint8Array, { hostOffset }: EncodedPlace): Uint8Array {
    const fast = inflateFast(bytes, clusterSize);
    if (fast) return fast;
    const out = new Uint8Array(clusterSize);
    const at = { field: 'compressed cluster', offset: hostOffset };
    let filled: number;
    try {
      filled = inflateRaw(bytes, out);
    } catch (cause) {
      throw corrupt(FORMAT, 'a compressed cluster cannot be decoded', { ...at, cause });
    }
    if (filled < out.length) throw corrupt(FORMAT, `a compressed cluster decodes to ${filled} of ${out.length} bytes`, at);
    return out;
  }

  return new EncodedReads({ storage, format: FORMAT, what: 'compressed cluster', at: unitsOf(clusterSize), place, known, decode });
}

/** Where the next compressed cluster goes: behind the one before it, as long as nothing else was put there. */
export class Packing {
  readonly #end: FileEnd;
  readonly #unit: number;
  #next = 0;
  #limit = 0;

  constructor(end: FileEnd, clusterSize: number) {
    this.#end = end;
    this.#unit = clusterSize;
  }

  /** The host offset of `length` bytes that nothing else uses. Not to be called while the file grows. */
  take(length: number): number {
    if (this.#next + length > this.#limit) {
      if (this.#limit !== this.#end.size) this.#next = this.#end.size;
      this.#end.takeRun(Math.ceil((this.#next + length - this.#end.size) / this.#unit));
      this.#limit = this.#end.size;
    }
    const place = this.#next;
    this.#next = Math.min(this.#limit, roundUp(place + length, SECTOR));
    return place;
  }
}
