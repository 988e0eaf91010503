/** A compressed grain in its file: the sector of the disk it belongs to (64 bits), the count of bytes (32), and a zlib stream; whole sectors. */
import { roundUp, setU64le, u64le, view } from '../../base/bytes.ts';
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { deflateZlib } from '../../compression/encode.ts';
import { inflateZlib } from '../../compression/inflate.ts';
import type { Storage } from '../../storage/storage.ts';
import { EncodedReads, unitsOf } from '../../tables/encoded-reads.ts';
import { FORMAT, type Grain } from './layout.ts';

export const GRAIN_HEADER = 12;

/** The most bytes that a grain takes in its file: a stream may be larger than its grain. */
export const encodedLimit = (grainSize: number): number => 2 * grainSize + SECTOR;

/** A grain compressed, with its header. `sector` is its first one on the disk. */
export function encodeGrain(bytes: Uint8Array, sector: number): Uint8Array {
  const stream = deflateZlib(bytes);
  const encoded = new Uint8Array(roundUp(GRAIN_HEADER + stream.length, SECTOR));
  setU64le(view(encoded), 0, sector);
  view(encoded).setUint32(8, stream.length, true);
  encoded.set(stream, GRAIN_HEADER);
  return encoded;
}

/** A grain in its file, and the bytes of the extent that it has; `start`: of the disk, before the extent. */
interface GrainPlace {
  readonly hostOffset: number;
  readonly offset: number;
  readonly start: number;
  readonly grainSize: number;
  /** Bytes of the extent. */
  readonly size: number;
}

/** The bytes of a grain; one at the disk's end may have fewer. Throws `corrupt`. */
function decodeGrain(bytes: Uint8Array, { hostOffset, offset, start, grainSize, size }: GrainPlace): Uint8Array {
  const bad = (message: string) => corrupt(FORMAT, `a compressed grain ${message}`, { field: 'compressed grain', offset: hostOffset });
  if (bytes.length < GRAIN_HEADER) throw bad('is cut off by the end of the file');
  const sector = u64le(view(bytes), 0, 'compressed grain');
  // Some writers count from the beginning of the extent.
  if (sector !== offset / SECTOR && sector !== (start + offset) / SECTOR)
    throw bad(`says that it is for sector ${sector} of the disk, and the table that it is for ${(start + offset) / SECTOR}`);
  const length = view(bytes).getUint32(8, true);
  if (length === 0 || GRAIN_HEADER + length > encodedLimit(grainSize)) throw bad(`has ${length} bytes`);
  if (GRAIN_HEADER + length > bytes.length) throw bad('is cut off by the end of the file');
  const stream = bytes.subarray(GRAIN_HEADER, GRAIN_HEADER + length);
  const out = new Uint8Array(grainSize);
  try {
    out.set(inflateZlib(stream, grainSize, Math.min(grainSize, Math.max(0, size - offset))));
  } catch (cause) {
    throw corrupt(FORMAT, 'a compressed grain cannot be decoded', { field: 'compressed grain', offset: hostOffset, cause });
  }
  return out;
}

/** An extent whose grains are compressed. `known`: the place of a grain, if memory tells it; `load` makes it tell. */
export interface CompressedGrains {
  readonly grainSize: number;
  /** Bytes of the extent, and of the disk before it. */
  readonly size: number;
  readonly start: number;
  known(index: number): Grain | undefined;
  load(offset: number): Io<void>;
}

/** Reads the grains of an extent. */
export function grainReads(storage: Storage, grains: CompressedGrains): EncodedReads {
  const { grainSize, size, start } = grains;
  const known = (index: number) => {
    const grain = grains.known(index);
    return typeof grain === 'number' ? { hostOffset: grain, length: encodedLimit(grainSize) } : undefined;
  };
  return new EncodedReads({
    storage,
    format: FORMAT,
    what: 'compressed grain',
    at: unitsOf(grainSize),
    known,
    *place(index) {
      const found = known(index);
      if (found) return found;
      yield* grains.load(index * grainSize);
      const loaded = known(index);
      if (!loaded) throw corrupt(FORMAT, 'a compressed grain has lost its place', { field: 'grain table' });
      return loaded;
    },
    decode: (bytes, { hostOffset }, index) => decodeGrain(bytes, { hostOffset, offset: index * grainSize, start, grainSize, size }),
  });
}
