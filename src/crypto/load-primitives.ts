/** Loads the cryptographic libraries when the first image needs them; code that computes calls `loadPrimitives` before. */
import { assert } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import { loadPart } from '../base/load-part.ts';

let loaded: typeof import('./primitives.ts') | undefined;

/** Makes `primitives` work. Waits the first time. */
export function* loadPrimitives(): Io<void> {
  loaded ??= yield* wait(loadPart(() => import('./primitives.ts')));
}

/** Ciphers and hashes. */
export function primitives(): typeof import('./primitives.ts') {
  assert(loaded, 'cryptography is used before it was loaded');
  return loaded;
}
