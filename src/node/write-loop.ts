/**
 * The loop that writes, as far as nothing has to be waited for: without a coroutine. With tables in memory and synchronous storages that is nearly
 * all of a guest's small writes. The coroutine that does the rest, and knows of copying on write, is `BlockNode`'s. The caller knows that nobody
 * else is at the range; nobody can come in between.
 *
 * The order is the coroutine's: the bytes go to their place, then the mapping changes in memory; the driver's flush has the barrier.
 */
import { runSync } from '../base/io.ts';
import type { BlockNode } from './node.ts';

/** Writes guest bytes inside the image. False if it takes waiting, or copying: any part may be written then, and all of it is to be written again. */
export function writeResident({ driver, backing }: Pick<BlockNode, 'driver' | 'backing'>, offset: number, bytes: Uint8Array): boolean {
  for (let done = 0; done < bytes.length; ) {
    const at = offset + done;
    const left = bytes.length - done;
    const there = driver.inPlace?.(at, left);
    if (there) {
      const { storage, hostOffset, length } = there;
      if (!storage.synchronous) return false;
      runSync(storage.write(hostOffset, length === bytes.length ? bytes : bytes.subarray(done, done + length)));
      done += length;
      continue;
    }
    const fresh = backing ? undefined : driver.newPlace?.(at, left);
    if (!fresh) return false;
    try {
      runSync(fresh.storage.write(fresh.hostOffset, done === 0 ? bytes : bytes.subarray(done)));
    } catch (error) {
      fresh.abort();
      throw error;
    }
    fresh.commit();
    return true;
  }
  return true;
}
