/** What a workload is: see workloads.ts. */
import type { Resolve } from '../../src/disk/reference.ts';
import type { MemoryStorage } from '../../src/storage/memory.ts';
import type { Random } from '../random.ts';
import type { Guest } from './guest.ts';

export interface Workload {
  readonly name: string;
  readonly format: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly sectors: number;
  /** `base`, made by us first, full of data, and put below: longer than the disk or shorter. */
  readonly backing?: 'longer' | 'shorter';
  /** `mid`, an image between the disk and `base`, shorter than both, with numbers of its own here and there. */
  readonly middle?: boolean;
  /** `other`, another image that could be put below, with other contents. */
  readonly other?: boolean;
  /** Makes the disk and what is below it, in place of `createDisk`. Returns the numbers of its sectors. */
  readonly make?: (file: (name: string) => MemoryStorage, sectors: number) => Promise<readonly number[]>;
  /** Files besides the disk's own that change too, and may be cut off anywhere. */
  readonly recorded?: readonly string[];
  run(guest: Guest, random: Random, resolve: Resolve): Promise<void>;
  /** How many images down the one is that a commit goes into; default 1, if `base` is recorded. */
  readonly depth?: number;
  /** Every request to the files waits, so that others come in between. */
  readonly waits?: boolean;
  /** The files lie on media that take whole blocks of so many bytes only. */
  readonly blocks?: number;
  /** Part of the states of other workloads, where looking at one takes long. */
  readonly share?: number;
}
