/** `rebase`: another backing file. In safe mode the image reads the same afterwards; -u only changes the name. */
import { type BackingReference, DiskError, rebase } from '../index.ts';
import { beside } from '../qemu.ts';
import { formatNamed, knownFormat } from './formats.ts';
import { printUsage } from './help.ts';
import { CannotOpen, cacheMode, type Images, refusal, withImages } from './images.ts';
import { takeObjects } from './objects.ts';
import { type Options, parseOptions } from './options.ts';
import { Progress } from './progress.ts';
import { Failure, misuse, type Terminal } from './terminal.ts';
import { imageText, requestText } from './words.ts';

/** Runs `rebase`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'hf:F:b:upt:T:qU',
    long: { help: 'h', object: 'object:', 'image-opts': 'image-opts', 'force-share': 'U' },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'rebase');
  const [path] = options.rest;
  if (path === undefined || options.rest.length > 1) throw misuse('Expecting one image file name');
  if (!options.has('u') && !options.has('b')) throw misuse('Must specify backing file (-b) or use unsafe mode (-u)');
  const progress = new Progress(terminal, options.has('p') && !options.has('q'));
  progress.start();
  try {
    await withImages(terminal, (images) => change(images, path, options, progress));
    progress.finish();
    return 0;
  } finally {
    progress.end();
  }
}

async function change(images: Images, path: string, options: Options, progress: Progress): Promise<number> {
  const unsafe = options.has('u');
  // For the images that are read; this one is written.
  const forceShare = options.has('U');
  const cache = cacheMode(options.last('t'));
  cacheMode(options.last('T'), 'source cache option');
  const { disk } = await images.open({
    path,
    format: options.last('f'),
    imageOpts: options.has('image-opts'),
    readOnly: false,
    cache,
    unsafeBacking: unsafe,
  });
  const format = options.last('F');
  if (format !== undefined && knownFormat(format) === undefined) throw new Failure(`Invalid format name: '${format}'`);
  const name = options.last('b') ?? '';
  const to: BackingReference | undefined = name === '' ? undefined : { name, ...(format === undefined ? {} : { format }) };
  if (to && !unsafe) await requireNewBacking(images, path, to, forceShare);
  const failed = `Could not change the backing file to '${name}'`;
  // QEMU finds this out only after it has copied everything.
  if (to && format === undefined && formatNamed(disk.format).capabilities.backing) throw new Failure(`${failed}: backing format must be specified`);
  const { resolve } = images.chain(path, { forceShare });
  try {
    await rebase(disk, { unsafe, resolve, onProgress: progress.update, ...(to ? { to } : {}) });
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    if (error.field === 'backing_file_offset') throw new Failure(`${failed}: No space left in the file header`);
    if (error.field === 'backing_file_size' || error.field === 'data_file_raw') throw new Failure(`${failed}: Invalid argument`);
    if (error.kind === 'unsupported' && error.format === disk.format) throw new Failure(`${failed}: ${requestText(error)}`);
    throw new Failure(stepText(error) ?? imageText(error));
  }
  return 0;
}

/** The failed step, if copying failed. */
function stepText(error: DiskError): string | undefined {
  if (error.step === 'status') return `error while reading image metadata: ${requestText(error)}`;
  if (error.step === 'old backing file' || error.step === 'new backing file') return `error while reading from ${error.step}`;
  return error.step === 'image' ? `Error while writing to COW image: ${requestText(error)}` : undefined;
}

/** Opens the new backing file once beforehand, so that the error has QEMU's words. */
async function requireNewBacking(images: Images, path: string, to: BackingReference, forceShare: boolean): Promise<void> {
  try {
    const { disk } = await images.tryOpen({ path: beside(path, to.name), format: to.format, readOnly: true, forceShare });
    await disk.close();
  } catch (error) {
    const reason = error instanceof CannotOpen ? error.message : refusal(error);
    throw reason === undefined ? error : new Failure(`Could not open new backing file '${to.name}': ${reason}`);
  }
}
