/** VDI images of small blocks with numbers in their sectors, for the crash explorer: `disk`, alone, or over `base`, or over `mid` which is over it. */
import { runSync } from '../../../src/base/io.ts';
import type { MemoryStorage } from '../../../src/storage/memory.ts';
import { makeVdi } from './chain.ts';

const BASE_STAMP = 3_000_000;
const CHILD_STAMP = 4_000_000;
const MIDDLE_STAMP = 5_000_000;
export const BLOCK = 4096;

/** Writes the files. Returns the number of each sector of the disk; 0: zeros. `full`: all blocks of the disk have a place. */
export async function disksOfVdi(
  file: (name: string) => MemoryStorage,
  { sectors, over = false, middle = false, full = false }: { sectors: number; over?: boolean; middle?: boolean; full?: boolean },
): Promise<readonly number[]> {
  const perBlock = BLOCK / 512;
  const numbers = Array.from({ length: sectors }, () => 0);
  const blocks = (stamp: number, has: (index: number) => boolean): Map<number, Uint8Array | 'zero'> => {
    const found = new Map<number, Uint8Array | 'zero'>();
    // The order in the file is not that of the disk.
    for (let index = Math.ceil(sectors / perBlock) - 1; index >= 0; index--) {
      if (!has(index)) continue;
      const hidden = over && stamp === CHILD_STAMP && index % 7 === 3;
      const words = new Uint32Array(BLOCK / 4);
      for (let at = 0; at < perBlock && index * perBlock + at < sectors; at++) {
        numbers[index * perBlock + at] = hidden ? 0 : stamp + index * perBlock + at;
        words.fill(numbers[index * perBlock + at] as number, at * 128, (at + 1) * 128);
      }
      found.set(index, hidden ? 'zero' : new Uint8Array(words.buffer));
    }
    return found;
  };
  const shape = { size: sectors * 512, blockSize: BLOCK };
  if (over) runSync(file('base').write(0, makeVdi({ ...shape, create: 0x11, modify: 0x12, blocks: blocks(BASE_STAMP, (index) => index % 5 !== 0) })));
  if (middle) {
    const middleBlocks = blocks(MIDDLE_STAMP, (index) => index % 4 === 2);
    runSync(file('mid').write(0, makeVdi({ ...shape, parent: [0x11, 0x12], create: 0x31, modify: 0x32, blocks: middleBlocks })));
  }
  const has = (index: number): boolean => full || index % 3 === (over ? 1 : 0);
  const parent = over ? { parent: middle ? ([0x31, 0x32] as const) : ([0x11, 0x12] as const) } : {};
  runSync(file('disk').write(0, makeVdi({ ...shape, ...parent, create: 0x21, modify: 0x22, blocks: blocks(CHILD_STAMP, has) })));
  return numbers;
}
