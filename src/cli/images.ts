/**
 * Opening image files. Backing files are looked up beside the image that names them, as in QEMU; each open image remembers
 * the file of every layer. Failures to open read `Could not open 'x': …` with the reason that QEMU gives.
 */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type CacheMode, type Disk, DiskError, PLAIN_FORMAT, type Reference, type Resolve, type Resolved, type Storage } from '../index.ts';
import {
  BackingFailure,
  beside,
  combineNames,
  type OptionSet,
  openGraph,
  parseCacheMode,
  parseOptionList,
  protocolOf,
  provideInflate,
} from '../qemu.ts';
import { type Locking, NOTHING, nodeFileStorage, type Permissions } from '../storage/node-file.ts';
import { systemPath } from '../storage/system-path.ts';
import { nodeInflate } from './compression.ts';
import { objectOptions } from './objects.ts';
import type { Options } from './options.ts';
import { findParent } from './parents.ts';
import { complain, Failure, Halt, type Terminal } from './terminal.ts';
import { faultText, fileText, imageText, systemText } from './words.ts';
import { type InnerImage, innerImage } from './wrapped.ts';

export interface OpenRequest {
  /** A file's name, with or without a protocol, or `json:{…}`; with `imageOpts` the options of the image. */
  readonly path: string;
  readonly imageOpts?: boolean | undefined;
  /** Options of the image, read already. */
  readonly options?: OptionSet | undefined;
  /** The options describe the image completely; `path` is for messages only. */
  readonly nameless?: boolean | undefined;
  /** Discards do nothing, unless the image's options say otherwise. */
  readonly keepSpace?: boolean | undefined;
  readonly format?: string | undefined;
  readonly readOnly: boolean;
  readonly cache?: CacheMode | undefined;
  /** Writes go to memory and are forgotten; the image is only read. */
  readonly snapshot?: boolean | undefined;
  /** Leaves backing files closed. */
  readonly noBacking?: boolean;
  /** Puts an empty disk in place of the backing file, which need not exist. */
  readonly unsafeBacking?: boolean;
  /** How many images down one may be written too. */
  readonly writableBacking?: number;
  /** Opens for check and repair, in spite of any damage. */
  readonly repair?: boolean;
  /** -U: opens beside other programs; only for reading. */
  readonly forceShare?: boolean;
  /** The permissions that the command takes of the image and shares, if it needs more than to read or to write it. */
  readonly permissions?: Permissions;
  /** The image was open before: its warnings were printed then. */
  readonly again?: boolean;
}

interface FileOptions {
  readonly readOnly: boolean;
  readonly locking?: Locking | undefined;
  readonly forceShare?: boolean;
  readonly create?: boolean;
}

/** An open image, with the files of its chain: its own first. */
export interface OpenImage {
  readonly disk: Disk;
  readonly path: string;
  readonly files: readonly string[];
}

/** An image as a command's words name it: by `-f`, `--image-opts` and `-U`. */
export const namedImage = (path: string, options: Options) => ({
  path,
  format: options.last('f'),
  imageOpts: options.has('image-opts'),
  forceShare: options.has('U'),
});

const baseName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

/** The reason why an image did not open, without its name. */
export class CannotOpen extends Error {}

provideInflate(nodeInflate);

/** The images that a command has open. */
export class Images {
  readonly terminal: Terminal;
  readonly #open: OpenImage[] = [];
  readonly #inside: InnerImage[] = [];
  readonly #identities = new Set<string>();
  readonly #background: boolean;
  #damaged = false;

  /** `background`: see `NodeFileOptions`. */
  constructor(terminal: Terminal, { background = false } = {}) {
    this.terminal = terminal;
    this.#background = background;
  }

  /** Opens an image. Throws a `Failure` with this exit status. */
  async open(request: OpenRequest, status = 1): Promise<OpenImage> {
    if (request.imageOpts && request.format !== undefined) throw new Failure('--image-opts and --format are mutually exclusive', { status });
    try {
      return await this.tryOpen(request);
    } catch (error) {
      if (error instanceof CannotOpen) throw new Failure(`Could not open '${request.path}': ${error.message}`, { status });
      throw error;
    }
  }

