/**
 * Opening image files. Backing files are looked for beside the image that names them, as QEMU does it; each open image remembers
 * the file of every layer. Failures to open read `Could not open 'x': …` with the reason that QEMU gives.
 */
import { existsSync, statSync } from 'node:fs';
import { allFormats, type CacheMode, type Disk, DiskError, memoryStorage, openDisk, type Reference, type Resolve, type Storage } from '../index.ts';
import { nodeFileStorage } from '../storage/node-file.ts';
import { complain, Failure, notYet, type Terminal } from './terminal.ts';
import { imageText, systemText } from './words.ts';

export interface OpenRequest {
  readonly path: string;
  readonly format?: string | undefined;
  readonly readOnly: boolean;
  readonly cache?: CacheMode | undefined;
  /** Do not open backing files. */
  readonly noBacking?: boolean;
  /** Put an empty disk in place of the backing file, which need not exist. */
  readonly unsafeBacking?: boolean;
  /** How many images down one may be written too. */
  readonly writableBacking?: number;
  /** Open for check and repair, whatever the damage. */
  readonly repair?: boolean;
  /** -U: open beside other programs; only for reading. */
  readonly forceShare?: boolean;
  /** It was open before: what was to be warned of has been. */
  readonly again?: boolean;
}

/** An open image, with the files of its chain: its own first. */
export interface OpenImage {
  readonly disk: Disk;
  readonly path: string;
  readonly files: readonly string[];
}

/** Why an image did not open, without its name. */
export class CannotOpen extends Error {}

/** The images a command has open. */
export class Images {
  readonly terminal: Terminal;
  readonly #open: OpenImage[] = [];
  readonly #identities = new Set<string>();

  constructor(terminal: Terminal) {
    this.terminal = terminal;
  }

  /** Opens an image. Throws a `Failure` with this exit status. */
  async open(request: OpenRequest, status = 1): Promise<OpenImage> {
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
    } = request;
    if (forceShare && !readOnly) throw new CannotOpen('force-share=on can only be used with read-only images');
    if (format !== undefined) requireDriver(format);
    const chain = this.chain(path);
    let disk: Disk;
    try {
      const storage = this.#file(path, readOnly);
      disk = await openDisk(storage, {
        ...(format === undefined ? {} : { format }),
        ...(cache ? { cache } : {}),
        ...(noBacking ? { noBacking, noData: true } : { resolve: unsafeBacking ? chain.withoutBacking : chain.resolve }),
        ...(writableBacking === undefined ? {} : { writableBacking }),
        readOnly,
        repair,
        onDamage: (message) => this.terminal.err(`${message}\n`),
      });
    } catch (error) {
      throw cannotOpen(error, chain.files.length - 1);
    }
    if (format === undefined && disk.format === 'raw' && !readOnly && !again) this.#warnOfProbing(path);
    const image = { disk, path, files: chain.files };
    this.#open.push(image);
    return image;
  }

  /** Resolvers for an image at `path`: one notes the images it opens, the other has empty disks in place of backing files. */
  chain(path: string): { readonly resolve: Resolve; readonly withoutBacking: Resolve; readonly files: string[] } {
    const files = [path];
    const open = ({ from, kind, name, writable }: Reference): Storage =>
      this.#file(kind === 'data' ? dataFilePath(from, name) : beside(from, name), writable !== true);
    const withoutBacking = (reference: Reference) => (reference.kind === 'data' ? open(reference) : { storage: memoryStorage(), format: 'raw' });
    const resolve = (reference: Reference): Storage => {
      if (reference.kind === 'backing') files.push(beside(reference.from, reference.name));
      return open(reference);
    };
    return { resolve, withoutBacking, files };
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
      const { dev, ino } = statSync(path);
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
        failure ??= { error };
      }
    }
    if (failure) throw failure.error;
  }

  #file(name: string, readOnly: boolean): Storage {
    const path = localPath(name);
    try {
      const stat = statSync(path);
      if (stat.isDirectory() && !readOnly) throw new CannotOpen(`Could not open '${path}': Is a directory`);
      if (!stat.isFile() && !stat.isBlockDevice()) throw new CannotOpen(`'file' driver requires '${path}' to be a regular file`);
      const storage = nodeFileStorage(path, { readOnly });
      this.#identities.add(storage.identity);
      return storage;
    } catch (error) {
      if (error instanceof CannotOpen) throw error;
      throw new CannotOpen(`Could not open '${path}': ${systemText(error) ?? String(error)}`, { cause: error });
    }
  }

  #warnOfProbing(path: string): void {
    this.terminal.err(
      `WARNING: Image format was not specified for '${path}' and probing guessed raw.\n` +
        '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n' +
        "         Specify the 'raw' format explicitly to remove the restrictions.\n",
    );
  }
}

