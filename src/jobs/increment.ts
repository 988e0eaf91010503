/**
 * Incremental export: the changes of a disk since a snapshot, or since a dirty bitmap began, as a qcow2 overlay over an earlier export. That export
 * is only named, not opened: whole clusters are written, so nothing of it is ever read. Chains of increments are overlays over overlays.
 */
import { check, type Kind, needed, objectWith, optionsOf, TEXT } from '../base/arguments.ts';
import { divideUp, roundDown, roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { COPY_JOB_OPTIONS, type CopyJobOptions, Pace } from '../base/job.ts';
import type { ByteRange } from '../base/ranges.ts';
import { KiB, MiB, SECTOR } from '../base/units.ts';
import { bitmapsOf } from '../disk/bitmaps.ts';
import { fixed, openChain } from '../disk/chain.ts';
import type { Disk } from '../disk/disk.ts';
import { BACKING, DISK, FORMAT_OPTIONS, SECRET } from '../disk/kinds.ts';
import { askedOnce, askSecret, type Secret, type SecretCallback } from '../disk/secrets.ts';
import { allFormats } from '../formats/all.ts';
import type { BackingReference } from '../formats/driver.ts';
import { findFormat } from '../formats/registry.ts';
import { OVERLAY_FORMAT } from '../formats/roles.ts';
import type { DirtyRun, DirtyRuns } from '../formats/tools.ts';
import type { BlockNode } from '../node/node.ts';
import { STORAGE, type Storage } from '../storage/storage.ts';

/** Bytes in memory at once; a multiple of every cluster size. */
const BUFFER = 2 * MiB;
/** The cluster size of a qcow2 image whose options do not state it. */
const CLUSTER = 64 * KiB;

/** The time from which changes count: a snapshot by id or name, a persistent bitmap by name, or ranges that the caller tracked (`Drive.trackDirty`). */
export type Since = { readonly snapshot: string } | { readonly bitmap: string } | { readonly ranges: Iterable<ByteRange> };

/** The options of `writeIncrement`. */
export interface IncrementOptions extends CopyJobOptions {
  /** The time from which changes count. */
  readonly since: Since;
  /** The backing file that the new file names: the export that was made at that time. */
  readonly backing: BackingReference & { readonly format: string };
  /** Options of the new image, under QEMU's names; its clusters are 64 KiB or, if they are smaller, as large as the source's. */
  readonly options?: Readonly<Record<string, string | number | boolean>>;
  /** The passphrase of the new image, if its options say that it is encrypted. */
  readonly secret?: Secret | SecretCallback;
}

/** The result of an increment. All in bytes. */
export interface Increment {
  /** Clusters copied, zeros included. */
  readonly changed: number;
  /** The new file. */
  readonly fileSize: number;
}

const SINCE: Kind = {
  what: '{ snapshot }, { bitmap } or { ranges }',
  fits: (value) => typeof value === 'object' && value !== null && ['snapshot', 'bitmap', 'ranges'].some((name) => name in value),
  inside: optionsOf<{ snapshot?: string; bitmap?: string; ranges?: Iterable<ByteRange> }>({
    snapshot: TEXT,
    bitmap: TEXT,
    ranges: objectWith('ranges that can be run through', [Symbol.iterator]),
  }).inside as NonNullable<Kind['inside']>,
};
const INCREMENT = optionsOf<IncrementOptions>({
  ...COPY_JOB_OPTIONS,
  since: needed(SINCE),
  backing: needed(BACKING),
  options: FORMAT_OPTIONS,
  secret: SECRET,
});

/**
 * Writes an overlay into an empty storage, which it closes: the changes of `source` since then, over the file named as its backing. Together they read
 * as `source` does. The caller must keep the source unchanged meanwhile. A disk that was made smaller and larger again needs `since: { snapshot }`:
 * bitmaps do not record the bytes cut off. Throws `not-found`, `refused` for a bitmap that is inconsistent, `aborted`, and the errors of storages.
 */
export async function writeIncrement(source: Disk, storage: Storage, options: IncrementOptions): Promise<Increment> {
  check('writeIncrement', 'source', source, DISK);
  check('writeIncrement', 'storage', storage, STORAGE);
  check('writeIncrement', 'options', options, INCREMENT);
  return runAsync(increment(source, storage, options));
}

/** `writeIncrement` inside coroutines. */
export function* increment(source: Disk, storage: Storage, options: IncrementOptions): Io<Increment> {
  let target: BlockNode | undefined;
  try {
    if (storage.size !== 0) throw new DiskError('refused', `${storage.name} is not empty: an increment there would destroy ${storage.size} bytes`);
    yield* source.keepers.drain();
    target = yield* newOverlay(source, storage, options);
    const copy = new IncrementCopy(source.node, target, options);
    const changed = yield* changesOf(source, options.since, (runs) => copy.run(runs));
    yield* target.flush();
    return { changed, fileSize: storage.size };
  } finally {
    yield* target ? target.close() : storage.close();
  }
}

/** The empty overlay. Its backing file stays closed. */
function* newOverlay(source: Disk, storage: Storage, { backing, options = {}, secret: given }: IncrementOptions): Io<BlockNode> {
  const secret = given === undefined ? undefined : askedOnce(storage.name, given);
  const ask = askSecret(secret);
  const { driver } = source.node;
  // Clusters smaller than the unit of the changes would be of no use; larger ones would copy more than has changed.
  const finer = driver.snapshots && driver.clusterSize < CLUSTER && options.extended_l2 === undefined;
  const own = finer ? { cluster_size: driver.clusterSize } : {};
  const size = roundUp(source.size, SECTOR);
  yield* findCreate()(storage, { size, backing, options: { ...own, ...options }, ...(ask ? { secret: ask } : {}) });
  return yield* openChain(storage, { format: OVERLAY_FORMAT, openBacking: fixed(), ...(secret ? { secret } : {}) });
}

function findCreate(): NonNullable<ReturnType<typeof findFormat>['create']> {
  const { create } = findFormat(allFormats, OVERLAY_FORMAT);
  if (!create) throw new DiskError('unsupported', `${OVERLAY_FORMAT}: images of this format cannot be created`, { format: OVERLAY_FORMAT });
  return create;
}

/** Calls `work` with the changes of a disk. */
export function* changesOf<T>(disk: Disk, since: Since, work: (changes: DirtyRuns) => Io<T>): Io<T> {
  if ('snapshot' in since) return yield* disk.snapshots.comparing(since.snapshot, work);
  if ('bitmap' in since) return yield* work((yield* bitmapsOf(disk.node)).runs(since.bitmap));
  return yield* work(new GivenRuns(since.ranges, disk.size));
}

/** Ranges that the caller tracked. */
class GivenRuns implements DirtyRuns {
  readonly size: number;
  readonly #ranges: readonly ByteRange[];

  constructor(ranges: Iterable<ByteRange>, size: number) {
    this.#ranges = [...ranges].sort((one, other) => one.start - other.start);
    this.size = size;
  }

  *next(from: number): Io<DirtyRun | undefined> {
    const found = this.#ranges.find(({ end }) => end > from);
    if (!found) return undefined;
    const start = Math.max(from, found.start);
    const length = Math.min(found.end, this.size) - start;
    return length > 0 ? { start, length } : undefined;
  }
}

/** A copy under way. */
class IncrementCopy {
  readonly #source: BlockNode;
  readonly #target: BlockNode;
  readonly #options: CopyJobOptions;
  readonly #unit: number;
  readonly #buffer: Uint8Array;

  constructor(source: BlockNode, target: BlockNode, options: CopyJobOptions) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    this.#unit = target.driver.clusterSize;
    this.#buffer = new Uint8Array(Math.min(BUFFER, roundUp(source.size, this.#unit)));
  }

  /** Copies every cluster that a run touches; returns their bytes. */
  *run(runs: DirtyRuns): Io<number> {
    const { size } = this.#target;
    const pace = new Pace(this.#options, size);
    let changed = 0;
    for (let at = 0; at < size; ) {
      yield* pace.step(at);
      const run = yield* runs.next(at);
      if (!run) break;
      const start = Math.max(at, roundDown(run.start, this.#unit));
      const end = Math.min(size, roundUp(run.start + run.length, this.#unit), start + this.#buffer.length);
      yield* this.#copy(start, end - start);
      changed += end - start;
      at = end;
      yield* pace.spend(end - start);
    }
    pace.finish();
    return changed;
  }

  /** Whole clusters, or up to the end. Zeros are written as such: the file below may have other bytes there. */
  *#copy(offset: number, length: number): Io<void> {
    const bytes = this.#buffer.subarray(0, length).fill(0);
    const inside = Math.min(length, this.#source.size - offset);
    yield* this.#source.read(offset, bytes.subarray(0, inside));
    const zero = Array.from({ length: divideUp(length, this.#unit) }, (_, index) => isZero(bytes, index * this.#unit, this.#unit));
    for (let first = 0; first < zero.length; ) {
      let next = first + 1;
      while (next < zero.length && zero[next] === zero[first]) next++;
      const [from, to] = [first * this.#unit, Math.min(next * this.#unit, length)];
      if (zero[first]) yield* this.#target.zero(offset + from, to - from, { unmap: true });
      else yield* this.#target.write(offset + from, bytes.subarray(from, to));
      first = next;
    }
  }
}

function isZero(bytes: Uint8Array, offset: number, length: number): boolean {
  const end = Math.min(offset + length, bytes.length);
  for (let at = offset; at < end; at++) if (bytes[at] !== 0) return false;
  return true;
}
