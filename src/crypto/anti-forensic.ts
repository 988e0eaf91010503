/**
 * LUKS's anti-forensic splitter: a key spread over many stripes, all of which are needed to get it back, so that losing some of them on a disk
 * that remaps sectors loses the key. Pure. Each stripe but the last is random; the last makes their mixture come out as the key.
 */
import { view } from '../base/bytes.ts';
import { digest, digestLength } from './hash.ts';
import type { HashName } from './hash-names.ts';

export interface Splitting {
  readonly stripes: number;
  readonly hash: HashName;
}

/** Spreads a key; the result is `stripes` times as long. */
export function afSplit(key: Uint8Array, { stripes, hash }: Splitting, random: (length: number) => Uint8Array): Uint8Array {
  const material = new Uint8Array(key.length * stripes);
  material.set(random(key.length * (stripes - 1)));
  const last = mixture(material, key.length, stripes - 1, hash);
  for (let i = 0; i < key.length; i++) last[i] = (last[i] as number) ^ (key[i] as number);
  material.set(last, key.length * (stripes - 1));
  return material;
}

/** Gets the key back. */
export function afMerge(material: Uint8Array, { stripes, hash }: Splitting): Uint8Array {
  const length = material.length / stripes;
  const key = mixture(material, length, stripes - 1, hash);
  const last = material.subarray(length * (stripes - 1));
  for (let i = 0; i < length; i++) key[i] = (key[i] as number) ^ (last[i] as number);
  return key;
}

/** All stripes but the last, each mixed in and diffused. */
function mixture(material: Uint8Array, length: number, stripes: number, hash: HashName): Uint8Array {
  const mixed = new Uint8Array(length);
  for (let stripe = 0; stripe < stripes; stripe++) {
    const start = stripe * length;
    for (let i = 0; i < length; i++) mixed[i] = (mixed[i] as number) ^ (material[start + i] as number);
    diffuse(mixed, hash);
  }
  return mixed;
}

/** Replaces each piece of a digest's length by the hash of its number and itself. */
function diffuse(bytes: Uint8Array, hash: HashName): void {
  const step = digestLength(hash);
  for (let at = 0, number = 0; at < bytes.length; at += step, number++) {
    const piece = bytes.subarray(at, at + step);
    const input = new Uint8Array(4 + piece.length);
    view(input).setUint32(0, number);
    input.set(piece, 4);
    piece.set(digest(hash, input).subarray(0, piece.length));
  }
}
