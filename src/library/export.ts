/**
 * An image as a file: its own bytes if the formats agree, guest bytes for raw, and for qcow2 a conversion into a temporary image that
 * is streamed and removed. The stream reads on demand. An image that is open for writing is copied first, in one piece with no request
 * under way, so that the stream has one state of it, however long the reader takes; for an increment only the changes are copied.
 * The export of an encrypted image is encrypted with the same passphrase, unless it is raw: then it is plain, and nothing is stored meanwhile.
 */
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { type JobOptions, throwIfAborted } from '../base/job.ts';
import type { KeptBytes } from '../base/keepers.ts';
import { RangeSet } from '../base/ranges.ts';
import { MiB, SECTOR } from '../base/units.ts';
import type { OpenOptions } from '../disk/chain.ts';
import { Disk } from '../disk/disk.ts';
import { createDisk, openDisk } from '../disk/open.ts';
import { allFormats } from '../formats/all.ts';
import type { EncryptionFacts } from '../formats/descriptor.ts';
import { findFormat } from '../formats/registry.ts';
import { OVERLAY_FORMAT } from '../formats/roles.ts';
import { type ConvertOptions, convert } from '../jobs/convert.ts';
import { increment } from '../jobs/increment.ts';
import { APPLIANCE, writeOva } from '../jobs/ova.ts';
import { filesOf, salvaging } from '../node/loss.ts';
import { BlockNode } from '../node/node.ts';
import type { HeldLock } from '../storage/image-lock.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import { copyBytes } from './copy.ts';
import { encryptionOptions } from './create.ts';
import type { ExportedImage, ExportOptions, ExportSince } from './entries.ts';
import { exportProblem } from './export-limits.ts';
import { fileName, isEncrypted } from './image-formats.ts';
import type { ImageRecord } from './image-record.ts';
import type { Scratch } from './scratch.ts';

/** Bytes in a chunk of the stream. */
const CHUNK = MiB;
/** Milliseconds between two progress calls. */
const PROGRESS_INTERVAL = 100;

/** Further options of an export. */
export type ExportMeans = JobOptions & Pick<ConvertOptions, 'compressor'>;

/** The source of an export: an image that is open for writing here, or one that is not open, with its lock. */
export type ExportSource = { readonly record: ImageRecord } & Below &
  ({ readonly open: Disk; readonly lost: boolean } | { readonly lock: HeldLock; readonly storage: () => Promise<Storage> });

/** An image that is open for writing here. */
type OpenSource = Extract<ExportSource, { open: Disk }>;

/** Opens the images below, for an overlay: the export is one image that stands alone. */
type Below = Pick<OpenOptions, 'resolve' | 'changedParent'>;

/** Functions that undo the steps of an export when its stream is over, the last step first. */
type Cleanup = (() => Promise<void>)[];

/** Starts an export. Everything that was locked, opened or made is released when the stream ends, fails or is cancelled. */
export async function exportImage(
  source: ExportSource,
  options: ExportOptions & ExportMeans,
  scratch: () => Promise<Scratch>,
): Promise<ExportedImage> {
  const { format, signal, onProgress, compressed = false } = options;
  const { record } = source;
  const cleanup: Cleanup = 'lock' in source ? [() => source.lock.release()] : [];
  const same = format === record.format && !source.resolve && !compressed;
  const plain = format !== APPLIANCE && (findFormat(allFormats, format).plain ?? false);
  const toTemporary = !plain && !same;
  // Progress counts guest or file bytes; a conversion counts as the first half of the work.
  const progress = (part: number, parts: number) => (done: number, total: number) => onProgress?.(Math.round((total * part + done) / parts), total);
  try {
    throwIfAborted(signal);
    requireExportable(record, isEncrypted(record), options);
    if (options.since) {
      const bytes = await incremental(source, cleanup, scratch, { ...options, since: options.since, onProgress: progress(0, 2) });
      const job: JobOptions = { ...(signal ? { signal } : {}), onProgress: progress(1, 2) };
      return {
        name: exportName(`${record.name} since ${nameOf(options.since)}`, format),
        size: bytes.size,
        stream: byteStream(bytes, job, () => undo(cleanup)),
      };
    }
    const lost = 'open' in source && source.lost ? source : undefined;
    // The image keeps its snapshots only if its whole file can be read.
    const whole = lost && (!same || options.salvage) ? undefined : await frozen(source, cleanup, scratch, signal).catch(lost ? unlessGone : rethrow);
    if (lost && !whole) {
      const { bytes, missing } = await remains(lost, cleanup, scratch, { ...options, onProgress: progress(0, 2) });
      const job: JobOptions = { ...(signal ? { signal } : {}), onProgress: progress(1, 2) };
      return { name: exportName(record.name, format), size: bytes.size, stream: byteStream(bytes, job, () => undo(cleanup)), missing };
    }
    let storage = whole as Storage;
    if (toTemporary) storage = await converted(storage, source, cleanup, scratch, { ...options, onProgress: progress(0, 2) });
    let bytes = storage;
    if (!same && plain) bytes = (await opened(storage, source, cleanup, options)).storage;
    const job: JobOptions = { ...(signal ? { signal } : {}), onProgress: toTemporary ? progress(1, 2) : progress(0, 1) };
    return { name: exportName(record.name, format), size: bytes.size, stream: byteStream(bytes, job, () => undo(cleanup)) };
  } catch (error) {
    await undo(cleanup);
    throw error;
  }
}

