/** What the map of a VDI image says: which blocks are in use, and what is wrong with it, as qemu-img check counts it. */
import type { Io } from '../../base/io.ts';
import type { EntryTable } from '../../tables/entry-table.ts';
import type { CheckResult } from '../tools.ts';
import { ZERO } from './layout.ts';

/** Lines of findings that are kept. */
const MAX_MESSAGES = 1000;

/** Goes over the whole map: the blocks in use, and how often they are named. `tell` hears of each entry that is wrong. */
export function* usedBlocks(map: EntryTable, tell: (message: string) => void): Io<{ used: ReadonlySet<number>; named: number }> {
  const used = new Set<number>();
  let named = 0;
  yield* map.loadAll();
  for (let index = 0; index < map.length; index++) {
    const block = map.get(index) as number;
    if (block >= ZERO) continue;
    if (block >= map.length) tell(`ERROR: block index ${index} too large, is ${block}`);
    else named++;
    if (used.has(block)) tell(`ERROR: block index ${block} also used by ${block}`);
    if (block < map.length) used.add(block);
  }
  return { used, named };
}

/** See `ImageTools.check`. `allocated`: the header's count; absent while the image is written, and counted when it is closed. */
export function* checkMap(
  { allocated }: { readonly allocated: number | undefined },
  map: EntryTable,
  onMessage: (message: string) => void = () => undefined,
): Io<CheckResult> {
  const messages: string[] = [];
  let corruptions = 0;
  const tell = (message: string): void => {
    corruptions++;
    if (messages.length < MAX_MESSAGES) messages.push(message);
    onMessage(message);
  };
  const { named } = yield* usedBlocks(map, tell);
  if (allocated !== undefined && named !== allocated) tell(`ERROR: allocated blocks mismatch, is ${named}, should be ${allocated}`);
  const found = { corruptions, leaks: 0, checkErrors: 0, corruptionsFixed: 0, leaksFixed: 0, messages };
  // QEMU counts no clusters of this format.
  return { ...found, totalClusters: 0, allocatedClusters: 0, fragmentedClusters: 0, compressedClusters: 0, imageEndOffset: 0 };
}
