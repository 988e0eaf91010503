/**
 * Space set aside, so that operations that save data work on a full disk: flushing tables, closing, giving space back, deleting. An open image
 * in OPFS also has a reserve of its own, because of Chromium: see storage/opfs.ts.
 *
 * While there is room, 4 MiB of the site's storage are filled with bytes without use. When one of those operations meets
 * `no-space` these bytes are removed, the operation is run once more, and at once as much as there is room for is set aside again, before a guest that
 * keeps on writing can take it; the rest follows when there is room. Guest writes never get the reserve: they are refused, and
 * everything in memory stays there. So a guest at the limit uses the reserve only for the tables of its earlier writes.
 *
 * - Bytes, not a promise: quotas count logical sizes, but a device that is full counts blocks.
 * - 4 MiB, because an image in IndexedDB may easily have so much unsaved.
 * - OPFS and IndexedDB share one quota, so one reserve serves both: a file where there is OPFS, else records of 1 MiB, which browsers
 *   keep in files of their own and so give back at once (smaller ones are given back when the database is next compacted).
 * - All tabs share it. A flush that needs more than the reserve fails as before, and nothing is lost.
 */
import { clear, keys, set } from 'idb-keyval';
import { DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import { MiB } from '../base/units.ts';
import { browserError } from '../storage/browser-errors.ts';
import { takeLock } from '../storage/image-lock.ts';
import { keyStore } from '../storage/key-store.ts';
import { deleteOpfsFile, opfsStorage } from '../storage/opfs.ts';

/** Bytes are set aside in pieces of this size. */
const PIECE = MiB;
const PIECES = 4;
/** Milliseconds between attempts to set aside the part for which there was no room. */
const PAUSE = 5000;
/** Milliseconds to wait for another tab that uses the reserve. */
const PATIENCE = 1000;

/** The place of the reserve's bytes. */
interface ReservePlace {
  /** Sets aside the missing part. Throws `no-space` with as much set aside as there was room for. */
  fill(): Promise<void>;
  /** Gives everything back. */
  empty(): Promise<void>;
  /** Whether there is room for so many bytes besides; true if the browser does not tell. */
  hasRoom(bytes: number): Promise<boolean>;
}

/** The reserve of a library. */
export class Reserve {
  readonly #place: ReservePlace;
  readonly #lock: string;
  #full = false;
  #attempted = Number.NEGATIVE_INFINITY;
  /** One operation at a time: the next may need the bytes that one gives back. */
  #turn: Promise<unknown> = Promise.resolve();

  /** `name` is the library's. */
  constructor(name: string, { opfs, indexedDb }: { opfs: boolean; indexedDb: boolean }) {
    this.#place = opfs ? fileReserve(`${name}-reserve`) : indexedDb ? recordReserve(`${name}-reserve`) : NO_RESERVE;
    this.#lock = `${name}:reserve`;
  }

  /** True if there was no room for it lately. */
  get short(): boolean {
    return !this.#full && this.#attempted !== Number.NEGATIVE_INFINITY;
  }

  /** Sets aside the missing part, if there is room. Cheap if nothing is missing. Never fails: a reserve is a precaution. */
  fill(): Promise<void> {
    if (this.#full || performance.now() < this.#attempted + PAUSE) return Promise.resolve();
    return this.#inTurn(async () => {
      const lock = await takeLock(this.#lock, PATIENCE).catch(() => undefined);
      if (lock) await this.#fill().finally(() => lock.release());
    });
  }

  /** The bytes that were set aside may be gone. */
  forget(): void {
    this.#full = false;
    this.#attempted = Number.NEGATIVE_INFINITY;
  }

  /** Whether the browser would give so many bytes more, besides the reserve; true where it does not tell. */
  async hasRoom(bytes: number): Promise<boolean> {
    const lock = await takeLock(this.#lock, PATIENCE);
    return this.#place.hasRoom(bytes).finally(() => lock?.release());
  }

  /** Runs an operation that must work on a full disk and may be run twice. */
  async spend<T>(work: () => Promise<T>): Promise<T> {
    try {
      const result = await work();
      if (!this.#full) void this.fill();
      return result;
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind !== 'no-space') throw error;
      return this.#inTurn(() => this.#again(work, error));
    }
  }

  async #again<T>(work: () => Promise<T>, failure: DiskError): Promise<T> {
    // Held to the end, so that no other tab sets aside the bytes that we are about to use.
    const lock = await takeLock(this.#lock, PATIENCE);
    if (!lock) throw failure;
    this.#full = false;
    try {
      await this.#place.empty();
      return await work();
    } finally {
      await this.#fill();
      await lock.release();
    }
  }

  /** The lock is held. */
  async #fill(): Promise<void> {
    this.#attempted = performance.now();
    try {
      await this.#place.fill();
      this.#full = true;
    } catch {
      // No room now; another attempt comes with a later flush.
    }
  }

  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(step);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** A file of the origin private file system. */
function fileReserve(path: string): ReservePlace {
  return {
    async fill() {
      const storage = await opfsStorage(path, { create: 'if-missing' });
      try {
        for (let at = storage.size - (storage.size % PIECE); at < PIECES * PIECE; at += PIECE) await runAsync(storage.write(at, ballast()));
      } finally {
        await runAsync(storage.close());
      }
    },
    empty: () => deleteOpfsFile(path),
    async hasRoom(bytes) {
      // The estimate of a quota is made up; a file meets the real limit.
      const storage = await opfsStorage(path, { create: 'if-missing' });
      const { size } = storage;
      try {
        await runAsync(storage.truncate(size + bytes));
        await runAsync(storage.truncate(size));
        return true;
      } catch {
        return false;
      } finally {
        await runAsync(storage.close());
      }
    },
  };
}

/** Records of an IndexedDB database of their own. */
function recordReserve(database: string): ReservePlace {
  const { use } = keyStore(database, 'reserve');
  return {
    async fill() {
      const present = await keys(use);
      for (let piece = present.length; piece < PIECES; piece++)
        await set(piece, ballast(), use).catch((error) => {
          throw browserError(database, error);
        });
    },
    empty: () => clear(use),
    hasRoom: async () => true,
  };
}

/** Memory has no limit that could be foreseen. */
const NO_RESERVE: ReservePlace = { fill: async () => undefined, empty: async () => undefined, hasRoom: async () => true };

/** Bytes that a device with compression cannot make small. */
function ballast(): Uint8Array {
  const bytes = new Uint8Array(PIECE);
  for (let at = 0; at < PIECE; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
}
