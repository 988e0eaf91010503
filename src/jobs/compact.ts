/**
 * `compact`: an image written anew, without the space that it does not need: clusters that nothing points at, and clusters of zeros. The new image has the
 * format, the options, the backing file and the ids of the old one, so that it can take its place, also below images that lie over it. What is compressed
 * stays so, and dirty bitmaps are kept. Snapshots inside an image are not: an image that has some is refused.
 *
 * The new image is checked, and compared with the old one, before the job ends; putting it in the old one's place is left to the caller, who has one step
 * for that: a change of a record, or a file's new name.
 */
import { check, optionsOf } from '../base/arguments.ts';
import { DiskError, unsupported } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { JOB_OPTIONS, type JobOptions } from '../base/job.ts';
import { bitmapsOf } from '../disk/bitmaps.ts';
import { fixed, openChain } from '../disk/chain.ts';
import type { Disk } from '../disk/disk.ts';
import { DISK, SECRET } from '../disk/kinds.ts';
import type { Secret, SecretCallback } from '../disk/secrets.ts';
import { toolsOf } from '../formats/tools.ts';
import type { BlockNode } from '../node/node.ts';
import { STORAGE, type Storage } from '../storage/storage.ts';
import { compareNodes } from './compare.ts';
import { convertNodes } from './convert.ts';

/** The options of `compact`. Progress counts the disk's bytes twice: they are copied, then compared. */
export interface CompactOptions extends JobOptions {
  /** The passphrase of an encrypted image, with which it was opened. */
  readonly secret?: Secret | SecretCallback;
}

const COMPACT = optionsOf<CompactOptions>({ ...JOB_OPTIONS, secret: SECRET });

/**
 * Writes the image of `disk` anew into `target`, an empty storage, and makes it durable there; the storage stays open. The disk must not be written meanwhile.
 * Throws `unsupported` for an image that has a place for every byte from the start, `refused` with the field `snapshots`, `aborted` if cancelled, and
 * `corrupt` if the copy is not right. After a failure `target` holds nothing of use.
 */
export async function compact(disk: Disk, target: Storage, options: CompactOptions = {}): Promise<void> {
  check('compact', 'disk', disk, DISK);
  check('compact', 'target', target, STORAGE);
  check('compact', 'options', options, COMPACT);
  return runAsync(compactNode(disk.node, target, options));
}

/** `compact` inside coroutines. */
export function* compactNode(source: BlockNode, target: Storage, options: CompactOptions): Io<void> {
  const { driver, backing } = source;
  const { format } = driver;
  const refuse = (field: string, message: string) => new DiskError('refused', `${source.name}: ${message}`, { format, field });
  if (target.size > 0) throw refuse('target', `${target.name} is not empty`);
  if (driver.backing && !backing) throw refuse('backing_file', 'the image was opened without its backing file');
  if ((driver.snapshots ?? []).length > 0)
    throw refuse('snapshots', 'the image has snapshots, which a compacted image would not have: delete them first');
  const tools = yield* toolsOf(driver);
  if (!tools.emptyCopy)
    throw unsupported(
      format,
      `${source.name} cannot be compacted: the format has no way to it yet, or the image has a place for every byte of the disk from the start`,
    );
  const half = (part: 0 | 1): JobOptions => {
    const { onProgress, ...rest } = options;
    return { ...rest, ...(onProgress ? { onProgress: (done, total) => onProgress(done + part * total, 2 * total) } : {}) };
  };
  yield* source.keepers.drain();
  if (!source.readOnly) yield* source.flush();
  const restoreIds = yield* tools.emptyCopy(target);
  const open = (readOnly: boolean): Io<BlockNode> =>
    openChain(target, { format, readOnly, openBacking: fixed(backing), ...(options.secret === undefined ? {} : { secret: options.secret }) });
  // The node is not closed: with it the storage would be, and the backing file.
  const copy = yield* open(false);
  yield* convertNodes(source, copy, { ...half(0), likeSource: true, ...(backing ? { topOnly: true } : { targetIsNew: true }) });
  yield* copyBitmaps(source, copy);
  yield* copy.flush();
  yield* copy.driver.close();
  if (restoreIds) yield* restoreIds();
  yield* target.flush();
  yield* requireSame(source, yield* open(true), half(1));
}

/** Bitmaps without contents, because they were not saved, are left behind: they could only be removed. */
function* copyBitmaps(source: BlockNode, copy: BlockNode): Io<void> {
  const list = (source.driver.bitmaps?.list() ?? []).filter(({ inconsistent }) => !inconsistent);
  if (list.length === 0) return;
  const [from, to] = [yield* bitmapsOf(source), yield* bitmapsOf(copy)];
  for (const { name, granularity, enabled } of list.toReversed())
    yield* copy.exclusive(function* () {
      yield* to.add({ name, granularity, enabled });
      yield* to.merge(name, from.runs(name));
    });
}

/** Throws unless the new image is sound and reads as the old one. */
function* requireSame(source: BlockNode, copy: BlockNode, job: JobOptions): Io<void> {
  const wrong = (what: string) => new DiskError('corrupt', `the compacted copy of ${source.name} ${what}`, { format: source.driver.format });
  const tools = yield* toolsOf(copy.driver);
  const found = tools.check && (yield* tools.check(job.signal ? { signal: job.signal } : {}));
  if (found && found.corruptions + found.checkErrors > 0) throw wrong(`has ${found.corruptions} errors: ${found.messages[0] ?? ''}`);
  const { identical, offset = 0 } = yield* compareNodes(source, copy, job);
  if (!identical || source.size !== copy.size) throw wrong(`reads otherwise at ${offset}`);
  yield* copy.driver.close();
}
