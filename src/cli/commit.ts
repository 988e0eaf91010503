/** `commit`: copies an image into its backing file, or with -b into one further down. */
import { realpathSync } from 'node:fs';
import { commit, DiskError } from '../index.ts';
import { printUsage } from './help.ts';
import { beside, cacheMode, type Images, type OpenImage, type OpenRequest, withImages } from './images.ts';
import { parseOptions } from './options.ts';
import { Progress } from './progress.ts';
import { sizeArgument } from './sizes.ts';
import { Failure, misuse, notYet, type Terminal } from './terminal.ts';
import { imageText } from './words.ts';

/** Runs `commit`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'f:ht:b:dpqr:',
    long: { help: 'h', object: 'object:', 'image-opts': 'image-opts' },
    refused: ['object', 'image-opts'],
  });
  if (options.has('h')) return printUsage(terminal, 'commit');
  const rate = options.last('r');
  if (rate !== undefined) {
    sizeArgument(rate, 'rate limit');
    throw notYet('The option -r');
  }
  const [path] = options.rest;
  if (path === undefined || options.rest.length > 1) throw misuse('Expecting one image file name');
  const cache = cacheMode(options.last('t'));
  const base = options.last('b');
  const progress = new Progress(terminal, options.has('p') && !options.has('q'));
  return withImages(terminal, async (images) => {
    const request: OpenRequest = { path, format: options.last('f'), readOnly: false, cache };
    const depth = base === undefined ? 1 : await findBase(images, request, base);
    const image = await images.open({ ...request, writableBacking: depth });
    requireBacking(image, depth);
    progress.start();
    try {
      await commit(image.disk, { depth, keep: options.has('d'), onProgress: progress.update });
    } catch (error) {
      throw error instanceof DiskError ? new Failure(imageText(error)) : error;
    } finally {
      progress.end();
    }
    if (!options.has('q')) terminal.out('Image committed.\n');
    return 0;
  });
}

function requireBacking(image: OpenImage, depth: number): void {
  if (image.files.length <= depth) throw new Failure('Image does not have a backing file');
}

/** How many images down `name` is. It counts from where the image that names it is. */
async function findBase(images: Images, request: OpenRequest, name: string): Promise<number> {
  const { files, disk } = await images.open({ ...request, readOnly: true });
  await disk.close();
  for (let depth = 1; depth < files.length; depth++) {
    const file = files[depth] as string;
    if (file === name || sameFile(file, beside(files[depth - 1] as string, name))) return depth;
  }
  throw new Failure(`Did not find '${name}' in the backing chain of '${request.path}'`);
}

function sameFile(one: string, other: string): boolean {
  try {
    return realpathSync(one) === realpathSync(other);
  } catch {
    return false;
  }
}
