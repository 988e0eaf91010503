/** Compressing clusters in this thread: raw deflate (pako), or zstd frames (zstd.ts), whose code is loaded when it is first needed. */
import { deflateRaw, deflate as zlib } from 'pako';
import type { Io } from '../base/io.ts';
import { lazily } from '../base/load-part.ts';
import type { Compression } from './compressor.ts';

const zstd = lazily(() => import('./zstd.ts'));

/**
 * Distances stay below 4096: readers need no more memory than that. pako goes over its whole table of hashes every 4096 bytes; the table of level 9, which is QEMU's,
 * has 65,536 of them, took half of the time, and saves a thousandth of the bytes.
 */
const deflate = (bytes: Uint8Array): Uint8Array => deflateRaw(bytes, { windowBits: 12, memLevel: 8 });

/** A function that compresses a cluster this way; the result may be longer. */
export function* encoder(how: Compression): Io<(bytes: Uint8Array) => Uint8Array> {
  return how === 'zstd' ? (yield* zstd()).encodeZstd : deflate;
}

/** Bytes as a zlib stream (RFC 1950). */
export const deflateZlib = (bytes: Uint8Array): Uint8Array => zlib(bytes);
