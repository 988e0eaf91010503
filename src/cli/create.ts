/** `create`: a new image. */
import { DiskError, PLAIN_FORMAT } from '../index.ts';
import { beside } from '../qemu.ts';
import {
  asksForHelp,
  formattingLine,
  type ImageOptions,
  makeImage,
  parseImageOptions,
  printOptionHelp,
  requireOptionLists,
} from './create-options.ts';
import { formatNamed, requireCreation, requireFormat } from './formats.ts';
import { printUsage } from './help.ts';
import { CannotOpen, type Images, requireCreatable, withImages } from './images.ts';
import { askSecrets, takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { sizeArgument, wholeSectors } from './sizes.ts';
import { Failure, misuse, type Terminal } from './terminal.ts';

/** Runs `create`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, { short: 'F:b:f:ho:qu', long: { help: 'h', object: 'object:' } });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'create');
  const lists = options.all('o');
  requireOptionLists(lists);
  const format = options.last('f') ?? PLAIN_FORMAT;
  const [path, sizeText, extra] = options.rest;
  if (path === undefined && !asksForHelp(lists)) throw misuse('Expecting image file name');
  const size = sizeText === undefined ? undefined : sizeArgument(sizeText, 'image size');
  if (extra !== undefined) throw misuse(`Unexpected argument: ${extra}`);
  if (asksForHelp(lists)) {
    printOptionHelp(terminal, requireFormat(format));
    return 0;
  }
  const file = path as string;
  return withImages(terminal, (images) =>
    inFile(file, async () => {
      requireFormat(format);
      requireCreation(format);
      requireCreatable(file);
      const image = parseImageOptions(format, lists);
      setOnce(image, 'size', size, 'The image size must be specified only once');
      takeBacking(image, file, format, options.last('b'), options.last('F'));
      if (!image.has('size') || image.has('backing_file')) await lookAtBacking(images, file, image, options.has('u'));
      if (!image.has('size')) throw new Failure('Image creation needs a size parameter');
      if (!options.has('q')) terminal.out(formattingLine(file, format, image));
      const resolve = options.has('u') ? undefined : images.chain(file, { locking: 'off' }).resolve;
      images.adopt(await makeImage({ path: file, format, options: image, secret: askSecrets(terminal), ...(resolve ? { resolve } : {}) }), file);
      return 0;
    }),
  );
}

/** Puts the image's name before any error. */
async function inFile(path: string, body: () => Promise<number>): Promise<number> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof Failure && !error.hint) throw new Failure(`${path}: ${error.message}`, { status: error.status });
    throw error;
  }
}

function setOnce(image: ImageOptions, name: string, value: number | undefined, message: string): void {
  if (value === undefined) return;
  if (image.has(name)) throw new Failure(message);
  image.set(name, value);
}

function takeBacking(image: ImageOptions, path: string, format: string, name: string | undefined, backingFormat: string | undefined): void {
  if (name !== undefined) {
    if (!formatNamed(format).capabilities.backing) throw new Failure(`Backing file not supported for file format '${format}'`);
    image.set('backing_file', name);
  }
  if (backingFormat !== undefined) {
    if (!formatNamed(format).capabilities.backing) throw new Failure(`Backing file format not supported for file format '${format}'`);
    image.set('backing_fmt', backingFormat);
  }
  const backing = image.get('backing_file');
  if (backing === '') throw new Failure('Expected backing file name, got empty string');
  if (backing === path) throw new Failure('Error: Trying to create an image with the same filename as the backing file');
}

/** Opens the backing file as it will be opened later, for its size; unless `unsafe`, it must exist. */
async function lookAtBacking(images: Images, path: string, image: ImageOptions, unsafe: boolean): Promise<void> {
  const name = image.get('backing_file');
  const format = image.get('backing_fmt');
  if (name === undefined) return;
  if (!unsafe) {
    try {
      const request = {
        path: beside(path, String(name)),
        readOnly: true,
        forceShare: true,
        ...(format === undefined ? {} : { format: String(format) }),
      };
      const { disk } = await images.tryOpen(request);
      if (format === undefined) throw new Failure(`Backing file specified without backing format\nDetected format of ${disk.format}.`);
      if (!image.has('size')) image.set('size', wholeSectors(disk.size));
      await disk.close();
    } catch (error) {
      if (error instanceof DiskError && error.kind === 'refused') throw new Failure(error.message);
      throw error instanceof CannotOpen ? new Failure(`${error.message}\nCould not open backing image.`) : error;
    }
  }
  if (format === undefined) throw new Failure('Backing file specified without backing format');
}
