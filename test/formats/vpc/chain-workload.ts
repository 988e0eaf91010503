/** A differencing VHD over a dynamic one, both with numbers in their sectors, for the crash explorer: `disk` over `base`. */
import { runSync } from '../../../src/base/io.ts';
import { createDisk } from '../../../src/disk/open.ts';
import type { MemoryStorage } from '../../../src/storage/memory.ts';
import { makeChild } from './child.ts';

const BASE_STAMP = 3_000_000;
const CHILD_STAMP = 4_000_000;

const filled = (stamp: number): Uint8Array => new Uint8Array(new Uint32Array(128).fill(stamp).buffer);

/** Writes both files. Returns the number of each sector of the disk; 0: zeros. */
export async function childOfVhd(
  file: (name: string) => MemoryStorage,
  { sectors, ...options }: { sectors: number; blockSize: number; rawParent?: boolean },
): Promise<readonly number[]> {
  const base = file('base');
  const disk = await createDisk(base, { format: 'vpc', size: sectors * 512, force_size: true });
  const numbers = Array.from({ length: sectors }, (_, sector) => (sector % 5 === 0 ? 0 : BASE_STAMP + sector));
  for (const [sector, stamp] of numbers.entries()) if (stamp !== 0) await disk.write(sector * 512, filled(stamp));
  await disk.flush();
  // In the first half only, so that other blocks are new.
  const own = new Map<number, Uint8Array>();
  for (let sector = 3; sector < sectors / 2; sector += 7) {
    numbers[sector] = CHILD_STAMP + sector;
    own.set(sector, filled(CHILD_STAMP + sector));
  }
  const child = makeChild(base.bytes().slice(-512), { ...options, sectors: own, names: { W2ru: 'base' }, parentName: 'base' });
  const storage = file('disk');
  runSync(storage.write(0, child));
  return numbers;
}
