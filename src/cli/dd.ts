/** `dd`: a part of an image into a new one. `count` is measured from the source's start, not from the place that `skip` gives. */
import { type Disk, DiskError, PLAIN_FORMAT } from '../index.ts';
import { type ImageOptions, makeImage } from './create-options.ts';
import { knownFormat } from './formats.ts';
import { printUsage } from './help.ts';
import { type Images, namedImage, requireCreatable, withImages } from './images.ts';
import { askSecrets, takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { readSize, sizeArgument, wholeSectors } from './sizes.ts';
import { complain, Failure, type Terminal } from './terminal.ts';
import { requestText } from './words.ts';

/** Bytes copied at a time, independent of the block size: the result is the same. */
const BUFFER = 2 * 1024 * 1024;
const MAX_BLOCK = 2 ** 31 - 1;

interface Operands {
  readonly input: string;
  readonly output: string;
  readonly block: number;
  /** Blocks. */
  readonly count: number;
  readonly skip: number;
}

/** Runs `dd`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'hf:O:U',
    long: { help: 'h', object: 'object:', 'image-opts': 'image-opts', 'force-share': 'U' },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'dd');
  const { input, output, block, count, skip } = readOperands(options.rest);
  return withImages(terminal, async (images) => {
    const { disk } = await images.open({
      ...namedImage(input, options),
      readOnly: true,
    });
    const format = knownFormat(options.last('O') ?? PLAIN_FORMAT);
    if (format === undefined) throw new Failure('Unknown file format');
    requireCreatable(output);
    const end = Math.min(wholeSectors(disk.size), count * block);
    const start = Math.min(end, skip * block);
    const target = await newTarget(images, output, format, end - start);
    if (skip * block > end) complain(terminal, `${input}: cannot skip to specified offset`);
    await copy(disk, target, { start, end });
    return 0;
  });
}

function readOperands(words: readonly string[]): Operands {
  const given = new Map<string, string>();
  for (const word of words) {
    const equals = word.indexOf('=');
    const name = equals < 0 ? word : word.slice(0, equals);
    const value = equals < 0 ? undefined : word.slice(equals + 1);
    if (value === undefined || !['bs', 'count', 'if', 'of', 'skip'].includes(name)) throw new Failure(`unrecognized operand ${name}`);
    if (name === 'bs') blockSize(value);
    else if (name === 'count' || name === 'skip') sizeArgument(value, name);
    given.set(name, value);
  }
  const [input, output] = [given.get('if'), given.get('of')];
  if (input === undefined || output === undefined) throw new Failure('Must specify both input and output files');
  const number = (name: string, otherwise: number) => (given.has(name) ? sizeArgument(given.get(name) as string, name) : otherwise);
  return { input, output, block: blockSize(given.get('bs') ?? '512'), count: number('count', Number.POSITIVE_INFINITY), skip: number('skip', 0) };
}

function blockSize(text: string): number {
  const size = readSize(text);
  if (size === 'not-a-size') return sizeArgument(text, 'bs');
  if (size === 'too-large' || size < 1 || size > MAX_BLOCK) throw new Failure(`Invalid bs specified. Must be between 1 and ${MAX_BLOCK}.`);
  return size;
}

async function newTarget(images: Images, path: string, format: string, size: number): Promise<Disk> {
  const failed = `${path}: error while creating output image`;
  if (images.uses(path)) throw new Failure(`${failed}: Failed to get "write" lock\nIs another process using the image [${path}]?`);
  const options: ImageOptions = new Map([['size', size]]);
  try {
    const disk = await makeImage({ path, format, options, secret: askSecrets(images.terminal) });
    images.adopt(disk, path);
    return disk;
  } catch (error) {
    throw error instanceof Failure ? new Failure(`${failed}: ${error.message}`) : error;
  }
}

async function copy(source: Disk, target: Disk, { start, end }: { start: number; end: number }): Promise<void> {
  for (let at = start; at < end; at += BUFFER) {
    const bytes = new Uint8Array(Math.min(BUFFER, end - at));
    const inside = Math.max(0, Math.min(bytes.length, source.size - at));
    await attempt('error while reading from input image file', () => source.read(at, bytes.subarray(0, inside)));
    await attempt('error while writing to output image file', () => target.write(at - start, bytes));
  }
}

async function attempt(what: string, body: () => Promise<unknown>): Promise<void> {
  try {
    await body();
  } catch (error) {
    throw error instanceof DiskError ? new Failure(`${what}: ${requestText(error)}`) : error;
  }
}
