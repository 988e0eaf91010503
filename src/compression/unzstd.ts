/** Reading zstd files piece by piece: frames one after another, their blocks decoded by fzstd (RFC 8878). */
import { Decompress } from 'fzstd';
import type { ByteReader, Pieces } from '../base/byte-stream.ts';
import { view } from '../base/bytes.ts';
import { unsupported } from '../base/errors.ts';
import { MiB } from '../base/units.ts';
import { damaged } from './damaged.ts';
import { Xxh64 } from './xxh64.ts';
import { BLOCK_TYPE, frameHeader, MAGIC, MAX_BLOCK, MAX_FRAME_HEADER, standIn } from './zstd-frames.ts';

const FORMAT = 'zstd';
/** Windows that are decoded: fzstd reads distances of up to 2^26 right. zstd makes larger ones only if it is told to. */
const LARGEST_WINDOW = 64 * MiB;
/** Frames without contents have one of 16 marks. */
const SKIPPABLE = 0x184d2a50;

/** Whether these are the first bytes of a zstd file. */
export const isZstd = (head: Uint8Array): boolean => head.length >= 6 && view(head).getUint32(0, true) === MAGIC;

/** What a zstd file holds. Throws `corrupt` for damage and an early end; the checksums of frames are compared. */
export function* unzstd(reader: ByteReader): Pieces {
  try {
    while (!(yield* reader.atEnd())) {
      const start = view(yield* reader.peek(MAX_FRAME_HEADER));
      if (start.byteLength < 8) throw reader.cut();
      if ((start.getUint32(0, true) & ~15) === SKIPPABLE) yield* reader.skip(8 + start.getUint32(4, true));
      else yield* unpackFrame(reader);
    }
  } catch (error) {
    throw damaged(FORMAT, reader.position, error);
  }
}

function* unpackFrame(reader: ByteReader): Pieces {
  const header = frameHeader(yield* reader.peek(MAX_FRAME_HEADER), 0);
  if (header.window > LARGEST_WINDOW)
    throw unsupported(FORMAT, `a frame needs a window of ${header.window} bytes, more than ${LARGEST_WINDOW}: unpack the file with zstd`, {
      field: 'Window_Size',
    });
  reader.pass(header.blocks);
  let pieces: Uint8Array[] = [];
  let length = 0;
  const hash = header.checksum > 0 ? new Xxh64() : undefined;
  const decoder = new Decompress((chunk) => {
    pieces.push(chunk);
    length += chunk.length;
  });
  decoder.push(standIn(Math.max(header.window, 1024)));
  for (let last = false; !last; ) {
    const head = yield* reader.peek(3);
    if (head.length < 3) throw reader.cut();
    const word = (head[0] as number) | ((head[1] as number) << 8) | ((head[2] as number) << 16);
    last = (word & 1) === 1;
    const type = (word >> 1) & 3;
    const size = word >> 3;
    if (type > BLOCK_TYPE.compressed || size > MAX_BLOCK) throw new Error('a block of a kind or size that there is not');
    // A run-length block stores one byte, whatever its size.
    decoder.push((yield* reader.take(3 + (type === BLOCK_TYPE.repeated ? 1 : size))).slice(), last);
    if (header.content !== undefined && length > header.content) throw new Error('the frame holds more than it says');
    for (const piece of pieces) {
      hash?.update(piece);
      yield piece;
    }
    pieces = [];
  }
  if (header.content !== undefined && length !== header.content) throw new Error('the frame does not hold what it says');
  if (hash && view(yield* reader.take(header.checksum)).getUint32(0, true) !== hash.low()) throw new Error('the checksum of a frame is wrong');
}
