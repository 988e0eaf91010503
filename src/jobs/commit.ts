/**
 * `commit`: copies the contents of a chain above one of its images into that image, as `qemu-img commit` does. A smaller base grows first.
 * Then the top image is emptied, unless it is to keep its contents or there are images in between, which would become visible then.
 *
 * Guest requests go on meanwhile, and where storages wait the job reads the chain ahead of its writes. Changes of the guest are copied again, and in the
 * end, with the guest held while the small rest is copied, the base gets the disk's contents. The guest never reads a part of the base that is being
 * written: the images above hide it.
 *
 * Crash argument: the base is flushed before anything is taken out of the top image, so after a cut at any point the chain reads the same.
 * Before that only those parts of the base change that the top image has of its own, durably or in writes that no flush has covered yet.
 */
import { COUNT, check, FLAG, type Kind, optionsOf } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { begin, type Io, runAsync, type Task } from '../base/io.ts';
import { COPY_JOB_OPTIONS, type CopyJobOptions, Pace } from '../base/job.ts';
import { KiB, MiB } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import { DISK } from '../disk/kinds.ts';
import { toolsOf } from '../formats/tools.ts';
import type { CopyVerbs } from '../node/copy-up.ts';
import type { BlockNode } from '../node/node.ts';
import { Ahead } from './ahead.ts';
import { nodeBelow } from './chain.ts';

const JOB = 'commit';
/** Bytes held in memory; a multiple of every format's largest cluster. */
const BUFFER = 2 * MiB;
/** Pieces that are read while one is written, where a storage waits. */
const AHEAD = 2;
/** Changes are noted in at most so many parts of the disk, of at least `PART` bytes. */
const PARTS = 2 ** 20;
const PART = 64 * KiB;
/** Bytes that may be left to copy while the guest is held. */
const REST = 4 * MiB;
/** How often changes are copied again before the guest is held, even if much is left. */
const ROUNDS = 8;

/** The options of `commit`. */
export interface CommitOptions extends CopyJobOptions {
  /** How many images down the base is: 1, the default, for the backing file. It must have been opened with `writableBacking`. */
  readonly depth?: number;
  /** Leaves the top image as it is. With a `depth` above 1 it always stays. */
  readonly keep?: boolean;
}

/** The end of a commit. */
export interface CommitResult {
  /**
   * With a `depth` above 1: an image between could not be written, and still notes the id that its parent had before the commit. A line for each: the disk opens
   * with `changedParent` only, until `rebase` with `unsafe` has made that image note the new one.
   */
  readonly warnings: readonly string[];
}

/** Options for tests. */
export interface CommitSteps extends CommitOptions {
  /** Bytes copied in one step; default 2 MiB. */
  readonly piece?: number;
  /** Report after every step. */
  readonly everyStep?: boolean;
}

export const COMMIT: Kind = optionsOf<CommitOptions>({ ...COPY_JOB_OPTIONS, depth: COUNT, keep: FLAG });

/**
 * Copies the contents above the base into it, while the disk may be in use. Both are flushed. The image right above the base notes the id that the base has now,
 * if it is one of a format that notes such an id. Throws `refused` without a backing file, `read-only` if
 * the base was not opened for writing, `in-use` while another job works on the disk, `aborted` if cancelled (the chain reads the same
 * then), and the errors of reading and writing. Snapshots inside the top image, and other images over the base, read differently afterwards.
 */
export async function commit(disk: Disk, options: CommitOptions = {}): Promise<CommitResult> {
  check('commit', 'disk', disk, DISK);
  check('commit', 'options', options, COMMIT);
  return runAsync(commitNodes(disk.node, options));
}

/** `commit` inside coroutines. */
export function* commitNodes(top: BlockNode, options: CommitSteps): Io<CommitResult> {
  const { depth = 1 } = options;
  const base = nodeBelow(top, depth);
  if (base.readOnly) throw new DiskError('read-only', `${base.name} is open read-only: open the disk with writableBacking: ${depth}`);
  yield* top.keepers.drain();
  const work = new Commit(top, base, options);
  yield* top.jobs.occupy(top.name, JOB, () => work.run());
  return { warnings: work.warnings };
}

class Commit {
  readonly #top: BlockNode;
  readonly #base: BlockNode;
  readonly #depth: number;
  readonly #empties: boolean;
  readonly #piece: number;
  readonly #pace: Pace;
  /** Buffers that are not in use. */
  readonly #free: Uint8Array[] = [];
  readonly #changes: Changes;
  readonly warnings: string[] = [];

  constructor(top: BlockNode, base: BlockNode, options: CommitSteps) {
    this.#top = top;
    this.#base = base;
    this.#depth = options.depth ?? 1;
    this.#empties = !options.keep && this.#depth === 1;
    this.#piece = options.piece ?? BUFFER;
    this.#pace = new Pace(options, top.size);
    this.#changes = new Changes(top.size);
  }

