/**
 * The format of a file that is to become an image of the library, recognised by its bytes: a file that is not a disk must not silently become one. Images have
 * marks of their own. Any bytes can be a raw disk, so a file is accepted as raw only if it has contents that disks have, or if the caller says so.
 */
import { cutShortText, DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import { type InspectionReport, inspect } from '../disk/inspect.ts';
import { FILE_ROLES } from '../disk/named-files.ts';
import { allFormats } from '../formats/all.ts';
import type { FormatDescriptor } from '../formats/descriptor.ts';
import type { FileRequest } from '../formats/driver.ts';
import { findFormat, PROBE_LENGTH, probeFormat } from '../formats/registry.ts';
import { PLAIN_FORMAT } from '../formats/roles.ts';
import { blobStorage } from '../storage/blob.ts';
import type { Storage } from '../storage/storage.ts';
import { diskContents } from './disk-contents.ts';
import { foreignFile, UNWRAPPED } from './foreign-files.ts';
import type { BackingName, ImageFormat } from './image-record.ts';
import { type Sample, takeSample } from './sample.ts';
import { textFile } from './text-files.ts';

/** The field of an error that does not occur if the caller states that the file is raw. */
const UNKNOWN = 'contents';
/** Missing files that are named. */
const MOST_NAMED = 8;

/** The files that come with one. */
export interface Company {
  /** Files with a part of its bytes, by their names. */
  readonly parts?: readonly File[];
  /** The image below it is known. */
  readonly hasBacking?: boolean;
}

/**
 * The format of a file, from a few of its bytes, before anything is copied. With `stated` the file has that format. Throws `unsupported` with the format's
 * name if it is recognised but cannot be opened, `refused` if the image needs a file that did not come, `corrupt` if the file is cut short, `wrong-format` if
 * it is not a disk image: its `format` is the file's kind (`zip`). With the field `contents`, no known contents were found in it, or contents that no disk has:
 * with `raw` stated the file is accepted.
 */
export async function recognise(file: Blob, stated?: ImageFormat, came: Company = {}): Promise<ImageFormat> {
  const storage = blobStorage(file);
  try {
    return await recogniseStorage(storage, { name: storage.name, ...(stated ? { stated } : {}) }, came);
  } finally {
    await runAsync(storage.close());
  }
}

/** As `recognise`, for bytes in a storage, which stays open. */
export async function recogniseStorage(
  storage: Storage,
  { name, stated }: { name: string; stated?: ImageFormat },
  came: Company = {},
): Promise<ImageFormat> {
  if (stated && findFormat(allFormats, stated).plain) return stated;
  const sample = await runAsync(takeSample(storage));
  const found = stated ? findFormat(allFormats, stated) : formatOf(sample);
  if (found.plain) requireDisk(name, sample);
  else requireUsable(name, storage.size, await inspect(storage, { format: found.name }), came);
  return found.name as ImageFormat;
}

/** Whether a file looks like one whose disks are taken out of it. */
export async function mayBeWrapped(file: Blob): Promise<boolean> {
  const storage = blobStorage(file);
  try {
    const sample = await runAsync(takeSample(storage));
    return formatOf(sample).plain === true && UNWRAPPED.has((foreignFile(sample) ?? textFile(sample))?.name ?? '');
  } finally {
    await runAsync(storage.close());
  }
}

/** Recognises the format by the bytes alone: the name is not used. */
export function formatOf({ size, head, tail }: Sample): FormatDescriptor {
  const found = probeFormat(allFormats, head.subarray(0, PROBE_LENGTH), { size, name: '' });
  return (found.plain && allFormats.find((format) => format.ends?.(tail))) || found;
}

/** The image below a file's image, as the file names it. Throws `refused` if it names none. */
export async function belowOf(file: Blob, format: string): Promise<BackingName> {
  const storage = blobStorage(file);
  try {
    const found = (await inspect(storage, { format })).references.find(isBelow);
    if (!found) throw new DiskError('refused', `${storage.name} lies over no other image`, { format, field: 'backing_file' });
    const { name, identity } = found;
    return { name, ...(identity === undefined ? {} : { identity }) };
  } finally {
    await runAsync(storage.close());
  }
}

/** True if the file is the image below, and not a part of the image's own bytes. */
export const isBelow = ({ kind }: FileRequest): boolean => kind === 'backing' || kind === 'parent';

/** The file of this name; without one, the one whose name differs in capitals only, which Windows does not tell apart. */
export const partNamed = (parts: readonly File[], name: string): File | undefined =>
  parts.find((part) => part.name === name) ?? parts.find((part) => part.name.toLowerCase() === name.toLowerCase());

/** The refusal of an image that comes without files that it names, by their names. */
export function needsText(name: string, missing: readonly FileRequest[]): string {
  const words = missing.map(({ kind, name: file, identity }) => {
    const { what } = FILE_ROLES[kind];
    if (file === '') return `its ${what}, the disk with the id ${identity}`;
    return `its ${what} ${JSON.stringify(file)}${identity === undefined ? '' : ` (id ${identity})`}`;
  });
  const shown = words.length > MOST_NAMED ? [...words.slice(0, MOST_NAMED), `${words.length - MOST_NAMED} more files`] : words;
  return `${name} needs ${shown.join(' and ')}, which did not come with it: import all files of the disk together`;
}

function requireUsable(name: string, size: number, report: InspectionReport, { parts = [], hasBacking = false }: Company): void {
  const { format, references } = report;
  const missing = references.filter((request) => (isBelow(request) ? !hasBacking : !partNamed(parts, request.name)));
  const [needed] = missing;
  if (needed) throw new DiskError('refused', needsText(name, missing), { format, field: FILE_ROLES[needed.kind].field });
  if (report.neededSize !== undefined && !report.countsOnly)
    throw new DiskError(
      'corrupt',
      `${name}: ${cutShortText(report.neededSize, size)}. Copy or download it anew; what is left of it can be saved with \`tabdisk convert --salvage\``,
      { format, field: 'file size' },
    );
}

/** Throws unless a disk can have these bytes. */
function requireDisk(name: string, sample: Sample): void {
  if (sample.size === 0)
    throw new DiskError('wrong-format', `${name} is empty, a file of 0 bytes: copy or download it anew`, { format: 'empty', field: 'file size' });
  const contents = diskContents(sample);
  const foreign = foreignFile(sample) ?? textFile(sample);
  if (contents && !foreign) return;
  if (foreign && !contents)
    throw new DiskError('wrong-format', `${name} is ${foreign.title}, not a disk image. ${foreign.advice}`, { format: foreign.name, field: 'magic' });
  if (foreign)
    throw new DiskError('wrong-format', `${name} looks like ${foreign.title}, and like a raw disk with ${contents}. ${foreign.advice}`, {
      format: foreign.name,
      field: UNKNOWN,
    });
  const named = namedAs(name);
  const but = named ? ` It is named like a ${named.title} (${named.name}) and does not begin like one.` : '';
  throw new DiskError('wrong-format', `No disk format and no file system were recognised in ${name}.${but} Only as a raw disk can it be kept`, {
    format: named?.name ?? PLAIN_FORMAT,
    field: UNKNOWN,
  });
}

/** The format with the ending of a name, unless raw disks have that ending too. */
function namedAs(name: string): FormatDescriptor | undefined {
  const ending = /\.([^.]+)$/.exec(name)?.[1]?.toLowerCase() ?? '';
  const named = allFormats.filter(({ extensions }) => extensions.includes(ending));
  return named.some(({ plain }) => plain) ? undefined : named[0];
}
