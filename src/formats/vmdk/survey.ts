/** Which grains of a file are used, by its tables and by those of the disk: all tables are read. For the reuse of grains that nothing names. */
import { roundUp } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { Grain, Shape } from './layout.ts';

/** The parts of the file, in grains from its beginning. */
export interface Survey {
  /** Two entries name one grain, or one that overlaps it or the tables, or an entry is wrong: what is unused is not known then. */
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
const UNKNOWN: Survey = { shared: true, unused: [] };
const [TABLE, GRAIN] = [1, 2] as const;

/** Looks at all entries, up to the first that is wrong. */
export function* surveyGrains(storage: Storage, surveyed: Surveyed): Io<Survey> {
  const { shape, directories } = surveyed;
  const { grainSize, capacity, tableEntries, entryBytes, directoryEntries, least, grains = 0 } = shape;
  const count = Math.ceil(storage.size / grainSize);
  if (count > MOST) return UNKNOWN;
  const used = new Uint8Array(count);
  /** False if something else is there already; tables may share what belongs to them. */
  const mark = (start: number, length: number, what: typeof TABLE | typeof GRAIN): boolean => {
    let alone = true;
    for (let at = Math.floor(start / grainSize); at * grainSize < start + length && at < count; at++) {
      if (used[at] === GRAIN || (used[at] === TABLE && what === GRAIN)) alone = false;
      used[at] = what;
    }
    return alone;
  };
  mark(0, Math.max(least, roundUp(grains, grainSize)), TABLE);
  for (const at of directories) mark(at, directoryEntries * entryBytes, TABLE);
  const tables = new Set<number>();
  try {
    for (let first = 0; first * grainSize < capacity; first += tableEntries) {
      yield* surveyed.load(first);
      const places = surveyed.tables(first);
      for (const at of places) {
        if (tables.has(at) || !mark(at, tableEntries * entryBytes, TABLE)) return UNKNOWN;
        tables.add(at);
      }
      const end = places.length === 0 ? first : Math.min(first + tableEntries, Math.ceil(capacity / grainSize));
      for (let index = first; index < end; index++) {
        if (surveyed.entry(index) === undefined) yield* surveyed.load(index);
        const grain = surveyed.entry(index);
        if (typeof grain === 'number' && !mark(grain, grainSize, GRAIN)) return UNKNOWN;
      }
    }
  } catch (error) {
    if (error instanceof DiskError && error.kind === 'corrupt') return UNKNOWN;
    throw error;
  }
  const unused: number[] = [];
  for (let at = 0; (at + 1) * grainSize <= storage.size; at++) if (used[at] === 0) unused.push(at);
  return { shared: false, unused };
}
