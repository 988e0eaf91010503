/** What the BAT of a VHDX image says: blocks past the end of the file or over something else. */
import type { Io } from '../../base/io.ts';
import type { CheckResult } from '../tools.ts';
import { type Bat, STATE, wrongPlace } from './bat.ts';

/** Lines of findings that are kept. */
const MAX_MESSAGES = 1000;

/** The blocks that have a place, sorted by it. `tell` hears of each entry that is wrong. */
export function* usedBlocks(bat: Bat, fileSize: number, tell: (message: string) => void): Io<number[]> {
  const used: number[] = [];
  yield* bat.scan((index, entry, block) => {
    if (entry.state !== STATE.full && entry.state !== STATE.partial) return;
    const wrong = wrongPlace(entry, { index, block, fileSize, bat: bat.options });
    if (wrong) tell(wrong);
    else used.push(entry.offset);
  });
  used.sort((a, b) => a - b);
  for (const [index, offset] of used.entries()) {
    const before = used[index - 1] ?? Number.NEGATIVE_INFINITY;
    const { blockSize } = bat.options;
    if (offset < before + blockSize) tell(`VHDX region ${offset}-${offset + blockSize} overlaps with region ${before}-${before + blockSize}`);
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
