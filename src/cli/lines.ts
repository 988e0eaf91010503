/**
 * Standard input line by line, as qemu-io reads it: a line ends at a line feed and nowhere else, bytes behind a NUL byte are ignored, and
 * input that cannot be read (a folder, a terminal that hung up) has ended.
 */
import { decodeText } from '../qemu.ts';

/** After so many bytes a line counts as ended, so that a device full of zeros does not fill the memory. */
const LONGEST = 1024 * 1024;
const LINE_FEED = 10;

/** The lines of a stream of bytes, without their ends. A failure of the stream counts as its end. */
export async function* linesOf(input: AsyncIterable<Uint8Array>): AsyncIterableIterator<string> {
  let parts: Uint8Array[] = [];
  let length = 0;
  const taken = () => {
    const line = Buffer.concat(parts);
    parts = [];
    length = 0;
    const end = line.indexOf(0);
    return decodeText(end < 0 ? line : line.subarray(0, end));
  };
  for await (const chunk of unlessItFails(input)) {
    let rest = chunk;
    while (rest.length > 0) {
      const feed = rest.subarray(0, LONGEST - length).indexOf(LINE_FEED);
      const piece = rest.subarray(0, feed < 0 ? LONGEST - length : feed);
      parts.push(piece);
      length += piece.length;
      rest = rest.subarray(piece.length + (feed < 0 ? 0 : 1));
      if (feed >= 0 || length === LONGEST) yield taken();
    }
  }
  if (length > 0) yield taken();
}

async function* unlessItFails(input: AsyncIterable<Uint8Array>): AsyncIterableIterator<Uint8Array> {
  try {
    yield* input;
  } catch {
    // The readable part has ended.
  }
}
