/**
 * `convert -c`: a copy cluster by cluster of the target, each compressed on its own. A cluster is written whole unless all of it reads as zero
 * (or, with `topOnly`, none of it is in the source's own image); the driver completes the disk's last cluster with zeros. Where source and
 * target do not share cluster borders, bytes that the target has already are kept. Clusters are read and compressed ahead, by other threads if there
 * are some, and written in order.
 */
import { isZero, roundDown } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { begin, type Io, type Task, wait } from '../base/io.ts';
import { placed } from '../base/job.ts';
import type { Compressor } from '../compression/compressor.ts';
import type { BlockNode } from '../node/node.ts';
import type { AheadStep } from './ahead.ts';
import type { Source } from './source.ts';

/** Most bytes skipped or cleared in one step, so that a job can be cancelled in between. */
const MOST_ZEROS = 1 << 30;

/** How a copy treats its source and target; see `ConvertOptions`. `shift` is `targetOffset`. */
export interface CopyRules {
  readonly shift: number;
  readonly sparse: number;
  readonly topOnly: boolean;
  readonly targetIsZero: boolean;
  readonly asIs: boolean;
}

/** A step of a copy: as far as `end`. */
export interface CopyStep extends AheadStep {
  /** The source has data there. */
  readonly data: boolean;
  /** Changes the target; absent if nothing has to change. To be called in order. */
  readonly write?: () => Io<void>;
}

/** A compressed copy under way. */
export class CompressedCopy {
  readonly #source: Source;
  readonly #target: BlockNode;
  readonly #rules: CopyRules;
  readonly #unit: number;
  readonly #compressor: Compressor | undefined;

  /** Throws `unsupported` if the target cannot hold compressed clusters. */
  constructor(source: Source, target: BlockNode, rules: CopyRules & { compressor: Compressor | undefined }) {
    const { driver } = target;
    if (!driver.writeCompressed)
      throw new DiskError('unsupported', `${driver.format}: this format cannot hold compressed clusters`, { format: driver.format });
    this.#source = source;
    this.#target = target;
    this.#rules = rules;
    this.#compressor = rules.compressor;
    this.#unit = driver.clusterSize;
  }

  /** Copies the source's bytes from `offset` on, up to the end of one cluster of the target or of one run without data. */
  *step(offset: number): Io<CopyStep> {
    const { shift } = this.#rules;
    const { size } = this.#source;
    const unit = this.#unit;
    const start = offset + shift;
    const length = Math.min(roundDown(start, unit) + unit - shift, size) - offset;
    const run = yield* this.#runFrom(offset);
    if (run.treatment !== 'data' && run.length >= length) {
      const end = offset + run.length === size ? size : roundDown(start + run.length, unit) - shift;
      if (run.treatment !== 'zero') return { end, data: false };
      return { end, data: false, write: () => writing(start, clearTarget(this.#target, start, end - offset, this.#rules)) };
    }
    const end = offset + length;
    if (!(yield* this.#anyOwn(offset, length))) return { end, data: false };
    const underWay = begin(this.#read(offset, length));
    return { end, data: true, underWay, write: () => this.#write(start, length, underWay) };
  }

  *#runFrom(offset: number): Io<{ treatment: 'skip' | 'zero' | 'data'; length: number }> {
    const run = yield* this.#source.status(offset, Math.min(MOST_ZEROS, this.#source.size - offset));
    const treatment = this.#rules.topOnly && run.depth > 0 ? 'skip' : run.zero && this.#rules.sparse > 0 ? 'zero' : 'data';
    return { treatment, length: run.length };
  }

  /** True if a part of the range has to be copied. */
  *#anyOwn(offset: number, length: number): Io<boolean> {
    for (let done = 0; done < length; ) {
      const run = yield* this.#runFrom(offset + done);
      if (run.treatment !== 'skip') return true;
      done += run.length;
    }
    return false;
  }

  /** The cluster to write for the source's bytes, which are in one cluster; undefined if all of them are zero. */
  *#read(offset: number, length: number): Io<Cluster | undefined> {
    const start = offset + this.#rules.shift;
    const from = roundDown(start, this.#unit);
    const whole = new Uint8Array(this.#unit);
    const bytes = whole.subarray(0, this.#target.size - from);
    const piece = whole.subarray(start - from, start - from + length);
    yield* this.#source.read(offset, piece);
    if (this.#rules.sparse > 0 && isZero(piece)) return undefined;
    if (length < bytes.length) yield* writing(start, this.#readAround(from, bytes, { start: start - from, end: start - from + length }));
    const how = this.#target.driver.compression;
    if (!this.#compressor || !how) return { bytes };
    return { bytes, encoded: yield* writing(start, wait(this.#compressor.compress(whole, how))) };
  }

  *#readAround(from: number, whole: Uint8Array, { start, end }: { start: number; end: number }): Io<void> {
    yield* this.#target.read(from, whole.subarray(0, start));
    yield* this.#target.read(from + end, whole.subarray(end));
  }

  *#write(start: number, length: number, reading: Task<Cluster | undefined>): Io<void> {
    const cluster = yield* reading.join();
    if (cluster) yield* writing(start, this.#target.writeCompressed(roundDown(start, this.#unit), cluster.bytes, cluster.encoded));
    else yield* writing(start, clearTarget(this.#target, start, length, this.#rules));
  }
}

/** A cluster of the target, up to the end of the disk. */
interface Cluster {
  readonly bytes: Uint8Array;
  /** Compressed already. */
  readonly encoded?: Uint8Array;
}

/** Runs a step that changes the target; its errors state the place. */
export const writing = <T>(offset: number, work: Io<T>): Io<T> => placed({ step: 'target', offset }, work);

/** Makes a range of the target read as zero, writing only where it does not yet. */
export function* clearTarget(target: BlockNode, start: number, length: number, { targetIsZero }: CopyRules): Io<void> {
  if (targetIsZero) return;
  for (let done = 0; done < length; ) {
    const run = yield* target.status(start + done, length - done);
    if (!run.zero) yield* target.zero(start + done, run.length, { unmap: true });
    done += run.length;
  }
}
