/** Runs one group with the rows that were asked for, wherever this is: the page, its worker, or Node. */
import type { Bench, Group, Sample } from './harness.ts';

/** What is asked of a group. */
export interface Request {
  readonly group: string;
  /** Ids of the rows wanted. */
  readonly rows: readonly string[];
  readonly rounds: number;
}

/** Row by row, what was found. */
export type Found = Record<string, Sample>;

export async function measureGroup(groups: readonly Group[], { group, rows, rounds }: Request, progress: (text: string) => void): Promise<Found> {
  const found: Found = {};
  const bench: Bench = {
    rounds,
    wants: (id) => rows.includes(id),
    record(id, sample) {
      found[id] = sample;
    },
    progress,
  };
  await groups.find(({ name }) => name === group)?.measure(bench);
  return found;
}
