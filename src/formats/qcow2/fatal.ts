/**
 * Inconsistencies after which an image must not be written any more, QEMU's "fatal corruptions": a table or cluster off its place, bits of
 * subclusters that contradict each other, a write that would go over metadata. The code that finds one throws a `fatal` error; `Metadata.guarded` marks
 * the image corrupt, if it is open for writing. A check is not guarded: it finds all faults.
 */
import { corrupt, type DiskError, type ErrorPlace } from '../../base/errors.ts';
import { FORMAT } from './layout.ts';

const found = new WeakSet<object>();

/** A `corrupt` error that condemns the image. */
export function fatal(message: string, place: ErrorPlace): DiskError {
  const error = corrupt(FORMAT, message, place);
  found.add(error);
  return error;
}

/** True for an error that `fatal` made. */
export const isFatal = (error: unknown): error is DiskError => typeof error === 'object' && error !== null && found.has(error);
