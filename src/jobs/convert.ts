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
import { CompressedCopy, type CopyRules, clearTarget, writing } from './convert-compressed.ts';
import { type CopyJobOptions, Pace } from './job.ts';
import { openSource, type SalvageOptions, type Source } from './source.ts';
import { nextRun, type SparseRule, sparseRule } from './sparse.ts';

/** Bytes held in memory; a multiple of every format's largest cluster that tabdisk allocates by. */
const BUFFER = 2 * MiB;
/** Bytes cleared in one step. */
const MOST_ZEROS = 2048 * MiB;

/** What `convert` takes. */
export interface ConvertOptions extends CopyJobOptions, SalvageOptions {
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
  /**
   * Copy data as it is, without looking for zeros in it, as `qemu-img convert -C` does where it can: up to the first run that is compressed or
   * encrypted.
   */
  readonly asIs?: boolean;
  /** Called with the number of bytes dealt with, after every step that was about data. */
  readonly onData?: (bytes: number) => void;
}

/**
 * Copies `source` into `target`, which must be at least as large; what lies behind the source's size is left alone. Flushes the
 * target. Throws `refused` if the target is too small, `aborted` if cancelled, and what reading or writing throws, with `field` "source
 * status", "source" or "target" and the `offset` of the step that failed.
 */
export function convert(source: Disk, target: Disk, options: ConvertOptions = {}): Promise<void> {
  return runAsync(convertNodes(source.node, target.node, options));
}

/** Bytes of a disk that `convert` would call data under these options; what cannot be told is reported if it is to be salvaged. */
export function countData(source: Disk, options: ConvertOptions = {}): Promise<number> {
  return runAsync(countNode(source.node, options));
}

function* countNode(node: BlockNode, options: ConvertOptions): Io<number> {
  const { sparse = 4096, topOnly = false } = options;
  const source = openSource(node, 'source', options);
  const pace = new Pace(options, node.size);
  let bytes = 0;
  for (let at = 0; at < node.size; ) {
    yield* pace.step(at);
    const run = yield* source.status(at, node.size - at);
    if (!(topOnly && run.depth > 0) && !(run.zero && sparse > 0)) bytes += run.length;
    at += run.length;
  }
  return bytes;
}

/** `convert` inside coroutines. */
export function* convertNodes(source: BlockNode, target: BlockNode, options: ConvertOptions): Io<void> {
  const { sparse = 4096, targetOffset = 0, topOnly = false, targetIsNew = false, compressed = false, asIs = false, onData } = options;
  const targetIsZero = options.targetIsZero || (targetIsNew && target.driver.newReadsZero !== false);
  const size = source.size;
  if (sparse % SECTOR !== 0 || sparse < 0) throw new DiskError('refused', `The sparse size ${sparse} is not a multiple of 512`, { field: 'sparse' });
  if (targetOffset % SECTOR !== 0)
    throw new DiskError('refused', `The target offset ${targetOffset} is not a multiple of 512`, { field: 'targetOffset' });
  if (targetOffset + size > target.size)
    throw new DiskError('refused', `The source (${size} bytes) does not fit: the target ${target.name} has room for ${target.size - targetOffset}`);
  const rules = { shift: targetOffset, sparse, topOnly, targetIsZero, asIs };
  const reader = openSource(source, 'source', options);
  const copy = compressed ? new CompressedCopy(reader, target, rules) : new Copy(reader, target, rules);
  const pace = new Pace(options, size);
  for (let at = 0; at < size; ) {
    yield* pace.step(at);
    const { length, data } = yield* copy.next(at);
    at += length;
    if (!data) continue;
    onData?.(length);
    yield* pace.spend(length);
  }
  if (compressed) yield* target.finishCompressed();
  yield* target.flush();
  pace.finish();
}

/** A copy under way. */
class Copy {
  readonly #source: Source;
  readonly #target: BlockNode;
  readonly #options: CopyRules;
  readonly #rule: SparseRule | undefined;
  /** Zeros in data are looked for. */
  #scan: boolean;
  readonly #buffer: Uint8Array<ArrayBuffer>;

  constructor(source: Source, target: BlockNode, options: CopyRules) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    this.#scan = !options.asIs;
    this.#rule = options.sparse === 0 ? undefined : sparseRule(options.sparse);
    this.#buffer = new Uint8Array(Math.min(BUFFER, roundUp(source.size, SECTOR)));
  }

  /** Copies the bytes from `offset` on, as far as one buffer or one run of the source goes; returns how many. */
  *next(offset: number): Io<{ length: number; data: boolean }> {
    const run = yield* this.#source.status(offset, this.#source.size - offset);
    if (this.#options.topOnly && run.depth > 0) return { length: run.length, data: false };
    const start = offset + this.#options.shift;
    if (run.zero && this.#rule) {
      // A step must end now and then so that the job can be cancelled.
      const length = Math.min(run.length, MOST_ZEROS);
      yield* writing(start, clearTarget(this.#target, start, length, this.#options));
      return { length, data: false };
    }
    if (run.data && run.offset === undefined) this.#scan = true;
    const length = Math.min(run.length, this.#limit(start));
    yield* this.#copy(offset, length);
    return { length, data: true };
  }

  /** The most data that may be copied at once: a whole buffer, less what keeps its end on a cluster of the target. */
  #limit(start: number): number {
    const unit = this.#target.driver.clusterSize || SECTOR;
    const whole = roundDown(start + this.#buffer.length, unit) - start;
    return whole > 0 ? whole : this.#buffer.length;
  }

  *#copy(offset: number, length: number): Io<void> {
    const sectors = Math.ceil(length / SECTOR);
    const whole = this.#buffer.subarray(0, sectors * SECTOR);
    yield* this.#source.read(offset, whole.subarray(0, length));
    whole.fill(0, length);
    yield* writing(offset + this.#options.shift, this.#write(offset + this.#options.shift, whole, length));
  }

  *#write(start: number, whole: Uint8Array<ArrayBuffer>, length: number): Io<void> {
    if (!this.#rule || !this.#scan) return yield* this.#target.write(start, whole.subarray(0, length));
    const words = new Int32Array(whole.buffer, whole.byteOffset, whole.length / 4);
    for (let sector = 0; sector * SECTOR < whole.length; ) {
      const run = nextRun(words, sector, start / SECTOR, this.#rule);
      const from = sector * SECTOR;
      const to = Math.min((sector + run.sectors) * SECTOR, length);
      if (run.zero) yield* clearTarget(this.#target, start + from, to - from, this.#options);
      else yield* this.#target.write(start + from, whole.subarray(from, to));
      sector += run.sectors;
    }
  }
}
