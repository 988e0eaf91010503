/** The options and events of `v86Disk`. */
import { BYTES, FLAG, FUNCTION, type Kind, NUMBER, oneOf, optionsOf, SIZE, TEXT } from '../base/arguments.ts';
import type { DiskError } from '../base/errors.ts';
import type { V86DiskKind } from './v86-size.ts';

export type { V86DiskKind } from './v86-size.ts';

/**
 * An event of the disk. v86 cannot receive it, so the page must: without a listener, failures go to the console.
 *
 * - `error`: a read or a save failed; reported once for a series of failures of one kind. The guest waits for the read, which is repeated every second;
 *   bytes that could not be saved are in memory, and saving them is tried again. Stop the emulator, tell the user, then `resume()`.
 * - `saved`: everything written so far is durable, perhaps after a failure; `bytes` that the last save wrote.
 * - `lost`: the guest's writes, `bytes` of them so far, cannot be saved any more: the disk was closed or given up below, another tab took it over, or
 *   the site's data was cleared. They are in memory until the adapter is closed: `resume({ disk })` saves them to a disk that is opened anew.
 */
export type V86DiskEvent =
  | { readonly type: 'error'; readonly operation: 'read' | 'write'; readonly error: DiskError }
  | { readonly type: 'saved'; readonly bytes: number }
  | { readonly type: 'lost'; readonly bytes: number; readonly error: DiskError };

/** One action of the disk, for a busy light. */
export interface V86DiskActivity {
  /** `save` writes to the disk the bytes that the guest wrote before. */
  readonly operation: 'read' | 'write' | 'save';
  /** Bytes moved. */
  readonly bytes: number;
  /** For reads: answered from memory. */
  readonly hit?: boolean;
}

/** A difference that `set_state` found between the saved state and the disk. */
export interface V86StateMismatch {
  /** `image`: another disk. `generation`: this disk, with other contents. `unreadable`: not a state of ours. */
  readonly what: 'image' | 'generation' | 'unreadable';
  /** The names in the saved state. */
  readonly saved: unknown;
  /** The names of the present disk. */
  readonly present: readonly [imageId: string, generation: string];
}

/** The options of `v86Disk`. */
export interface V86DiskOptions {
  /** Default `hd`. */
  readonly kind?: V86DiskKind;
  /** The first 512 bytes of a floppy: if v86 does not know its size, they tell how long it should be. `V86Drive` reads them by itself. */
  readonly bootSector?: Uint8Array;
  /** Stored in emulator states to recognise the disk. */
  readonly imageId?: string;
  /** The name of the present contents, for emulator states: a snapshot's id, for example. Default: a unique name. */
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
   * Loads the whole image before the emulator starts, so that every answer is synchronous: Windows 9x needs that for CDs. Floppies
   * always are preloaded. Default for CDs: yes if the disk is asynchronous and has at most 1 GiB.
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
  /** Called with each action of the disk. */
  readonly onActivity?: (activity: V86DiskActivity) => void;
  /** Called when an emulator state was restored that does not belong to the present disk: stop, or the guest will damage it. */
  readonly onStateMismatch?: (mismatch: V86StateMismatch) => void;
  /** Bytes preloaded, and their total. */
  readonly onProgress?: (done: number, total: number) => void;
}

export const V86_DISK_OPTIONS: Kind = optionsOf<V86DiskOptions>({
  kind: oneOf('hd', 'cdrom', 'floppy'),
  bootSector: BYTES,
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
/** Requests of the emulator since the disk was attached, and the bytes in memory. */
export interface V86DiskStatistics {
  /** Reads of the guest. */
  readonly reads: number;
  /** Bytes that they requested. */
  readonly readBytes: number;
  /** Reads that were answered from memory. */
  readonly hits: number;
  /** Writes of the guest. */
  readonly writes: number;
  /** Bytes of these writes. */
  readonly writtenBytes: number;
  /** Written and not known to be durable. */
  readonly dirtyBytes: number;
  /** Saves that succeeded. */
  readonly saves: number;
  /** Bytes that saves wrote. */
  readonly savedBytes: number;
  /** Reads the guest waits for. */
  readonly waitingReads: number;
  /** A save is under way. */
  readonly saving: boolean;
  /** The reason of the latest save's failure, if it failed. */
  readonly failure: DiskError | undefined;
}
