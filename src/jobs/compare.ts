/**
 * `compare`: whether two disks read the same, as `qemu-img compare` decides it. Runs that both know to be zero are not read. Disks of different
 * sizes are the same if the rest of the longer one is zero; in strict mode sizes and the state of every run must agree too. If storages
 * wait, reading goes on ahead of comparing (ahead.ts).
 */
import { check, FLAG, optionsOf } from '../base/arguments.ts';
import { equalBytes, isZero } from '../base/bytes.ts';
import { begin, type Io, runAsync, together } from '../base/io.ts';
import { JOB_OPTIONS, type JobOptions, Pace } from '../base/job.ts';
import { KiB, MiB, SECTOR } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import { DISK } from '../disk/kinds.ts';
import type { BlockNode, MapRun } from '../node/node.ts';
import { Ahead, type AheadStep } from './ahead.ts';
import { openSource, type Source } from './source.ts';

/** Bytes between two requests for the state of the disks: read errors and progress are reported by such steps. */
const STEP = 2 * MiB;
/** Bytes of each disk in memory, if they can be read at once: so few that they are still in the processor's cache when they are compared. */
const PIECE = 128 * KiB;

/** Steps that are read while one is compared, if storages wait. */
const AHEAD = 2;

/** The options of `compare`. */
export interface CompareOptions extends JobOptions {
  /** Also fail on different sizes and on runs that read the same but are stored differently. */
  readonly strict?: boolean;
  /** Report progress after every step, however soon. */
  readonly everyStep?: boolean;
}

/** The result of `compare`. */
export interface CompareResult {
  /** The two are the same, by the chosen mode. */
  readonly identical: boolean;
  /** The reason if they are not: the sizes differ or a run's state differs (strict mode only), or the contents do. */
  readonly reason?: 'size' | 'status' | 'content';
  /** Bytes: the sector that differs, or the start of the run whose state differs. */
  readonly offset?: number;
  /** The sizes differ. Outside strict mode that alone does not make disks different. */
  readonly sizesDiffer: boolean;
}

const COMPARE = optionsOf<CompareOptions>({ ...JOB_OPTIONS, strict: FLAG, everyStep: FLAG });

/**
 * Compares two disks. Throws `aborted` if cancelled, and the errors of reading, with `field` "first status", "first", "second status" or "second"
 * for the disk and the step, and the `offset` where it began.
 */
export async function compare(a: Disk, b: Disk, options: CompareOptions = {}): Promise<CompareResult> {
  check('compare', 'a', a, DISK);
  check('compare', 'b', b, DISK);
  check('compare', 'options', options, COMPARE);
  return runAsync(compareNodes(a.node, b.node, options));
}

/** `compare` inside coroutines. */
export function* compareNodes(first: BlockNode, second: BlockNode, options: CompareOptions): Io<CompareResult> {
  const { strict = false } = options;
  for (const { keepers } of [first, second]) yield* keepers.drain();
  const sizesDiffer = first.size !== second.size;
  if (strict && sizesDiffer) return { identical: false, reason: 'size', sizesDiffer };
  const size = Math.max(first.size, second.size);
  const pace = new Pace(options, size);
  const comparison = new Comparison(first, second, strict);
  const steps = new Ahead((offset) => comparison.step(offset), { size, depth: comparison.waits ? AHEAD : 0 });
  try {
    for (let at = 0; at < size; ) {
      yield* pace.step(at);
      const { end, finding } = (yield* steps.next()) as CompareStep;
      const found = finding && (yield* finding());
      if (found) return { identical: false, ...found, sizesDiffer };
      at = end;
    }
  } finally {
    yield* steps.settle();
  }
  pace.finish();
  return { identical: true, sizesDiffer };
}

/** How and where the disks differ. */
type Finding = Required<Pick<CompareResult, 'reason' | 'offset'>>;

/** A run, or a part of one. Without `finding` it is the same on both disks. */
interface CompareStep extends AheadStep {
  readonly finding?: () => Io<Finding | undefined>;
}

/** A disk, and the memory for its bytes. */
interface Part {
  readonly source: Source;
  readonly buffer: Uint8Array;
}

