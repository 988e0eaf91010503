/** An image whose files are lost: cleared by the browser, deleted, or taken over by another writer (see `Storage.onLost`). */
import { type Io, mayWait } from '../base/io.ts';
import { Loss, type LostListener } from '../base/loss.ts';
import type { ImageDriver } from '../formats/driver.ts';
import type { Storage } from '../storage/storage.ts';

/** Called after a flush, with no lock held, since this may wait: throws `lost` if one of the files is gone. Under `runSync` the next change throws it. */
export function* confirm(storages: readonly Storage[]): Io<void> {
  if (mayWait()) for (const storage of storages) if (storage.confirm) yield* storage.confirm();
}

/** Calls back once, when the first of the files is lost. Returns a function that stops it. */
export function onFirstLost(storages: readonly Storage[], listener: LostListener): () => void {
  let over = false;
  const stops: ((() => void) | undefined)[] = [];
  const stop = () => {
    over = true;
    for (const each of stops) each?.();
  };
  for (const storage of storages) {
    if (over) break;
    stops.push(
      storage.onLost?.((error) => {
        if (over) return;
        stop();
        listener(error);
      }),
    );
  }
  return stop;
}

/** Becomes the loss of the first file that is lost. The image then refuses changes that would stay in the memory of its tables and seem to be saved. */
export function heardLoss(storages: readonly Storage[]): Loss {
  const loss = new Loss();
  onFirstLost(storages, (error) => void loss.happened(error));
  return loss;
}

/** The files of an image, its own first. */
export const filesOf = ({ driver }: { readonly driver: ImageDriver }): readonly [Storage, ...Storage[]] => [driver.storage, ...(driver.files ?? [])];

/** Runs `work` with changes allowed to files that are lost, so that bytes in memory can be written into them and read back. */
export function* salvaging<T>(files: readonly Storage[], work: () => Io<T>): Io<T> {
  for (const file of files) file.salvage?.(true);
  try {
    return yield* work();
  } finally {
    for (const file of files) file.salvage?.(false);
  }
}
