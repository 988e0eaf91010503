/**
 * What files that came together are: images, each with the further files that hold a part of its bytes, and with the image that it lies over. Pure but for the
 * reading of headers; nothing is copied. Files are matched by what the images say of them: by the id of the contents where an image states one, else by the
 * last part of the name, the nearest folder first. A file that an image needs and that did not come is named, with what to do; a file that belongs to no
 * image is passed over, with the reason.
 */
import { DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import { LARGEST_XML } from '../base/xml.ts';
import { inspect } from '../disk/inspect.ts';
import { allFormats } from '../formats/all.ts';
import type { FileRequest } from '../formats/driver.ts';
import { PLAIN_FORMAT } from '../formats/roles.ts';
import { blobStorage } from '../storage/blob.ts';
import { type ApplianceFile, parseAppliance } from '../wrappers/appliance.ts';
import { parseCue } from '../wrappers/cd-layout.ts';
import { partName } from '../wrappers/part.ts';
import { diskContents } from './disk-contents.ts';
import type { ImportFile, ImportPlan, PassedOver, PlannedImage } from './entries.ts';
import { foreignFile, UNWRAPPED } from './foreign-files.ts';
import type { ImageFormat } from './image-record.ts';
import { formatOf, isBelow, needsText } from './recognise.ts';
import { takeSample } from './sample.ts';
import { textFile } from './text-files.ts';

/** A file by its headers. */
export interface SeenFile {
  /** Its name, with the folders in which it came: `My PC/disk.vmdk`. */
  readonly path: string;
  /** `image`: it has a format's mark. `disk`: a raw disk by its contents. */
  readonly kind: 'image' | 'disk' | 'unknown';
  /** QEMU's name of the format of an image. */
  readonly format?: string;
  /** For a file that is known to be something else: what it is, with its article. */
  readonly title?: string;
  /** The id of its contents, if the image states one. */
  readonly identity?: string;
  /** The files that it names. */
  readonly references: readonly FileRequest[];
}

/** Files that machines keep beside their disks. */
const COMPANIONS = /\.(vmx|vmxf|vmsd|vmsn|vmem|vmss|nvram|vbox|vbox-prev|sav|pvs|pvsx|mem|vmcx|vmrs|vsv|plist|xml|backup|log|lck|txt)$/i;

/** Finds out what files that came together are. Rejects only if headers cannot be read for another reason than the file's own. */
export async function planImport(files: readonly ImportFile[]): Promise<ImportPlan> {
  const seen: SeenFile[] = [];
  for (const { path, file } of files) seen.push(await look(path, file));
  return planOf(seen);
}

async function look(path: string, file: Blob): Promise<SeenFile> {
  const storage = blobStorage(file, { name: baseName(path) });
  try {
    const sample = await runAsync(takeSample(storage));
    const { name: format, plain } = formatOf(sample);
    if (!plain) return { path, kind: 'image', ...(await inspect(storage, { format })) };
    const known = foreignFile(sample) ?? textFile(sample);
    // Its disks are taken out of it when it is imported.
    if (known && UNWRAPPED.has(known.name)) return { path, kind: 'image', references: await filesOf(known.name, file) };
    const title = known?.title;
    const kind = diskContents(sample) ? 'disk' : 'unknown';
    return { path, kind, references: [], ...(title === undefined ? {} : { title }) };
  } catch (error) {
    // The import of the file itself says what is wrong with it.
    if (error instanceof DiskError) return { path, kind: 'unknown', references: [] };
    throw error;
  } finally {
    await runAsync(storage.close());
  }
}

/** The files that a description names. */
async function filesOf(kind: string, file: Blob): Promise<FileRequest[]> {
  if ((kind !== 'cue' && kind !== 'ovf') || file.size > LARGEST_XML) return [];
  const text = await file.text();
  const names = kind === 'cue' ? [partName(parseCue(text).file)] : parseAppliance(text).disks.flatMap((disk) => nameOf(disk.file));
  return [...new Set(names)].map((name): FileRequest => ({ kind: 'extent', name }));
}

/** Of a file in pieces the first one tells that they did not come. */
const nameOf = (file: ApplianceFile | undefined): string[] => (file ? [file.chunkSize === undefined ? file.href : `${file.href}.000000000`] : []);

/** The plan for files whose headers are known. The numbers in it are places in the list. */
export function planOf(seen: readonly SeenFile[]): ImportPlan {
  return new Planner(seen).plan();
}

/** A file that an image names, and the one that was found for it. */
interface Match {
  readonly request: FileRequest;
  readonly found?: SeenFile | undefined;
  /** The file has the name, and its contents have another id. */
  readonly changed?: boolean;
}

class Planner {
  readonly #seen: readonly SeenFile[];
  readonly #matches: ReadonlyMap<SeenFile, readonly Match[]>;
  readonly #parts = new Set<SeenFile>();
  readonly #images = new Map<SeenFile, PlannedImage>();
  /** The formats that images state for the ones below them. */
  readonly #stated = new Map<SeenFile, string>();

  constructor(seen: readonly SeenFile[]) {
    this.#seen = seen;
    this.#matches = new Map(seen.map((file) => [file, file.references.map((request) => this.#match(file, request))]));
    for (const { request, found } of [...this.#matches.values()].flat()) {
      if (!found) continue;
      if (!isBelow(request)) this.#parts.add(found);
      else if (request.format !== undefined) this.#stated.set(found, request.format);
      // Nothing else tells that it is a disk.
      else if (found.kind !== 'image') this.#stated.set(found, PLAIN_FORMAT);
    }
  }

  plan(): ImportPlan {
    const passedOver: PassedOver[] = [];
    const files = this.#seen.filter((file) => !this.#parts.has(file));
    const disks = files.filter((file) => this.#isDisk(file));
    for (const file of files) {
      if (this.#isCopy(file)) passedOver.push({ file: this.#seen.indexOf(file), reason: 'a second description of the same disk' });
      else if (this.#isDisk(file) || !this.#belongsToOthers(file, disks.length > 0)) this.#planned(file, []);
      else passedOver.push({ file: this.#seen.indexOf(file), reason: file.title ?? 'no disk was recognised in it' });
    }
    return { images: [...this.#images.values()], passedOver };
  }

  #isDisk(file: SeenFile): boolean {
    return this.#stated.has(file) || file.kind === 'image' || (file.kind === 'disk' && file.title === undefined);
  }

  /** True for a copy that a machine keeps of the text that names the parts of a disk. */
  #isCopy(file: SeenFile): boolean {
    const parts = this.#partsOf(file);
    if (parts.length === 0 || !COMPANIONS.test(file.path)) return false;
    return this.#seen.some((other) => other !== file && other.path.length < file.path.length && this.#partsOf(other).includes(parts[0] as SeenFile));
  }

  #partsOf(file: SeenFile): SeenFile[] {
    return [...new Set((this.#matches.get(file) ?? []).flatMap(({ request, found }) => (found && !isBelow(request) ? [found] : [])))];
  }

  /** True for what comes along with disks: in a folder, or under the name of such a file. */
  #belongsToOthers({ path, kind }: SeenFile, disks: boolean): boolean {
    return path.includes('/') || (disks && kind === 'unknown' && COMPANIONS.test(path));
  }

  /** Adds an image behind the one that it lies over. `above`: images that lie over it. */
  #planned(file: SeenFile, above: readonly SeenFile[]): PlannedImage {
    const known = this.#images.get(file);
    if (known) return known;
    const matches = this.#matches.get(file) ?? [];
    const down = matches.find(({ request }) => isBelow(request));
    const below = down?.found;
    const name = this.#nameOf(file);
    const missing = matches.flatMap(({ request, found }) => (found ? [] : [request]));
    let problem = missing.length > 0 ? needsText(name, missing) : undefined;
    if (below && (below === file || above.includes(below))) problem ??= `${name} and the images below it lie over each other in a circle`;
    else if (below) {
      const base = this.#planned(below, [...above, file]);
      if (base.problem !== undefined) problem ??= `${name} lies over ${base.name}, which cannot be imported. ${base.problem}`;
    }
    const format = this.#stated.get(file);
    const planned: PlannedImage = {
      file: this.#seen.indexOf(file),
      name,
      parts: this.#partsOf(file).map((part) => this.#seen.indexOf(part)),
      ...(format !== undefined && allFormats.some((one) => one.name === format) ? { format: format as ImageFormat } : {}),
      ...(below ? { backing: this.#seen.indexOf(below) } : {}),
      ...(below && down?.changed ? { changed: changedText(name, below, down.request) } : {}),
      ...(problem === undefined ? {} : { problem }),
    };
    this.#images.set(file, planned);
    return planned;
  }

  /** A folder with the ending of a format is one disk, and has its name: its files have names of other kinds. */
  #nameOf({ path, format }: SeenFile): string {
    const [folder, name] = [baseName(folderOf(path).slice(0, -1)), baseName(path)];
    const endings: readonly string[] = allFormats.find((one) => one.name === format)?.extensions ?? [];
    const hasEnding = (text: string): boolean => endings.includes(endingOf(text));
    return hasEnding(folder) && !hasEnding(name) ? folder : name;
  }

  #match(from: SeenFile, request: FileRequest): Match {
    const others = this.#seen.filter((file) => file !== from);
    const { identity, name } = request;
    const named = name === '' ? [] : nearest(from, name, withName(others, lastPart(name)));
    if (identity === undefined) return { request, found: named[0] };
    const [meant] = [...named, ...others].filter((file) => sameIdentity(file.identity, identity));
    // An image that states no id may be the one; opening it tells.
    const found = meant ?? named.find((file) => file.identity === undefined);
    return found ? { request, found } : { request, found: named[0], changed: true };
  }
}

const changedText = (name: string, below: SeenFile, { identity }: FileRequest): string =>
  `${name} was made over another ${baseName(below.path)} than the one that came with it, or over an earlier state of it: the id of that one is ${identity}, not ${below.identity}`;

/** Ids are written with and without brackets and hyphens. */
const sameIdentity = (one: string | undefined, other: string): boolean => one !== undefined && bareIdentity(one) === bareIdentity(other);
const bareIdentity = (identity: string): string => identity.replace(/[{}-]/g, '').toLowerCase();

/** The files of this name; without one, those whose name differs in capitals only, which Windows does not tell apart. */
function withName(files: readonly SeenFile[], name: string): SeenFile[] {
  const exact = files.filter(({ path }) => baseName(path) === name);
  return exact.length > 0 ? exact : files.filter(({ path }) => baseName(path).toLowerCase() === name.toLowerCase());
}

/** The files, the one that a relative name leads to first, then those that share most folders with the image that names them. */
function nearest({ path }: SeenFile, name: string, files: readonly SeenFile[]): SeenFile[] {
  const own = folderOf(path).split('/');
  const meant = resolved(folderOf(path), name);
  const distance = (file: SeenFile): number => {
    if (file.path === meant) return -1;
    const folders = folderOf(file.path).split('/');
    const shared = own.findIndex((folder, at) => folder !== folders[at]);
    return own.length + folders.length - 2 * (shared < 0 ? own.length : shared);
  };
  return [...files].sort((one, other) => distance(one) - distance(other));
}

/** A relative name put behind a folder. */
function resolved(folder: string, name: string): string {
  const parts: string[] = [];
  for (const part of (folder + name.replaceAll('\\', '/')).split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '.' && part !== '') parts.push(part);
  }
  return parts.join('/');
}

/** A name in an image without its folders, of any system. */
const lastPart = (name: string): string => name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1);
/** A file's name without its folders. */
const baseName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
const folderOf = (path: string): string => path.slice(0, path.lastIndexOf('/') + 1);
const endingOf = (name: string): string => /\.([^.]+)$/.exec(name)?.[1]?.toLowerCase() ?? '';
