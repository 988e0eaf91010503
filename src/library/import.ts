/**
 * Bringing a file in: what it is, copying it byte for byte, and opening it once to see that it is whole.
 */
import { DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import { openDisk } from '../disk/open.ts';
import { allFormats } from '../formats/all.ts';
import { probeStorage } from '../formats/registry.ts';
import type { JobOptions } from '../jobs/job.ts';
import { blobStorage } from '../storage/blob.ts';
import type { Storage } from '../storage/storage.ts';
import { copyBytes } from './copy.ts';

/**
 * The format of a file. Throws `unsupported` with the format's name if it is recognised but cannot be kept here, also when only the
 * file's ending says so: a disk of another program must not quietly become a raw one.
 */
export async function recognise(file: Blob): Promise<'qcow2' | 'raw'> {
  const storage = blobStorage(file);
  const found = await runAsync(probeStorage(allFormats, storage));
  await runAsync(storage.close());
  const { name, title } = found;
  if (!found.open || (name !== 'raw' && name !== 'qcow2'))
    throw new DiskError('unsupported', `${storage.name} is a ${title} (${name}), which is not supported yet`, { format: name });
  if (name === 'raw') {
    const ending = /\.([^.]+)$/.exec(storage.name)?.[1]?.toLowerCase() ?? '';
    const named = allFormats.find((format) => format.extensions.includes(ending));
    if (named && !found.extensions.includes(ending))
      throw new DiskError(
        'wrong-format',
        `${storage.name} is named like a ${named.title} (${named.name}) and does not begin like one. If it is a raw disk, rename it to end in .img`,
        { format: named.name, field: 'magic' },
      );
  }
  return name;
}

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

/** Opens a storage as an image to see that it can be; closes it, and returns the guest's size. */
export async function verify(storage: Storage, format: string): Promise<number> {
  try {
    const disk = await openDisk(storage, { format, readOnly: true });
    const { size } = disk;
    await disk.close();
    return size;
  } catch (error) {
    if (error instanceof DiskError && error.field === 'backing_file')
      throw new DiskError(
        'refused',
        `This image needs another file, its backing file, and cannot be kept alone. Merge the two first (qemu-img convert). ${error.message}`,
        {
          field: 'backing_file',
          cause: error,
        },
      );
    throw error;
  }
}