function requireExportable({ format }: ImageRecord, encrypted: boolean, options: ExportOptions): void {
  const problem = exportProblem({ format, encrypted }, options, allFormats);
  if (problem) throw problem;
}

/** The image's storage in a state that does not change until the cleanup. */
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
 * Runs `work` on an image that is open for writing, with no request under way and everything in its storage, also bytes that adapters keep above it; or
 * (for a lost image) as if it were. For a lost image the adapters' bytes still count as unsaved afterwards.
 */
function* held({ open: { node }, lost }: OpenSource, work: () => Io<void>): Io<void> {
  if (!lost) yield* node.keepers.drain();
  yield* node.exclusive(() =>
    salvaging(filesOf(node), function* () {
      const above = lost ? node.keepers.unsaved() : [];
      // A change that fails because it cannot read something would leave fewer readable bytes than before.
      if (above.length > 0) for (const file of filesOf(node)) yield* requireWhole(file);
      for (const { offset, bytes } of above) yield* node.rescue(offset, bytes);
      yield* node.flush();
      yield* work();
    }),
  );
}

/** Throws, as reading would, unless the whole of a lost file can still be read. */
function* requireWhole(file: Storage): Io<void> {
  for (let at = 0; at < file.size; ) at += (yield* file.map(at, file.size - at)).length;
}

/** A second disk over the same image, for reading while the disk's own node is held, or refuses everything. */
const still = ({ driver, backing }: BlockNode): Disk =>
  new Disk(new BlockNode({ driver, ...(backing ? { backing } : {}), readOnly: true, owned: false }));

/** The bytes of a lost image that can still be read, as a new image of the wanted format. */
async function remains(
  { record, open }: OpenSource,
  cleanup: Cleanup,
  scratch: () => Promise<Scratch>,
  job: ExportOptions & ExportMeans,
): Promise<{ bytes: Storage; missing: number }> {
  const from = still(open.node);
  if (from.encrypted && encryptionOf(job.format) && job.secret === undefined) throw needsPassphrase(record);
  const above = open.keepers.unsaved();
  const newer = new RangeSet();
  for (const { offset, bytes } of above) newer.add(offset, offset + bytes.length);
  let missing = 0;
  // A sector is read even if its state is not known; bytes in memory can be read.
  const onUnreadable = (what: string, offset: number, error: DiskError) => {
    if (what !== 'content' || newer.covers(offset, offset + SECTOR)) return;
    if (!job.salvage) throw error;
    missing += SECTOR;
  };
  try {
    const bytes = await temporary(cleanup, scratch, (target) => convertInto(target, from, { ...job, onUnreadable, name: record.name }, above));
    return { bytes, missing };
  } catch (error) {
    const message = `"${record.name}" is lost, and not all of it can be read any more: export it with \`salvage\` to have zeros in place of what is missing`;
    unlessGone(error);
    throw new DiskError('lost', message, { cause: error });
  }
}

/** Errors of reading bytes that are no longer there. */
const GONE: ReadonlySet<string> = new Set(['lost', 'in-use']);

function rethrow(error: unknown): never {
  throw error;
}

/** Throws all errors except those of reading bytes that are gone. */
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
  // For some images the list does not know it.
  requireExportable(source.record, from.encrypted, job);
  return temporary(cleanup, scratch, (target) => convertInto(target, from, { ...job, name: source.record.name }));
}

/**
 * Makes an image in an empty storage from a disk, and from bytes newer than the disk's, and closes it: the disk closes the storage;
 * closing it a second time does nothing.
 */
