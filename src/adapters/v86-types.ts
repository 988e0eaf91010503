/** What `v86Disk` takes and tells. */
import { FLAG, FUNCTION, type Kind, NUMBER, oneOf, optionsOf, SIZE, TEXT } from '../base/arguments.ts';
import type { DiskError } from '../base/errors.ts';
import type { V86DiskKind } from './v86-size.ts';

export type { V86DiskKind } from './v86-size.ts';

/**
 * What happens to the disk. v86 cannot hear of it, so the page must: where nobody listens, failures go to the console.
 *
 * - `error`: a read or a save failed; told once for a series of failures of one kind. The guest waits for the read, which is repeated every second;
 *   what could not be saved is in memory, and saving it is tried again. Stop the emulator, tell the user, then `resume()`.
 * - `saved`: everything written so far is durable, perhaps after a failure; `bytes` that the last save wrote.
 * - `lost`: what the guest wrote, `bytes` of it so far, cannot be saved any more: the disk was closed or given up below, another tab took it over, or
 *   the site's data was cleared. It is in memory until the adapter is closed: `resume({ disk })` saves it to a disk that is opened anew.
 */
export type V86DiskEvent =
  | { readonly type: 'error'; readonly operation: 'read' | 'write'; readonly error: DiskError }
  | { readonly type: 'saved'; readonly bytes: number }
  | { readonly type: 'lost'; readonly bytes: number; readonly error: DiskError };

/** One thing the disk did, for a busy light. */
export interface V86DiskActivity {
  /** `save` writes to the disk what the guest wrote before. */
  readonly operation: 'read' | 'write' | 'save';
  /** Bytes moved. */
  readonly bytes: number;
  /** For reads: answered from memory. */
  readonly hit?: boolean;
}

/** What `set_state` found instead of what the saved state was made with. */
export interface V86StateMismatch {
  /** `image`: another disk. `generation`: this disk, with other contents. `unreadable`: not a state of ours. */
  readonly what: 'image' | 'generation' | 'unreadable';
  /** What the state says it was made with. */
  readonly saved: unknown;
  /** What the disk is now. */
  readonly present: readonly [imageId: string, generation: string];
}

/** What `v86Disk` takes. */
export interface V86DiskOptions {
  /** Default `hd`. */
  readonly kind?: V86DiskKind;
  /** Stored in emulator states to recognise the disk. */
  readonly imageId?: string;
  /** Names the contents as they are now, for emulator states: a snapshot's id, say. Default: unlike any other. */
  readonly generation?: string;
  /** Bytes of blocks to keep in memory; default 32 MiB. */
  readonly cacheSize?: number;
  /** Bytes of unsaved blocks above which writes wait; default half of `cacheSize`. */
  readonly unsavedLimit?: number;
  /** Bytes, a multiple of 512; default 32 KiB. */
  readonly blockSize?: number;
  /** Bytes to read ahead of a sequential reader at most; default 2 MiB, 0 for none. */
  readonly readAhead?: number;
  /**
   * Loads the whole image before the emulator starts, so that every answer is synchronous: Windows 9x needs that of CDs. Floppies
   * always are. Default for CDs: yes if the disk is asynchronous and has at most 1 GiB.
   */
  readonly preload?: boolean;
  /** Keeps writes in memory and forgets them at the end. Default: if the disk is read-only. */
  readonly temporary?: boolean;
  /** Milliseconds after a write at which to save; default 20. After a save that took long the next one waits for four times as long. */
  readonly saveDelay?: number;
  /** Milliseconds after a failed save at which to try again; default 5000. */
  readonly saveRetry?: number;
  /** Whether the browser asks the user before the page is left while something is unsaved; default true. */
  readonly warnBeforeUnload?: boolean;
  /** Called with each thing the disk does. */
  readonly onActivity?: (activity: V86DiskActivity) => void;
  /** An emulator state was restored that does not belong to this disk as it is: stop, or the guest will damage it. */
  readonly onStateMismatch?: (mismatch: V86StateMismatch) => void;
  /** Bytes preloaded, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

export const V86_DISK_OPTIONS: Kind = optionsOf<V86DiskOptions>({
  kind: oneOf('hd', 'cdrom', 'floppy'),
  imageId: TEXT,
  generation: TEXT,
  cacheSize: SIZE,
  unsavedLimit: SIZE,
  blockSize: SIZE,
  readAhead: SIZE,
  preload: FLAG,
  temporary: FLAG,
  saveDelay: NUMBER,
  saveRetry: NUMBER,
  warnBeforeUnload: FLAG,
  onActivity: FUNCTION,
  onStateMismatch: FUNCTION,
  onProgress: FUNCTION,
});
/** Requests of the emulator since the disk was attached, and what is in memory. */
export interface V86DiskStatistics {
  /** Reads of the guest. */
  readonly reads: number;
  /** Bytes that they asked for. */
  readonly readBytes: number;
  /** Reads that were answered from memory. */
  readonly hits: number;
  /** Writes of the guest. */
  readonly writes: number;
  /** Bytes that they had. */
  readonly writtenBytes: number;
  /** Written and not known to be durable. */
  readonly dirtyBytes: number;
  /** Saves that ended well, and the bytes they wrote. */
  readonly saves: number;
  /** Bytes that saves wrote. */
  readonly savedBytes: number;
  /** Reads the guest waits for. */
  readonly waitingReads: number;
  /** A save is under way. */
  readonly saving: boolean;
  /** Why the latest save failed, if it did. */
  readonly failure: DiskError | undefined;
}
