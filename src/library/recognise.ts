/**
 * What a file is that is to become an image of the library, told by its bytes: what is no disk must not quietly become one. Images go by what they say
 * themselves. Any bytes can be a raw disk, so a raw one is taken as such only if it holds something that disks hold, or if the caller says so.
 */
import { cutShortText, DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import { type InspectionReport, inspect } from '../disk/inspect.ts';
import { allFormats } from '../formats/all.ts';
import { PROBE_LENGTH, probeFormat } from '../formats/registry.ts';
import { blobStorage } from '../storage/blob.ts';
import { diskContents } from './disk-contents.ts';
import { foreignFile } from './foreign-files.ts';
import type { ImageFormat } from './image-record.ts';
import { type Sample, takeSample } from './sample.ts';
import { textFile } from './text-files.ts';

type Descriptor = (typeof allFormats)[number];

/** The field of an error that is over when the caller says that the file is raw. */
const UNKNOWN = 'contents';

/**
 * The format of a file, from a few of its bytes, before anything is copied. With `stated` it has that one. Throws `unsupported` with the format's name if
 * it is recognised but cannot be kept here, `refused` if the image needs another file, `corrupt` if the file is cut short, `wrong-format` if it is no
 * disk image: its `format` names what it is (`zip`). With the field `contents`, nothing known was found in it, or what is found in no disk and what is:
 * with `raw` stated it is taken.
 */
export async function recognise(file: Blob, stated?: ImageFormat): Promise<ImageFormat> {
  const storage = blobStorage(file);
  try {
    if (stated === 'raw') return stated;
    const sample = await runAsync(takeSample(storage));
    const found = stated ?? formatOf(sample).name;
    if (found === 'raw') {
      requireDisk(storage.name, sample);
      return found;
    }
    return requireUsable(storage.name, file.size, await inspect(storage, { format: found }));
  } finally {
    await runAsync(storage.close());
  }
}

/** By the bytes alone: nothing is known of the name. */
function formatOf({ size, head, tail }: Sample): Descriptor {
  const found = probeFormat(allFormats, head.subarray(0, PROBE_LENGTH), { size, name: '' });
  return (found.name === 'raw' && allFormats.find((format) => format.ends?.(tail))) || found;
}

function requireUsable(name: string, size: number, report: InspectionReport): ImageFormat {
  const { format, title, references, geometry } = report;
  const shape = geometry ? ` of ${geometry.cylinders} cylinders, ${geometry.heads} heads and ${geometry.sectors} sectors` : '';
  if (!report.supported || (format !== 'qcow2' && format !== 'luks')) {
    const convert = `qemu-img convert -f ${format} -O qcow2 ${JSON.stringify(name)} disk.qcow2`;
    throw new DiskError(
      'unsupported',
      `${name} is a ${title} (${format})${shape}, which is not supported yet. Convert it with \`${convert}\`, and import what comes out`,
      { format },
    );
  }
  const [needed] = references;
  if (needed)
    throw new DiskError(
      'refused',
      `${name} needs another file, its ${needed.kind} file ${JSON.stringify(needed.name)}, and cannot be kept alone. Merge the two first (qemu-img convert)`,
      { format, field: needed.kind === 'backing' ? 'backing_file' : 'data_file' },
    );
  if (report.neededSize !== undefined && !report.countsOnly)
    throw new DiskError(
      'corrupt',
      `${name}: ${cutShortText(report.neededSize, size)}. Copy or download it anew; what is left of it can be saved with \`tabdisk convert --salvage\``,
      { format, field: 'file size' },
    );
  return format;
}

/** Throws unless these are bytes that a disk has. */
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
    format: named?.name ?? 'raw',
    field: UNKNOWN,
  });
}

/** The format whose ending a name has, unless raw disks have it too. */
function namedAs(name: string): Descriptor | undefined {
  const ending = /\.([^.]+)$/.exec(name)?.[1]?.toLowerCase() ?? '';
  const named = allFormats.filter(({ extensions }) => extensions.includes(ending));
  return named.some((format) => format.name === 'raw') ? undefined : named[0];
}
