/**
 * `stream`: brings up into an image what it shows of the images below it, while it is in use, as QEMU's `block-stream` does. At the end it
 * names the image that is left below it as its backing file, or none. One that was cancelled, or whose tab ended, is started anew and finds
 * what it has brought up already.
 *
 * Guest requests go on: each piece is brought up with its range held (`BlockNode.copyUp`), so a guest's write comes before it, and is seen, or
 * after it, and stays. Nothing that is in the image becomes the backing file's again meanwhile: who could do that (snapshots, resizing) has to
 * wait for the job.
 *
 * Crash argument: what is brought up reads as it did, and is written as any write is. The name of the backing file changes behind a flush of
 * all of it, in one write of the header. A cut leaves the old backing file with some of it brought up, or the new one with all of it.
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
/** Bytes brought up in one step, as in QEMU. */
const PIECE = 512 * KiB;

/** What `stream` takes. */
export interface StreamOptions extends CopyJobOptions {
  /** How many images down the one is that stays below the disk; only what is above it comes up. Without it all does, and the disk stands alone. */
  readonly base?: number;
  /** What the disk is to call the image that stays; default: as the image right above that one does, with its format. */
  readonly backingFile?: BackingReference;
}

/** Options for tests. */
export interface StreamSteps extends StreamOptions {
  /** Bytes brought up in one step. */
  readonly piece?: number;
  /** Report after every step. */
  readonly everyStep?: boolean;
}

export const STREAM: Kind = optionsOf<StreamOptions>({ ...COPY_JOB_OPTIONS, base: COUNT, backingFile: BACKING });

/**
 * Brings up what is above the base, which the disk may be in use for. Durable when it returns. A disk without a backing file has nothing to bring
 * up. Throws `refused` if there is no such base, or if snapshots inside the image show the images below as well; `read-only`, `unsupported`,
 * `in-use` while another job works on the disk, `aborted` if cancelled (what came up stays, and the disk reads the same), `no-space` and
 * what else reading or writing throws.
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
  /** How far below the top image the base is; past all of them without one. */
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
    yield* top.setBacking(reference, this.#base, JOB);
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

  /** True if a run would read as something else with the base right below the disk. */
  #wanted(run: MapRun): boolean {
    // What reads as zero does so without images below, too.
    if (run.zero && !this.#base) return false;
    if (run.present) return run.depth > 0 && run.depth < this.#depth;
    // Past the end of an image in between, whatever the base has there.
    return run.depth + 1 < this.#depth;
  }
}

/** The base as the image right above it calls it. Throws `refused` if that name means something else where the disk lies. */
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
