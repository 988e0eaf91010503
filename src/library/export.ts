/**
 * An image as a file: its own bytes if the formats agree, guest bytes for raw, and for qcow2 a conversion into a temporary image that
 * is streamed and removed. The stream reads on demand. An image that is open for writing is copied first, in one piece with nothing
 * in flight, so that what is streamed is one state of it however long the reader takes; of an increment only what changed is copied.
 * What comes from an encrypted image is encrypted with the same passphrase, unless it is raw: then it is plain, and nothing is written meanwhile.
 */
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { type JobOptions, throwIfAborted } from '../base/job.ts';
import type { KeptBytes } from '../base/keepers.ts';
import { RangeSet } from '../base/ranges.ts';
import { MiB, SECTOR } from '../base/units.ts';
import { Disk } from '../disk/disk.ts';
import { createDisk, openDisk } from '../disk/open.ts';
import type { Resolve } from '../disk/reference.ts';
import { type ConvertOptions, convert } from '../jobs/convert.ts';
import { increment } from '../jobs/increment.ts';
import { filesOf, salvaging } from '../node/loss.ts';
import { BlockNode } from '../node/node.ts';
import type { HeldLock } from '../storage/image-lock.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import { copyBytes } from './copy.ts';
import type { ExportedImage, ExportOptions, ExportSince } from './entries.ts';
import { exportProblem } from './export-limits.ts';
import type { ImageFormat, ImageRecord } from './image-record.ts';
import type { Scratch } from './scratch.ts';

/** Bytes in a chunk of the stream. */
const CHUNK = MiB;
/** Milliseconds between two progress calls. */
const PROGRESS_INTERVAL = 100;

/** What an export is given besides. */
export type ExportMeans = JobOptions & Pick<ConvertOptions, 'compressor'>;

/** Where an export reads from: an image that is open for writing here, or one that nobody has, with its lock. */
export type ExportSource = { readonly record: ImageRecord } & Below &
  ({ readonly open: Disk; readonly lost: boolean } | { readonly lock: HeldLock; readonly storage: () => Promise<Storage> });

/** An image that is open for writing here. */
type OpenSource = Extract<ExportSource, { open: Disk }>;

/** What opens the images below, for one that lies over others: it leaves as one image that stands alone. */
interface Below {
  readonly resolve?: Resolve;
}

/** What to undo when the stream is over, last made first. */
type Cleanup = (() => Promise<void>)[];

/** Starts an export. Whatever was locked, opened or made is let go when the stream ends, fails or is cancelled. */
export async function exportImage(
  source: ExportSource,
  options: ExportOptions & ExportMeans,
  scratch: () => Promise<Scratch>,
): Promise<ExportedImage> {
  const { format, signal, onProgress, compressed = false } = options;
  const { record } = source;
  const cleanup: Cleanup = 'lock' in source ? [() => source.lock.release()] : [];
  const same = format === record.format && !source.resolve && !compressed;
  const toTemporary = format === 'qcow2' && !same;
  // Progress counts guest or file bytes; a conversion counts as the first half of the work.
  const progress = (part: number, parts: number) => (done: number, total: number) => onProgress?.(Math.round((total * part + done) / parts), total);
  try {
    throwIfAborted(signal);
    requireExportable(record, record.encrypted ?? record.format === 'luks', options);
    if (options.since) {
      const bytes = await incremental(source, cleanup, scratch, { ...options, since: options.since, onProgress: progress(0, 2) });
      const job: JobOptions = { ...(signal ? { signal } : {}), onProgress: progress(1, 2) };
      return {
        name: fileName(`${record.name} since ${nameOf(options.since)}`, format),
        size: bytes.size,
        stream: byteStream(bytes, job, () => undo(cleanup)),
      };
    }
    const lost = 'open' in source && source.lost ? source : undefined;
    // With its snapshots only if all of its file can be read.
    const whole = lost && (!same || options.salvage) ? undefined : await frozen(source, cleanup, scratch, signal).catch(lost ? unlessGone : rethrow);
    if (lost && !whole) {
      const { bytes, missing } = await remains(lost, cleanup, scratch, { ...options, onProgress: progress(0, 2) });
      const job: JobOptions = { ...(signal ? { signal } : {}), onProgress: progress(1, 2) };
      return { name: fileName(record.name, format), size: bytes.size, stream: byteStream(bytes, job, () => undo(cleanup)), missing };
    }
    let storage = whole as Storage;
    if (toTemporary) storage = await converted(storage, source, cleanup, scratch, { ...options, onProgress: progress(0, 2) });
    let bytes = storage;
    if (!same && format === 'raw') bytes = (await opened(storage, source, cleanup, options)).storage;
    const job: JobOptions = { ...(signal ? { signal } : {}), onProgress: toTemporary ? progress(1, 2) : progress(0, 1) };
    return { name: fileName(record.name, format), size: bytes.size, stream: byteStream(bytes, job, () => undo(cleanup)) };
  } catch (error) {
    await undo(cleanup);
    throw error;
  }
}

