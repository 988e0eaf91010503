/**
 * `rebase`: puts another image below a disk, as `qemu-img rebase` does. In safe mode the disk reads the same before and after: where it
 * shows its old backing file and the new one differs, the old contents are copied up first. If the old and the new chain end in the same
 * image, only the images above it are compared. Unsafe mode changes the name and nothing else.
 *
 * Unlike `stream` it is not for a disk in use: writes of a guest to a range that is being compared would be lost.
 *
 * Crash argument: copies are flushed before the name changes, and bytes that are copied up read as before. A cut leaves the old backing file with
 * some of the bytes copied, or the new one with all of them.
 */
import { check, FLAG, FUNCTION, maybe, optionsOf } from '../base/arguments.ts';
import { equalBytes, roundDown } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { JOB_OPTIONS, type JobOptions, Pace, placed } from '../base/job.ts';
import { MiB, SECTOR } from '../base/units.ts';
import { openChain, openNamed } from '../disk/chain.ts';
import type { Disk } from '../disk/disk.ts';
import { BACKING, DISK } from '../disk/kinds.ts';
import { NamedFiles } from '../disk/named-files.ts';
import type { Resolve } from '../disk/reference.ts';
import type { BackingReference } from '../formats/driver.ts';
import { lookUp } from '../node/look-up.ts';
import { filesOf } from '../node/loss.ts';
import type { BlockNode } from '../node/node.ts';
import type { Storage } from '../storage/storage.ts';
import { chainOf, closeAbove } from './chain.ts';

const JOB = 'rebase';
/** Bytes of each backing file held in memory; a multiple of every format's largest cluster. */
const BUFFER = 2 * MiB;

/** The options of `rebase`. */
export interface RebaseOptions extends JobOptions {
  /** The new backing file, as the image is to name it. Without it the image will have none. */
  readonly to?: BackingReference;
  /** Opens the new backing file; needed in safe mode, if there is one. */
  readonly resolve?: Resolve;
  /**
   * Only changes the name: for a backing file that was moved, or whose contents are known to be the same. The contents of the disk may
   * be different then, so the disk is closed. A format that notes an id of the backing file takes that of the new one, if `resolve` finds it.
   */
  readonly unsafe?: boolean;
}

const REBASE = optionsOf<RebaseOptions>({ ...JOB_OPTIONS, to: BACKING, resolve: FUNCTION, unsafe: FLAG });

/**
 * Puts another image below the disk, or none. Flushed when it returns. Throws `refused` if the new backing file is the disk itself or cannot
 * be opened because there is no `resolve`, `unsupported` if the format has no backing files, `no-space` if the image has no room for the name,
 * `aborted` if cancelled (nothing has changed for a reader then), and the errors of reading and writing, with `field` "status", "old backing file",
 * "new backing file" or "image" and the `offset` of the step.
 */
export async function rebase(disk: Disk, options: RebaseOptions = {}): Promise<void> {
  check('rebase', 'disk', disk, DISK);
  check('rebase', 'options', options, REBASE);
  return runAsync(rebaseNode(disk.node, options));
}

/**
 * Changes the name and the format that the image stores for its backing file, and nothing else: the images open below the disk stay there until it is
 * closed. Durable when it resolves; a cut leaves the old name or the new one. `Disk.backingFile` is the name as it is stored. Throws `refused` for a
 * format without a name, `unsupported` if the format has no backing files, `no-space` if the image has no room for the name, `in-use` while
 * a job works on the disk.
 */
export async function changeBackingFile(disk: Disk, to: BackingReference | undefined): Promise<void> {
  check('changeBackingFile', 'disk', disk, DISK);
  check('changeBackingFile', 'to', to, maybe(BACKING));
  const { name = '', format } = to ?? {};
  if (name === '' && format) throw new DiskError('refused', `A backing format (${format}) needs a backing file`, { field: 'backing_fmt' });
  const { node } = disk;
  await runAsync(node.setBacking(name === '' ? undefined : to, node.backing));
}

/** `rebase` inside coroutines. */
export function* rebaseNode(top: BlockNode, options: RebaseOptions): Io<void> {
  const { unsafe = false } = options;
  yield* top.keepers.drain();
  if (unsafe) return yield* rename(top, options);
  yield* top.jobs.occupy(top.name, JOB, () => rebaseSafely(top, options));
}

/** Only the name; where the format notes an id of the image below, also that of the new one, if there is such an image. */
function* rename(top: BlockNode, { to, resolve }: RebaseOptions): Io<void> {
  const named = to && resolve && top.driver.requireBelow ? yield* openFacts(new NamedFiles({ own: filesOf(top), resolve }), to) : undefined;
  try {
    yield* top.setBacking(to, top.backing, { named: named?.driver });
  } finally {
    if (named) yield* named.close();
  }
  yield* top.close();
}

/** Opens an image for its facts alone; nothing if it cannot be opened: the name may be that of a file which is elsewhere. */
function* openFacts(files: NamedFiles, to: BackingReference): Io<BlockNode | undefined> {
  let storage: Storage | undefined;
  try {
    const found = yield* files.ask({ kind: 'backing', ...to });
    storage = found.storage;
    const { format } = found;
    return yield* openChain(storage, { readOnly: true, noBacking: true, noData: true, ...(format ? { format } : {}) });
  } catch (error) {
    if (storage) yield* files.giveBack(storage);
    if (error instanceof DiskError) return undefined;
    throw error;
  }
}

