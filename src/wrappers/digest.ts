/** Hashes of files, over their pieces. */
import type { ByteStream } from '../base/byte-stream.ts';
import type { Io } from '../base/io.ts';
import { loadPrimitives, primitives } from '../crypto/load-primitives.ts';
import type { Checksum } from './appliance.ts';

/** The hash of a stream, in hexadecimal. `read` is told of the bytes of each piece, and may wait. */
export function* digestOf(hash: Checksum['hash'], stream: ByteStream, read?: (bytes: number) => Io<void>): Io<string> {
  yield* loadPrimitives();
  const hasher = primitives()[hash].create();
  for (let piece = yield* stream.next(); piece !== undefined; piece = yield* stream.next()) {
    hasher.update(piece);
    if (read) yield* read(piece.length);
  }
  return [...hasher.digest()].map((byte: number) => byte.toString(16).padStart(2, '0')).join('');
}
