/**
 * `stream`: copies up into an image the bytes that it shows of the images below it, while it is in use, as QEMU's `block-stream` does. At the end it
 * names the image that is left below it as its backing file, or none. A job that was cancelled, or whose tab ended, is started anew and finds
 * the bytes that it has copied up already.
 *
 * Guest requests go on: each piece is copied up with its range held (`BlockNode.copyUp`), so a guest's write comes before it, and is seen, or
 * after it, and stays. Nothing that is in the image becomes the backing file's again meanwhile: actions that could cause this (snapshots, resizing) have
 * to wait for the job.
 *
 * Crash argument: bytes that are copied up read as before, and are written as any write is. The name of the backing file changes behind a flush of
 * all of them, in one write of the header. A cut leaves the old backing file with some of them copied up, or the new one with all of them.
 */
import { COUNT, check, type Kind, optionsOf } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { COPY_JOB_OPTIONS, type CopyJobOptions, Pace } from '../base/job.ts';
import { folderOf, isRelative } from '../base/names.ts';
import { KiB } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import { BACKING, DISK } from '../disk/kinds.ts';
import type { BackingReference } from '../formats/driver.ts';
import type { BlockNode, MapRun } from '../node/node.ts';
import { chainOf, closeAbove, nodeBelow } from './chain.ts';

const JOB = 'stream';
/** Bytes copied up in one step, as in QEMU. */
const PIECE = 512 * KiB;

/** The options of `stream`. */
export interface StreamOptions extends CopyJobOptions {
  /** How many images down the base is. It stays below the disk; only bytes above it are copied up. Without a base all are, and the disk stands alone. */
  readonly base?: number;
  /** The name of the base in the disk; default: the name that the image right above the base has for it, with its format. */
  readonly backingFile?: BackingReference;
}

/** Options for tests. */
export interface StreamSteps extends StreamOptions {
  /** Bytes copied up in one step. */
  readonly piece?: number;
  /** Report after every step. */
  readonly everyStep?: boolean;
}

export const STREAM: Kind = optionsOf<StreamOptions>({ ...COPY_JOB_OPTIONS, base: COUNT, backingFile: BACKING });

/**
 * Copies up the bytes above the base, while the disk may be in use. Durable when it returns. For a disk without a backing file there is nothing to do.
 * Throws `refused` if there is no such base, or if snapshots inside the image show the images below as well; `read-only`, `unsupported`,
 * `in-use` while another job works on the disk, `aborted` if cancelled (copied bytes stay, and the disk reads the same), `no-space` and
 * other errors of reading and writing.
 */
export async function stream(disk: Disk, options: StreamOptions = {}): Promise<void> {
  check('stream', 'disk', disk, DISK);
  check('stream', 'options', options, STREAM);
  return runAsync(streamNode(disk.node, options));
}

/** `stream` inside coroutines. */
export function* streamNode(top: BlockNode, options: StreamSteps): Io<void> {
  yield* top.keepers.drain();
  const work = new Stream(top, options);
  yield* top.jobs.occupy(top.name, JOB, () => work.run());
}

class Stream {
  readonly #top: BlockNode;
  readonly #options: StreamSteps;
  /** The depth of the base below the top image; more than all of them without a base. */
  readonly #depth: number;
  readonly #base: BlockNode | undefined;

  constructor(top: BlockNode, options: StreamSteps) {
    this.#top = top;
    this.#options = options;
    this.#depth = options.base ?? Number.POSITIVE_INFINITY;
    this.#base = options.base === undefined ? undefined : nodeBelow(top, options.base);
  }

  *run(): Io<void> {
    const top = this.#top;
    this.#requirePossible();
    if (!top.backing) return;
    const reference = this.#base && (this.#options.backingFile ?? namedByOverlay(top, this.#base));
    yield* this.#bringUp();
    yield* top.flush();
    const chain = chainOf(top.backing);
    yield* top.setBacking(reference, this.#base, { job: JOB });
    yield* closeAbove(chain, this.#base);
  }

  #requirePossible(): void {
    const { driver, filtered, name, readOnly } = this.#top;
    if (filtered) throw new DiskError('unsupported', `${name} is behind a layer (${driver.format}): stream it when it is opened without`);
    if (readOnly) throw new DiskError('read-only', `${name} is open read-only`);
    if (driver.snapshots && driver.snapshots.length > 0)
      throw new DiskError('refused', `${name} has snapshots, which show the images below too: delete them first`, { field: 'snapshots' });
  }

  *#bringUp(): Io<void> {
    const top = this.#top;
    const { piece = PIECE } = this.#options;
    const pace = new Pace(this.#options, top.size);
    for (let at = 0; at < top.size; ) {
      yield* pace.step(at);
      const run = yield* top.status(at, top.size - at);
      const wanted = this.#wanted(run);
      const length = wanted ? Math.min(run.length, piece - (at % piece)) : run.length;
      if (wanted) yield* top.copyUp(at, length);
      at += length;
      if (wanted) yield* pace.spend(length);
    }
    pace.finish();
  }

  /** True if a run would read differently with the base right below the disk. */
  #wanted(run: MapRun): boolean {
    // A run that reads as zero does so without images below, too.
    if (run.zero && !this.#base) return false;
    if (run.present) return run.depth > 0 && run.depth < this.#depth;
    // The run is past the end of an image in between, whatever bytes the base has there.
    return run.depth + 1 < this.#depth;
  }
}

/** The name that the image right above the base has for it. Throws `refused` if that name means something else at the disk's place. */
function namedByOverlay(top: BlockNode, base: BlockNode): BackingReference {
  const overlay = chainOf(top).find(({ backing }) => backing === base);
  const name = overlay?.driver.backing?.name ?? base.name;
  if (overlay && isRelative(name) && folderOf(overlay.name) !== folderOf(top.name))
    throw new DiskError(
      'refused',
      `${overlay.name} calls its backing file ${JSON.stringify(name)}, counted from its own folder: give a backingFile`,
      {
        field: 'backing_file',
      },
    );
  return { name, format: base.driver.format };
}
