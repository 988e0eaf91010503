/**
 * `compare`: whether two disks read the same, as `qemu-img compare` decides it. What both know to be zero is not read. Disks of different
 * sizes are the same if the rest of the longer one is zero; in strict mode sizes and the state of every run must agree too.
 */
import { equalBytes, isZero } from '../base/bytes.ts';
import { type Io, runAsync, together } from '../base/io.ts';
import { KiB, MiB, SECTOR } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import type { BlockNode, MapRun } from '../disk/node.ts';
import { type JobOptions, Pace } from './job.ts';
import { openSource, type Source } from './source.ts';

/** Bytes between two looks at what the disks know of themselves: what cannot be read, and progress, are told of by such steps. */
const STEP = 2 * MiB;
/** Bytes of each disk in memory, where they can be had at once: few enough that the processor still has them when they are compared. */
const PIECE = 128 * KiB;

/** What `compare` takes. */
export interface CompareOptions extends JobOptions {
  /** Also fail on different sizes and on runs that read the same but are stored differently. */
  readonly strict?: boolean;
  /** Report progress after every step, however soon. */
  readonly everyStep?: boolean;
}

/** What `compare` found. */
export interface CompareResult {
  readonly identical: boolean;
  /** Why not: the sizes differ or a run's state differs (strict mode only), or the contents do. */
  readonly reason?: 'size' | 'status' | 'content';
  /** Bytes: the sector that differs, or the start of the run whose state differs. */
  readonly offset?: number;
  /** The sizes differ. Outside strict mode that alone does not make disks different. */
  readonly sizesDiffer: boolean;
}

/**
 * Compares two disks. Throws `aborted` if cancelled, and what reading throws, with `field` "first status", "first", "second status" or "second"
 * for the disk and the step, and the `offset` where it began.
 */
export function compare(a: Disk, b: Disk, options: CompareOptions = {}): Promise<CompareResult> {
  return runAsync(compareNodes(a.node, b.node, options));
}

/** `compare` inside coroutines. */
export function* compareNodes(first: BlockNode, second: BlockNode, options: CompareOptions): Io<CompareResult> {
  const { strict = false } = options;
  const a = openSource(first, 'first', { reading: !strict });
  const b = openSource(second, 'second', { reading: !strict });
  const sizesDiffer = a.size !== b.size;
  if (strict && sizesDiffer) return { identical: false, reason: 'size', sizesDiffer };
  const common = Math.min(a.size, b.size);
  const longer = a.size >= b.size ? a : b;
  const pace = new Pace(options, longer.size);
  const piece = first.synchronous && second.synchronous ? PIECE : STEP;
  const [left, right] = [a, b].map((source): Side => ({ source, buffer: new Uint8Array(Math.min(piece, longer.size)) })) as [Side, Side];
  for (let at = 0; at < common; ) {
    yield* pace.step(at);
    const one = yield* a.status(at, common - at);
    const other = yield* b.status(at, common - at);
    if (strict && !sameState(one, other, common - at)) return { identical: false, reason: 'status', offset: at, sizesDiffer };
    const sides = [...(one.zero ? [] : [left]), ...(other.zero ? [] : [right])];
    const length = yield* sameRun(sides, at, Math.min(one.length, other.length));
    if (typeof length !== 'number') return { identical: false, reason: 'content', offset: length.differsAt, sizesDiffer };
    at += length;
  }
  for (let at = common; at < longer.size; ) {
    yield* pace.step(at);
    const run = yield* longer.status(at, longer.size - at);
    const length = yield* sameRun(run.zero ? [] : [longer === a ? left : right], at, run.length);
    if (typeof length !== 'number') return { identical: false, reason: 'content', offset: length.differsAt, sizesDiffer };
    at += length;
  }
  pace.finish();
  return { identical: true, sizesDiffer };
}

interface Difference {
  readonly differsAt: number;
}

/** A disk, and what is read of it at a time. */
interface Side {
  readonly source: Source;
  readonly buffer: Uint8Array;
}

/**
 * Compares the start of a run: with zeros, where only one disk is not known to have them, and with nothing, where both are. Returns the bytes
 * found equal, at least 1, or where they differ; but all of the step is read by then, since that it cannot be is the graver finding.
 */
function* sameRun(sides: readonly Side[], start: number, length: number): Io<number | Difference> {
  const [one, other] = sides;
  if (!one) return length;
  const end = start + Math.min(length, STEP);
  let differsAt: number | undefined;
  for (let at = start; at < end; at += one.buffer.length) {
    const count = Math.min(one.buffer.length, end - at);
    yield* together(sides.map(({ source, buffer }) => source.read(at, firstOf(buffer, count), start)));
    differsAt ??= difference(at, firstOf(one.buffer, count), other && firstOf(other.buffer, count));
  }
  return differsAt === undefined ? end - start : { differsAt };
}

const firstOf = (bytes: Uint8Array, count: number): Uint8Array => (count === bytes.length ? bytes : bytes.subarray(0, count));

/** The sector in which bytes that begin at `offset` differ from others, or from zeros. */
function difference(offset: number, bytes: Uint8Array, others: Uint8Array | undefined): number | undefined {
  if (others ? equalBytes(bytes, others) : isZero(bytes)) return undefined;
  let at = 0;
  while (bytes[at] === (others ? others[at] : 0)) at++;
  return offset + at - (at % SECTOR);
}

/** Alike as far as QEMU's strict mode looks: allocated or not, zero or not, readable in place or not, with `rest` bytes the last run or not. */
function sameState(a: MapRun, b: MapRun, rest: number): boolean {
  const sameKind = a.present === b.present && a.zero === b.zero && a.data === b.data;
  return sameKind && (a.offset === undefined) === (b.offset === undefined) && (a.length === rest) === (b.length === rest);
}
