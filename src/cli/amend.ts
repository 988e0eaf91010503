/** `amend`: options of an image that exists. `-o help` lists them. */
import { amend, DiskError } from '../index.ts';
import { requireFormat } from './create.ts';
import { asksForHelp, type KnownOption, parseImageOptions, printOptions, requireOptionLists } from './create-options.ts';
import { printUsage } from './help.ts';
import { cacheMode, withImages } from './images.ts';
import { parseOptions } from './options.ts';
import { Progress } from './progress.ts';
import { askSecrets, takeObjects } from './secrets.ts';
import { Failure, misuse, type Terminal } from './terminal.ts';
import { imageText } from './words.ts';

/** Options about key slots, by the names that the format luks has for them. */
const LUKS: readonly KnownOption[] = [
  { name: 'state', type: 'text', help: 'active adds a passphrase, inactive erases key slots' },
  { name: 'new-secret', type: 'text', help: 'id of the secret to add' },
  { name: 'old-secret', type: 'text', help: 'id of the secret whose key slots are erased' },
  { name: 'keyslot', type: 'number', help: 'the key slot: 0 to 7' },
  { name: 'iter-time', type: 'number', help: 'milliseconds that unlocking with the new passphrase is to take' },
];

/** By format: names and types of the options. */
const AMENDABLE: Readonly<Record<string, readonly KnownOption[]>> = {
  qcow2: [
    { name: 'size', type: 'size', help: 'virtual disk size' },
    { name: 'compat', type: 'text', help: 'version: 1.1 (v3) or 0.10 (v2)' },
    { name: 'backing_file', type: 'text', help: 'only the name it has: rebase changes it' },
    { name: 'backing_fmt', type: 'text', help: 'only the format it has' },
    { name: 'data_file', type: 'text', help: 'name of the external data file' },
    { name: 'data_file_raw', type: 'flag', help: 'off: the data file need no longer be a raw image' },
    { name: 'lazy_refcounts', type: 'flag', help: 'allow lazy reference counts' },
    { name: 'refcount_bits', type: 'number', help: 'bits in a reference count: 1 to 64, a power of two' },
    ...LUKS.map((option) => ({ ...option, name: `encrypt.${option.name}` })),
  ],
  luks: LUKS,
};

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
      await change(() =>
        amend(disk, {
          options: Object.fromEntries(read(disk.format, lists)),
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

function amendable(format: string): readonly KnownOption[] {
  const known = AMENDABLE[format];
  if (!known) throw new Failure(`Format driver '${format}' does not support option amendment`);
  return known;
}

/** The options as `amend` takes them. One that only `create` knows is told apart from one that nobody knows. */
function read(format: string, lists: readonly string[]): ReturnType<typeof parseImageOptions> {
  try {
    return parseImageOptions(format, lists, amendable(format));
  } catch (error) {
    if (!(error instanceof Failure) || !AMENDABLE[format]) throw error;
    try {
      parseImageOptions(format, lists);
    } catch {
      throw error;
    }
    throw new Failure(`${error.message}\nThis option is only supported for image creation`);
  }
}

async function change(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    throw new Failure(
      error.field === 'size' && error.message.includes('multiple of 512') ? 'The new size must be a multiple of 512' : imageText(error),
    );
  }
}
