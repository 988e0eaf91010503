/** `amend`: options of an image that exists. `-o help` lists them. */
import { allFormats, amend, type DeclaredOption, DiskError } from '../index.ts';
import { asksForHelp, parseImageOptions, printOptions, requireOptionLists } from './create-options.ts';
import { requireFormat } from './formats.ts';
import { printUsage } from './help.ts';
import { cacheMode, withImages } from './images.ts';
import { askSecrets, takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { Progress } from './progress.ts';
import { Failure, misuse, type Terminal } from './terminal.ts';
import { imageText } from './words.ts';

/** The options that can be changed later in a format's images, as its descriptor lists them; undefined if there is no such format or it has none. */
const optionsOf = (format: string): readonly DeclaredOption[] | undefined => allFormats.find(({ name }) => name === format)?.amendOptions;

/** Runs `amend`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'ho:f:t:pq',
    long: { help: 'h', object: 'object:', 'image-opts': 'image-opts', force: 'force' },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'amend');
  const lists = options.all('o');
  requireOptionLists(lists);
  if (lists.length === 0) throw misuse('Must specify options (-o)');
  const format = options.last('f');
  const [path] = options.rest;
  if (asksForHelp(lists) && format !== undefined) return printHelp(terminal, requireFormat(format));
  if (path === undefined || options.rest.length > 1) throw new Failure('Expecting one image file name');
  const progress = new Progress(terminal, options.has('p') && !options.has('q'));
  try {
    return await withImages(terminal, async (images) => {
      const { disk } = await images.open({
        path,
        format,
        imageOpts: options.has('image-opts'),
        readOnly: false,
        cache: cacheMode(options.last('t')),
      });
      if (asksForHelp(lists)) return printHelp(terminal, disk.format);
      progress.start();
      const asked = read(disk.format, lists);
      await change(asked.get('size'), () =>
        amend(disk, {
          options: Object.fromEntries(asked),
          force: options.has('force'),
          secret: askSecrets(terminal),
          onProgress: progress.update,
        }),
      );
      progress.finish();
      return 0;
    });
  } finally {
    progress.end();
  }
}

function printHelp(terminal: Terminal, format: string): number {
  const options = amendable(format);
  terminal.out(`Amend options for '${format}':\n`);
  printOptions(terminal, options);
  return 0;
}

function amendable(format: string): readonly DeclaredOption[] {
  const known = optionsOf(format);
  if (!known) throw new Failure(`Format driver '${format}' does not support option amendment`);
  return known;
}

/** The options as `amend` takes them. An option that only `create` knows gets another error than an unknown one. */
function read(format: string, lists: readonly string[]): ReturnType<typeof parseImageOptions> {
  try {
    return parseImageOptions(format, lists, amendable(format));
  } catch (error) {
    if (!(error instanceof Failure) || !optionsOf(format)) throw error;
    try {
      parseImageOptions(format, lists);
    } catch {
      throw error;
    }
    throw new Failure(`${error.message}\nThis option is only supported for image creation`);
  }
}

async function change(size: unknown, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    throw new Failure(error.field === 'size' && Number(size) % 512 !== 0 ? 'The new size must be a multiple of 512' : imageText(error));
  }
}
