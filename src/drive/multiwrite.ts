/**
 * Several writes as few: sorted, and merged where they follow each other or overlap. Where they overlap, the one given later wins, as if
 * they were written one after another; so the result is of disjoint writes, which may run in any order.
 * Writes with a gap between them are not merged.
 */
import { type ByteRange, RangeSet } from '../base/ranges.ts';

/** Bytes for a place on the disk. */
export interface PlacedBytes {
  /** Bytes from the beginning of the disk. */
  readonly offset: number;
  /** The bytes that belong there. */
  readonly bytes: Uint8Array;
}

/** The most pieces of which one merged write is put together. */
export const MERGE_LIMIT = 1024;

/** Disjoint writes, in order, with the same result as `requests` one after another. */
export function mergeWrites(requests: readonly PlacedBytes[], limit = MERGE_LIMIT): PlacedBytes[] {
  const runs: PlacedBytes[][] = [];
  for (const piece of visiblePieces(requests).sort((a, b) => a.offset - b.offset)) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    if (run && last && last.offset + last.bytes.length === piece.offset && run.length < limit) run.push(piece);
    else runs.push([piece]);
  }
  return runs.map(join);
}

/** The parts of the requests that no later one covers. */
function visiblePieces(requests: readonly PlacedBytes[]): PlacedBytes[] {
  const covered = new RangeSet();
  return requests.toReversed().flatMap(({ offset, bytes }) => {
    const end = offset + bytes.length;
    const pieces = covered
      .gaps(offset, end)
      .map((gap: ByteRange) => ({ offset: gap.start, bytes: bytes.subarray(gap.start - offset, gap.end - offset) }));
    covered.add(offset, end);
    return pieces;
  });
}

function join(pieces: readonly PlacedBytes[]): PlacedBytes {
  const [first] = pieces;
  if (first && pieces.length === 1) return first;
  return { offset: first?.offset ?? 0, bytes: concatenate(pieces.map(({ bytes }) => bytes)) };
}

/** The arrays as one; the array itself if it is the only one. */
export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const [first] = parts;
  if (first && parts.length === 1) return first;
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
