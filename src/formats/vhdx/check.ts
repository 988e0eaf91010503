/** What the BAT of a VHDX image says: blocks past the end of the file or over something else, and bits that are missing. */
import type { Io } from '../../base/io.ts';
import type { CheckResult } from '../tools.ts';
import { type Bat, BITMAP_BLOCK, STATE, wrongPlace } from './bat.ts';
import type { Range } from './layout.ts';

/** Lines of findings that are kept. */
const MAX_MESSAGES = 1000;

/** The blocks that have a place, sorted by it. `tell` hears of each entry that is wrong. */
export function* usedBlocks(bat: Bat, fileSize: number, tell: (message: string) => void): Io<Range[]> {
  const used: Range[] = [];
  const { blockSize, chunkRatio } = bat.options;
  // The entry of a chunk's bitmaps comes after those of its blocks.
  let partial = false;
  yield* bat.scan((index, entry, block) => {
    if (block === undefined && partial && entry.state !== STATE.full)
      tell(`VHDX BAT entry ${index} has state ${entry.state}, and blocks need its bits.`);
    if (block !== undefined && block % chunkRatio === 0) partial = false;
    partial ||= block !== undefined && entry.state === STATE.partial;
    if (entry.state !== STATE.full && entry.state !== STATE.partial) return;
    const wrong = wrongPlace(entry, { index, block, fileSize, bat: bat.options });
    if (wrong) tell(wrong);
    else used.push({ start: entry.offset, end: entry.offset + (block === undefined ? BITMAP_BLOCK : blockSize) });
  });
  used.sort((a, b) => a.start - b.start);
  let before: Range = { start: Number.NEGATIVE_INFINITY, end: Number.NEGATIVE_INFINITY };
  for (const range of used) {
    if (range.start < before.end) tell(`VHDX region ${range.start}-${range.end} overlaps with region ${before.start}-${before.end}`);
    before = range;
  }
  return used;
}

/** See `ImageTools.check`. `fixed`: corruptions that were mended before. */
export function* checkBat(
  bat: Bat,
  { fileSize, fixed, onMessage }: { fileSize: number; fixed: number; onMessage?: ((message: string) => void) | undefined },
) {
  const messages: string[] = [];
  let corruptions = 0;
  yield* usedBlocks(bat, fileSize, (message) => {
    corruptions++;
    if (messages.length < MAX_MESSAGES) messages.push(message);
    onMessage?.(message);
  });
  const nothing = { leaks: 0, checkErrors: 0, leaksFixed: 0, fragmentedClusters: 0, compressedClusters: 0 };
  const result: CheckResult = {
    ...nothing,
    corruptions,
    corruptionsFixed: fixed,
    totalClusters: 0,
    allocatedClusters: 0,
    imageEndOffset: 0,
    messages,
  };
  return result;
}
