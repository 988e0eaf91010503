/**
 * Writing an image anew, and putting the new bytes in the place of the old ones.
 *
 * Crash argument: the new bytes have a name of their own, under the lock of the image. They are complete, checked and durable before the image's record names
 * them, in one change that is atomic and durable. The old bytes are removed after it, when the second copy of the record names the new ones too. A cut
 * before the change leaves the old image, and after it the new one; what no record names is swept when a library is opened.
 */
import { runAsync } from '../base/io.ts';
import type { JobOptions } from '../base/job.ts';
import { openDisk } from '../disk/open.ts';
import type { Resolve } from '../disk/reference.ts';
import { compact } from '../jobs/compact.ts';
import type { Storage } from '../storage/storage.ts';
import type { Compacted, CompactImageOptions } from './entries.ts';
import type { ImagePlace } from './image-place.ts';
import { bytesOf, type ImageRecord } from './image-record.ts';
import { Chain, type ChainKeeper } from './overlays.ts';

/** What compacting takes besides the list, the places and the locks. */
export interface Replacing extends CompactImageOptions, JobOptions {
  /** Runs an operation that must work on a full disk (reserve.ts). */
  spend<T>(work: () => Promise<T>): Promise<T>;
}

/** Compacts an image while its lock is held alone, and those of the images below shared. After a failure it is as before. */
export async function compactImage(found: ImageRecord, keeper: ChainKeeper, replacing: Replacing): Promise<Compacted> {
  const chain = await Chain.of(found, keeper);
  const lock = await keeper.lock(found, 'exclusive');
  try {
    await chain.hold();
    const record = await keeper.catalogue.ready(found.id);
    return await replaceBytes(record, { ...replacing, ...chain.resolve('still'), place: keeper.place(record), catalogue: keeper.catalogue });
  } finally {
    await chain.release();
    await lock.release();
  }
}

type Means = Replacing & Pick<ChainKeeper, 'catalogue'> & { readonly place: ImagePlace; readonly resolve?: Resolve };

async function replaceBytes(record: ImageRecord, means: Means): Promise<Compacted> {
  const { place, catalogue, spend } = means;
  const old = bytesOf(record);
  // Later than any time before, whatever the clock says.
  const replaced = Math.max(Date.now(), (record.replaced ?? 0) + 1);
  const fresh = bytesOf({ ...record, replaced });
  const before = await place.storedSize(old);
  const remove = (bytes: string) => spend(() => place.remove(bytes)).catch(() => undefined);
  try {
    await writeAnew(record, { old, fresh }, means);
  } catch (error) {
    // The caller gets the first error; leftovers are swept later.
    await remove(fresh);
    throw error;
  }
  const sizes = { before, after: await place.storedSize(fresh) };
  try {
    await spend(() => catalogue.change(record.id, { replaced }));
  } catch (error) {
    // The list may have the change all the same, and only its second copy not. Then the old bytes stay until a sweep has written that.
    const now = await catalogue.find(record.id);
    if (now && bytesOf(now) === fresh) return sizes;
    await remove(fresh);
    throw error;
  }
  await remove(old);
  return sizes;
}

async function writeAnew({ format }: ImageRecord, { old, fresh }: { old: string; fresh: string }, means: Means): Promise<void> {
  const { place, resolve, secret, signal, onProgress, control } = means;
  const key = secret === undefined ? {} : { secret };
  const job = { ...(signal ? { signal } : {}), ...(onProgress ? { onProgress } : {}), ...(control ? { control } : {}) };
  const storage = await place.open(old, { readOnly: true });
  const disk = await openDisk(storage, { format, readOnly: true, ...key, ...(resolve ? { resolve } : {}) });
  let target: Storage | undefined;
  try {
    target = await place.create(fresh);
    await compact(disk, target, { ...job, ...key });
    await runAsync(target.close());
  } catch (error) {
    // Nothing of it is needed.
    target?.abandon?.();
    if (target) await runAsync(target.close()).catch(() => undefined);
    throw error;
  } finally {
    await disk.close();
  }
}
