/** A Parallels disk in a folder, of two parts with a snapshot each, with numbers in their sectors, for the crash explorer. */
import { runSync } from '../../../src/base/io.ts';
import type { MemoryStorage } from '../../../src/storage/memory.ts';
import { bundleText, partFile } from './bundle.ts';

const CLUSTER = 8;

const clusters = (sectors: number, stamp: number, has: (index: number) => boolean): Map<number, Uint8Array> => {
  const found = new Map<number, Uint8Array>();
  for (let index = Math.ceil(sectors / CLUSTER) - 1; index >= 0; index--)
    if (has(index))
      found.set(index, new Uint8Array(Uint32Array.from({ length: CLUSTER * 128 }, (_, at) => stamp + index * CLUSTER + (at >> 7)).buffer));
  return found;
};

/** Writes the files: `disk` is the text. Returns the number of each sector of the disk; 0: zeros. */
export function folderOfParallels(file: (name: string) => MemoryStorage): readonly number[] {
  const parts = [
    { sectors: 160, low: 'low1', top: 'first' },
    { sectors: 140, low: 'low2', top: 'second' },
  ];
  const numbers: number[] = [];
  for (const [number, { sectors, low, top }] of parts.entries()) {
    const below = clusters(sectors, (3 + number) * 1_000_000, (index) => index % 3 !== 0);
    const above = clusters(sectors, (5 + number) * 1_000_000, (index) => index % 4 === 1);
    runSync(file(low).write(0, partFile(sectors, CLUSTER, below)));
    runSync(file(top).write(0, partFile(sectors, CLUSTER, above, number === 0)));
    for (let sector = 0; sector < sectors; sector++) {
      const index = Math.floor(sector / CLUSTER);
      const unit = above.get(index) ?? below.get(index);
      numbers.push(unit ? new DataView(unit.buffer).getUint32((sector % CLUSTER) * 512, true) : 0);
    }
  }
  const text = bundleText(parts.map(({ sectors, low, top }) => ({ sectors, files: [low, top].map((name) => ['Compressed', name] as const) })));
  runSync(file('disk').write(0, text));
  return numbers;
}
