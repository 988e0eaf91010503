/** Copying bytes that an image shows of its backing file into the image itself: the part that is the same for every caller. */
import { isZero } from '../base/bytes.ts';
import type { Io } from '../base/io.ts';
import type { ImageDriver } from '../formats/driver.ts';
import { lookUp } from './look-up.ts';

/** Bytes that are copied at a time: a multiple of every format's unit. */
const COPY_LIMIT = 4 * 1024 * 1024;

/** The node's own verbs, for a range that is already held. */
export interface CopyVerbs {
  read(offset: number, into: Uint8Array): Io<void>;
  write(offset: number, bytes: Uint8Array): Io<void>;
  zero(offset: number, length: number): Io<void>;
}

/** Whether the image leaves any part of a range to the backing file. */
export function* showsBacking(driver: ImageDriver, start: number, end: number): Io<boolean> {
  for (let at = start; at < end; ) {
    const extent = yield* lookUp(driver, at, end - at);
    if (extent.kind === 'backing') return true;
    at += extent.length;
  }
  return false;
}

/** Copies the parts of a range that the image leaves to the backing file, run by run; zeros as zeros. */
export function* copyUpRange(driver: ImageDriver, start: number, end: number, { read, write, zero }: CopyVerbs): Io<void> {
  for (let at = start; at < end; ) {
    const extent = yield* lookUp(driver, at, Math.min(end - at, COPY_LIMIT));
    if (extent.kind === 'backing') {
      const bytes = new Uint8Array(extent.length);
      yield* read(at, bytes);
      if (isZero(bytes)) yield* zero(at, bytes.length);
      else yield* write(at, bytes);
    }
    at += extent.length;
  }
}
