/** The bytes of a file by which it is recognised: its beginning and its end. */
import type { Io } from '../base/io.ts';
import { KiB, SECTOR } from '../base/units.ts';
import { readBytes, type Storage } from '../storage/storage.ts';

/** Enough for the marks of nearly all file systems. */
export const HEAD = 68 * KiB;
export const TAIL = 2 * SECTOR;

/** The part of a file that is read. */
export interface Sample {
  readonly size: number;
  readonly head: Uint8Array;
  /** The last bytes of the file, which may be those of the head too. */
  readonly tail: Uint8Array;
}

/** Bytes at a place of a file, each character one byte. `at` counts from the start, from the end if it is negative. */
export interface Mark {
  readonly at: number;
  readonly bytes: string;
}

/** A row of a table by which files are recognised. */
export interface Signature {
  /** Any of them is enough. */
  readonly marks?: readonly Mark[];
  /** Must be true too, if bytes at fixed places are not enough. */
  readonly also?: (sample: Sample) => boolean;
}

/** Reads the bytes by which files are recognised. */
export function* takeSample(storage: Storage): Io<Sample> {
  const { size } = storage;
  const head = yield* readBytes(storage, 0, Math.min(HEAD, size));
  const tail = yield* readBytes(storage, Math.max(0, size - TAIL), Math.min(TAIL, size));
  return { size, head, tail };
}

/** True if a file has these bytes. */
function hasMark({ head, tail }: Sample, { at, bytes }: Mark): boolean {
  const piece = at < 0 ? tail : head;
  const start = at < 0 ? tail.length + at : at;
  if (start < 0 || start + bytes.length > piece.length) return false;
  for (let i = 0; i < bytes.length; i++) if (piece[start + i] !== bytes.charCodeAt(i)) return false;
  return true;
}

/** True if a file matches a row of a table. */
export function fits(sample: Sample, { marks, also }: Signature): boolean {
  return (marks?.some((each) => hasMark(sample, each)) ?? true) && (also?.(sample) ?? true);
}
