/**
 * Making a range of an image read as zero, for a node that holds the range: by the driver where it can, in the units that it zeroes as one; else
 * by writing zeros, and only where other bytes are read.
 */
import { roundDown, roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { MiB } from '../base/units.ts';
import type { ImageDriver } from '../formats/driver.ts';
import { writeZeroes } from '../storage/storage.ts';
import { lookUp } from './look-up.ts';
import { type MapRun, readsZero } from './map-run.ts';

/** How a range is made to read as zero. */
export interface ZeroOptions {
  /** Give the space back where the format can. */
  readonly unmap?: boolean;
  /** Write zeros as data where the format has nothing better; default true. */
  readonly fallback?: boolean;
}

/** How zeros that are written as data are treated, after QEMU's `detect-zeroes`. */
export type DetectZeroes = 'on' | 'unmap';

/** The image, and the node's own verbs for a range that is held. */
export interface ZeroTarget {
  readonly name: string;
  readonly driver: ImageDriver;
  status(offset: number, length: number): Io<MapRun>;
  write(offset: number, bytes: Uint8Array): Io<void>;
}

/** The alignment of a driver's `zero`, in bytes. */
export function zeroUnit(driver: ImageDriver): number {
  return driver.subclusterSize ?? (driver.clusterSize || 1);
}

/** Makes a range read as zero. Throws `unsupported` if that takes writing and `fallback` is false. */
export function* zeroRange(target: ZeroTarget, offset: number, length: number, { unmap = false, fallback = true }: ZeroOptions): Io<void> {
  const { driver } = target;
  const { zero, size } = driver;
  const end = offset + length;
  const unit = zeroUnit(driver);
  const first = Math.min(roundUp(offset, unit), end);
  // The image's last cluster may be cut off: its end counts as aligned.
  const last = Math.max(first, end === size ? end : roundDown(end, unit));
  yield* zeroPart(target, offset, first - offset, { unmap, fallback });
  // Where bytes must be written, they are written in one run: QEMU does the same, so their places in the file are the same.
  let written = first;
  for (let at = first; at < last; ) {
    const done = zero ? yield* zero.call(driver, at, last - at, { unmap }) : 0;
    if (done > 0) yield* writeRun(target, written, at - written, fallback);
    at += done > 0 ? done : Math.min(unit === 1 ? last - at : unit, last - at);
    if (done > 0) written = at;
  }
  yield* writeRun(target, written, last - written, fallback);
  yield* zeroPart(target, last, end - last, { unmap, fallback });
}

/**
 * Bytes that a growth from `old` to `size` uncovers must read as zero: the rest of the last cluster, which may hold bytes that were cut off earlier, and
 * the bytes that a longer image below (of `below` bytes, 0 for none) has there.
 */
export function* clearPastEnd(target: ZeroTarget, old: number, { size, below }: { size: number; below: number }): Io<void> {
  const { driver } = target;
  const uncovered = Math.min(size, below);
  const tailEnd = Math.min(size, roundUp(old, driver.clusterSize || 1));
  for (let at = old; at < tailEnd; ) {
    const { kind, length } = yield* lookUp(driver, at, Math.min(tailEnd, roundUp(at + 1, zeroUnit(driver))) - at);
    const alive = kind === 'data' || kind === 'encoded' || (kind === 'backing' && at < uncovered);
    at += alive ? yield* clear(target, at, length) : length;
  }
  for (let at = tailEnd; at < uncovered; ) at += yield* clear(target, at, uncovered - at);
}

/** Bytes of zeros that are written at once. */
const CLEAR_STEP = 2 * MiB;

/** Zeros the start of a range without looking at its contents: by the driver, else as bytes up to where the driver can go on. Returns bytes done. */
function* clear({ driver, write }: ZeroTarget, offset: number, length: number): Io<number> {
  const unit = zeroUnit(driver);
  const done = driver.zero && offset % unit === 0 ? yield* driver.zero(offset, length, { unmap: true }) : 0;
  if (done > 0) return done;
  const step = Math.min(length, roundUp(offset + 1, unit) - offset, CLEAR_STEP);
  yield* write(offset, new Uint8Array(step));
  return step;
}

/** Zeros part of a unit: as a whole unit if this image has no bytes in it and the rest reads as zero too, as QEMU does it; else as bytes. */
function* zeroPart(target: ZeroTarget, offset: number, length: number, { unmap, fallback }: Required<ZeroOptions>): Io<void> {
  const { driver } = target;
  if (length === 0) return;
  const unit = zeroUnit(driver);
  const start = roundDown(offset, unit);
  const whole = Math.min(driver.size, roundUp(offset + length, unit)) - start;
  const { kind } = yield* lookUp(driver, start, whole);
  const empty = kind === 'zero' || kind === 'backing';
  if (
    driver.zero &&
    empty &&
    (yield* readsZero(target, start, offset - start)) &&
    (yield* readsZero(target, offset + length, start + whole - offset - length))
  )
    if ((yield* driver.zero(start, whole, { unmap })) > 0) return;
  yield* writeBytes(target, offset, length, fallback);
}

/** Writes zeros as data. */
function* writeRun(target: ZeroTarget, offset: number, length: number, fallback: boolean): Io<void> {
  if (length > 0 && !fallback)
    throw new DiskError('unsupported', `${target.name}: ${length} bytes at ${offset} can be zeroed only by writing`, { offset });
  yield* writeZeroes(target, offset, length);
}

/** Writes zeros as data, except where the range reads as zero already. */
function* writeBytes(target: ZeroTarget, offset: number, length: number, fallback: boolean): Io<void> {
  for (let done = 0; done < length; ) {
    const run = yield* target.status(offset + done, length - done);
    if (!run.zero) yield* writeRun(target, run.start, run.length, fallback);
    done += run.length;
  }
}
