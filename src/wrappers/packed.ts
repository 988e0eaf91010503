/** Packed files, each a file under another's bytes: gzip, bzip2, xz, zstd. All of it is loaded on demand. */
import { ByteReader, type ByteStream, type Pieces, streamOf } from '../base/byte-stream.ts';
import { bunzip2, isBzip2 } from '../compression/bzip2.ts';
import { Deflated, gunzip, isGzip } from '../compression/gunzip.ts';
import { unxz } from '../compression/unxz.ts';
import { isZstd, unzstd } from '../compression/unzstd.ts';
import { isXz } from '../compression/xz.ts';
import { loadPrimitives, primitives } from '../crypto/load-primitives.ts';

/** What unpacks, by the name of the form. */
export type Decoders = Readonly<Record<'gzip' | 'deflate' | 'bzip2' | 'xz' | 'zstd', (reader: ByteReader) => Pieces>>;

function* deflate(reader: ByteReader): Pieces {
  const deflated = new Deflated(reader, 'deflate');
  for (let piece = yield* deflated.next(); piece !== undefined; piece = yield* deflated.next()) yield piece;
}

function* xz(reader: ByteReader): Pieces {
  // Files with checks by SHA-256 are rare; the library is small beside what is unpacked.
  yield* loadPrimitives();
  yield* unxz(reader, () => primitives().sha256.create());
}

/** See `Decoders`. */
export const decoders: Decoders = { gzip: gunzip, deflate, bzip2: bunzip2, xz, zstd: unzstd };

/** A form of packed files. */
export interface PackedForm {
  readonly name: keyof Decoders;
  readonly is: (head: Uint8Array) => boolean;
  /** Endings of such files; what is inside has the name without. */
  readonly endings: RegExp;
}

/** All forms. */
export const PACKED_FORMS: readonly PackedForm[] = [
  { name: 'gzip', is: isGzip, endings: /\.(gz|gzip|z)$/i },
  { name: 'bzip2', is: isBzip2, endings: /\.(bz2|bzip2)$/i },
  { name: 'xz', is: isXz, endings: /\.xz$/i },
  { name: 'zstd', is: isZstd, endings: /\.(zst|zstd)$/i },
];

/** The name of what is inside a packed file. */
export const unpackedName = (path: string, { endings }: PackedForm): string => path.replace(/\.t(gz|bz2?|xz|zst)$/i, '.tar').replace(endings, '');

/** What a packed file holds. */
export const unpackedStream = (packed: ByteStream, { name }: PackedForm): ByteStream => streamOf(decoders[name](new ByteReader(packed, name)));
