/** The state of a run of guest bytes across a backing chain, how an extent of one image becomes such a run, and whether runs read as zero. */
import type { DebugHook } from '../base/debug-events.ts';
import type { Io } from '../base/io.ts';
import type { Extent } from '../formats/driver.ts';
import type { Storage } from '../storage/storage.ts';

/** The state of a run of guest bytes, across the backing chain, in the terms of `qemu-img map`. */
export interface MapRun {
  /** Guest bytes from the beginning of the disk. */
  readonly start: number;
  /** Guest bytes, at least 1. */
  readonly length: number;
  /** 0 for this image, 1 for its backing file, and so on. */
  readonly depth: number;
  /** Some layer has the run allocated. */
  readonly present: boolean;
  /** The run reads as zero. */
  readonly zero: boolean;
  /** Some file holds bytes for it. */
  readonly data: boolean;
  /** Those bytes are compressed. */
  readonly compressed: boolean;
  /** Offset of the bytes in the file that holds them, if they are stored there unchanged. */
  readonly offset?: number;
  /** Name of that file, if it is not the image's own. */
  readonly file?: string;
}

/** A run that no image holds; `offset` if space is set aside for it all the same. */
export function absentRun(start: number, length: number, offset?: number): MapRun {
  if (offset === undefined) return { start, length, depth: 0, compressed: false, present: false, zero: true, data: false };
  return { start, length, depth: 0, compressed: false, present: false, zero: true, data: false, offset };
}

/** The run of an extent that an image holds itself; `files`: the files with its data, if that is not its own file. */
export function ownRun(start: number, extent: Exclude<Extent, { kind: 'backing' }>, files: readonly Storage[]): MapRun {
  const { kind, length } = extent;
  // Written out, for speed: maps of scattered images have very many runs.
  const run = {
    start,
    length,
    depth: 0,
    compressed: kind === 'encoded' && extent.compressed,
    present: true,
    zero: kind === 'zero',
    data: kind !== 'zero',
  };
  if (kind === 'encoded') return run;
  if (kind === 'zero') return extent.hostOffset === undefined ? run : { ...run, offset: extent.hostOffset };
  if (extent.encrypted || extent.placeless) return run;
  const { hostOffset: offset, storage } = extent;
  if (files.includes(storage)) return { ...run, offset, file: storage.name };
  return { start, length, depth: 0, compressed: false, present: true, zero: false, data: true, offset };
}

/** True if a range is known to read as zero. */
export function* readsZero(node: { status(offset: number, length: number): Io<MapRun> }, offset: number, length: number): Io<boolean> {
  for (let done = 0; done < length; ) {
    const run = yield* node.status(offset + done, length - done);
    if (!run.zero) return false;
    done += run.length;
  }
  return true;
}

/** Tells a debugger of the next read. The driver tells of compressed clusters, because it knows how many there are. */
export function* tellOfRead(debug: DebugHook, kind: Extent['kind'], backing: boolean): Io<void> {
  if (kind === 'data') yield* debug('read_aio');
  else if (kind === 'backing' && backing) yield* debug('read_backing_aio');
}
