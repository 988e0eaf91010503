/** Temporary images: for exports, and for writes to an image whose changes are thrown away. */
import { DiskError } from '../base/errors.ts';
import { randomUuid } from '../base/uuid.ts';
import { temporaryStorage } from '../layers/temporary.ts';
import { takeLock } from '../storage/image-lock.ts';
import type { Storage } from '../storage/storage.ts';
import type { ImagePlace } from './image-place.ts';

/** A temporary image, under a lock of its own until it is removed. */
export interface Scratch {
  create(): Promise<Storage>;
  reopen(): Promise<Storage>;
  remove(): Promise<void>;
}

/**
 * A name for a temporary image in `place`, and its lock. The sweep finds such images because they have no record: it removes an image with such a name
 * when its lock is free.
 */
export async function newScratch(place: ImagePlace, lockName: (id: string) => string): Promise<Scratch> {
  const name = `scratch-${Date.now()}-${randomUuid()}`;
  const lock = await takeLock(lockName(name), 0);
  if (!lock) throw new DiskError('locked', 'The name of a temporary image is taken');
  return {
    create: () => place.create(name),
    reopen: () => place.open(name, { readOnly: true }),
    remove: async () => {
      await place.remove(name);
      await lock.release();
    },
  };
}

/** A new temporary image as a storage, which removes it when it is closed. */
export async function scratchStorage({ create, remove }: Scratch): Promise<Storage> {
  try {
    return temporaryStorage(await create(), remove);
  } catch (error) {
    await remove();
    throw error;
  }
}

/** The time when a temporary image was made, in milliseconds since 1970; undefined if the name is not that of such an image. */
export function scratchTime(id: string): number | undefined {
  const time = /^scratch-(\d+)-/.exec(id)?.[1];
  return time === undefined ? undefined : Number(time);
}
