/** Reading xz files piece by piece: streams one after another, their blocks, checks and index (The .xz File Format 1.1.0). */
import { type ByteReader, type Pieces, streamOf } from '../base/byte-stream.ts';
import { view } from '../base/bytes.ts';
import { unsupported } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { MiB } from '../base/units.ts';
import { Crc64, crc32 } from './checksums.ts';
import { damaged } from './damaged.ts';
import { unpackLzma2 } from './lzma2.ts';
import { CHECK_SIZES, isXz, parseStreamHeader, requireLzma2, STREAM_FOOTER, STREAM_HEADER } from './xz.ts';

const FORMAT = 'xz';
/** Dictionaries that are decoded: the largest that xz makes without being told to is 64 MiB. */
const LARGEST_DICTIONARY = 256 * MiB;
const CHECK = { crc32: 1, crc64: 4, sha256: 10 } as const;

/** Computes a hash over pieces. */
export interface Hasher {
  update(bytes: Uint8Array): unknown;
  digest(): Uint8Array;
}

interface Check {
  update(bytes: Uint8Array): unknown;
  matches(stored: Uint8Array): boolean;
}

/** Bytes of a block without its padding, and bytes that came of it. */
type BlockSizes = readonly [unpadded: number, length: number];

/** What an xz file holds. `sha256` makes hashers for files with such checks. Throws `corrupt` for damage, a wrong check and an early end. */
export function* unxz(reader: ByteReader, sha256: () => Hasher): Pieces {
  try {
    do {
      const kind = parseStreamHeader(yield* reader.take(STREAM_HEADER));
      const blocks: BlockSizes[] = [];
      while ((yield* headerByte(reader)) !== 0) {
        const start = reader.position;
        const size = ((yield* headerByte(reader)) + 1) * 4;
        const dictionary = requireLzma2(yield* reader.take(size), size);
        if (dictionary > LARGEST_DICTIONARY)
          throw unsupported(FORMAT, `a dictionary of ${dictionary} bytes, more than ${LARGEST_DICTIONARY}: unpack the file with xz`, {
            field: 'dictionary size',
          });
        const check = checkOf(kind, sha256);
        const data = streamOf(unpackLzma2(reader, dictionary));
        let length = 0;
        for (let piece = yield* data.next(); piece !== undefined; piece = yield* data.next()) {
          check?.update(piece);
          length += piece.length;
          yield piece;
        }
        const unpadded = reader.position - start;
        yield* passZeros(reader, -unpadded & 3);
        const stored = yield* reader.take(CHECK_SIZES[kind] as number);
        if (check?.matches(stored) === false) throw new Error('the check of a block is wrong');
        blocks.push([unpadded + stored.length, length]);
      }
      yield* passIndex(reader, blocks);
    } while (yield* anotherStream(reader));
  } catch (error) {
    throw damaged(FORMAT, reader.position, error);
  }
}

function* headerByte(reader: ByteReader): Io<number> {
  const held = yield* reader.peek(1);
  if (held.length === 0) throw reader.cut();
  return held[0] as number;
}

function* passZeros(reader: ByteReader, count: number): Io<void> {
  if ((yield* reader.take(count)).some((byte) => byte !== 0)) throw new Error('the padding is not zero');
}

/** The check of this kind, as far as it is known: others are passed over, as the format demands. */
function checkOf(kind: number, sha256: () => Hasher): Check | undefined {
  if (kind === CHECK.crc64) return new Crc64();
  if (kind === CHECK.sha256) {
    const hasher = sha256();
    return { update: (bytes) => hasher.update(bytes), matches: (stored) => sameBytes(hasher.digest(), stored) };
  }
  if (kind !== CHECK.crc32) return undefined;
  let sum = 0;
  return {
    update(bytes) {
      sum = crc32(bytes, sum);
    },
    matches: (stored) => view(stored).getUint32(0, true) === sum,
  };
}

const sameBytes = (one: Uint8Array, other: Uint8Array): boolean => one.length === other.length && one.every((byte, i) => byte === other[i]);

/** Compares the index with the blocks that were read, and passes over it and the footer. */
function* passIndex(reader: ByteReader, blocks: readonly BlockSizes[]): Io<void> {
  const start = reader.position;
  let sum = 0;
  function* byte(): Io<number> {
    const taken = yield* reader.take(1);
    sum = crc32(taken, sum);
    return taken[0] as number;
  }
  function* number(): Io<number> {
    let value = 0;
    for (let i = 0; i < 9; i++) {
      const part = yield* byte();
      value += (part & 127) * 2 ** (7 * i);
      if (part < 128) return value;
    }
    throw new Error('a number in the index is too long');
  }
  yield* byte();
  if ((yield* number()) !== blocks.length) throw new Error('the index has another number of blocks');
  for (const [unpadded, length] of blocks)
    if ((yield* number()) !== unpadded || (yield* number()) !== length) throw new Error('the index has other sizes than the blocks');
  while ((reader.position - start) % 4 !== 0) if ((yield* byte()) !== 0) throw new Error('the padding of the index is not zero');
  if (view(yield* reader.take(4)).getUint32(0, true) !== sum) throw new Error('the checksum of the index is wrong');
  const footer = view(yield* reader.take(STREAM_FOOTER));
  if (footer.getUint16(10) !== 0x595a) throw new Error('the footer is missing');
  if (crc32(new Uint8Array(footer.buffer, footer.byteOffset + 4, 6)) !== footer.getUint32(0, true)) throw new Error('the footer is damaged');
}

/** Passes over zeros between streams. */
function* anotherStream(reader: ByteReader): Io<boolean> {
  for (;;) {
    const held = yield* reader.peek(STREAM_HEADER);
    if (held.length === 0) return false;
    if (isXz(held)) return true;
    yield* passZeros(reader, Math.min(4, held.length));
  }
}