  /** Opens an image. Throws `CannotOpen`. */
  async tryOpen(request: OpenRequest): Promise<OpenImage> {
    const {
      path,
      format,
      readOnly,
      cache,
      noBacking = false,
      unsafeBacking = false,
      writableBacking,
      forceShare = false,
      repair = false,
      again = false,
      permissions,
    } = request;
    if (forceShare && !readOnly) throw new CannotOpen('force-share=on can only be used with read-only images');
    const warn = (message: string) => complain(this.terminal, message);
    const options = request.imageOpts ? readOptions(path, { implied: 'file', warn }) : request.options;
    const name = request.imageOpts || request.nameless ? undefined : path;
    let disk: Disk;
    try {
      // With a format stated, and for writing, a file is what it is to QEMU.
      const inner = name !== undefined && readOnly && format === undefined && !options ? await this.#inner(name, noBacking) : undefined;
      disk = await openGraph(
        { name, options },
        {
          openFile: async (file, { writable, ...how }) =>
            (file === name ? inner?.storage : await inner?.beside(baseName(file))) ?? this.#file(file, { ...how, readOnly: !writable }),
          forceShare,
          ...(permissions ? { permissions } : {}),
          readOnly,
          noBacking,
          emptyBacking: unsafeBacking,
          snapshot: request.snapshot ?? false,
          repair,
          warn,
          onDebug: (message) => this.terminal.out(`${message}\n`),
          onMismatch: (message) => {
            throw new Halt(message);
          },
          keepSpace: request.keepSpace ?? false,
          ...(format === undefined ? {} : { format }),
          ...(cache ? { cache } : {}),
          ...(noBacking ? { noData: true } : {}),
          ...(writableBacking === undefined ? {} : { writableBacking }),
          onDamage: (message, warning = false) => this.#tellDamage(message, warning),
          dataFileName: dataFilePath,
          findParent,
          ...objectOptions(this.terminal),
        },
      );
    } catch (error) {
      throw cannotOpen(error);
    }
    if (disk.guessed && !readOnly && !again) this.#warnOfProbing((await disk.info()).filename);
    const image = { disk, path, files: disk.files };
    this.#open.push(image);
    return image;
  }

  /** The image inside a file that holds others. */
  async #inner(path: string, unchecked: boolean): Promise<InnerImage | undefined> {
    if (protocolOf(path) !== undefined) return undefined;
    try {
      const inner = await innerImage(this.terminal, path, { unchecked });
      if (inner) this.#inside.push(inner);
      return inner;
    } catch (error) {
      throw error instanceof DiskError ? new CannotOpen(error.message, { cause: error }) : error;
    }
  }

  /** A resolver for an image at `path`, which notes the images it opens. `shared`: others may write them meanwhile. */
  chain(path: string, shared: Pick<FileOptions, 'locking' | 'forceShare'> = {}): { readonly resolve: Resolve; readonly files: string[] } {
    const files = [path];
    const resolve = async (reference: Reference): Promise<Resolved> => {
      const { from, kind, name, writable = false, format } = reference;
      if (kind === 'parent' && name === '') return this.#file(await findParent(reference), { ...shared, readOnly: !writable });
      if (kind !== 'backing') return this.#file((kind === 'data' ? dataFilePath : combineNames)(from, name), { ...shared, readOnly: !writable });
      const full = beside(from, name);
      files.push(full);
      if (protocolOf(full) === undefined) return this.#file(full, { ...shared, readOnly: !writable });
      // A name that describes more than a file is opened as an image: the result is its guest bytes.
      const disk = await openGraph(
        { name: full },
        {
          openFile: (file, how) => this.#file(file, { ...how, ...shared, readOnly: !how.writable }),
          dataFileName: dataFilePath,
          findParent,
          ...objectOptions(this.terminal),
          readOnly: !writable,
          ...(format === undefined ? {} : { format }),
        },
      ).catch((error: unknown) => {
        throw cannotOpen(error);
      });
      return { storage: disk.storage, format: PLAIN_FORMAT };
    };
    return { resolve, files };
  }

  /** Lets an image that was made elsewhere be closed with the others. */
  adopt(disk: Disk, path: string): OpenImage {
    const image = { disk, path, files: [path] };
    this.#open.push(image);
    return image;
  }

  /** True if one of the open images keeps its bytes in this file. */
  uses(path: string): boolean {
    try {
      const { dev, ino } = statSync(systemPath(path));
      return this.#identities.has(`file:${dev}:${ino}`);
    } catch {
      return false;
    }
  }

  /** Closes what is open, the last first; the first failure is thrown at the end. */
  async close(): Promise<void> {
    let failure: { error: unknown } | undefined;
    for (let image = this.#open.pop(); image; image = this.#open.pop()) {
      try {
        await image.disk.close();
      } catch (error) {
        // A damaged image refuses to be flushed; the damage was reported before.
        if (!this.#damaged || !(error instanceof DiskError) || error.kind !== 'corrupt') failure ??= { error };
      }
    }
    for (const inner of this.#inside.splice(0)) inner.close();
    if (failure) throw failure.error;
  }

  /** Opens a file without locking it: the needed permissions are known only with its format. */
  #file(path: string, { readOnly, locking = 'auto', forceShare = false, create = false }: FileOptions): Storage {
    try {
      const storage = nodeFileStorage(inFolder(path), {
        readOnly,
        ...(create ? { create: 'must-not-exist' } : {}),
        background: this.#background,
        locking,
        forceShare: forceShare && readOnly,
        permissions: NOTHING,
      });
      this.#identities.add(storage.identity);
      return storage;
    } catch (error) {
      throw new CannotOpen(cannotOpenText(path, error), { cause: error });
    }
  }

  #tellDamage(message: string, warning: boolean): void {
    if (!warning) this.#damaged = true;
    this.terminal.err(`${warning ? `${this.terminal.program}: ` : ''}${message}\n`);
  }

  #warnOfProbing(path: string): void {
    this.terminal.err(
      `WARNING: Image format was not specified for '${path}' and probing guessed raw.\n` +
        '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n' +
        `         Specify the '${PLAIN_FORMAT}' format explicitly to remove the restrictions.\n`,
    );
  }
}

