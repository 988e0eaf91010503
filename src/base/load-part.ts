/**
 * Parts of the program that few images need, loaded when the first one does: a bundler puts them into files of their own.
 *
 * Code that a synchronous verb of a disk (reading, writing, zeroing, discarding, resizing, flush, close) may need is never such a part, unless the
 * image knew when it was opened that the part will be needed, and loaded it then.
 */
import { DiskError } from './errors.ts';
import { type Io, wait } from './io.ts';

/**
 * Loads a part. Rejects with `io` of the field `module` if its file cannot be had: the network is gone, or the files were replaced by those of another version,
 * which have other names.
 */
export async function loadPart<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    const advice = 'look at the network, and load the page anew, there may be a newer version of it';
    throw new DiskError('io', `A part of tabdisk could not be loaded: ${advice}`, { field: 'module', cause });
  }
}

/**
 * A part that is loaded once. Only the first use waits for it, also where the storage is synchronous: so this is for code that runs while an image
 * is opened or made, and for verbs that return promises.
 */
export function lazily<T>(load: () => Promise<T>): () => Io<T> {
  let loaded: T | undefined;
  return function* () {
    loaded ??= yield* wait(loadPart(load));
    return loaded;
  };
}
