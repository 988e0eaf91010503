/**
 * `compact`: an image written anew without the space that it does not need, and put in the place of the old one. A verb that qemu-img does not have.
 *
 * Crash argument: the new file stands beside the old one under a name of its own until it is checked and durable; then one rename puts it in the old one's
 * place. A cut leaves the old image or the new one, and before the rename the unfinished file, which the next call names.
 */
import { chmodSync, closeSync, existsSync, fsyncSync, openSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { compact, type Disk, DiskError, formatSize, runAsync } from '../index.ts';
import { nodeFileStorage } from '../storage/node-file.ts';
import { systemPath } from '../storage/system-path.ts';
import { printUsage } from './help.ts';
import { type Images, namedImage, readOptions, withImages } from './images.ts';
import { onlyFile } from './info.ts';
import { askSecrets, takeObjects } from './objects.ts';
import { type Options, parseOptions } from './options.ts';
import { Progress } from './progress.ts';
import { Failure, type Terminal } from './terminal.ts';
import { imageText } from './words.ts';

/** Runs `compact`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, { short: 'hf:pq', long: { help: 'h', format: 'f:', object: 'object:', 'image-opts': 'image-opts' } });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'compact');
  const path = onlyFile(options);
  const progress = new Progress(terminal, options.has('p') && !options.has('q'));
  progress.start();
  try {
    const { before, after } = await replaced(terminal, path, options, progress);
    progress.finish();
    if (!options.has('q')) terminal.out(`Image compacted: ${formatSize(after)} in place of ${formatSize(before)}.\n`);
    return 0;
  } finally {
    progress.end();
  }
}

/** Bytes of the file before and after. */
interface Sizes {
  readonly before: number;
  readonly after: number;
}

async function replaced(terminal: Terminal, path: string, options: Options, progress: Progress): Promise<Sizes> {
  let sizes: Sizes = { before: 0, after: 0 };
  await withImages(terminal, async (images) => {
    sizes = await replace(images, path, options, progress);
    return 0;
  });
  return sizes;
}

async function replace(images: Images, path: string, options: Options, progress: Progress): Promise<Sizes> {
  // For writing: so no other program has it open.
  const { disk } = await images.open({ ...namedImage(path, options), readOnly: false });
  const old = realpathSync(systemPath(disk.files[0] ?? path)).toString();
  const unfinished = join(dirname(old), `.${basename(old)}.compact`);
  if (existsSync(unfinished)) throw new Failure(`${unfinished} is left of a compaction that was cut short: remove it`);
  const { size: before, mode } = statSync(old);
  try {
    await writeAnew(images.terminal, disk, unfinished, { options, path, progress });
    chmodSync(unfinished, mode & 0o7777);
    const { size: after } = statSync(unfinished);
    renameSync(unfinished, old);
    makeDurable(dirname(old));
    return { before, after };
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error instanceof DiskError ? new Failure(`Could not compact '${path}': ${imageText(error)}`) : error;
  }
}

interface Means {
  readonly options: Options;
  readonly path: string;
  readonly progress: Progress;
}

async function writeAnew(terminal: Terminal, disk: Disk, file: string, { options, path, progress }: Means): Promise<void> {
  const stated = options.has('image-opts') ? readOptions(path, { implied: 'file' }) : undefined;
  const id = stated?.text('encrypt.key-secret') ?? stated?.text('key-secret');
  const ask = askSecrets(terminal);
  const target = nodeFileStorage(file, { create: 'must-not-exist' });
  try {
    await compact(disk, target, {
      secret: (request) => ask({ ...request, ...(id === undefined ? {} : { id }) }),
      onProgress: progress.update,
    });
  } finally {
    await runAsync(target.close());
  }
}

/** Renaming is durable with the folder. */
function makeDurable(folder: string): void {
  const descriptor = openSync(folder, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