/** The options of `--image-opts`. Throws a `Failure` if they cannot be read. */
export function readOptions(text: string, rules: Parameters<typeof parseOptionList>[1]): ReturnType<typeof parseOptionList> {
  try {
    return parseOptionList(text, rules);
  } catch (error) {
    throw error instanceof DiskError ? new Failure(error.message) : error;
  }
}

/** Runs a command over images and closes them, also when it fails. */
export async function withImages(
  terminal: Terminal,
  body: (images: Images) => Promise<number>,
  options: ConstructorParameters<typeof Images>[1] = {},
): Promise<number> {
  const images = new Images(terminal, options);
  let status: number;
  try {
    status = await body(images);
  } catch (error) {
    await images.close().catch((late: unknown) => complain(terminal, faultText(late)));
    throw error;
  }
  await images.close();
  return status;
}

/** The cache mode of `-t` and `-T`; `what` names the option in the error. */
export function cacheMode(text: string | undefined, what = 'cache option', status = 1): CacheMode | undefined {
  if (text === undefined) return undefined;
  const mode = parseCacheMode(text);
  if (!mode) throw new Failure(`Invalid ${what}: ${text}`, { status });
  return mode;
}

/** The data file that an image names by a plain name: relative to the command's folder, as in QEMU; or else beside the image. */
function dataFilePath(image: string, name: string): string {
  const path = combineNames(image, name);
  return !existsSync(systemPath(name)) && existsSync(systemPath(path)) ? path : name;
}

/** A folder that Parallels calls a disk stands for the file that describes it. */
function inFolder(path: string): string {
  const description = join(path, 'DiskDescriptor.xml');
  return existsSync(systemPath(description)) && statSync(systemPath(path)).isDirectory() ? description : path;
}

/** Protocols under which no file can be made, with QEMU's names of their drivers. */
const FIXED: Readonly<Record<string, string>> = {
  'null-co': 'null-co',
  'null-aio': 'null-aio',
  blkverify: 'blkverify',
  blkdebug: 'blkdebug',
  fat: 'vvfat',
};

/** Refuses a name under which no file can be made. */
export function requireCreatable(name: string): void {
  const protocol = protocolOf(name) ?? 'file';
  if (protocol === 'file') return;
  const driver = FIXED[protocol];
  throw new Failure(driver === undefined ? `Unknown protocol '${protocol}'` : `Protocol driver '${driver}' does not support image creation`);
}

/** A file name without `file:`. Other protocols are refused by name. */
export function localPath(name: string): string {
  const protocol = protocolOf(name);
  const path = protocol === 'file' ? name.slice('file:'.length) : name;
  if (protocol !== undefined && protocol !== 'file') throw new CannotOpen(`Unknown protocol '${protocol}'`);
  if (path === '') throw new CannotOpen("The 'file' block driver requires a file name");
  return path;
}

/** The reason why a file could not be opened, or created. */
export function cannotOpenText(path: string, error: unknown, verb: 'open' | 'create' = 'open'): string {
  const special = error instanceof DiskError && error.field === 'file type';
  if (special && systemText(error) !== undefined) return `Could not refresh total sector count: ${systemText(error)}`;
  return special ? `'file' driver requires '${path}' to be a regular file` : `Could not ${verb} '${path}': ${fileText(error)}`;
}

function cannotOpen(error: unknown): unknown {
  const reason = openingText(error);
  return reason === undefined ? error : new CannotOpen(reason, { cause: error });
}

/** The reason why an image did not open; one of its backing files may be the reason. */
function openingText(error: unknown): string | undefined {
  if (error instanceof BackingFailure) {
    const inner = openingText(error.inner);
    return inner === undefined ? undefined : `Could not open backing file: ${inner}`;
  }
  return refusal(error) ?? (error instanceof DiskError ? imageText(error) : undefined);
}

/** The words about a file that did not open, also if the library has wrapped them. */
export function refusal(error: unknown): string | undefined {
  if (error instanceof CannotOpen) return error.message;
  return error instanceof DiskError && error.cause instanceof CannotOpen ? error.cause.message : undefined;
}
