/** Which grains of a file are used, by its tables and by those of the disk: all tables are read. For the reuse of grains that nothing names, and for the check. */
import { roundUp } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { Grain, Shape } from './layout.ts';

/** The parts of the file, in grains from its beginning. */
export interface Survey {
  /** Two entries name one grain, or one that overlaps it or the tables, or an entry is wrong. */
  readonly shared: boolean;
  /** Grains of the file that nothing names, in order; the file's last, which may be shorter, not among them. */
  readonly unused: readonly number[];
}

/** The extent, and its entries, which are asked for in turn. */
interface Surveyed {
  readonly shape: Shape;
  readonly directories: readonly number[];
  entry(index: number): Grain | undefined;
  load(index: number): Io<void>;
  /** The places of the tables with a grain's entry, once `load` has looked for them. */
  tables(index: number): readonly number[];
}

/** More grains are not looked at. */
const MOST = 2 ** 26;

/** Looks at all entries. */
export function* surveyGrains(storage: Storage, { shape, directories, entry, load, tables }: Surveyed): Io<Survey> {
  const { grainSize, capacity, tableEntries, entryBytes, directoryEntries, least, grains = 0 } = shape;
  const count = Math.ceil(storage.size / grainSize);
  if (count > MOST) return { shared: true, unused: [] };
  const used = new Uint8Array(count);
  let shared = false;
  const mark = (start: number, length: number, whole = false): void => {
    for (let at = Math.floor(start / grainSize); at * grainSize < start + length && at < count; at++) {
      // Tables may share what belongs to them.
      if (used[at] === 1 || (used[at] === 2 && whole)) shared = true;
      used[at] = whole ? 1 : 2;
    }
  };
  mark(0, Math.max(least, roundUp(grains, grainSize)));
  for (const at of directories) mark(at, directoryEntries * entryBytes);
  for (let index = 0; index * grainSize < capacity; index += tableEntries) {
    yield* load(index);
    for (const at of tables(index)) mark(at, tableEntries * entryBytes);
  }
  for (let index = 0; index * grainSize < capacity; index++) {
    try {
      if (entry(index) === undefined) yield* load(index);
      const grain = entry(index);
      if (typeof grain === 'number') mark(grain, grainSize, true);
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind !== 'corrupt') throw error;
      shared = true;
    }
  }
  const unused: number[] = [];
  for (let at = 0; (at + 1) * grainSize <= storage.size; at++) if (used[at] === 0) unused.push(at);
  return { shared, unused };
}