function* rebaseSafely(top: BlockNode, options: RebaseOptions): Io<void> {
  const { to } = options;
  const chain = chainOf(top.backing);
  const next = to && (yield* openNew(top, to, chain, options));
  try {
    yield* copyDifferences(top, next, options);
    yield* top.flush();
    yield* top.setBacking(to, next, { job: JOB });
  } catch (error) {
    if (next && !chain.includes(next)) yield* next.close();
    throw error;
  }
  yield* closeAbove(chain, next);
}

function openNew(top: BlockNode, to: BackingReference, known: readonly BlockNode[], { resolve }: RebaseOptions): Io<BlockNode> {
  if (!resolve) throw new DiskError('refused', `rebase needs a resolve function that opens the new backing file ${JSON.stringify(to.name)}`);
  return openNamed({ kind: 'backing', ...to }, new NamedFiles({ own: filesOf(top), resolve }), { resolve }, known);
}

/** Copies up the bytes that the disk shows of its old backing file and would not show of the new one. */
function* copyDifferences(top: BlockNode, next: BlockNode | undefined, options: JobOptions): Io<void> {
  const pace = new Pace(options, top.size);
  const comparison = new Comparison(top, next);
  for (let at = 0; at < top.size; ) {
    yield* pace.step(at);
    const extent = yield* placed({ step: 'status', offset: at }, lookUp(top.driver, at, top.size - at));
    at += extent.kind === 'backing' ? yield* comparison.step(at, extent.length) : extent.length;
  }
  pace.finish();
}

/** The state of a backing file at some offset. */
interface Below {
  readonly length: number;
  readonly zero: boolean;
  /** The new backing file itself determines the bytes. */
  readonly shared: boolean;
}

class Comparison {
  readonly #top: BlockNode;
  readonly #old: BlockNode | undefined;
  readonly #new: BlockNode | undefined;
  /** How far below the old backing file the new one is, if it is. */
  readonly #sharedDepth: number;
  readonly #buffers: readonly [Uint8Array, Uint8Array];

  constructor(top: BlockNode, next: BlockNode | undefined) {
    this.#top = top;
    this.#old = top.backing;
    this.#new = next;
    const shared = next ? chainOf(top.backing).indexOf(next) : -1;
    this.#sharedDepth = shared < 0 ? Number.POSITIVE_INFINITY : shared;
    this.#buffers = [new Uint8Array(Math.min(BUFFER, top.size)), new Uint8Array(Math.min(BUFFER, top.size))];
  }

  /** Handles the start of a range that the top image does not hold; returns the bytes done. */
  *step(offset: number, length: number): Io<number> {
    const before = yield* placed({ step: 'old backing file', offset }, this.#look(this.#old, offset, length));
    if (before.shared) return before.length;
    const after = yield* placed({ step: 'new backing file', offset }, this.#look(this.#new, offset, before.length));
    if (before.zero && after.zero) return after.length;
    const part = Math.min(after.length, BUFFER - (offset % BUFFER));
    const [left, right] = [this.#buffers[0].subarray(0, part), this.#buffers[1].subarray(0, part)];
    yield* placed({ step: 'old backing file', offset }, readInside(this.#old, offset, left));
    yield* placed({ step: 'new backing file', offset }, readInside(this.#new, offset, right));
    yield* placed({ step: 'image', offset }, this.#copy(offset, left, right));
    return part;
  }

  *#look(node: BlockNode | undefined, offset: number, length: number): Io<Below> {
    if (!node || offset >= node.size) return { length, zero: true, shared: false };
    const run = yield* node.status(offset, Math.min(length, node.size - offset));
    return { length: run.length, zero: run.zero, shared: node === this.#old && run.depth >= this.#sharedDepth };
  }

  /** Writes the differences, in whole clusters or subclusters: the top image would allocate no less. */
  *#copy(offset: number, before: Uint8Array, after: Uint8Array): Io<void> {
    const { clusterSize, subclusterSize } = this.#top.driver;
    const unit = (subclusterSize ?? clusterSize) || SECTOR;
    let from = -1;
    for (let at = 0; at < before.length; ) {
      const end = Math.min(before.length, roundDown(offset + at, unit) + unit - offset);
      const differs = !equalBytes(before.subarray(at, end), after.subarray(at, end));
      if (differs && from < 0) from = at;
      if (!differs && from >= 0) {
        yield* this.#top.write(offset + from, before.subarray(from, at));
        from = -1;
      }
      at = end;
    }
    if (from >= 0) yield* this.#top.write(offset + from, before.subarray(from));
  }
}

/** Reads, with zeros where there is no image, or past its end. */
function* readInside(node: BlockNode | undefined, offset: number, into: Uint8Array): Io<void> {
  const inside = Math.max(0, Math.min(into.length, (node?.size ?? 0) - offset));
  if (node && inside > 0) yield* node.read(offset, into.subarray(0, inside));
  into.fill(0, inside);
}
