/** Copying the part of an image's file that comes before its blocks, for an image like it that has none of them. */
import type { Io } from '../base/io.ts';
import { MiB } from '../base/units.ts';
import type { Storage } from '../storage/storage.ts';

/** Bytes of a file that are replaced by one value. */
export interface Blank {
  readonly offset: number;
  readonly length: number;
  readonly fill: number;
}

const PIECE = MiB;

/** Makes `to`, which is empty, the first `length` bytes of `from`, with other bytes in some ranges. */
export function* copyHead(from: Storage, to: Storage, length: number, blanks: readonly Blank[]): Io<void> {
  const room = new Uint8Array(Math.min(PIECE, length));
  yield* to.truncate(length);
  for (let at = 0; at < length; at += PIECE) {
    const bytes = room.subarray(0, length - at);
    yield* from.read(at, bytes);
    for (const { offset, length: count, fill } of blanks) {
      const [start, end] = [Math.max(0, offset - at), Math.min(bytes.length, offset + count - at)];
      if (start < end) bytes.fill(fill, start, end);
    }
    yield* to.write(at, bytes);
  }
}