/** Runs a command over images and closes them, also when it fails. */
export async function withImages(terminal: Terminal, body: (images: Images) => Promise<number>): Promise<number> {
  const images = new Images(terminal);
  let status: number;
  try {
    status = await body(images);
  } catch (error) {
    await images.close().catch((late: unknown) => complain(terminal, late instanceof DiskError ? imageText(late) : String(late)));
    throw error;
  }
  await images.close();
  return status;
}

/** Formats that qemu-img 7.2 can open and tabdisk cannot yet: named apart from typing errors. */
const ELSEWHERE = ['bochs', 'cloop', 'dmg', 'luks', 'parallels', 'qcow', 'qed', 'vdi', 'vhdx', 'vmdk', 'vpc', 'vvfat'];

/** The format's own name, for a name of the command line; nothing if there is no such format. Throws if it is QEMU's alone. */
export function knownFormat(name: string): string | undefined {
  const found = allFormats.find((format) => format.name === name && format.open);
  if (!found && ELSEWHERE.includes(name)) throw notYet(`The format '${name}'`);
  return found?.name;
}

function requireDriver(format: string): void {
  if (knownFormat(format) === undefined) throw new CannotOpen(`Unknown driver '${format}'`);
}

const CACHE_MODES: Readonly<Record<string, CacheMode>> = {
  none: 'none',
  off: 'none',
  writeback: 'writeback',
  writethrough: 'writethrough',
  directsync: 'directsync',
  unsafe: 'unsafe',
};

/** The cache mode of `-t` and `-T`; `what` names the option in the error. */
export function cacheMode(text: string | undefined, what = 'cache option', status = 1): CacheMode | undefined {
  if (text === undefined) return undefined;
  const mode = CACHE_MODES[text];
  if (!mode) throw new Failure(`Invalid ${what}: ${text}`, { status });
  return mode;
}

/** The name of a file that an image names: relative names count from the image's folder. */
export function beside(image: string, name: string): string {
  if (name.startsWith('/') || protocolOf(name) !== undefined) return name;
  return image.slice(0, image.lastIndexOf('/') + 1) + name;
}

/** The data file that an image names: as QEMU finds it, which is from where the command runs; or else beside the image. */
function dataFilePath(image: string, name: string): string {
  const path = beside(image, name);
  return !existsSync(localPath(name)) && existsSync(localPath(path)) ? path : name;
}

/** A file name without `file:`. Other protocols are refused by name. */
export function localPath(name: string): string {
  const protocol = protocolOf(name);
  const path = protocol === 'file' ? name.slice('file:'.length) : name;
  if (protocol !== undefined && protocol !== 'file') throw new CannotOpen(`Unknown protocol '${protocol}'`);
  if (path === '') throw new CannotOpen("The 'file' block driver requires a file name");
  return path;
}

function protocolOf(name: string): string | undefined {
  const colon = name.indexOf(':');
  const slash = name.indexOf('/');
  return colon < 0 || (slash >= 0 && slash < colon) ? undefined : name.slice(0, colon);
}

/** `depth`: how many backing files were asked for before it failed. */
function cannotOpen(error: unknown, depth: number): unknown {
  const reason = refusal(error) ?? (error instanceof DiskError ? imageText(error) : undefined);
  if (reason === undefined) return error;
  return new CannotOpen('Could not open backing file: '.repeat(depth) + reason, { cause: error });
}

/** The words of a file that did not open, also where the library has wrapped them. */
export function refusal(error: unknown): string | undefined {
  if (error instanceof CannotOpen) return error.message;
  return error instanceof DiskError && error.cause instanceof CannotOpen ? error.cause.message : undefined;
}
