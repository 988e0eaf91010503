/** `resize`: another virtual size, absolute or relative. Shrinking needs an option. */
import { type Disk, DiskError } from '../index.ts';
import { ALL, CONSISTENT_READ, type Permissions, RESIZE, WRITE } from '../storage/node-file.ts';
import { PREALLOCATION_MODES } from './formats.ts';
import { printUsage } from './help.ts';
import { namedImage, withImages } from './images.ts';
import { takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { sizeParameter, wholeSectors } from './sizes.ts';
import { complain, Failure, misuse, type Terminal } from './terminal.ts';
import { imageText } from './words.ts';

const GROWING: Permissions = { take: CONSISTENT_READ | WRITE | RESIZE, share: ALL };

/** Runs `resize`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  // The size is the last word, and taken first: -512 is a size, not an option.
  if (args.includes('-h') || args.includes('--help')) return printUsage(terminal, 'resize');
  if (args.length < 2) throw misuse('Not enough arguments');
  const text = args[args.length - 1] as string;
  const options = parseOptions(args.slice(0, -1), {
    short: 'f:hq',
    long: { help: 'h', object: 'object:', 'image-opts': 'image-opts', preallocation: 'preallocation:', shrink: 'shrink' },
  });
  takeObjects(terminal, options);
  const preallocation = options.last('preallocation') ?? 'off';
  if (!PREALLOCATION_MODES.includes(preallocation)) throw new Failure(`Invalid preallocation mode '${preallocation}'`);
  const [path] = options.rest;
  if (path === undefined || options.rest.length > 1) throw misuse('Expecting image file name and size');
  const sign = text[0] === '+' || text[0] === '-' ? text[0] : '';
  const amount = sizeParameter(text.slice(sign.length), 'size');
  return withImages(terminal, async (images) => {
    const { disk } = await images.open({
      ...namedImage(path, options),
      readOnly: false,
      permissions: GROWING,
    });
    const current = wholeSectors(disk.size);
    const size = sign === '+' ? current + amount : sign === '-' ? current - amount : amount;
    if (size <= 0 || size >= 2 ** 63) throw new Failure('New image size must be positive');
    if (size < current && !options.has('shrink')) {
      complain(terminal, 'Use the --shrink option to perform a shrink operation.');
      complain(
        terminal,
        "warning: Shrinking an image will delete all data beyond the shrunken image's end. " +
          'Before performing such an operation, make sure there is no important data there.',
      );
      return 1;
    }
    if (preallocation !== 'off' && size <= current) throw new Failure('Preallocation can only be used for growing images');
    await resizeTo(disk, size, preallocation);
    if (!options.has('q')) terminal.out('Image resized.\n');
    return 0;
  });
}

/** Resizes, with QEMU's words about errors. */
export async function resizeTo(disk: Disk, size: number, preallocation = 'off'): Promise<void> {
  try {
    await disk.resize(size, { preallocation });
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    throw new Failure(error.field === 'size' && size % 512 !== 0 ? 'The new size must be a multiple of 512' : imageText(error));
  }
}
