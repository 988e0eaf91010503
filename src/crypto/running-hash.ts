/** SHA-256 of bytes that come piece by piece. */
import type { Io } from '../base/io.ts';
import { loadPrimitives, primitives } from './load-primitives.ts';

/** A hash under way. */
export interface RunningHash {
  update(bytes: Uint8Array): void;
  /** The hash of all bytes, in hexadecimal digits. The last call. */
  digits(): string;
}

/** Begins a hash. Waits the first time, for the library. */
export function* runningSha256(): Io<RunningHash> {
  yield* loadPrimitives();
  const hash = primitives().sha256.create();
  return {
    update: (bytes) => void hash.update(bytes),
    digits: () => Array.from(hash.digest(), (byte) => byte.toString(16).padStart(2, '0')).join(''),
  };
}
