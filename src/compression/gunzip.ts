/** Reading gzip (RFC 1952), one member after another, and plain deflate (RFC 1951), piece by piece. */
import { Z_BUF_ERROR, Z_NO_FLUSH, Z_OK, Z_STREAM_END, ZStream, zlibInflate, zlibInflateInit2 } from 'pako';
import type { ByteReader, Pieces } from '../base/byte-stream.ts';
import { view } from '../base/bytes.ts';
import { corrupt } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { KiB } from '../base/units.ts';
import { crc32 } from './checksums.ts';

const FORMAT = 'gzip';
const OUT = 256 * KiB;
const IN = 64 * KiB;
const HEADER = 10;
const TRAILER = 8;
const FLAG = { headerCrc: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const;
/** Bytes of a name or comment. */
const LONGEST_TEXT = 64 * KiB;

/** What a gzip file holds. Throws `corrupt` for damage, a wrong checksum and an early end. Zeros behind the last member, as tapes have, are no damage. */
export function* gunzip(reader: ByteReader): Pieces {
  do {
    yield* passHeader(reader);
    const deflated = new Deflated(reader, FORMAT);
    let checksum = 0;
    let length = 0;
    for (let piece = yield* deflated.next(); piece !== undefined; piece = yield* deflated.next()) {
      checksum = crc32(piece, checksum);
      length = (length + piece.length) % 2 ** 32;
      yield piece;
    }
    const trailer = view(yield* reader.take(TRAILER));
    if (trailer.getUint32(0, true) !== checksum || trailer.getUint32(4, true) !== length)
      throw corrupt(FORMAT, 'the checksum of the contents is wrong: the file is damaged, copy or download it anew', {
        field: 'CRC32',
        offset: reader.position - TRAILER,
      });
  } while (yield* anotherMember(reader));
}

/** Whether these are the first bytes of a gzip file. */
export const isGzip = (head: Uint8Array): boolean =>
  head.length >= HEADER && head[0] === 0x1f && head[1] === 0x8b && head[2] === 8 && ((head[3] as number) & FLAG.reserved) === 0;

function* passHeader(reader: ByteReader): Io<void> {
  const header = yield* reader.take(HEADER);
  if (!isGzip(header)) throw corrupt(FORMAT, 'the mark of a member is missing', { field: 'ID1', offset: reader.position - HEADER });
  const flags = header[3] as number;
  if (flags & FLAG.extra) yield* reader.skip(view(yield* reader.take(2)).getUint16(0, true));
  for (const flag of [FLAG.name, FLAG.comment]) if (flags & flag) yield* passText(reader);
  if (flags & FLAG.headerCrc) yield* reader.skip(2);
}

/** Passes over a text that ends with a zero. */
function* passText(reader: ByteReader): Io<void> {
  for (let length = 0; length <= LONGEST_TEXT; ) {
    const held = yield* reader.peek(1);
    if (held.length === 0) throw reader.cut();
    const end = held.indexOf(0);
    reader.pass(end < 0 ? held.length : end + 1);
    if (end >= 0) return;
    length += held.length;
  }
  throw corrupt(FORMAT, `a name of more than ${LONGEST_TEXT} bytes`, { field: 'FNAME' });
}

function* anotherMember(reader: ByteReader): Io<boolean> {
  for (;;) {
    const held = yield* reader.peek(1);
    if (held.length === 0) return false;
    const start = held.findIndex((byte) => byte !== 0);
    if (start < 0) reader.pass(held.length);
    else {
      reader.pass(start);
      return isGzip(yield* reader.peek(HEADER));
    }
  }
}

/** Plain deflate out of a reader, which stands behind its last byte at the end. */
export class Deflated {
  readonly #reader: ByteReader;
  readonly #format: string;
  readonly #stream = new ZStream();
  #ended = false;

  constructor(reader: ByteReader, format: string) {
    this.#reader = reader;
    this.#format = format;
    zlibInflateInit2(this.#stream, -15);
  }

  /** The next bytes; undefined at the end. */
  *next(): Io<Uint8Array | undefined> {
    const stream = this.#stream;
    stream.output = new Uint8Array(OUT);
    stream.next_out = 0;
    stream.avail_out = OUT;
    while (!this.#ended && stream.avail_out > 0) {
      const input = (yield* this.#reader.peek(1)).subarray(0, IN);
      stream.input = input;
      stream.next_in = 0;
      stream.avail_in = input.length;
      const before = stream.avail_out;
      const status = zlibInflate(stream, Z_NO_FLUSH);
      this.#reader.pass(stream.next_in);
      if (status === Z_STREAM_END) this.#ended = true;
      else if (status !== Z_OK && status !== Z_BUF_ERROR)
        throw corrupt(this.#format, `the compressed bytes are damaged (${stream.msg || status}): copy or download the file anew`, {
          field: 'deflate',
          offset: this.#reader.position,
        });
      // What was read may fill the window alone; only without any bytes the stream has been cut off.
      else if (input.length === 0 && stream.avail_out === before) throw this.#reader.cut();
    }
    return stream.next_out === 0 ? undefined : stream.output.subarray(0, stream.next_out);
  }
}
