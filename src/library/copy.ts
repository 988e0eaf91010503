/**
 * Copying an image file byte for byte between storages. Runs of zeros are skipped: the target is empty and reads as zero there.
 */
import { isZero } from '../base/bytes.ts';
import type { Io } from '../base/io.ts';
import { type JobOptions, Pace } from '../base/job.ts';
import { KiB, MiB } from '../base/units.ts';
import type { Storage } from '../storage/storage.ts';

/** Bytes copied in one step. */
const STEP = 2 * MiB;
/** The copy looks for zeros in pieces of this size. */
const PIECE = 64 * KiB;

/** Copies all bytes of one storage into another, which is empty, and flushes that. */
export function* copyBytes(source: Storage, target: Storage, job: JobOptions): Io<void> {
  const { size } = source;
  const pace = new Pace(job, size);
  // At full size from the start: if there is no room, this fails before anything is copied.
  yield* target.truncate(size);
  const room = new Uint8Array(Math.min(STEP, size));
  for (let at = 0; at < size; at += STEP) {
    yield* pace.step(at);
    const bytes = room.subarray(0, size - at);
    yield* source.read(at, bytes);
    yield* copyStep(target, at, bytes);
  }
  yield* target.flush();
  pace.finish();
}

/** Writes bytes into a storage that reads as zero, without their runs of zeros. */
export function* copyStep(target: Storage, offset: number, bytes: Uint8Array): Io<void> {
  let from = 0;
  for (let at = 0; at < bytes.length; at += PIECE) {
    if (!isZero(bytes.subarray(at, at + PIECE))) continue;
    if (from < at) yield* target.write(offset + from, bytes.subarray(from, at));
    from = Math.min(at + PIECE, bytes.length);
  }
  if (from < bytes.length) yield* target.write(offset + from, bytes.subarray(from));
}
