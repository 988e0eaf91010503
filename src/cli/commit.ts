/** `commit`: copies an image into its backing file, or with -b into one further down. */
import { realpathSync } from 'node:fs';
import { beside, commit, type Disk, DiskError } from '../index.ts';
import { LockedError } from '../storage/node-file.ts';
import { printUsage } from './help.ts';
import { CannotOpen, cacheMode, type Images, type OpenRequest, withImages } from './images.ts';
import { takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { Progress } from './progress.ts';
import { sizeArgument } from './sizes.ts';
import { Failure, misuse, type Terminal } from './terminal.ts';
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
  const request: OpenRequest = { path, format: options.last('f'), imageOpts: options.has('image-opts'), readOnly: false, cache };
  return withImages(terminal, async (images) => {
    const { disk: looked, files } = await images.open(request);
    progress.start();
    try {
      const depth = base === undefined ? 1 : findBase(files, base);
      if (files.length <= depth) throw new Failure('Image does not have a backing file');
      // Now it is known which of the images below is to be written.
      await looked.close();
      const disk = await openForWriting(images, { ...request, writableBacking: depth });
      await commit(disk, { depth, keep: options.has('d'), rate, onProgress: progress.update });
      progress.finish();
    } catch (error) {
      throw error instanceof DiskError ? new Failure(`Block job failed: ${requestText(error)}`) : error;
    } finally {
      progress.end();
    }
    if (!options.has('q')) terminal.out('Image committed.\n');
    return 0;
  });
}

/** Opens an image again, so that one below it can be written. That another program uses that one is told as QEMU does, which changes how it is open. */
async function openForWriting(images: Images, request: OpenRequest): Promise<Disk> {
  try {
    return (await images.tryOpen({ ...request, again: true })).disk;
  } catch (error) {
    for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof LockedError) throw new Failure(imageText(cause));
    throw error instanceof CannotOpen ? new Failure(`Could not open '${request.path}': ${error.message}`) : error;
  }
}

/** How many images down `name` is. It counts from where the image that names it is. */
function findBase(files: readonly string[], name: string): number {
  for (let depth = 1; depth < files.length; depth++) {
    const file = files[depth] as string;
    if (file === name || sameFile(file, beside(files[depth - 1] as string, name))) return depth;
  }
  throw new Failure(`Did not find '${name}' in the backing chain of '${files[0]}'`);
}

function sameFile(one: string, other: string): boolean {
  try {
    return realpathSync(one) === realpathSync(other);
  } catch {
    return false;
  }
}
