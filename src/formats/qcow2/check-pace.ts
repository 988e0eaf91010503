/** How far a check has come, by the tables that it has looked at and still will; and its turns of the thread (base/job.ts). */
import type { Io } from '../../base/io.ts';
import { Pace } from '../../base/job.ts';
import type { CheckOptions } from '../tools.ts';
import type { Metadata } from './metadata.ts';
import type { Locked } from './table-cache.ts';

/** How a check goes about it. */
export interface CheckWork {
  /** How tables are read in. */
  readonly locked: Locked;
  readonly pace: CheckPace;
}

/** See the top of this file. */
export class CheckPace {
  /** L2 tables of the disk. Snapshots are taken to have as many each, until they are read. */
  readonly #tables: number;
  readonly #pace: Pace;
  readonly #total: number;
  /** Where the stage under way begins, and how much it is of the total. */
  #start = 0;
  #weight = 0;

  constructor(meta: Metadata, { repair, onProgress, signal, control }: CheckOptions) {
    this.#tables = [...l2Tables(meta)].length;
    const trees = this.#tables * (1 + meta.snapshots.length);
    const blocks = Math.ceil(meta.storage.size / meta.clusterSize / meta.refcounts.blockEntries);
    // A repair counts twice, and goes over the stored counts once more to mend them. That flags are gone over is the exception.
    this.#total = (repair ? 2 : 1) * (trees + blocks) + 1;
    const whileLooking = repair ? {} : { ...(signal ? { signal } : {}), ...(control ? { control } : {}) };
    this.#pace = new Pace({ ...(onProgress ? { onProgress } : {}), ...whileLooking }, this.#total);
  }

  /** What was begun before is done; what begins looks at so many tables, by default those of the disk. */
  begin(weight = this.#tables): void {
    this.#start += this.#weight;
    this.#weight = weight;
  }

  /** Between two tables, `part` (0 to 1) of what was begun: see `Pace.step`. */
  step(part: number): Io<void> {
    return this.#pace.step(Math.min(this.#start + Math.floor(this.#weight * part), this.#total - 1));
  }

  /** Everything is done. */
  finish(): void {
    this.#pace.finish();
  }
}

/** Indices of the L1 entries of the disk that name an L2 table. */
export function* l2Tables(meta: Metadata): Generator<number> {
  for (let index = 0; index < meta.l1.size; index++) if (meta.l1.offset(index) !== 0) yield index;
}
