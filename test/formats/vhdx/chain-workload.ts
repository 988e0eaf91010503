/** A differencing VHDX image over a dynamic one, both with numbers in their sectors, for the crash explorer: `disk` over `base`. */
import { runSync } from '../../../src/base/io.ts';
import { createDisk } from '../../../src/disk/open.ts';
import type { MemoryStorage } from '../../../src/storage/memory.ts';
import { makeChild } from './child.ts';

const BASE_STAMP = 3_000_000;
const CHILD_STAMP = 4_000_000;

const filled = (stamp: number): Uint8Array => new Uint8Array(new Uint32Array(128).fill(stamp).buffer);

/** Writes both files; the child has no block but the first. `middle`: it lies over `mid`, an empty image over `base`. Returns the number of each sector of the disk; 0: zeros. */
export async function childOfVhdx(
  file: (name: string) => MemoryStorage,
  sectors: number,
  { middle = false }: { middle?: boolean } = {},
): Promise<readonly number[]> {
  const base = file('base');
  const disk = await createDisk(base, { format: 'vhdx', size: sectors * 512, block_size: 2 ** 20 });
  const numbers = Array.from({ length: sectors }, (_, sector) => (sector % 5 === 0 ? 0 : BASE_STAMP + sector));
  const bytes = new Uint8Array(sectors * 512);
  for (const [sector, stamp] of numbers.entries()) if (stamp !== 0) bytes.set(filled(stamp), sector * 512);
  await disk.write(0, bytes);
  await disk.close();
  const own = new Map<number, Uint8Array>();
  for (let sector = 3; sector < Math.min(sectors, 2048); sector += 301) {
    numbers[sector] = CHILD_STAMP + sector;
    own.set(sector, filled(CHILD_STAMP + sector));
  }
  const size = sectors * 512;
  const mid = middle ? makeChild(base.bytes(), { size, names: { relative_path: 'base' } }) : undefined;
  if (mid) runSync(file('mid').write(0, mid));
  const child = makeChild(mid ?? base.bytes(), { size, sectors: own, names: { relative_path: mid ? 'mid' : 'base' } });
  runSync(file('disk').write(0, child));
  return numbers;
}
