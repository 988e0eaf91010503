/**
 * Opening the backing file of a disk anew, for writing or no longer so, while the disk is in use: requests wait as long as it takes. Like QEMU's
 * reopening of a backing file for a commit.
 */
import { DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import type { BlockNode } from '../node/node.ts';
import type { Storage } from '../storage/storage.ts';
import { fixed, openChain } from './chain.ts';

/**
 * Closes the backing file and opens it again over the storage that `open` gives, with the same images below it. If it cannot be opened so, it is
 * opened as it was, and the error thrown; also if closing it failed, which loses the changes that no flush had covered. Throws `refused` without a backing
 * file.
 */
export function* reopenBacking(top: BlockNode, readOnly: boolean, open: (readOnly: boolean) => Promise<Storage>): Io<void> {
  let failure: { readonly error: unknown } | undefined;
  yield* top.replaceBacking(function* (old) {
    if (!old) throw new DiskError('refused', `${top.name} does not have a backing file`, { field: 'backing_file' });
    const below = old.backing;
    old.releaseBacking();
    try {
      yield* old.close();
    } catch (error) {
      // It is closed all the same, and the disk must go on reading all it can.
      failure = { error };
    }
    try {
      return yield* openOver(yield* wait(open(readOnly)), old, { readOnly, below });
    } catch (error) {
      if (readOnly === old.readOnly) throw error;
      failure ??= { error };
      return yield* openOver(yield* wait(open(old.readOnly)), old, { readOnly: old.readOnly, below });
    }
  });
  if (failure) throw failure.error;
}

interface Opening {
  readonly readOnly: boolean;
  readonly below: BlockNode | undefined;
}

function* openOver(storage: Storage, { driver }: BlockNode, { readOnly, below }: Opening): Io<BlockNode> {
  try {
    return yield* openChain(storage, {
      format: driver.format,
      readOnly,
      openBacking: fixed(below),
    });
  } catch (error) {
    yield* storage.close();
    throw error;
  }
}
