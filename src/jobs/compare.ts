/**
 * `compare`: whether two disks read the same, as `qemu-img compare` decides it. What both know to be zero is not read. Disks of different
 * sizes are the same if the rest of the longer one is zero; in strict mode sizes and the state of every run must agree too.
 */
import { equalBytes, isZero } from '../base/bytes.ts';
import { type Io, runAsync } from '../base/io.ts';
import { MiB, SECTOR } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import type { BlockNode, MapRun } from '../disk/node.ts';
import { type JobOptions, Pace } from './job.ts';
import { openSource, type Source } from './source.ts';

/** Bytes of each disk held in memory. */
const BUFFER = 2 * MiB;

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
  const a = openSource(first, 'first');
  const b = openSource(second, 'second');
  const sizesDiffer = a.size !== b.size;
  if (strict && sizesDiffer) return { identical: false, reason: 'size', sizesDiffer };
  const common = Math.min(a.size, b.size);
  const longer = a.size >= b.size ? a : b;
  const pace = new Pace(options, longer.size);
  const buffers = [new Uint8Array(Math.min(BUFFER, longer.size)), new Uint8Array(Math.min(BUFFER, common))] as const;
  for (let at = 0; at < common; ) {
    yield* pace.step(at);
    const one = yield* a.status(at, common - at);
    const other = yield* b.status(at, common - at);
    if (strict && !sameState(one, other, common - at)) return { identical: false, reason: 'status', offset: at, sizesDiffer };
    const length = yield* sameRun([a, b], [one, other], at, buffers);
    if (typeof length !== 'number') return { identical: false, reason: 'content', offset: length.differsAt, sizesDiffer };
    at += length;
  }
  for (let at = common; at < longer.size; ) {
    yield* pace.step(at);
    const run = yield* longer.status(at, longer.size - at);
    const length = yield* zeroRun(longer, run, at, buffers[0]);
    if (typeof length !== 'number') return { identical: false, reason: 'content', offset: length.differsAt, sizesDiffer };
    at += length;
  }
  pace.finish();
  return { identical: true, sizesDiffer };
}

interface Difference {
  readonly differsAt: number;
}

/** Compares the start of two runs; returns the bytes found equal, at least 1, or where they differ. */
function* sameRun(
  sources: readonly [Source, Source],
  [one, other]: readonly [MapRun, MapRun],
  offset: number,
  buffers: readonly [Uint8Array, Uint8Array],
): Io<number | Difference> {
  const length = Math.min(one.length, other.length);
  if (one.zero && other.zero) return length;
  if (one.zero) return yield* zeroRun(sources[1], { ...other, length }, offset, buffers[0]);
  if (other.zero) return yield* zeroRun(sources[0], { ...one, length }, offset, buffers[0]);
  const part = Math.min(length, BUFFER);
  const left = buffers[0].subarray(0, part);
  const right = buffers[1].subarray(0, part);
  yield* sources[0].read(offset, left);
  yield* sources[1].read(offset, right);
  if (equalBytes(left, right)) return part;
  let at = 0;
  while (left[at] === right[at]) at++;
  return { differsAt: offset + at - (at % SECTOR) };
}

/** Looks for anything but zeros at the start of a run; returns the bytes found zero, or where they are not. */
function* zeroRun(source: Source, run: MapRun, offset: number, buffer: Uint8Array): Io<number | Difference> {
  if (run.zero) return run.length;
  const part = buffer.subarray(0, Math.min(run.length, BUFFER));
  yield* source.read(offset, part);
  if (isZero(part)) return part.length;
  let at = 0;
  while (part[at] === 0) at++;
  return { differsAt: offset + at - (at % SECTOR) };
}

/** Alike as far as QEMU's strict mode looks: allocated or not, zero or not, readable in place or not, with `rest` bytes the last run or not. */
function sameState(a: MapRun, b: MapRun, rest: number): boolean {
  const sameKind = a.present === b.present && a.zero === b.zero && a.data === b.data;
  return sameKind && (a.offset === undefined) === (b.offset === undefined) && (a.length === rest) === (b.length === rest);
}
