/**
 * An image as a file: its own bytes if the formats agree, guest bytes for raw, and for qcow2 a conversion into a temporary image that
 * is streamed and removed. The stream reads on demand. An image that is open for writing is copied first, in one piece with nothing
 * in flight, so that what is streamed is one state of it however long the reader takes.
 */
import { runAsync } from '../base/io.ts';
import { MiB } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import { createDisk, openDisk } from '../disk/open.ts';
import { convert } from '../jobs/convert.ts';
import { type JobOptions, throwIfAborted } from '../jobs/job.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import type { ImageRecord } from './catalogue.ts';
import { copyBytes } from './copy.ts';
import type { HeldLock } from './image-lock.ts';

/** Bytes in a chunk of the stream. */
const CHUNK = MiB;
/** Milliseconds between two progress calls. */
const PROGRESS_INTERVAL = 100;

/** What an exported file is to be. */
export interface ExportOptions {
  readonly format: 'qcow2' | 'raw';
}

/** An image on its way out. */
export interface ExportedImage {
  /** Suggested file name. */
  readonly name: string;
  /** Bytes if known beforehand. */
  readonly size: number | undefined;
  readonly stream: ReadableStream<Uint8Array>;
}

/** Where an export reads from: an image that is open for writing here, or one that nobody has, with its lock. */
export type ExportSource =
  | { readonly record: ImageRecord; readonly open: Disk }
  | { readonly record: ImageRecord; readonly lock: HeldLock; readonly storage: () => Promise<Storage> };

/** A temporary image in the same place. */
export interface Scratch {
  create(): Promise<Storage>;
  reopen(): Promise<Storage>;
  remove(): Promise<void>;
}

/** A new name for a temporary image; the sweep finds it by having no record. */
export const scratchId = (): string => `export-${crypto.randomUUID()}`;

/** What to undo when the stream is over, last made first. */
type Cleanup = (() => Promise<void>)[];

/** Starts an export. Whatever was locked, opened or made is let go when the stream ends, fails or is cancelled. */
export async function exportImage(
  source: ExportSource,
  options: ExportOptions & JobOptions,
  scratch: () => Promise<Scratch>,
): Promise<ExportedImage> {
  const { format, signal, onProgress } = options;
  const { record } = source;
  const cleanup: Cleanup = [];
  const same = format === record.format;
  const toTemporary = format === 'qcow2' && !same;
  // Progress counts guest or file bytes; a conversion counts as the first half of the work.
  const progress = (part: number, parts: number) => (done: number, total: number) => onProgress?.(Math.round((total * part + done) / parts), total);
  try {
    throwIfAborted(signal);
    let storage = await frozen(source, cleanup, scratch, signal);
    if (toTemporary) storage = await converted(storage, record, cleanup, scratch, { ...options, onProgress: progress(0, 2) });
    let bytes = storage;
    if (!same && format === 'raw') bytes = (await opened(storage, record.format, cleanup)).storage;
    const job: JobOptions = { ...(signal ? { signal } : {}), onProgress: toTemporary ? progress(1, 2) : progress(0, 1) };
    return { name: fileName(record.name, format), size: bytes.size, stream: byteStream(bytes, job, () => undo(cleanup)) };
  } catch (error) {
    await undo(cleanup);
    throw error;
  }
}

/** The image's storage in a state that stays as it is until the cleanup. */
async function frozen(source: ExportSource, cleanup: Cleanup, scratch: () => Promise<Scratch>, signal: AbortSignal | undefined): Promise<Storage> {
  if ('lock' in source) {
    cleanup.push(() => source.lock.release());
    const storage = await source.storage();
    cleanup.push(() => runAsync(storage.close()));
    return storage;
  }
  const { node } = source.open;
  return temporary(cleanup, scratch, (target) =>
    runAsync(
      node.exclusive(function* () {
        yield* node.flush();
        yield* copyBytes(node.driver.storage, target, signal ? { signal } : {});
      }),
    ),
  );
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
  record: ImageRecord,
  cleanup: Cleanup,
  scratch: () => Promise<Scratch>,
  job: ExportOptions & JobOptions,
): Promise<Storage> {
  const source = await opened(storage, record.format, cleanup);
  return temporary(cleanup, scratch, async (target) => {
    // The disk closes the storage; closing it a second time does nothing.
    const disk = await createDisk(target, { format: job.format, size: Math.ceil(source.size / 512) * 512 });
    await convert(source, disk, { ...job, targetIsNew: true });
    await disk.close();
  });
}

async function opened(storage: Storage, format: string, cleanup: Cleanup): Promise<Disk> {
  const disk = await openDisk(storage, { format, readOnly: true });
  cleanup.push(() => disk.close());
  return disk;
}

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
function fileName(name: string, format: 'qcow2' | 'raw'): string {
  const ending = format === 'qcow2' ? '.qcow2' : '.img';
  const stem = name.replace(/\.(qcow2|img|raw|bin|dd)$/i, '');
  return `${stem || 'disk'}${ending}`;
}