/** Two disks, step by step. */
class Comparison {
  /** True if a storage waits: several steps are under way at a time. */
  readonly waits: boolean;
  readonly #sources: readonly [Source, Source];
  readonly #strict: boolean;
  readonly #piece: number;
  readonly #free: Uint8Array[] = [];

  constructor(first: BlockNode, second: BlockNode, strict: boolean) {
    this.waits = !(first.synchronous && second.synchronous);
    this.#sources = [openSource(first, 'first', { reading: !strict }), openSource(second, 'second', { reading: !strict })];
    this.#strict = strict;
    this.#piece = Math.min(this.waits ? STEP : PIECE, Math.max(first.size, second.size));
  }

  /** Bytes past the end of the shorter disk are compared with zeros. */
  *step(offset: number): Io<CompareStep> {
    const there = this.#sources.filter(({ size }) => offset < size);
    const rest = Math.min(...there.map(({ size }) => size)) - offset;
    const runs: MapRun[] = [];
    for (const source of there) runs.push(yield* source.status(offset, rest));
    const [one, other] = runs;
    if (this.#strict && one && other && !sameState(one, other, rest))
      return { end: offset + rest, finding: () => told({ reason: 'status', offset }) };
    const end = offset + Math.min(...runs.map(({ length }) => length));
    const unknown = there.filter((_, index) => !runs[index]?.zero);
    return unknown.length === 0 ? { end } : this.#contents(unknown, offset, Math.min(end, offset + STEP));
  }

  /** Compares the bytes of one disk with zeros, or those of both. */
  #contents(sources: readonly Source[], start: number, end: number): CompareStep {
    if (!this.waits) return { end, finding: () => this.#inPieces(sources, start, end) };
    const parts = this.#parts(sources);
    const length = end - start;
    const reading = begin(together(parts.map(({ source, buffer }) => source.read(start, firstOf(buffer, length)))));
    const finding = function* (this: Comparison): Io<Finding | undefined> {
      yield* reading.join();
      const found = look(parts, start, length);
      this.#free.push(...parts.map(({ buffer }) => buffer));
      return found;
    };
    return { end, underWay: reading, finding: finding.bind(this) };
  }

  /** The same piece by piece. All pieces are read in any case: an unreadable disk is the graver finding. */
  *#inPieces(sources: readonly Source[], start: number, end: number): Io<Finding | undefined> {
    const parts = this.#parts(sources);
    let found: Finding | undefined;
    for (let at = start; at < end; at += this.#piece) {
      const length = Math.min(this.#piece, end - at);
      for (const { source, buffer } of parts) {
        const bytes = firstOf(buffer, length);
        if (!source.readNow(at, bytes, start)) yield* source.read(at, bytes, start);
      }
      const difference = look(parts, at, length);
      found ??= difference;
    }
    this.#free.push(...parts.map(({ buffer }) => buffer));
    return found;
  }

  #parts(sources: readonly Source[]): Part[] {
    return sources.map((source) => ({ source, buffer: this.#free.pop() ?? new Uint8Array(this.#piece) }));
  }
}

function* told(finding: Finding): Io<Finding> {
  return finding;
}

const firstOf = (bytes: Uint8Array, length: number): Uint8Array => (length === bytes.length ? bytes : bytes.subarray(0, length));

/** Compares the bytes read from `offset` on with those of the other disk, or with zeros. */
function look([one, other]: readonly Part[], offset: number, length: number): Finding | undefined {
  const bytes = one && firstOf(one.buffer, length);
  const others = other && firstOf(other.buffer, length);
  if (!bytes || (others ? equalBytes(bytes, others) : isZero(bytes))) return undefined;
  let at = 0;
  while (bytes[at] === (others ? others[at] : 0)) at++;
  return { reason: 'content', offset: offset + at - (at % SECTOR) };
}

/** True if the states are equal in the sense of QEMU's strict mode: allocated, zero, readable in place, and whether the run is the last of `rest` bytes. */
function sameState(a: MapRun, b: MapRun, rest: number): boolean {
  const sameKind = a.present === b.present && a.zero === b.zero && a.data === b.data;
  return sameKind && (a.offset === undefined) === (b.offset === undefined) && (a.length === rest) === (b.length === rest);
}
