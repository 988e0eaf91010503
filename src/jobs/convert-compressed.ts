/**
 * `convert -c`: a copy cluster by cluster of the target, each compressed on its own. A cluster is written whole unless all of it reads as zero
 * (or, with `topOnly`, none of it is in the source's own image); the disk's last is completed with zeros by the driver. Where source and
 * target do not share cluster borders, what the target holds already is kept.
 */
import { roundDown } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { BlockNode } from '../disk/node.ts';
import { placed } from './job.ts';
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

/** A compressed copy under way. */
export class CompressedCopy {
  readonly #source: Source;
  readonly #target: BlockNode;
  readonly #rules: CopyRules;
  readonly #cluster: Uint8Array;

  /** Throws `unsupported` if the target cannot hold compressed clusters. */
  constructor(source: Source, target: BlockNode, rules: CopyRules) {
    const { driver } = target;
    if (!driver.writeCompressed)
      throw new DiskError('unsupported', `${driver.format}: this format cannot hold compressed clusters`, { format: driver.format });
    this.#source = source;
    this.#target = target;
    this.#rules = rules;
    this.#cluster = new Uint8Array(driver.clusterSize);
  }

  /** Copies the source's bytes from `offset` on, as far as one cluster of the target or one run without data goes; returns how many. */
  *next(offset: number): Io<{ length: number; data: boolean }> {
    const { shift } = this.#rules;
    const { size } = this.#source;
    const unit = this.#cluster.length;
    const length = Math.min(roundDown(offset + shift, unit) + unit - shift, size) - offset;
    const run = yield* this.#runFrom(offset);
    if (run.treatment !== 'data' && run.length >= length) {
      const end = offset + run.length === size ? size : roundDown(offset + run.length + shift, unit) - shift;
      if (run.treatment === 'zero') yield* writing(offset + shift, clearTarget(this.#target, offset + shift, end - offset, this.#rules));
      return { length: end - offset, data: false };
    }
    const data = yield* this.#anyOwn(offset, length);
    if (data) yield* this.#copy(offset, length);
    return { length, data };
  }

  *#runFrom(offset: number): Io<{ treatment: 'skip' | 'zero' | 'data'; length: number }> {
    const run = yield* this.#source.status(offset, Math.min(MOST_ZEROS, this.#source.size - offset));
    const treatment = this.#rules.topOnly && run.depth > 0 ? 'skip' : run.zero && this.#rules.sparse > 0 ? 'zero' : 'data';
    return { treatment, length: run.length };
  }

  /** True if some of the range is to be copied. */
  *#anyOwn(offset: number, length: number): Io<boolean> {
    for (let done = 0; done < length; ) {
      const run = yield* this.#runFrom(offset + done);
      if (run.treatment !== 'skip') return true;
      done += run.length;
    }
    return false;
  }

  *#copy(offset: number, length: number): Io<void> {
    const start = offset + this.#rules.shift;
    const unit = this.#cluster.length;
    const piece = this.#cluster.subarray(start % unit, (start % unit) + length);
    yield* this.#source.read(offset, piece);
    yield* writing(start, this.#write(start, piece));
  }

  *#write(start: number, piece: Uint8Array): Io<void> {
    const unit = this.#cluster.length;
    if (this.#rules.sparse > 0 && piece.every((byte) => byte === 0)) return yield* clearTarget(this.#target, start, piece.length, this.#rules);
    const from = roundDown(start, unit);
    const whole = this.#cluster.subarray(0, Math.min(unit, this.#target.size - from));
    if (piece.length < whole.length) {
      yield* this.#target.read(from, whole.subarray(0, start - from));
      yield* this.#target.read(start + piece.length, whole.subarray(start - from + piece.length));
    }
    yield* this.#target.writeCompressed(from, whole);
  }
}

/** Runs a step that changes the target; its failures tell where. */
export const writing = (offset: number, step: Io<void>): Io<void> => placed({ field: 'target', offset }, step);

/** Makes a range of the target read as zero, touching only what does not yet. */
export function* clearTarget(target: BlockNode, start: number, length: number, { targetIsZero }: CopyRules): Io<void> {
  if (targetIsZero) return;
  for (let done = 0; done < length; ) {
    const run = yield* target.status(start + done, length - done);
    if (!run.zero) yield* target.zero(start + done, run.length, { unmap: true });
    done += run.length;
  }
}
