/**
 * Hashes by QEMU's names, and PBKDF2 (RFC 8018). The platform's own crypto, which is some ten times faster and blocks no other work, computes long
 * derivations; short ones, and hashes the platform does not have, are computed here. Iteration counts come from files: callers bound them (`MAX_ITERATIONS`).
 */
import { type Io, wait } from '../base/io.ts';
import { HASH_LENGTHS, type HashName } from './hash-names.ts';
import { loadPrimitives, primitives } from './load-primitives.ts';

/** Names that the platform's crypto knows. */
const PLATFORM: Readonly<Partial<Record<HashName, string>>> = { sha1: 'SHA-1', sha256: 'SHA-256', sha384: 'SHA-384', sha512: 'SHA-512' };

/** Iterations up to this are computed at once. */
const SHORT = 4000;
/** Larger counts are refused: this is ten times the count that cryptsetup chooses on a fast machine, and takes minutes on a slow one. */
export const MAX_ITERATIONS = 2 ** 26;

/** Bytes of a hash. */
export const digestLength = (hash: HashName): number => HASH_LENGTHS[hash];

/** The hash of some bytes. */
export const digest = (hash: HashName, bytes: Uint8Array): Uint8Array => primitives()[hash](bytes);

export interface Derivation {
  readonly hash: HashName;
  readonly password: Uint8Array;
  readonly salt: Uint8Array;
  readonly iterations: number;
  /** Bytes wanted. */
  readonly length: number;
}

/** PBKDF2 with HMAC. */
export function* pbkdf2(derivation: Derivation): Io<Uint8Array> {
  const { hash, password, salt, iterations, length } = derivation;
  const options = { c: iterations, dkLen: length };
  yield* loadPrimitives();
  if (iterations <= SHORT) return primitives().pbkdf2(primitives()[hash], password, salt, options);
  const derived = yield* wait(deriveByPlatform(derivation));
  return derived ?? (yield* wait(primitives().pbkdf2Async(primitives()[hash], password, salt, options)));
}

async function deriveByPlatform({ hash, password, salt, iterations, length }: Derivation): Promise<Uint8Array | undefined> {
  const name = PLATFORM[hash];
  // Pages without HTTPS do not have it.
  const subtle = (globalThis.crypto as Crypto | undefined)?.subtle;
  if (!name || !subtle) return undefined;
  try {
    const key = await subtle.importKey('raw', password.slice(), 'PBKDF2', false, ['deriveBits']);
    return new Uint8Array(await subtle.deriveBits({ name: 'PBKDF2', hash: name, salt: salt.slice(), iterations }, key, length * 8));
  } catch {
    return undefined;
  }
}

/** A shorter measurement is too inexact. */
const MEASURE_MS = 40;

/** How many iterations take this many milliseconds here, measured. At least 1, at most `MAX_ITERATIONS`. */
export function* iterationsFor(hash: HashName, length: number, milliseconds: number): Io<number> {
  const salt = new Uint8Array(32);
  // The first derivation of a program is slower than later ones.
  yield* pbkdf2({ hash, password: salt, salt, iterations: SHORT + 1, length });
  for (let iterations = 2 * SHORT; ; iterations *= 4) {
    const start = performance.now();
    yield* pbkdf2({ hash, password: salt, salt, iterations, length });
    const taken = performance.now() - start;
    if (taken < Math.min(MEASURE_MS, milliseconds) && iterations < MAX_ITERATIONS) continue;
    return Math.max(1, Math.min(MAX_ITERATIONS, Math.floor((iterations / Math.max(taken, 1)) * milliseconds)));
  }
}
