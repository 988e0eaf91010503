/**
 * The source of jobs: a disk whose failures name the step and the place, or (to salvage a damaged image) a disk without
 * failures: sectors that cannot be read are reported one by one and count as zeros.
 */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { placed, placedError } from '../base/job.ts';
import { SECTOR } from '../base/units.ts';
import type { StatusOptions } from '../formats/driver.ts';
import type { BlockNode, MapRun } from '../node/node.ts';

/** How to go on over damage. */
export interface SalvageOptions {
  /** Copies zeros where the source cannot be read, as `qemu-img convert --salvage`. */
  readonly salvage?: boolean;
  /** Called for each sector that could not be read, or whose state (data or not) could not be read. `offset` in bytes. */
  readonly onUnreadable?: (what: 'status' | 'content', offset: number, error: DiskError) => void;
}

/** How to read, and for which purpose. */
export type SourceOptions = SalvageOptions & StatusOptions;

/** A disk to read from. Both verbs throw errors whose `step` ("NAME status" or NAME) and `offset` name the failed step. */
export interface Source {
  readonly size: number;
  /** As `BlockNode.status`, but compressed and encrypted clusters come one by one, as QEMU counts them. */
  status(offset: number, length: number): Io<MapRun>;
  /** `from`: the start of the step that this read belongs to, for errors; default `offset`. */
  read(offset: number, into: Uint8Array, from?: number): Io<void>;
  /** Reads like `read` if nothing has to be waited for; otherwise returns false (see `BlockNode.readNow`). */
  readNow(offset: number, into: Uint8Array, from: number): boolean;
}

/** The source over a disk's node, under a name for its errors. */
export function openSource(node: BlockNode, name: string, { salvage = false, onUnreadable, reading = false }: SourceOptions = {}): Source {
  return salvage ? new SalvagedSource(node, { onUnreadable, reading }) : new PlainSource(node, { name, reading });
}

function* status(node: BlockNode, offset: number, length: number, options: StatusOptions): Io<MapRun> {
  const run = yield* node.status(offset, length, { ...options, layers: true });
  const unit = run.data && run.offset === undefined ? node.driver.clusterSize : 0;
  return unit > 0 ? { ...run, length: Math.min(run.length, unit - (offset % unit)) } : run;
}

class PlainSource implements Source {
  readonly #node: BlockNode;
  readonly #name: string;
  readonly #how: StatusOptions;

  constructor(node: BlockNode, { name, reading }: { name: string; reading: boolean }) {
    this.#node = node;
    this.#name = name;
    this.#how = { reading };
  }

  get size(): number {
    return this.#node.size;
  }

  *status(offset: number, length: number): Io<MapRun> {
    return yield* placed({ step: `${this.#name} status`, offset }, status(this.#node, offset, length, this.#how));
  }

  *read(offset: number, into: Uint8Array, from = offset): Io<void> {
    yield* placed({ step: this.#name, offset: from }, this.#node.read(offset, into));
  }

  readNow(offset: number, into: Uint8Array, from: number): boolean {
    try {
      return this.#node.readNow(offset, into);
    } catch (error) {
      throw placedError({ step: this.#name, offset: from }, error);
    }
  }
}

class SalvagedSource implements Source {
  readonly #node: BlockNode;
  readonly #onUnreadable: SalvageOptions['onUnreadable'];
  readonly #how: StatusOptions;

  constructor(node: BlockNode, { onUnreadable, reading }: { onUnreadable: SalvageOptions['onUnreadable']; reading: boolean }) {
    this.#node = node;
    this.#onUnreadable = onUnreadable;
    this.#how = { reading };
  }

  get size(): number {
    return this.#node.size;
  }

  *status(offset: number, length: number): Io<MapRun> {
    try {
      return yield* status(this.#node, offset, length, this.#how);
    } catch (error) {
      if (length > SECTOR) return yield* this.status(offset, SECTOR);
      this.#tell('status', offset, error);
      const sector = { start: offset, length: Math.min(length, SECTOR), depth: 0 };
      return { ...sector, present: true, zero: false, data: true, compressed: false };
    }
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    try {
      yield* this.#node.read(offset, into);
    } catch (error) {
      if (into.length > SECTOR) {
        for (let at = 0; at < into.length; at += SECTOR) yield* this.read(offset + at, into.subarray(at, at + SECTOR));
        return;
      }
      this.#tell('content', offset, error);
      into.fill(0);
    }
  }

  readNow(): boolean {
    return false;
  }

  #tell(what: 'status' | 'content', offset: number, error: unknown): void {
    if (!(error instanceof DiskError)) throw error;
    this.#onUnreadable?.(what, offset, error);
  }
}
