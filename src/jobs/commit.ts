/**
 * `commit`: copies what a chain holds above one of its images into that image, as `qemu-img commit` does. A smaller base grows first.
 * Then the top image is emptied, unless it is to keep its contents or there are images in between, which would show through changed.
 *
 * Crash argument: the base is flushed before anything is taken out of the top image, so after a cut at any point the chain reads the same.
 */
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { MiB } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import type { BlockNode, MapRun } from '../disk/node.ts';
import { type CopyJobOptions, Pace } from './job.ts';

/** Bytes held in memory; a multiple of every format's largest cluster. */
const BUFFER = 2 * MiB;

/** What `commit` takes. */
export interface CommitOptions extends CopyJobOptions {
  /** How many images down the base is: 1, the default, for the backing file. It must have been opened with `writableBacking`. */
  readonly depth?: number;
  /** Leave the top image as it is. With a `depth` above 1 it always is. */
  readonly keep?: boolean;
}

/**
 * Copies what is above the base into it. Both are flushed. Throws `refused` without a backing file, `read-only` if the base was not
 * opened for writing, `aborted` if cancelled (the chain reads the same then), and what reading or writing throws.
 */
export function commit(disk: Disk, options: CommitOptions = {}): Promise<void> {
  return runAsync(commitNodes(disk.node, options));
}

/** `commit` inside coroutines. */
export function* commitNodes(top: BlockNode, options: CommitOptions): Io<void> {
  const { depth = 1, keep = false } = options;
  const base = nodeBelow(top, depth);
  if (base.readOnly) throw new DiskError('read-only', `${base.name} is open read-only: open the disk with writableBacking: ${depth}`);
  yield* top.flush();
  if (base.size < top.size) yield* base.truncate(top.size);
  const pace = new Pace(options, top.size);
  const buffer = new Uint8Array(Math.min(BUFFER, top.size));
  for (let at = 0; at < top.size; ) {
    yield* pace.step(at);
    const run = yield* top.status(at, top.size - at);
    const length = yield* copyRun(top, base, { run, depth, buffer });
    at += length;
    if (run.depth < depth && !run.zero) yield* pace.spend(length);
  }
  yield* base.flush();
  if (!keep && depth === 1) yield* top.makeEmpty();
  pace.finish();
}

function nodeBelow(top: BlockNode, depth: number): BlockNode {
  let node: BlockNode | undefined = top;
  for (let level = 0; level < depth && node; level++) node = node.backing;
  if (!Number.isInteger(depth) || depth < 1 || !node)
    throw new DiskError('refused', depth === 1 ? `${top.name} does not have a backing file` : `${top.name} has no ${depth} images below it`, {
      field: 'backing_file',
    });
  return node;
}

/** Brings a run of the top image, or the start of it, into the base; returns its length. */
function* copyRun(top: BlockNode, base: BlockNode, { run, depth, buffer }: { run: MapRun; depth: number; buffer: Uint8Array }): Io<number> {
  // A run in no image, yet not the base's, is past the end of an image in between: it reads as zero whatever the base has there.
  if (run.depth >= depth) return run.length;
  if (run.zero) {
    yield* clear(base, run.start, run.length);
    return run.length;
  }
  const piece = buffer.subarray(0, Math.min(run.length, BUFFER - (run.start % BUFFER)));
  yield* top.read(run.start, piece);
  yield* base.write(run.start, piece);
  return piece.length;
}

/** Makes a range of the base read as zero, touching only what does not yet. */
function* clear(base: BlockNode, start: number, length: number): Io<void> {
  for (let done = 0; done < length; ) {
    const run = yield* base.status(start + done, length - done);
    if (!run.zero) yield* base.zero(start + done, run.length, { unmap: true });
    done += run.length;
  }
}
