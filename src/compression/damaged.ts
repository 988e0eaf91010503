/** The error of compressed bytes that are damaged. */
import { corrupt, DiskError } from '../base/errors.ts';

/** Any failure of a decoder as `corrupt`, with what to do. `offset`: bytes of the packed file before the part that failed. */
export function damaged(format: string, offset: number, cause: unknown): DiskError {
  if (cause instanceof DiskError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return corrupt(format, `the file is damaged (${reason}): copy or download it anew`, { field: 'contents', offset, cause });
}
