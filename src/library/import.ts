/**
 * Bringing a file in: copying it byte for byte, and opening it once to check that it is whole.
 */
import { runAsync } from '../base/io.ts';
import type { JobOptions } from '../base/job.ts';
import { openDisk } from '../disk/open.ts';
import { blobStorage } from '../storage/blob.ts';
import type { Storage } from '../storage/storage.ts';
import { copyBytes } from './copy.ts';

/** Copies a file into an empty storage and flushes it. On failure the storage is closed. */
export async function copyIn(file: Blob, storage: Storage, job: JobOptions): Promise<void> {
  const source = blobStorage(file);
  try {
    await runAsync(copyBytes(source, storage, job));
  } catch (error) {
    await runAsync(storage.close()).catch(() => undefined);
    throw error;
  }
}

/** The facts about an image that are found out when it comes in. */
export interface MadeImage {
  /** Guest-visible bytes. */
  readonly size: number;
  readonly encrypted: boolean;
}

/** Opens a storage as an image to check that it can be opened (an encrypted one as far as possible without its passphrase) and closes it. */
export async function verify(storage: Storage, format: string): Promise<MadeImage> {
  const disk = await openDisk(storage, { format, readOnly: true, noData: true });
  const { size } = disk;
  const { encrypted = false } = await disk.info();
  await disk.close();
  return { size, encrypted };
}
