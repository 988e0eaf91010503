/**
 * Cache modes, with QEMU's names and meaning, translated to the means of a browser. This is the only place that says what a name stands for.
 *
 * | mode | a write resolves | `flush` | caches of guest data |
 * | --- | --- | --- | --- |
 * | writeback | when the storage took it | makes it durable | used |
 * | none | as writeback | as writeback | bypassed |
 * | writethrough | when it is durable, with the tables that point at it | has nothing left to do | used for reading |
 * | directsync | as writethrough | as writethrough | bypassed |
 * | unsafe | as writeback | does nothing: bytes in memory are written when the disk is closed, or when memory is short | used |
 *
 * Durable means `Storage.flush`: in OPFS the file handle's flush, in IndexedDB a strict transaction that has completed, in Node fsync. No platform
 * here has a way past the host's own cache, so `direct` is about our own caches; tables of the image's format stay in memory in every mode, as
 * in QEMU. Under `unsafe` a power cut may leave any mixture of old and new; a tab that ends loses the bytes in memory.
 */
import { check, TEXT } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';

/** The modes, in QEMU's order. `off`, which command lines also accept, is `none`. */
export const CACHE_MODES = ['none', 'writeback', 'writethrough', 'directsync', 'unsafe'] as const;

/** When a write is durable, after QEMU's cache modes. */
export type CacheMode = (typeof CACHE_MODES)[number];

/** The parts of a mode. Options of block nodes can combine these in ways that have no name. */
export interface CacheFlags {
  /** QEMU's `enable_write_cache`: a write may resolve before it is durable. */
  readonly writeback: boolean;
  /** Caches of guest data are bypassed. */
  readonly direct: boolean;
  /** A flush does nothing. */
  readonly noFlush: boolean;
}

const FLAGS: Readonly<Record<CacheMode, CacheFlags>> = {
  none: { writeback: true, direct: true, noFlush: false },
  writeback: { writeback: true, direct: false, noFlush: false },
  writethrough: { writeback: false, direct: false, noFlush: false },
  directsync: { writeback: false, direct: true, noFlush: false },
  unsafe: { writeback: true, direct: false, noFlush: true },
};

/** The flags of a mode; default `writeback`. Flags are returned as they are. */
export function cacheFlags(mode: CacheMode | CacheFlags = 'writeback'): CacheFlags {
  if (typeof mode !== 'string') return mode;
  const flags = Object.hasOwn(FLAGS, mode) ? FLAGS[mode] : undefined;
  if (!flags) throw new DiskError('refused', `There is no cache mode "${mode}": ${CACHE_MODES.join(', ')}`, { field: 'cache' });
  return flags;
}

/** The mode of this name on a command line; undefined if there is none. */
export function parseCacheMode(name: string): CacheMode | undefined {
  check('parseCacheMode', 'name', name, TEXT);
  return name === 'off' ? 'none' : CACHE_MODES.find((mode) => mode === name);
}