function requireExportable({ format }: ImageRecord, encrypted: boolean, options: ExportOptions): void {
  const problem = exportProblem({ format, encrypted }, options);
  if (problem) throw problem;
}

/** The image's storage in a state that stays as it is until the cleanup. */
async function frozen(source: ExportSource, cleanup: Cleanup, scratch: () => Promise<Scratch>, signal: AbortSignal | undefined): Promise<Storage> {
  if ('lock' in source) {
    const storage = await source.storage();
    cleanup.push(() => runAsync(storage.close()));
    return storage;
  }
  const { storage } = source.open.node.driver;
  return temporary(cleanup, scratch, (target) => runAsync(held(source, () => copyBytes(storage, target, signal ? { signal } : {}))));
}

/**
 * Runs `work` on an image that is open for writing, with nothing in flight and everything in its storage, also what adapters keep above it; or (of one
 * that is lost) as if it were. Adapters go on having unsaved what they keep above a lost one.
 */
function* held({ open: { node }, lost }: OpenSource, work: () => Io<void>): Io<void> {
  if (!lost) yield* node.keepers.drain();
  yield* node.exclusive(() =>
    salvaging(filesOf(node), function* () {
      const above = lost ? node.keepers.unsaved() : [];
      // A change that fails for want of what it must read would leave less to be read than there was.
      if (above.length > 0) for (const file of filesOf(node)) yield* requireWhole(file);
      for (const { offset, bytes } of above) yield* node.rescue(offset, bytes);
      yield* node.flush();
      yield* work();
    }),
  );
}

/** Throws, as reading would, unless all of a lost file can still be read. */
function* requireWhole(file: Storage): Io<void> {
  for (let at = 0; at < file.size; ) at += (yield* file.map(at, file.size - at)).length;
}

/** The same image once more, for reading while the disk's own node is held, or refuses everything. */
const still = ({ driver, backing }: BlockNode): Disk =>
  new Disk(new BlockNode({ driver, ...(backing ? { backing } : {}), readOnly: true, owned: false }));

/** What can still be read of an image that is lost, as a new one of the format that is asked for. */
async function remains(
  { record, open }: OpenSource,
  cleanup: Cleanup,
  scratch: () => Promise<Scratch>,
  job: ExportOptions & ExportMeans,
): Promise<{ bytes: Storage; missing: number }> {
  const from = still(open.node);
  if (from.encrypted && job.format !== 'raw' && job.secret === undefined) throw needsPassphrase(record);
  const above = open.keepers.unsaved();
  const newer = new RangeSet();
  for (const { offset, bytes } of above) newer.add(offset, offset + bytes.length);
  let missing = 0;
  // A sector whose state cannot be told is read all the same, and what is in memory can be read.
  const onUnreadable = (what: string, offset: number, error: DiskError) => {
    if (what !== 'content' || newer.covers(offset, offset + SECTOR)) return;
    if (!job.salvage) throw error;
    missing += SECTOR;
  };
  try {
    const bytes = await temporary(cleanup, scratch, (target) => convertInto(target, from, { ...job, onUnreadable }, above));
    return { bytes, missing };
  } catch (error) {
    const message = `"${record.name}" is lost, and not all of it can be read any more: export it with \`salvage\` to have zeros in place of what is missing`;
    unlessGone(error);
    throw new DiskError('lost', message, { cause: error });
  }
}

/** Failures of reading what is no longer there. */
const GONE: ReadonlySet<string> = new Set(['lost', 'in-use']);

function rethrow(error: unknown): never {
  throw error;
}

/** Throws all failures but those of reading what is gone. */
function unlessGone(error: unknown): undefined {
  if (!(error instanceof DiskError) || !GONE.has(error.kind)) throw error;
}

/** A temporary image filled by `fill`, opened for reading. */
async function temporary(cleanup: Cleanup, scratch: () => Promise<Scratch>, fill: (target: Storage) => Promise<void>): Promise<Storage> {
  const { create, reopen, remove } = await scratch();
  cleanup.push(remove);
  const target = await create();
  try {
    await fill(target);
  } finally {
    await runAsync(target.close());
  }
  const storage = await reopen();
  cleanup.push(() => runAsync(storage.close()));
  return storage;
}

async function converted(
  storage: Storage,
  source: ExportSource,
  cleanup: Cleanup,
  scratch: () => Promise<Scratch>,
  job: ExportOptions & ExportMeans,
): Promise<Storage> {
  const from = await opened(storage, source, cleanup, job);
  // The list does not know it of every image.
  requireExportable(source.record, from.encrypted, job);
  return temporary(cleanup, scratch, (target) => convertInto(target, from, job));
}

