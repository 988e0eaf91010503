/**
 * A storage that lasts until it is closed: nothing waits for flushes, nothing is saved at the end, and `remove` does away with what is left of
 * it. For the overlays of disks that are opened with `snapshot`. Closing waits for `remove`; a failure of either is thrown, and what stayed
 * behind is for whoever gave it its name to sweep.
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

/** Makes a storage temporary. `remove` is called once, when it has been closed: deletes the file, say. */
export function temporaryStorage(next: Storage, remove: () => PromiseLike<void>): Storage {
  check('temporaryStorage', 'next', next, STORAGE);
  check('temporaryStorage', 'remove', remove, FUNCTION);
  return new TemporaryStorage(next, remove);
}
