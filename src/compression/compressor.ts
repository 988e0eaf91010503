/**
 * Compression by other code than that of this thread: threads that a job is given for as long as it runs, and the platform's own
 * inflate where it has one. Formats and jobs know these interfaces; the code that runs them (Node's zlib, Web Workers) hands them in.
 */
import { check, FUNCTION } from '../base/arguments.ts';

/** How clusters are compressed: raw deflate with distances below 4096, so that readers need no more memory than that, or a zstd frame. */
export type Compression = 'deflate' | 'zstd';

/** Threads that compress. */
export interface Compressor {
  /** Clusters that are compressed at the same time; some more should be waiting. */
  readonly width: number;
  /** The bytes compressed; if they get no smaller, any bytes that are not shorter. `bytes` must not change meanwhile. Throws kind `io`. */
  compress(bytes: Uint8Array, how: Compression): PromiseLike<Uint8Array>;
  /** Ends the threads; clusters under way are given up. */
  close(): void;
}

/** Inflates raw deflate into `length` bytes at once. Undefined if anything is unusual about them: bytes are missing, or left over. */
export type Inflate = (bytes: Uint8Array, length: number) => Uint8Array | undefined;

let platformInflate: Inflate | undefined;

/** Sets the function that inflates images from now on where it can, for all of the program. */
export function provideInflate(inflate: Inflate): void {
  check('provideInflate', 'inflate', inflate, FUNCTION);
  platformInflate = inflate;
}

/** The result of the provided function; undefined if none was provided, or where it cannot. */
export const inflateFast = (bytes: Uint8Array, length: number): Uint8Array | undefined => platformInflate?.(bytes, length);
