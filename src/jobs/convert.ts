/**
 * `convert`: copies one disk's contents to another, in any two formats. Runs that the source knows to be zero are not read;
 * zeros found in data are not written; both are cleared in the target only where it does not read as zero already, so a fresh
 * target stays sparse. If a storage waits, the source is read ahead of the writes (ahead.ts), in a few buffers, cut so that writes end
 * on the target's clusters; the target is written in order.
 */

import { check, FLAG, FUNCTION, optionsOf, SIZE } from '../base/arguments.ts';
import { roundDown, roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { begin, type Io, runAsync } from '../base/io.ts';
import { COPY_JOB_OPTIONS, type CopyJobOptions, Pace } from '../base/job.ts';
import { MiB, SECTOR } from '../base/units.ts';
import type { Compression, Compressor } from '../compression/compressor.ts';
import type { Disk } from '../disk/disk.ts';
import { DISK } from '../disk/kinds.ts';
import type { BlockNode } from '../node/node.ts';
import { Ahead } from './ahead.ts';
import { CompressedCopy, type CopyRules, type CopyStep, clearTarget, writing } from './convert-compressed.ts';
import { openSource, type SalvageOptions, type Source } from './source.ts';
import { type SparseRule, sectorRuns, sparseRule } from './sparse.ts';

/** Bytes of a buffer; a multiple of every format's largest cluster that tabdisk allocates by. */
const BUFFER = 2 * MiB;
/** Buffers that are filled while one is written. */
const AHEAD = 6;
/** Clusters that are compressed, or wait to be, for each compressing thread. */
const QUEUE = 3;
/** The unit in which reading finds holes: holes of raw files have borders on multiples of this. */
const HOLE = 4096;
/** Bytes cleared in one step. */
const MOST_ZEROS = 2048 * MiB;

/** The options of `convert`. */
export interface ConvertOptions extends CopyJobOptions, SalvageOptions {
  /** Zero runs of at least this many bytes become holes; default 4096, as `qemu-img convert -S`. 0 writes everything, zeros too. */
  readonly sparse?: number;
  /** The target reads as zero everywhere (`--target-is-zero`): nothing is cleared. */
  readonly targetIsZero?: boolean;
  /** The target was just created: parts that read as zero in a new image of its format are not cleared. */
  readonly targetIsNew?: boolean;
  /** Copies only the contents of the source's own image: the rest comes from the target's backing file (`qemu-img convert -B`). */
  readonly topOnly?: boolean;
  /** Write compressed clusters (`qemu-img convert -c`); the target's format must have them. */
  readonly compressed?: boolean;
  /** Starts threads that compress, for the time of the job. Without it, or if it returns none, this thread compresses. */
  readonly compressor?: ((how: Compression) => Compressor | undefined) | undefined;
  /** The offset in the target, in bytes, of the source's first byte; default 0. A multiple of 512. */
  readonly targetOffset?: number;
  /**
   * Copies data unchanged, without looking for zeros in it, as `qemu-img convert -C` does where it can: up to the first run that is compressed or
   * encrypted.
   */
  readonly asIs?: boolean;
  /** Clusters that the source keeps compressed are written compressed, the others as they are; for a target of the same format and clusters. */
  readonly likeSource?: boolean;
  /** Called with the number of bytes done, after every step with data. */
  readonly onData?: (bytes: number) => void;
}

const CONVERT = optionsOf<ConvertOptions>({
  ...COPY_JOB_OPTIONS,
  salvage: FLAG,
  onUnreadable: FUNCTION,
  sparse: SIZE,
  targetIsZero: FLAG,
  targetIsNew: FLAG,
  topOnly: FLAG,
  compressed: FLAG,
  compressor: FUNCTION,
  targetOffset: SIZE,
  asIs: FLAG,
  likeSource: FLAG,
  onData: FUNCTION,
});

/**
 * Copies `source` into `target`, which must be at least as large; bytes of the target behind the source's size are left alone. Flushes the
 * target. Throws `refused` if the target is too small, `aborted` if cancelled, and the errors of reading and writing, with `field` "source
 * status", "source" or "target" and the `offset` of the step that failed.
 */
export async function convert(source: Disk, target: Disk, options: ConvertOptions = {}): Promise<void> {
  check('convert', 'source', source, DISK);
  check('convert', 'target', target, DISK);
  check('convert', 'options', options, CONVERT);
  return runAsync(convertNodes(source.node, target.node, options));
}

/** Bytes of a disk that `convert` would call data under these options; under `salvage`, runs whose state cannot be read are reported. */
export async function countData(source: Disk, options: ConvertOptions = {}): Promise<number> {
  check('countData', 'source', source, DISK);
  check('countData', 'options', options, CONVERT);
  return runAsync(countNode(source.node, options));
}

function* countNode(node: BlockNode, options: ConvertOptions): Io<number> {
  const { sparse = 4096, topOnly = false } = options;
  yield* node.keepers.drain();
  const source = openSource(node, 'source', { ...options, reading: findsZeros(options) });
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

/** True if the job looks for zeros in data as closely as holes would show them: then a storage need not read to find holes beforehand. */
const findsZeros = ({ sparse = 4096, asIs = false, compressed = false }: ConvertOptions): boolean =>
  !asIs && sparse > 0 && (compressed || sparse <= HOLE);

/** `convert` inside coroutines. */
export function* convertNodes(source: BlockNode, target: BlockNode, options: ConvertOptions): Io<void> {
  const { sparse = 4096, targetOffset = 0, topOnly = false, targetIsNew = false, asIs = false } = options;
  const compressed = options.compressed || target.driver.compressedOnly === true;
  const targetIsZero = options.targetIsZero || (targetIsNew && target.driver.newReadsZero !== false);
  const size = source.size;
  if (sparse % SECTOR !== 0 || sparse < 0) throw new DiskError('refused', `The sparse size ${sparse} is not a multiple of 512`, { field: 'sparse' });
  if (targetOffset % SECTOR !== 0)
    throw new DiskError('refused', `The target offset ${targetOffset} is not a multiple of 512`, { field: 'targetOffset' });
  if (targetOffset + size > target.size)
    throw new DiskError('refused', `The source (${size} bytes) does not fit: the target ${target.name} has room for ${target.size - targetOffset}`);
  yield* source.keepers.drain();
  const compressor = compressed && target.driver.compression ? options.compressor?.(target.driver.compression) : undefined;
  const rules = { shift: targetOffset, sparse, topOnly, targetIsZero, asIs, compressor };
  const reader = openSource(source, 'source', { ...options, reading: findsZeros({ ...options, compressed }) });
  try {
    const copy = compressed ? new CompressedCopy(reader, target, rules) : copyOf(reader, target, rules, options.likeSource);
    const waits = !source.synchronous || !target.synchronous;
    // Read errors must be reported in order.
    const depth = options.salvage ? 0 : compressor ? QUEUE * compressor.width : waits ? AHEAD : 0;
    yield* copyAll(new Ahead((offset) => copy.step(offset), { size, depth }), size, options);
    if (compressed) yield* target.finishCompressed();
  } finally {
    compressor?.close();
  }
  yield* target.flush();
  options.onProgress?.(size, size);
}

/** A copy whose clusters are as they are, or, with `likeSource`, compressed where the source's own are. */
function copyOf(
  source: Source,
  target: BlockNode,
  rules: CopyRules & { compressor: Compressor | undefined },
  likeSource = false,
): Pick<Copy, 'step'> {
  const plain = new Copy(source, target, rules);
  if (!likeSource || !target.driver.writeCompressed) return plain;
  const compressed = new CompressedCopy(source, target, rules);
  return {
    *step(offset) {
      const run = yield* source.status(offset, source.size - offset);
      return yield* (run.compressed && run.depth === 0 ? compressed : plain).step(offset);
    },
  };
}

function* copyAll(steps: Ahead<CopyStep>, size: number, options: ConvertOptions): Io<void> {
  const pace = new Pace(options, size);
  try {
    for (let at = 0; at < size; ) {
      yield* pace.step(at);
      const { end, data, write } = (yield* steps.next()) as CopyStep;
      if (write) yield* write();
      if (data) {
        options.onData?.(end - at);
        yield* pace.spend(end - at);
      }
      at = end;
    }
  } finally {
    yield* steps.settle();
  }
}

/** A copy under way. */
class Copy {
  readonly #source: Source;
  readonly #target: BlockNode;
  readonly #options: CopyRules;
  readonly #rule: SparseRule | undefined;
  /** The job looks for zeros in data. */
  #scan: boolean;
  readonly #room: number;
  /** Buffers that are not in use. */
  readonly #free: Uint8Array<ArrayBuffer>[] = [];

  constructor(source: Source, target: BlockNode, options: CopyRules) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    this.#scan = !options.asIs;
    this.#rule = options.sparse === 0 ? undefined : sparseRule(options.sparse);
    this.#room = Math.min(BUFFER, roundUp(source.size, SECTOR));
  }

  /** Copies the bytes from `offset` on, up to the end of one buffer or one run of the source: begins to read them, and returns how to write them. */
  *step(offset: number): Io<CopyStep> {
    const run = yield* this.#source.status(offset, this.#source.size - offset);
    if (this.#options.topOnly && run.depth > 0) return { end: offset + run.length, data: false };
    const start = offset + this.#options.shift;
    if (run.zero && this.#rule) {
      // Steps must end now and then so that the job can be cancelled.
      const length = Math.min(run.length, MOST_ZEROS);
      return { end: offset + length, data: false, write: () => writing(start, clearTarget(this.#target, start, length, this.#options)) };
    }
    if (run.data && run.offset === undefined) this.#scan = true;
    const length = Math.min(run.length, this.#limit(start));
    const buffer = this.#free.pop() ?? new Uint8Array(this.#room);
    const reading = begin(this.#read(offset, buffer.subarray(0, roundUp(length, SECTOR)), length));
    const write = function* (this: Copy): Io<void> {
      for (const run of yield* reading.join()) yield* writing(start, this.#write(start, buffer, run));
      this.#free.push(buffer);
    };
    return { end: offset + length, data: true, underWay: reading, write: write.bind(this) };
  }

  /** The most data that may be copied at once: a whole buffer, minus the bytes after its last cluster border in the target. */
  #limit(start: number): number {
    const unit = this.#target.driver.clusterSize || SECTOR;
    const whole = roundDown(start + this.#room, unit) - start;
    return whole > 0 ? whole : this.#room;
  }

  /** Fills a buffer of whole sectors, and returns its runs. */
  *#read(offset: number, whole: Uint8Array, length: number): Io<Piece[]> {
    const scan = this.#scan;
    yield* this.#source.read(offset, whole.subarray(0, length));
    if (!this.#rule || !scan) return [{ from: 0, to: length, zero: false }];
    whole.fill(0, length);
    let from = 0;
    return sectorRuns(whole, (offset + this.#options.shift) / SECTOR, this.#rule).map(({ sectors, zero }) => {
      const piece = { from, to: Math.min(from + sectors * SECTOR, length), zero };
      from = piece.to;
      return piece;
    });
  }

  #write(start: number, buffer: Uint8Array, { from, to, zero }: Piece): Io<void> {
    return zero ? clearTarget(this.#target, start + from, to - from, this.#options) : this.#target.write(start + from, buffer.subarray(from, to));
  }
}

/** A part of a buffer, in bytes. */
interface Piece {
  readonly from: number;
  readonly to: number;
  readonly zero: boolean;
}