  *run(): Io<void> {
    const top = this.#top;
    yield* top.flush();
    yield* this.#introduce();
    if (this.#base.size < top.size) yield* this.#base.truncate(top.size);
    yield* top.jobs.hearing(
      (offset, length) => this.#changes.note(offset, length),
      () => this.#copyAll(),
    );
    this.#pace.finish();
  }

  /**
   * Formats whose images know the image below by an id of its contents: the base gets its new id now, and the image above it notes that, before anything else
   * changes. A cut between the two leaves contents that nothing has changed, and an image that takes any base of its name (`awaitBelow`), or where it cannot, one that
   * calls the base another one. No further image is concerned: an image between has the bytes and the id that it had.
   */
  *#introduce(): Io<void> {
    const base = this.#base;
    const over = this.#depth > 1 ? nodeBelow(this.#top, this.#depth - 1) : this.#top;
    const { driver } = over;
    if (!driver.requireBelow || base.size === 0) return;
    const { awaitBelow, setBacking } = over.readOnly ? {} : yield* toolsOf(driver);
    if (awaitBelow) yield* over.exclusive(awaitBelow, JOB);
    yield* base.exclusive(function* () {
      if (base.driver.prepare) yield* base.driver.prepare(0, 1);
    });
    // A barrier orders one file only: the id must be there before another file notes it.
    yield* base.flush();
    try {
      driver.requireBelow(base.driver);
      if (!awaitBelow) return;
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind !== 'refused') throw error;
      if (over.readOnly) this.warnings.push(`${error.message}. It could not be written: it keeps the id that it has noted`);
    }
    if (setBacking) yield* over.setBacking(driver.backing, base, { job: JOB });
  }

  *#copyAll(): Io<void> {
    const top = this.#top;
    yield* this.#copy(0, top.size);
    for (let round = 0; round < ROUNDS && this.#changes.bytes > REST; round++)
      for (const { start, end } of this.#changes.take()) yield* this.#copy(start, end);
    const makeEmpty = this.#empties ? yield* top.tool('makeEmpty', 'images of this format cannot be emptied') : undefined;
    // Makes as much as possible durable before the guest has to wait for it.
    yield* this.#base.flush();
    yield* top.exclusive((held) => this.#finish(held, makeEmpty), JOB);
  }

  /** Runs while the guest is held. */
  *#finish(held: CopyVerbs, makeEmpty: (() => Io<void>) | undefined): Io<void> {
    for (const { start, end } of this.#changes.take()) for (let at = start; at < end; ) at = yield* this.#dealWith(yield* this.#step(at, end, held));
    yield* this.#base.flush();
    if (makeEmpty) yield* makeEmpty();
  }

  *#copy(start: number, end: number): Io<void> {
    const reader: Pick<CopyVerbs, 'read'> = { read: (offset, into) => this.#top.read(offset, into) };
    const waits = !this.#top.synchronous || !this.#base.synchronous;
    // A change after the reading is noted, and copied again.
    const steps = new Ahead((offset) => this.#step(offset, end, reader), { start, size: end, depth: waits ? AHEAD : 0 });
    try {
      for (let at = start; at < end; ) {
        yield* this.#pace.step(at);
        const step = (yield* steps.next()) as CommitStep;
        yield* this.#dealWith(step);
        if (step.underWay) yield* this.#pace.spend(step.end - at);
        at = step.end;
      }
    } finally {
      yield* steps.settle();
    }
  }

  /** The step for the bytes from `at` on, up to the end of one run or one buffer; begins to read them. */
  *#step(at: number, end: number, { read }: Pick<CopyVerbs, 'read'>): Io<CommitStep> {
    const run = yield* this.#top.status(at, end - at);
    // A run in no image that still hides the base is past the end of an image in between: it reads as zero, whatever bytes the base has there.
    if (run.depth >= this.#depth || run.zero) return { end: at + run.length, zero: run.depth < this.#depth, start: at };
    const length = Math.min(run.length, this.#piece - (at % this.#piece));
    const buffer = this.#free.pop() ?? new Uint8Array(Math.min(this.#piece, this.#top.size));
    return { end: at + length, zero: false, start: at, buffer, underWay: begin(read(at, buffer.subarray(0, length))) };
  }

  /** Writes a step to the base; returns its end. */
  *#dealWith({ start, end, zero, buffer, underWay }: CommitStep): Io<number> {
    if (zero) yield* clear(this.#base, start, end - start);
    if (!buffer || !underWay) return end;
    yield* underWay.join();
    yield* this.#base.write(start, buffer.subarray(0, end - start));
    this.#free.push(buffer);
    return end;
  }
}

/** A part of the disk: to be cleared in the base, to be copied, or neither. */
interface CommitStep {
  readonly start: number;
  readonly end: number;
  readonly zero: boolean;
  /** The bytes to copy, after `underWay` has ended. */
  readonly buffer?: Uint8Array;
  readonly underWay?: Task<void>;
}

/** Makes a range of the base read as zero, writing only where it does not yet. */
function* clear(base: BlockNode, start: number, length: number): Io<void> {
  for (let done = 0; done < length; ) {
    const run = yield* base.status(start + done, length - done);
    if (!run.zero) yield* base.zero(start + done, run.length, { unmap: true });
    done += run.length;
  }
}

/** Parts of a disk that were changed. */
class Changes {
  readonly #size: number;
  readonly #part: number;
  #parts = new Set<number>();

  constructor(size: number) {
    this.#size = size;
    this.#part = Math.max(PART, 2 ** Math.ceil(Math.log2(size / PARTS)));
  }

  /** Bytes of all parts. */
  get bytes(): number {
    return this.#parts.size * this.#part;
  }

  note(offset: number, length: number): void {
    for (let part = Math.floor(offset / this.#part); part * this.#part < offset + length; part++) this.#parts.add(part);
  }

  /** The noted parts, in order; they are forgotten. */
  take(): { start: number; end: number }[] {
    const parts = [...this.#parts].sort((a, b) => a - b);
    this.#parts = new Set();
    return parts.map((part) => ({ start: part * this.#part, end: Math.min(this.#size, (part + 1) * this.#part) }));
  }
}
