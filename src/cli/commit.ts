/** `commit`: copies an image into its backing file and empties it; or with -b copies it into one of the images below, and leaves it as it is. */
import { realpathSync } from 'node:fs';
import { commit, type Disk, DiskError } from '../index.ts';
import { beside, protocolOf } from '../qemu.ts';
import { LockedError } from '../storage/node-file.ts';
import { systemPath } from '../storage/system-path.ts';
import { printUsage } from './help.ts';
import { CannotOpen, cacheMode, type Images, namedImage, type OpenRequest, withImages } from './images.ts';
import { takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { Progress } from './progress.ts';
import { sizeArgument } from './sizes.ts';
import { complain, Failure, misuse, type Terminal } from './terminal.ts';
import { imageText, requestText } from './words.ts';

/** Runs `commit`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'f:ht:b:dpqr:',
    long: { help: 'h', object: 'object:', 'image-opts': 'image-opts' },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'commit');
  const rate = sizeArgument(options.last('r') ?? '0', 'rate limit');
  const [path] = options.rest;
  if (path === undefined || options.rest.length > 1) throw misuse('Expecting one image file name');
  const cache = cacheMode(options.last('t'));
  const base = options.last('b');
  const progress = new Progress(terminal, options.has('p') && !options.has('q'));
  const request: OpenRequest = { ...namedImage(path, options), readOnly: false, cache };
  return withImages(terminal, async (images) => {
    const { disk: looked, files } = await images.open(request);
    progress.start();
    try {
      const depth = base === undefined ? 1 : findBase(looked, path, base);
      if (files.length <= depth) throw new Failure('Image does not have a backing file');
      // Now the image below that has to be written is known.
      await looked.close();
      const disk = await openForWriting(images, { ...request, writableBacking: depth });
      const { warnings } = await commit(disk, { depth, keep: options.has('d') || base !== undefined, rate, onProgress: progress.update });
      progress.finish();
      for (const warning of warnings) complain(terminal, `warning: ${warning}`);
    } catch (error) {
      throw error instanceof DiskError ? new Failure(`Block job failed: ${requestText(error)}`) : error;
    } finally {
      progress.end();
    }
    if (!options.has('q')) terminal.out('Image committed.\n');
    return 0;
  });
}

/** Opens an image again, so that one below it can be written. If another program uses that one, the error is QEMU's about changing how an image is open. */
async function openForWriting(images: Images, request: OpenRequest): Promise<Disk> {
  try {
    return (await images.tryOpen({ ...request, again: true })).disk;
  } catch (error) {
    for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof LockedError) throw new Failure(imageText(cause));
    throw error instanceof CannotOpen ? new Failure(`Could not open '${request.path}': ${error.message}`) : error;
  }
}

/**
 * How many images down `name` is. A plain name is relative to the folder of each image that names one, like the name that the image has stored, and both
 * must be the same file. If one of the two has a protocol (`json:` is one too), they are compared as text.
 */
function findBase(disk: Disk, path: string, name: string): number {
  for (let [node, depth] = [disk.node, 1]; node.backing; node = node.backing, depth++) {
    const image = node.driver.storage.name;
    const below = node.backing.fileName ?? node.backing.name;
    const stored = node.driver.backing?.name;
    if (isNamed(name, { image, stored, below })) return depth;
  }
  throw new Failure(`Did not find '${name}' in the backing chain of '${path}'`);
}

/** `below` is the file that was opened: if it differs from the stored name, the options have named it, and its name is compared. */
function isNamed(name: string, { image, stored, below }: { image: string; stored: string | undefined; below: string }): boolean {
  const full = stored === undefined ? undefined : fullName(image, stored);
  if (stored === undefined || (!stored.startsWith('json:') && full?.replace(/^file:/, '') !== below)) return name === below;
  if (protocolOf(name) !== undefined || protocolOf(stored) !== undefined) return name === stored || name === full;
  const meant = fullName(image, name);
  return meant !== undefined && full !== undefined && sameFile(meant, full);
}

/** The name as seen from the command's folder; undefined for an image without a folder, and without a name. */
function fullName(image: string, name: string): string | undefined {
  try {
    return name === '' ? undefined : beside(image, name);
  } catch (error) {
    if (error instanceof DiskError) return undefined;
    throw error;
  }
}

function sameFile(one: string, other: string): boolean {
  try {
    // The system resolves names: it knows that a name that ends in a slash is a folder.
    return realpathSync.native(systemPath(one), 'buffer').equals(realpathSync.native(systemPath(other), 'buffer'));
  } catch {
    return false;
  }
}
