/** `bitmap`: changes to one persistent dirty bitmap of an image, in the order in which they are given; the first failure ends it. */
import { type Disk, DiskError } from '../index.ts';
import { printUsage } from './help.ts';
import { type Images, namedImage, withImages } from './images.ts';
import { takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { sizeArgument } from './sizes.ts';
import { complain, Failure, type Terminal } from './terminal.ts';
import { imageText } from './words.ts';

type Action = 'add' | 'remove' | 'clear' | 'enable' | 'disable' | 'merge';

const ACTIONS: readonly string[] = ['add', 'remove', 'clear', 'enable', 'disable', 'merge'] satisfies Action[];

/** Runs `bitmap`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'b:f:F:g:h',
    long: {
      help: 'h',
      object: 'object:',
      'image-opts': 'image-opts',
      add: 'add',
      remove: 'remove',
      clear: 'clear',
      enable: 'enable',
      disable: 'disable',
      merge: 'merge:',
      'source-file': 'b:',
      'source-format': 'F:',
      granularity: 'g:',
    },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'bitmap');
  const granularity = options.has('g') ? sizeArgument(options.last('g') as string, 'granularity') : 0;
  const actions = options.given.filter(([name]) => ACTIONS.includes(name)) as [Action, string][];
  if (actions.length === 0) throw new Failure(`Need at least one of --add, --remove, --clear, --enable, --disable, or --merge`);
  if (granularity > 0 && !options.has('add')) throw new Failure('granularity only supported with --add');
  if (options.has('F') && !options.has('b')) throw new Failure('-F only supported with -b');
  if (options.has('b') && !options.has('merge')) throw new Failure('Merge bitmap source file only supported with --merge');
  const [path, bitmap, extra] = options.rest;
  if (path === undefined || bitmap === undefined || extra !== undefined) throw new Failure('Expecting filename and bitmap name');
  return withImages(terminal, async (images) => {
    // No guest byte is written, so the backing file is not needed and stays closed.
    const { disk } = await images.open({
      ...namedImage(path, options),
      readOnly: false,
      unsafeBacking: true,
    });
    const source = options.has('b') ? await openSource(images, options.last('b') as string, options.last('F')) : disk;
    for (const [action, value] of actions) {
      try {
        await act(disk, action, { bitmap, granularity, source, merged: value });
      } catch (error) {
        if (!(error instanceof DiskError)) throw error;
        throw new Failure(`Operation ${action} on bitmap ${bitmap} failed: ${reason(error, action, action === 'merge' ? value : bitmap, path)}`);
      }
    }
    return 0;
  });
}

async function openSource(images: Images, path: string, format: string | undefined): Promise<Disk> {
  return (await images.open({ path, format, readOnly: true, noBacking: true })).disk;
}

interface Operands {
  readonly bitmap: string;
  /** 0: the default. */
  readonly granularity: number;
  readonly source: Disk;
  /** The bitmap that `merge` takes from the source. */
  readonly merged: string;
}

function act({ bitmaps }: Disk, action: Action, { bitmap, granularity, source, merged }: Operands): Promise<void> {
  if (action === 'add') return bitmaps.add({ name: bitmap, ...(granularity > 0 ? { granularity } : {}) });
  if (action === 'merge') return bitmaps.merge(bitmap, merged, source);
  return bitmaps[action](bitmap);
}

/** The reason of the failure. A format without bitmaps has none of any name. */
function reason(error: DiskError, action: Action, name: string, path: string): string {
  if (error.kind !== 'unsupported') return imageText(error);
  return action === 'add' ? `Can't store persistent bitmaps to ${path}: Operation not supported` : `Dirty bitmap '${name}' not found`;
}

/** Refuses to copy bitmaps (`convert --bitmaps`) from an image that cannot have any, or has damaged ones. */
export async function requireBitmaps({ bitmaps }: Disk, { skipBroken }: { skipBroken: boolean }): Promise<void> {
  if (!bitmaps.supported) throw new Failure('Source lacks bitmap support');
  const broken = (await bitmaps.list()).findLast(({ inconsistent }) => inconsistent);
  if (broken && !skipBroken)
    throw new Failure(`Cannot copy inconsistent bitmap '${broken.name}'\nTry --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it`);
}

/** Copies every usable bitmap. From the last on, as QEMU does: an image stores new bitmaps with the newest first. */
export async function copyBitmaps(terminal: Terminal, source: Disk, target: Disk): Promise<void> {
  for (const { name, granularity, enabled, inconsistent } of (await source.bitmaps.list()).reverse()) {
    if (inconsistent) {
      complain(terminal, `warning: Skipping inconsistent bitmap '${name}'`);
      continue;
    }
    await attempt(`Failed to create bitmap ${name}`, () => target.bitmaps.add({ name, granularity, enabled }));
    try {
      await attempt(`Failed to populate bitmap ${name}`, () => target.bitmaps.merge(name, name, source));
    } catch (error) {
      await target.bitmaps.remove(name);
      throw error;
    }
  }
}

async function attempt(what: string, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    throw error instanceof DiskError ? new Failure(`${what}: ${imageText(error)}`) : error;
  }
}
