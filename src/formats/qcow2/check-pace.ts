/** How far a check has come, by the tables that it has read and has still to read; and its turns of the thread (base/job.ts). */
import type { Io } from '../../base/io.ts';
import { Pace } from '../../base/job.ts';
import type { Locked } from '../../tables/table-cache.ts';
import type { CheckOptions } from '../tools.ts';
import type { Metadata } from './metadata.ts';

/** How a check works. */
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
  /** The beginning of the present stage, and its part of the total. */
  #start = 0;
  #weight = 0;

  constructor(meta: Metadata, { repair, onProgress, signal, control }: CheckOptions) {
    this.#tables = [...l2Tables(meta)].length;
    const trees = this.#tables * (1 + meta.snapshots.length);
    const blocks = Math.ceil(meta.storage.size / meta.clusterSize / meta.refcounts.blockEntries);
    // A repair counts twice, and reads the stored counts once more to mend them. Reading tables again for their flags is an exception, and not counted.
    this.#total = (repair ? 2 : 1) * (trees + blocks) + 1;
    const whileLooking = repair ? {} : { ...(signal ? { signal } : {}), ...(control ? { control } : {}) };
    this.#pace = new Pace({ ...(onProgress ? { onProgress } : {}), ...whileLooking }, this.#total);
  }

  /** The stage before is done; the next one reads so many tables, by default those of the disk. */
  begin(weight = this.#tables): void {
    this.#start += this.#weight;
    this.#weight = weight;
  }

  /** Between two tables, `part` (0 to 1) of the present stage: see `Pace.step`. */
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
