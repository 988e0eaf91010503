/**
 * Code above a disk that holds bytes of it: an adapter that answers a guest at once and saves a moment later, a write-back cache. The disk knows them,
 * so that a snapshot, an export or a close has everything that was written, not only the bytes that have reached the disk.
 *
 * A verb of the disk that is about its contents drains its keepers BEFORE it takes a lock: draining writes to the disk, and so needs its locks. A
 * keeper reaches the disk by verbs that drain no keeper (`flush` with `below`), so that two keepers of one disk cannot wait for each other. Writes
 * during the verb are ordered by the disk's own locks, as all requests are.
 */
import { DiskError } from './errors.ts';
import { finished, type Io } from './io.ts';

/** Bytes of a disk that are kept above it. */
export interface KeptBytes {
  /** The place on the disk, in bytes. */
  readonly offset: number;
  /** The bytes that belong there, a copy. */
  readonly bytes: Uint8Array;
}

/** Code that keeps bytes above a disk. */
export interface Keeper {
  /** Brings to the disk all bytes that it took before the call. Throws the reason if that is impossible: the keeper forgets nothing then. */
  drain(): Io<void>;
  /**
   * From its return the keeper brings nothing to the disk, until the returned function is called. The argument of that is true if the disk has other contents
   * by then: the keeper then forgets all its bytes of the disk, unsaved ones included.
   */
  hold(): Io<(changed: boolean) => Io<void>>;
  /**
   * Copies of all bytes that `drain` would bring, in memory of their own, for the export of a disk that is lost. This is not saving: all bytes stay unsaved,
   * and no listener is told that they were saved.
   */
  unsaved(): readonly KeptBytes[];
  /** The disk accepts nothing any more. */
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

  /** Copies of the bytes that all of them keep: where two have the same bytes, the later one counts. */
  unsaved(): KeptBytes[] {
    return [...this.#keepers].reverse().flatMap((keeper) => keeper.unsaved());
  }

  /**
   * Runs a change that gives the disk other contents from below, a revert: holds all keepers meanwhile and has them forget their copies of the old
   * contents. Their unsaved bytes are forgotten too; if the change fails, the keepers go on as they were.
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

/** The bytes that were kept, in another thread, above a disk that is lost, for as long as it is exported: a keeper that has only these. */
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
