/**
 * Bringing a file in: what it is, copying it byte for byte, and opening it once to see that it is whole.
 */
import { cutShortText, DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import type { JobOptions } from '../base/job.ts';
import { inspect } from '../disk/inspect.ts';
import { openDisk } from '../disk/open.ts';
import { allFormats } from '../formats/all.ts';
import { blobStorage } from '../storage/blob.ts';
import type { Storage } from '../storage/storage.ts';
import type { ImageFormat } from './catalogue.ts';
import { copyBytes } from './copy.ts';

/**
 * The format of a file, from its headers alone, before anything is copied. Throws `unsupported` with the format's name if it is recognised
 * but cannot be kept here, also when only the file's ending says so: a disk of another program must not quietly become a raw one. Throws
 * `refused` if the image needs another file, `corrupt` if the file is cut short.
 */
export async function recognise(file: Blob): Promise<ImageFormat> {
  const storage = blobStorage(file);
  const report = await inspect(storage);
  await runAsync(storage.close());
  const { format, title, references, geometry } = report;
  const shape = geometry ? ` of ${geometry.cylinders} cylinders, ${geometry.heads} heads and ${geometry.sectors} sectors` : '';
  if (!report.supported || (format !== 'raw' && format !== 'qcow2' && format !== 'luks'))
    throw new DiskError('unsupported', `${storage.name} is a ${title} (${format})${shape}, which is not supported yet`, { format });
  const [needed] = references;
  if (needed)
    throw new DiskError(
      'refused',
      `${storage.name} needs another file, its ${needed.kind} file ${JSON.stringify(needed.name)}, and cannot be kept alone. Merge the two first (qemu-img convert)`,
      { format, field: needed.kind === 'backing' ? 'backing_file' : 'data_file' },
    );
  if (report.neededSize !== undefined && !report.countsOnly)
    throw new DiskError(
      'corrupt',
      `${storage.name}: ${cutShortText(report.neededSize, file.size)}. Copy or download it anew; what is left of it can be saved with \`tabdisk convert --salvage\``,
      { format, field: 'file size' },
    );
  if (format === 'raw') refuseForeignEnding(storage.name);
  return format;
}

function refuseForeignEnding(name: string): void {
  const ending = /\.([^.]+)$/.exec(name)?.[1]?.toLowerCase() ?? '';
  const named = allFormats.find((format) => format.extensions.includes(ending));
  if (named && named.name !== 'raw' && !allFormats.find((format) => format.name === 'raw')?.extensions.includes(ending))
    throw new DiskError(
      'wrong-format',
      `${name} is named like a ${named.title} (${named.name}) and does not begin like one. If it is a raw disk, rename it to end in .img`,
      { format: named.name, field: 'magic' },
    );
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

/** What is found out about an image when it comes in. */
export interface MadeImage {
  /** Guest-visible bytes. */
  readonly size: number;
  readonly encrypted: boolean;
}

/** Opens a storage as an image to see that it can be (an encrypted one as far as that goes without its passphrase) and closes it. */
export async function verify(storage: Storage, format: string): Promise<MadeImage> {
  const disk = await openDisk(storage, { format, readOnly: true, noData: true });
  const { size } = disk;
  const { encrypted = false, 'format-specific': specific } = await disk.info();
  const dataFile = specific?.data['data-file'];
  await disk.close();
  if (dataFile !== undefined)
    throw new DiskError('refused', `The image keeps its data in another file (${JSON.stringify(dataFile)}), which cannot be imported`, {
      format,
      field: 'data file',
    });
  return { size, encrypted };
}
