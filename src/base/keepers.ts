/**
 * What holds bytes of a disk above it: an adapter that answers a guest at once and saves a moment later, a write-back cache. The disk knows them,
 * so that a snapshot, an export or a close has what was written, not what happens to have arrived.
 *
 * A verb of the disk that is about its contents drains its keepers BEFORE it takes a lock: draining writes to the disk, and so needs its locks. A
 * keeper reaches the disk by verbs that drain nobody (`flush` with `below`), so that two keepers of one disk cannot wait for each other. What is
 * written while the verb runs is ordered by the disk's own locks, as any request is.
 */
import { DiskError } from './errors.ts';
import { finished, type Io } from './io.ts';

/** Bytes of a disk that are kept above it. */
export interface KeptBytes {
  /** Where on the disk, in bytes. */
  readonly offset: number;
  /** What belongs there, a copy. */
  readonly bytes: Uint8Array;
}

/** One of them. */
export interface Keeper {
  /** Brings to the disk all that it took before the call. Throws why that cannot be: nothing is forgotten then. */
  drain(): Io<void>;
  /**
   * Brings nothing to the disk from when this returns until the function that it returns is called: with true if the disk has other contents by then,
   * and what is in memory of it is to be forgotten, unsaved bytes included.
   */
  hold(): Io<(changed: boolean) => Io<void>>;
  /**
   * Copies of all that `drain` would bring, in memory of their own, for the export of a disk that is lost. That is no saving: everything stays unsaved, and
   * nobody is told that it was saved.
   */
  unsaved(): readonly KeptBytes[];
  /** The disk takes nothing any more. */
  gone(reason: DiskError): void;
}

/** The keepers of one disk. */
export class Keepers {
  #keepers: readonly Keeper[] = [];

  /** Makes a keeper known. Returns the function that takes it off. */
  attach(keeper: Keeper): () => void {
    this.#keepers = [keeper, ...this.#keepers];
    return () => {
      this.#keepers = this.#keepers.filter((one) => one !== keeper);
    };
  }

  /** Drains all, the latest first, since it may lie above those before it. The first failure is thrown after all were asked. */
  *drain(): Io<void> {
    let failure: { error: unknown } | undefined;
    for (const keeper of this.#keepers) {
      try {
        yield* keeper.drain();
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure) throw failure.error;
  }

  /** What all of them keep, copied: where two have the same bytes, the later counts. */
  unsaved(): KeptBytes[] {
    return [...this.#keepers].reverse().flatMap((keeper) => keeper.unsaved());
  }

  /**
   * Runs a change that gives the disk other contents from below, a revert: holds all keepers meanwhile and has them forget what they know of the old
   * contents. What they have not saved is given up with what they have; where the change fails they go on as they were.
   */
  *replacing<T>(change: () => Io<T>): Io<T> {
    const held: ((changed: boolean) => Io<void>)[] = [];
    let changed = false;
    try {
      for (const keeper of this.#keepers) held.push(yield* keeper.hold());
      const result = yield* change();
      changed = true;
      return result;
    } finally {
      for (const release of held.reverse()) yield* release(changed);
    }
  }

  /** Tells all that the disk is closed or given up, and forgets them. */
  gone(reason: DiskError): void {
    const keepers = this.#keepers;
    this.#keepers = [];
    for (const keeper of keepers) keeper.gone(reason);
  }
}

/** What was kept above a disk that is lost, in another thread, for as long as it is exported: as a keeper which has only that. */
export function keptElsewhere(bytes: readonly KeptBytes[]): Keeper {
  return {
    *drain() {
      throw new DiskError('lost', 'What was written last cannot be saved: the disk is lost');
    },
    *hold() {
      return () => finished;
    },
    unsaved: () => bytes,
    gone: () => undefined,
  };
}
