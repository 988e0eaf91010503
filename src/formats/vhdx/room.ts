/** Room for new blocks in a VHDX file, at whole MiB. */
import { roundUp } from '../../base/bytes.ts';
import type { Io } from '../../base/io.ts';
import { MiB, SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import { Space } from '../../tables/space.ts';
import type { Range } from './layout.ts';

/** The room of a file with these blocks. */
export function roomOf(storage: Storage, { unit, used, reserved }: { unit: number; used: readonly Range[]; reserved: readonly Range[] }): Space {
  const last = [...used, ...reserved].reduce((most, { end }) => Math.max(most, end), 0);
  // Behind the last block, if the file has room for a block there (a fixed image has), else at the file's end.
  const end = last + unit <= storage.size ? last : roundUp(Math.max(last, storage.size), MiB);
  return new Space(storage, { unit, align: MiB, end, gaps: true, used, reserved });
}

/** Takes whole MiB at the file's end for what is no payload block: they read as zero, and are in the file. */
export function* takeZeros(storage: Storage, space: Space, length: number): Io<number> {
  const start = yield* space.takeRun(length);
  // Before the file's end there may be the rest of a write that failed.
  if (start < storage.size) yield* storage.zero(start, Math.min(storage.size - start, length));
  if (storage.size < start + length) yield* storage.write(start + length - SECTOR, new Uint8Array(SECTOR));
  return start;
}