async function convertInto(
  target: Storage,
  from: Disk,
  job: ExportOptions & ExportMeans & Pick<ConvertOptions, 'onUnreadable'> & { readonly name: string },
  newer: readonly KeptBytes[] = [],
): Promise<void> {
  const { compressed = false, compressor, signal, control, onProgress, onUnreadable, name } = job;
  const watched = { ...(signal ? { signal } : {}), ...(control ? { control } : {}), ...(onProgress ? { onProgress } : {}) };
  const salvage = onUnreadable ? { salvage: true, onUnreadable } : {};
  if (job.format === APPLIANCE) {
    if (newer.length > 0)
      throw new DiskError('unsupported', `"${name}" has changes that are in memory only: export it in another format`, { field: 'format' });
    return writeOva(from, target, { ...watched, ...salvage, name: exportName(name, APPLIANCE).slice(0, -APPLIANCE.length - 1) });
  }
  const encryption = encryptionOf(job.format);
  const own = encryption && job.secret !== undefined && from.encrypted ? { secret: job.secret, ...encryptionOptions(encryption, job.iterTime) } : {};
  const packed = compressed ? findFormat(allFormats, job.format).compressed?.options : {};
  const disk = await createDisk<string>(target, { format: job.format, size: roundUp(from.size, SECTOR), ...packed, ...own });
  await convert(from, disk, { ...watched, ...salvage, targetIsNew: true, compressed, compressor });
  for (const { offset, bytes } of newer) await disk.write(offset, bytes.subarray(0, Math.max(0, disk.size - offset)));
  await disk.close();
}

async function opened(
  storage: Storage,
  { record, resolve, changedParent = false }: ExportSource,
  cleanup: Cleanup,
  { secret }: ExportOptions,
): Promise<Disk> {
  const { format } = record;
  const below = { changedParent, ...(resolve ? { resolve } : {}) };
  const disk = await openDisk(storage, { format, readOnly: true, ...below, ...(secret === undefined ? {} : { secret }) });
  cleanup.push(() => disk.close());
  return disk;
}

/** The changes, in a temporary overlay. An image that is open for writing is held still until they are copied. */
async function incremental(
  source: ExportSource,
  cleanup: Cleanup,
  scratch: () => Promise<Scratch>,
  options: ExportOptions & JobOptions & { since: ExportSince },
): Promise<Storage> {
  const { record } = source;
  const { since, secret, iterTime, signal, onProgress } = options;
  const job: JobOptions = { ...(signal ? { signal } : {}), ...(onProgress ? { onProgress } : {}) };
  const backing = { name: options.backing ?? exportName(record.name, OVERLAY_FORMAT), format: OVERLAY_FORMAT };
  const overlay = function* (disk: Disk, target: Storage): Io<void> {
    const { encrypted } = disk;
    if (encrypted && secret === undefined) throw needsPassphrase(record);
    const encryption = encryptionOf(OVERLAY_FORMAT);
    const own = encrypted && encryption && secret !== undefined ? { options: encryptionOptions(encryption, iterTime), secret } : {};
    yield* increment(disk, target, { since, backing, ...own, ...job });
  };
  if ('lock' in source) {
    const disk = await opened(await frozen(source, cleanup, scratch, signal), source, cleanup, options);
    return temporary(cleanup, scratch, (target) => runAsync(overlay(disk, target)));
  }
  return temporary(cleanup, scratch, (target) => runAsync(held(source, () => overlay(still(source.open.node), target))));
}

const needsPassphrase = ({ name }: ImageRecord): DiskError =>
  new DiskError('refused', `"${name}" is encrypted, and so is what is exported of it: that takes its passphrase`, { field: 'encrypt.key-secret' });

const encryptionOf = (format: string): EncryptionFacts | undefined => (format === APPLIANCE ? undefined : findFormat(allFormats, format).encryption);

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

/** All bytes of a storage, read as the reader asks for them. `over` is called once, however the stream ends. */
function byteStream(storage: Storage, { signal, onProgress }: JobOptions, over: () => Promise<void>): ReadableStream<Uint8Array<ArrayBuffer>> {
  const { size } = storage;
  let at = 0;
  let reportedAt = 0;
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>) => {
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
  return new ReadableStream<Uint8Array<ArrayBuffer>>({ pull, cancel: over }, { highWaterMark: 1 });
}

/** The image's name with the format's usual ending. */
const exportName = (name: string, format: string): string => fileName(name, format, allFormats);