/** Makes an image in an empty storage out of a disk, and of what is newer than that, and closes it: the disk closes the storage; closing it a second time does nothing. */
async function convertInto(
  target: Storage,
  from: Disk,
  job: ExportOptions & ExportMeans & Pick<ConvertOptions, 'onUnreadable'>,
  newer: readonly KeptBytes[] = [],
): Promise<void> {
  const encryption = job.format !== 'raw' && job.secret !== undefined && from.encrypted ? encryptedWith(job.secret, job.iterTime, job.format) : {};
  const disk = await createDisk(target, { format: job.format, size: roundUp(from.size, SECTOR), ...encryption });
  const { compressed = false, compressor, signal, control, onProgress, onUnreadable } = job;
  const watched = { ...(signal ? { signal } : {}), ...(control ? { control } : {}), ...(onProgress ? { onProgress } : {}) };
  await convert(from, disk, { ...watched, targetIsNew: true, compressed, compressor, ...(onUnreadable ? { salvage: true, onUnreadable } : {}) });
  for (const { offset, bytes } of newer) await disk.write(offset, bytes.subarray(0, Math.max(0, disk.size - offset)));
  await disk.close();
}

async function opened(storage: Storage, { record, resolve }: ExportSource, cleanup: Cleanup, { secret }: ExportOptions): Promise<Disk> {
  const { format } = record;
  const disk = await openDisk(storage, { format, readOnly: true, ...(resolve ? { resolve } : {}), ...(secret === undefined ? {} : { secret }) });
  cleanup.push(() => disk.close());
  return disk;
}

/** What changed, in a temporary overlay. An image that is open for writing is held still until that is copied. */
async function incremental(
  source: ExportSource,
  cleanup: Cleanup,
  scratch: () => Promise<Scratch>,
  options: ExportOptions & JobOptions & { since: ExportSince },
): Promise<Storage> {
  const { record } = source;
  const { since, secret, iterTime, signal, onProgress } = options;
  const job: JobOptions = { ...(signal ? { signal } : {}), ...(onProgress ? { onProgress } : {}) };
  const backing = { name: options.backing ?? fileName(record.name, 'qcow2'), format: 'qcow2' };
  const overlay = function* (disk: Disk, target: Storage): Io<void> {
    const { encrypted } = disk;
    if (encrypted && secret === undefined) throw needsPassphrase(record);
    const encryption = encrypted && secret !== undefined ? { options: encryptionOptions(iterTime), secret } : {};
    yield* increment(disk, target, { since, backing, ...encryption, ...job });
  };
  if ('lock' in source) {
    const disk = await opened(await frozen(source, cleanup, scratch, signal), source, cleanup, options);
    return temporary(cleanup, scratch, (target) => runAsync(overlay(disk, target)));
  }
  return temporary(cleanup, scratch, (target) => runAsync(held(source, () => overlay(still(source.open.node), target))));
}

const needsPassphrase = ({ name }: ImageRecord): DiskError =>
  new DiskError('refused', `"${name}" is encrypted, and so is what is exported of it: that takes its passphrase`, { field: 'encrypt.key-secret' });

/** Options of a new image that is encrypted; `iterTime`: milliseconds that trying a passphrase is to take. */
export function encryptedWith(secret: string, iterTime?: number, format: ImageFormat = 'qcow2'): Record<string, string | number> {
  if (format === 'luks') return { secret, ...(iterTime === undefined ? {} : { 'iter-time': iterTime }) };
  return { secret, ...encryptionOptions(iterTime) };
}

const encryptionOptions = (iterTime: number | undefined): Record<string, string | number> => ({
  'encrypt.format': 'luks',
  ...(iterTime === undefined ? {} : { 'encrypt.iter-time': iterTime }),
});

const nameOf = (since: ExportSince): string => ('snapshot' in since ? since.snapshot : since.bitmap);

async function undo(cleanup: Cleanup): Promise<void> {
  let failure: { error: unknown } | undefined;
  for (let step = cleanup.pop(); step; step = cleanup.pop()) {
    try {
      await step();
    } catch (error) {
      failure ??= { error };
    }
  }
  if (failure) throw failure.error;
}

/** All bytes of a storage, read as the reader asks for them. `over` is called once, whatever ends the stream. */
function byteStream(storage: Storage, { signal, onProgress }: JobOptions, over: () => Promise<void>): ReadableStream<Uint8Array> {
  const { size } = storage;
  let at = 0;
  let reportedAt = 0;
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
    try {
      throwIfAborted(signal);
      if (at < size) {
        const chunk = await runAsync(readBytes(storage, at, Math.min(CHUNK, size - at)));
        at += chunk.length;
        controller.enqueue(chunk);
      }
      const now = performance.now();
      if (at >= size) {
        await over();
        onProgress?.(size, size);
        controller.close();
      } else if (now - reportedAt >= PROGRESS_INTERVAL) {
        reportedAt = now;
        onProgress?.(at, size);
      }
    } catch (error) {
      await over().catch(() => undefined);
      throw error;
    }
  };
  return new ReadableStream<Uint8Array>({ pull, cancel: over }, { highWaterMark: 1 });
}

/** The image's name with the format's usual ending. */
function fileName(name: string, format: ImageFormat): string {
  const ending = format === 'raw' ? '.img' : `.${format}`;
  const stem = name.replace(/\.(qcow2|img|raw|bin|dd|luks)$/i, '');
  return `${stem || 'disk'}${ending}`;
}
