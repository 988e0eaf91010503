/**
 * `convert`: copies one disk's contents to another, whatever their formats. Runs that the source knows to be zero are not read;
 * zeros found in data are not written; both are cleared in the target only where it does not read as zero already, so a fresh
 * target stays sparse. One buffer is in memory at a time, cut so that writes end on the target's clusters.
 */

import { roundDown, roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { MiB, SECTOR } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import type { BlockNode } from '../disk/node.ts';
import { CompressedCopy, type CopyRules, clearTarget } from './convert-compressed.ts';
import { type JobOptions, Pace } from './job.ts';
import { nextRun, type SparseRule, sparseRule } from './sparse.ts';

/** Bytes held in memory; a multiple of every format's largest cluster that tabdisk allocates by. */
const BUFFER = 2 * MiB;

/** What `convert` takes. */
export interface ConvertOptions extends JobOptions {
  /** Zero runs of at least this many bytes become holes; default 4096, as `qemu-img convert -S`. 0 writes everything, zeros too. */
  readonly sparse?: number;
  /** The target reads as zero all over (`--target-is-zero`): nothing is cleared. */
  readonly targetIsZero?: boolean;
  /** The target was just created: nothing is cleared that reads as zero in a new image of its format. */
  readonly targetIsNew?: boolean;
  /** Copy only what the source's own image holds: the rest comes from the target's backing file (`qemu-img convert -B`). */
  readonly topOnly?: boolean;
  /** Write compressed clusters (`qemu-img convert -c`); the target's format must have them. */
  readonly compressed?: boolean;
  /** Bytes into the target where the source's first byte goes; default 0. A multiple of 512. */
  readonly targetOffset?: number;
}

/**
 * Copies `source` into `target`, which must be at least as large; what lies behind the source's size is left alone. Flushes the
 * target. Throws `refused` if the target is too small, `aborted` if cancelled, and what reading or writing throws.
 */
export function convert(source: Disk, target: Disk, options: ConvertOptions = {}): Promise<void> {
  return runAsync(convertNodes(source.node, target.node, options));
}

/** `convert` inside coroutines. */
export function* convertNodes(source: BlockNode, target: BlockNode, options: ConvertOptions): Io<void> {
  const { sparse = 4096, targetOffset = 0, topOnly = false, targetIsNew = false, compressed = false } = options;
  const targetIsZero = options.targetIsZero || (targetIsNew && target.driver.newReadsZero !== false);
  const size = source.size;
  if (sparse % SECTOR !== 0 || sparse < 0) throw new DiskError('refused', `The sparse size ${sparse} is not a multiple of 512`, { field: 'sparse' });
  if (targetOffset % SECTOR !== 0)
    throw new DiskError('refused', `The target offset ${targetOffset} is not a multiple of 512`, { field: 'targetOffset' });
  if (targetOffset + size > target.size)
    throw new DiskError('refused', `The source (${size} bytes) does not fit: the target ${target.name} has room for ${target.size - targetOffset}`);
  const rules = { shift: targetOffset, sparse, topOnly, targetIsZero };
  const copy = compressed ? new CompressedCopy(source, target, rules) : new Copy(source, target, rules);
  const pace = new Pace(options, size);
  for (let at = 0; at < size; ) {
    yield* pace.step(at);
    at += yield* copy.next(at);
  }
  if (compressed) yield* target.finishCompressed();
  yield* target.flush();
  pace.finish();
}

/** What to do with a run of source bytes. */
type Treatment = 'skip' | 'zero' | 'data';

interface Piece {
  readonly length: number;
  readonly treatment: Treatment;
}

/** A copy under way. */
class Copy {
  readonly #source: BlockNode;
  readonly #target: BlockNode;
  readonly #options: CopyRules;
  readonly #rule: SparseRule | undefined;
  readonly #buffer: Uint8Array<ArrayBuffer>;
  /** What `#plan` found behind the piece it returned: the start of the next one. */
  #ahead: (Piece & { readonly start: number }) | undefined;

  constructor(source: BlockNode, target: BlockNode, options: CopyRules) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    this.#rule = options.sparse === 0 ? undefined : sparseRule(options.sparse);
    this.#buffer = new Uint8Array(Math.min(BUFFER, roundUp(source.size, SECTOR)));
  }

  /** Copies the bytes from `offset` on, as far as one buffer or one run goes; returns how many. */
  *next(offset: number): Io<number> {
    const { treatment, length } = yield* this.#plan(offset);
    if (treatment === 'data') yield* this.#copy(offset, length);
    else if (treatment === 'zero') yield* clearTarget(this.#target, offset + this.#options.shift, length, this.#options);
    return length;
  }

  /** Neighbouring runs of one treatment, of data as much as the buffer takes. */
  *#plan(offset: number): Io<Piece> {
    const first = yield* this.#look(offset);
    const limit = this.#limit(offset, first.treatment);
    let length = Math.min(first.length, limit);
    this.#ahead = undefined;
    while (length < limit && offset + length < this.#source.size) {
      const next = yield* this.#look(offset + length);
      if (next.treatment !== first.treatment) {
        this.#ahead = { ...next, start: offset + length };
        break;
      }
      length = Math.min(length + next.length, limit);
    }
    return { treatment: first.treatment, length };
  }

  *#look(offset: number): Io<Piece> {
    if (this.#ahead?.start === offset) return this.#ahead;
    const run = yield* this.#source.status(offset, this.#source.size - offset);
    const treatment = this.#options.topOnly && run.depth > 0 ? 'skip' : run.zero && this.#rule ? 'zero' : 'data';
    return { treatment, length: run.length };
  }

  /** The longest piece that may start here: a whole buffer, less what keeps its end on a cluster of the target. */
  #limit(offset: number, treatment: Treatment): number {
    // Zeros need no buffer, but a step must end now and then so that the job can be cancelled.
    if (treatment !== 'data') return 1024 * BUFFER;
    const unit = this.#target.driver.clusterSize || SECTOR;
    const start = offset + this.#options.shift;
    const whole = roundDown(start + this.#buffer.length, unit) - start;
    return whole > 0 ? whole : this.#buffer.length;
  }

  *#copy(offset: number, length: number): Io<void> {
    const sectors = Math.ceil(length / SECTOR);
    const whole = this.#buffer.subarray(0, sectors * SECTOR);
    yield* this.#source.read(offset, whole.subarray(0, length));
    whole.fill(0, length);
    const start = offset + this.#options.shift;
    if (!this.#rule) return yield* this.#target.write(start, whole.subarray(0, length));
    const words = new Int32Array(whole.buffer, whole.byteOffset, whole.length / 4);
    for (let sector = 0; sector < sectors; ) {
      const run = nextRun(words, sector, start / SECTOR, this.#rule);
      const from = sector * SECTOR;
      const to = Math.min((sector + run.sectors) * SECTOR, length);
      if (run.zero) yield* clearTarget(this.#target, start + from, to - from, this.#options);
      else yield* this.#target.write(start + from, whole.subarray(from, to));
      sector += run.sectors;
    }
  }
}
