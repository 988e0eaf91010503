/**
 * A streamOptimized extent without a directory: its writer sent it through a pipe, and nothing says where the grains are but the grains themselves. All of
 * them are visited once, when the image is opened. Only read. A stream without its end marker was cut short, and is refused: missing grains would read as zeros.
 */
import { isZero, roundUp, u64le, view } from '../../base/bytes.ts';
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { KiB, SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { EncodedReads } from '../../tables/encoded-reads.ts';
import type { Extent } from '../driver.ts';
import type { DiskPart, PartOptions } from './extents.ts';
import { encodedLimit, GRAIN_HEADER, grainReads } from './grains.ts';
import { FORMAT, type Shape } from './layout.ts';

/** Types of markers that other bytes follow; 0 is the end. */
const LAST_TYPE = 4;
const CHUNK = 64 * KiB;

/** Visits the grains, and returns the host offset of each. Throws `corrupt` for a stream that does not come to its end. */
export function* scanGrains(storage: Storage, { capacity, grainSize, least, grains = 0 }: Shape): Io<Map<number, number>> {
  const found = new Map<number, number>();
  const bad = (message: string, offset: number) => corrupt(FORMAT, message, { field: 'marker', offset });
  let at = roundUp(Math.max(least, grains), SECTOR);
  while (at + SECTOR <= storage.size) {
    const data = view(yield* readBytes(storage, at, SECTOR));
    const value = u64le(data, 0, 'marker');
    const length = data.getUint32(8, true);
    const type = data.getUint32(12, true);
    if (length > 0) {
      const offset = value * SECTOR;
      if (offset % grainSize !== 0 || offset >= capacity || GRAIN_HEADER + length > encodedLimit(grainSize))
        throw bad('the header of a grain is wrong', at);
      found.set(offset / grainSize, at);
      at += roundUp(GRAIN_HEADER + length, SECTOR);
    } else if (value === 0 && type === 0) {
      if (yield* isZeroFrom(storage, at + SECTOR)) return found;
      throw bad('the stream ends before the file: the file was cut short', at);
    } else {
      if (type === 0 || type > LAST_TYPE) throw bad(`a marker of type ${type}`, at);
      at += SECTOR + value * SECTOR;
    }
  }
  throw corrupt(FORMAT, 'there is neither a footer nor the end of the stream: the file was cut short', { field: 'footer' });
}

/** What fills up the file behind the end of a stream is zeros, and not grains behind one that is missing. */
function* isZeroFrom(storage: Storage, from: number): Io<boolean> {
  for (let at = from; at < storage.size; at += CHUNK) if (!isZero(yield* readBytes(storage, at, Math.min(CHUNK, storage.size - at)))) return false;
  return true;
}

/** See the top of this file. */
export class ScannedPart implements DiskPart {
  readonly kind: string;
  readonly compressed = true;
  readonly fixed = 'an image without a grain directory can only be read';
  readonly size: number;
  readonly grainSize: number;
  readonly storage: Storage;
  readonly shape: Shape;
  readonly #grains: ReadonlyMap<number, number>;
  /** The grains that are there, in the order of the disk. */
  readonly #order: readonly number[];
  readonly #reads: EncodedReads;

  constructor(storage: Storage, shape: Shape, { grains, size, kind, start }: PartOptions & { readonly grains: ReadonlyMap<number, number> }) {
    const { grainSize } = shape;
    this.storage = storage;
    this.shape = shape;
    this.size = size;
    this.kind = kind;
    this.grainSize = grainSize;
    this.#grains = grains;
    this.#order = [...grains.keys()].sort((a, b) => a - b);
    this.#reads = grainReads(storage, { grainSize, size, start, known: (index) => grains.get(index) ?? 'none', *load() {} });
  }

  look(offset: number, length: number): Extent {
    const { grainSize } = this;
    let index = Math.floor(offset / grainSize);
    const there = this.#grains.has(index);
    if (there) while (this.#grains.has(index) && index * grainSize < offset + length) index++;
    else index = this.#following(index);
    const run = Math.min(length, index * grainSize - offset);
    return there ? { kind: 'encoded', length: run, compressed: true } : { kind: 'backing', length: run };
  }

  /** The first grain that is there behind one that is not. */
  #following(index: number): number {
    let [low, high] = [0, this.#order.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#order[middle] as number) < index) low = middle + 1;
      else high = middle;
    }
    return this.#order[low] ?? Number.POSITIVE_INFINITY;
  }

  decode(offset: number, into: Uint8Array): Io<void> {
    return this.#reads.read(offset, into);
  }

  place(): undefined {
    return undefined;
  }

  *zero(): Io<number> {
    return 0;
  }

  *flush(): Io<void> {}
}
