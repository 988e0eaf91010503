/**
 * A storage that lasts until it is closed: flushes do nothing, nothing is saved at the end, and `remove` deletes the rest of
 * it. For the overlays of disks that are opened with `snapshot`. Closing waits for `remove`; a failure of either is thrown, and the creator of the storage
 * has to remove anything left over.
 */
import { check, FUNCTION } from '../base/arguments.ts';
import { type Io, wait } from '../base/io.ts';
import { STORAGE, type Storage } from '../storage/storage.ts';
import { NoFlushStorage } from './no-flush.ts';

class TemporaryStorage extends NoFlushStorage {
  readonly #remove: () => PromiseLike<void>;
  #open = true;

  constructor(next: Storage, remove: () => PromiseLike<void>) {
    super(next);
    this.#remove = remove;
  }

  override *close(): Io<void> {
    if (!this.#open) return;
    this.#open = false;
    this.next.abandon?.();
    try {
      yield* this.next.close();
    } finally {
      yield* wait(this.#remove());
    }
  }
}

/** Makes a storage temporary. `remove` is called once, after it has been closed, and deletes the file, for example. */
export function temporaryStorage(next: Storage, remove: () => PromiseLike<void>): Storage {
  check('temporaryStorage', 'next', next, STORAGE);
  check('temporaryStorage', 'remove', remove, FUNCTION);
  return new TemporaryStorage(next, remove);
}
