/** `measure`: the space that a file would take if an image, or an empty one of a size, were converted to a format. */
import { type Disk, DiskError, type Measured, measure, PLAIN_FORMAT } from '../index.ts';
import { openSnapshot, snapshotArgument } from './convert.ts';
import { type ImageOptions, isEncrypting, parseImageOptions, requireOptionLists } from './create-options.ts';
import { formatNamed, PREALLOCATION_MODES, requireCreation, requireFormat } from './formats.ts';
import { printUsage } from './help.ts';
import { namedImage, withImages } from './images.ts';
import { outputFormat } from './info.ts';
import { requireSecret, takeObjects } from './objects.ts';
import { getoptText, Options, scanOptions } from './options.ts';
import { jsonText } from './printf.ts';
import { sizeArgument } from './sizes.ts';
import { complain, Failure, NotYet, type Terminal } from './terminal.ts';
import { imageText, requestText } from './words.ts';

/** Runs `measure`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = scanOptions(args, {
    short: 'hf:l:o:O:U',
    long: { help: 'h', object: 'object:', 'image-opts': 'image-opts', output: 'output:', size: 'size:', 'force-share': 'U' },
  });
  if (!(options instanceof Options)) {
    // Here qemu-img leaves the error to the C library, and prints its help.
    terminal.err(`measure: ${getoptText(options)}\n`);
    return printUsage(terminal);
  }
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'measure');
  const lists = options.all('o');
  requireOptionLists(lists);
  const snapshot = snapshotArgument(options.last('l'));
  const output = outputFormat(options);
  const sizeText = options.last('size');
  const size = sizeText === undefined ? undefined : sizeArgument(sizeText, 'image size');
  const [path] = options.rest;
  requireOneSource(options, path, size);
  return withImages(terminal, async (images) => {
    let source: Disk | undefined;
    if (path !== undefined) {
      const { disk } = await images.open({
        ...namedImage(path, options),
        readOnly: true,
      });
      source = snapshot === undefined ? disk : await openSnapshot(images, disk, path, snapshot);
    }
    const format = requireFormat(options.last('O') ?? PLAIN_FORMAT);
    requireCreation(format);
    const image = formatOptions(terminal, format, lists);
    requireKey(terminal, format, image);
    const measured = await attempt(source ?? size ?? 0, format, image);
    tell(terminal, output, measured);
    return 0;
  });
}

/** QEMU measures a LUKS header by making one, and so asks for the passphrase. */
function requireKey(terminal: Terminal, format: string, image: ImageOptions): void {
  const { encryption } = formatNamed(format);
  if (!encryption || !isEncrypting(encryption, image)) return;
  const name = encryption.key;
  const id = image.get(name);
  if (id === undefined) throw new Failure(`Parameter '${name}' is required for cipher`);
  requireSecret(terminal, String(id));
}

function requireOneSource(options: Options, path: string | undefined, size: number | undefined): void {
  if (options.rest.length > 1) throw new Failure('At most one filename argument is allowed.');
  if (path === undefined && (options.has('f') || options.has('l'))) throw new Failure('--image-opts, -f, and -l require a filename argument.');
  if (path === undefined && size === undefined) throw new Failure('Either --size N or one filename must be specified.');
  if (path !== undefined && size !== undefined) throw new Failure('--size N cannot be used together with a filename.');
}

function formatOptions(terminal: Terminal, format: string, lists: readonly string[]): ImageOptions {
  try {
    return parseImageOptions(format, lists);
  } catch (error) {
    if (!(error instanceof Failure) || error instanceof NotYet) throw error;
    complain(terminal, error.message);
    throw new Failure(`Invalid options for file format '${format}'`);
  }
}

async function attempt(source: Disk | number, format: string, image: ImageOptions): Promise<Measured> {
  const mode = image.get('preallocation');
  if (mode !== undefined && !PREALLOCATION_MODES.includes(String(mode))) throw new Failure(`invalid parameter value: ${mode}`);
  const { size: _, backing_file: backing, backing_fmt: __, ...options } = Object.fromEntries(image);
  try {
    return await measure(source, { format, options, ...(backing === undefined ? {} : { backing: { name: String(backing) } }) });
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    throw new Failure(error.step === 'source status' ? `Unable to get block status: ${requestText(error)}` : imageText(error));
  }
}

function tell(terminal: Terminal, output: 'human' | 'json', { required, fullyAllocated, bitmaps }: Measured): void {
  if (output === 'json') {
    const all = { ...(bitmaps === undefined ? {} : { bitmaps }), required, 'fully-allocated': fullyAllocated };
    terminal.out(`${jsonText(all)}\n`);
    return;
  }
  terminal.out(`required size: ${required}\nfully allocated size: ${fullyAllocated}\n`);
  if (bitmaps !== undefined) terminal.out(`bitmaps size: ${bitmaps}\n`);
}
