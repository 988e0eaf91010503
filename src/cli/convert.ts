/**
 * `convert`: one or more images into a new one, or with -n into an existing one. The sources are opened first; a target file that is part
 * of one of them (or of a backing file of theirs) is refused before it is touched.
 */
import { APPLIANCE, type ConvertOptions, convert, type Disk, DiskError, PLAIN_FORMAT, runAsync, writeOva } from '../index.ts';
import { countData } from '../qemu.ts';
import { nodeFileStorage, READING } from '../storage/node-file.ts';
import { copyBitmaps, requireBitmaps } from './bitmap.ts';
import { nodeCompressor } from './compression.ts';
import { asksForHelp, type ImageOptions, makeImage, parseImageOptions, printOptionHelp, requireOptionLists } from './create-options.ts';
import { formatNamed, requireCreation, requireFormat } from './formats.ts';
import { printUsage } from './help.ts';
import { cacheMode, type Images, namedImage, requireCreatable, withImages } from './images.ts';
import { askSecrets, takeObjects } from './objects.ts';
import { type Options, parseOptions } from './options.ts';
import { Progress } from './progress.ts';
import { readSize, sizeArgument, wholeSectors } from './sizes.ts';
import { Failure, type Terminal, warn } from './terminal.ts';
import { imageText, requestText } from './words.ts';

const MAX_SPARSE = 16 * 1024 * 1024;

/** Runs `convert`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'hf:O:B:CcF:o:l:S:pt:T:qnm:WUr:',
    long: {
      help: 'h',
      object: 'object:',
      'image-opts': 'image-opts',
      'target-image-opts': 'target-image-opts',
      'force-share': 'U',
      'target-is-zero': 'target-is-zero',
      salvage: 'salvage',
      bitmaps: 'bitmaps',
      'skip-broken-bitmaps': 'skip-broken-bitmaps',
    },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'convert');
  const plan = readPlan(options);
  if (asksForHelp(plan.lists)) {
    printOptionHelp(terminal, requireFormat(plan.format));
    return 0;
  }
  cacheModes(options);
  const convertAll = plan.format === APPLIANCE ? convertToAppliance : convertImages;
  const progress = new Progress(terminal, options.has('p') && !options.has('q'));
  progress.start();
  try {
    const status = await withImages(terminal, (images) => convertAll(images, plan, progress), { background: true });
    progress.finish();
    return status;
  } finally {
    progress.end();
  }
}

/** The wanted conversion, checked as far as the command line's text allows. */
interface Plan {
  readonly options: Options;
  readonly lists: readonly string[];
  readonly format: string;
  readonly sources: readonly string[];
  readonly target: string;
  readonly sparse: number;
  /** Bytes a second; 0: no limit. */
  readonly rate: number;
  readonly snapshot: SnapshotChoice | undefined;
  /** -n: the target exists. */
  readonly existing: boolean;
  readonly backing: string | undefined;
}

function readPlan(options: Options): Plan {
  const lists = options.all('o');
  requireOptionLists(lists);
  const sparse = sparseArgument(options.last('S'));
  const snapshot = snapshotArgument(options.last('l'));
  coroutineCount(options.last('m'));
  const rate = sizeArgument(options.last('r') ?? '0', 'rate limit');
  const { rest } = options;
  if (options.has('C')) refuseWithOffloading(options);
  if (options.has('skip-broken-bitmaps') && !options.has('bitmaps')) throw new Failure('Use of --skip-broken-bitmaps requires --bitmaps');
  const help = asksForHelp(lists);
  if (rest.length < 2 && !help) throw new Failure('Must specify image file name');
  const existing = options.has('n');
  if (options.has('target-image-opts') && !existing) throw new Failure('--target-image-opts requires use of -n flag');
  if (options.has('target-is-zero') && !existing) throw new Failure('--target-is-zero requires use of -n flag');
  if (existing && lists.length > 0) throw new Failure('-o has no effect when skipping image creation');
  return {
    options,
    lists,
    format: options.last('O') ?? PLAIN_FORMAT,
    sources: rest.slice(0, -1),
    target: rest.at(-1) ?? '',
    sparse,
    rate,
    snapshot,
    existing,
    backing: options.last('B'),
  };
}

/** Refuses options that contradict -C. */
function refuseWithOffloading(options: Options): void {
  if (options.has('S')) throw new Failure('Cannot enable copy offloading when -S is used');
  if (options.has('c')) throw new Failure('Cannot enable copy offloading when -c is used');
  if (options.has('salvage')) throw new Failure('Cannot use copy offloading in salvaging mode');
}

function sparseArgument(text: string | undefined): number {
  if (text === undefined) return 4096;
  const what = 'buffer size for sparse output';
  const size = readSize(text);
  if (size === 'not-a-size') return sizeArgument(text, what);
  if (size === 'too-large' || size % 512 !== 0 || size > MAX_SPARSE)
    throw new Failure(
      `Invalid ${what} specified. Valid sizes are multiples of 512 up to ${MAX_SPARSE}. Select 0 to disable sparse detection (fully allocates output).`,
    );
  return size;
}

/** A snapshot as `-l` names it: by id or name, or by one or both of them. */
export type SnapshotChoice = string | { readonly id: string | undefined; readonly name: string | undefined };

/** `ID_OR_NAME`, or `snapshot.id=…,snapshot.name=…`, of which one is enough. */
export function snapshotArgument(text: string | undefined): SnapshotChoice | undefined {
  if (!text?.startsWith('snapshot.')) return text;
  const named = new Map(text.split(',').map((item) => item.split('=', 2) as [string, string | undefined]));
  for (const key of named.keys())
    if (key !== 'snapshot.id' && key !== 'snapshot.name')
      throw new Failure(`Invalid parameter '${key}'\nFailed in parsing snapshot param '${text}'`, { everyLine: true });
  return { id: named.get('snapshot.id'), name: named.get('snapshot.name') };
}

function coroutineCount(text: string | undefined): void {
  if (text === undefined) return;
  const count = /^\d+$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > 16) throw new Failure('Invalid number of coroutines. Allowed number of coroutines is between 1 and 16');
}

/** `-O ova`: an appliance with one disk, for VMware's programs and VirtualBox. QEMU has nothing of the kind. */
async function convertToAppliance(images: Images, { options, sources, target, snapshot, rate }: Plan, progress: Progress): Promise<number> {
  const [path = ''] = sources;
  if (sources.length > 1) throw new Failure('An appliance has one disk: convert one image');
  for (const [letter, what] of Object.entries(NOT_OF_APPLIANCES))
    if (options.has(letter)) throw new Failure(`${what} has no meaning for -O ${APPLIANCE}`);
  requireCreatable(target);
  const { disk } = await images.open({ ...namedImage(path, options), readOnly: true, permissions: READING });
  const source = snapshot === undefined ? disk : await openSnapshot(images, disk, path, snapshot);
  if (images.uses(target)) throw new Failure(`${target}: error while converting ${APPLIANCE}: the target is the source`);
  const file = nodeFileStorage(target, { create: 'truncate', background: true });
  const name = target.replace(/^.*[/\\]/s, '').replace(/\.ova$/i, '');
  try {
    await writeOva(source, file, { name, rate, onProgress: progress.update, ...salvaging(images.terminal, options) });
  } catch (error) {
    throw copyFailure(error, target, 0);
  } finally {
    await runAsync(file.close());
  }
  return 0;
}

/** Options of an image that is made, or of how it is filled. */
const NOT_OF_APPLIANCES = { o: '-o', B: '-B', c: '-c', C: '-C', n: '-n', S: '-S', bitmaps: '--bitmaps' };

async function convertImages(images: Images, plan: Plan, progress: Progress): Promise<number> {
  const { options } = plan;
  const { cache, sourceCache } = cacheModes(options);
  const sources: Disk[] = [];
  // A snapshot has no bitmaps of its own: those of its image are meant.
  let withBitmaps: Disk | undefined;
  for (const path of plan.sources) {
    const { disk } = await images.open({
      ...namedImage(path, options),
      readOnly: true,
      cache: sourceCache,
      permissions: READING,
    });
    withBitmaps ??= options.has('bitmaps') ? disk : undefined;
    sources.push(plan.snapshot === undefined ? disk : await openSnapshot(images, disk, path, plan.snapshot));
  }
  if (withBitmaps) {
    if (sources.length > 1) throw new Failure('Copying bitmaps only possible with single source');
    await requireBitmaps(withBitmaps, { skipBroken: options.has('skip-broken-bitmaps') });
  }
  const total = sources.reduce((sum, disk) => sum + wholeSectors(disk.size), 0);
  const target = plan.existing ? await openTarget(images, plan, total, cache) : await newTarget(images, plan, total, cache);
  if (withBitmaps && !target.bitmaps.supported) throw new Failure(`Format driver '${target.format}' does not support bitmaps`);
  // A new target has a backing file only if the command names one: it then gives the bytes that the source leaves to its own.
  const overBacking = plan.backing !== undefined || (!plan.existing && (await target.info())['backing-filename'] !== undefined);
  await copyAll(images.terminal, plan, { sources, target, overBacking, progress, total });
  if (withBitmaps) await copyBitmaps(images.terminal, withBitmaps, target);
  return 0;
}

interface Copy {
  readonly sources: readonly Disk[];
  readonly target: Disk;
  readonly overBacking: boolean;
  readonly progress: Progress;
  readonly total: number;
}

async function copyAll(terminal: Terminal, plan: Plan, { sources, target, overBacking, progress }: Copy): Promise<void> {
  const { options, sparse, rate } = plan;
  const how: ConvertOptions = {
    sparse,
    rate,
    targetIsZero: options.has('target-is-zero'),
    targetIsNew: !plan.existing && !overBacking,
    topOnly: overBacking,
    compressed: options.has('c'),
    compressor: (how) => nodeCompressor(how, terminal.threadScript),
    asIs: options.has('C'),
    ...salvaging(terminal, options),
  };
  let targetOffset = 0;
  try {
    // Progress counts data, so the amount must be known beforehand.
    let [done, all] = [0, 0];
    for (const source of sources) all += await countData(source, how);
    const onData = (bytes: number) => {
      done += bytes;
      progress.update(done, all);
    };
    for (const source of sources) {
      await convert(source, target, { ...how, targetOffset, onData });
      targetOffset += wholeSectors(source.size);
    }
  } catch (error) {
    throw copyFailure(error, plan.target, targetOffset);
  }
}

function salvaging(terminal: Terminal, options: Options): Pick<ConvertOptions, 'salvage' | 'onUnreadable'> {
  if (!options.has('salvage')) return {};
  if (options.has('q')) return { salvage: true };
  return {
    salvage: true,
    onUnreadable: (what, offset, error) =>
      warn(terminal, `error while reading ${what === 'status' ? 'block status at ' : ''}offset ${offset}: ${requestText(error)}`),
  };
}

/** The failed step and its place, in QEMU's words. */
function copyFailure(error: unknown, target: string, sourceStart: number): unknown {
  if (!(error instanceof DiskError)) return error;
  const { step, offset = 0 } = error;
  if (step === 'source status') return new Failure(`error while reading block status at offset ${offset}: ${requestText(error)}`);
  if (step === 'source') return new Failure(`error while reading at byte ${sourceStart + offset}: ${requestText(error)}`);
  if (step === 'target') return new Failure(`error while writing at byte ${offset}: ${requestText(error)}`);
  return new Failure(`error while copying to '${target}': ${requestText(error)} (${error.message})`);
}

/** Opens a snapshot by id or name, to be closed with the other images. */
export async function openSnapshot(images: Images, disk: Disk, path: string, choice: SnapshotChoice): Promise<Disk> {
  const failed = 'Failed to load snapshot';
  if (!disk.snapshots.supported)
    throw new Failure(`${failed}: Block format '${disk.format}' used by device '' does not support temporarily loading internal snapshots`);
  const list = await disk.snapshots.list();
  const matches = ({ id, name }: { id: string; name: string }) =>
    typeof choice !== 'string' && (choice.id ?? id) === id && (choice.name ?? name) === name;
  const id = typeof choice === 'string' ? choice : list.find(matches)?.id;
  if (id === undefined) throw new Failure(`${failed}: Can't find snapshot`);
  try {
    const view = await disk.snapshots.open(id);
    images.adopt(view, path);
    return view;
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    throw new Failure(`${failed}: ${error.kind === 'not-found' ? "Can't find snapshot" : imageText(error)}`);
  }
}

type Cache = ReturnType<typeof cacheMode>;

/** -t and -T. A target is of no use before it is complete, so by default no flush of it is waited for, as in QEMU. */
function cacheModes(options: Options): { cache: Cache; sourceCache: Cache } {
  const sourceCache = cacheMode(options.last('T'), 'source cache option');
  return { cache: cacheMode(options.last('t')) ?? 'unsafe', sourceCache };
}

async function openTarget(images: Images, plan: Plan, total: number, cache: Cache): Promise<Disk> {
  const imageOpts = plan.options.has('target-image-opts');
  const format = imageOpts ? plan.options.last('O') : plan.format;
  const { disk } = await images.open({ path: plan.target, imageOpts, format, readOnly: false, cache });
  if (disk.size < total) throw new Failure('output file is smaller than input file');
  return disk;
}

async function newTarget(images: Images, plan: Plan, total: number, cache: Cache): Promise<Disk> {
  const { format, target } = plan;
  requireFormat(format);
  requireCreation(format);
  requireCreatable(target);
  const image = targetOptions(plan, total);
  if (plan.options.has('c')) requireCompression(format, image);
  refuseOverwriting(images, plan);
  if (image.has('data_file')) refuseOverwriting(images, plan, String(image.get('data_file')));
  const { resolve, files } = images.chain(target);
  try {
    const secret = askSecrets(images.terminal);
    const disk = await makeImage({
      path: target,
      format,
      options: image,
      resolve,
      secret,
      background: true,
      inOrder: true,
      ...(cache ? { cache } : {}),
    });
    images.adopt(disk, target);
    return disk;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const backing = files.length > 1;
    throw new Failure(
      backing
        ? `Could not open '${target}': Could not open backing file: ${error.message}`
        : `${target}: error while converting ${format}: ${error.message}`,
    );
  }
}

function targetOptions(plan: Plan, total: number): ImageOptions {
  const { format, lists, options, backing, sources } = plan;
  const image = parseImageOptions(format, lists);
  image.set('size', total);
  const backingFormat = options.last('F');
  const { capabilities } = formatNamed(format);
  if (!capabilities.backing && backing !== undefined) throw new Failure(`Backing file not supported for file format '${format}'`);
  if (!capabilities.backing && backingFormat !== undefined) throw new Failure(`Backing format not supported for file format '${format}'`);
  if (backing !== undefined) image.set('backing_file', backing);
  if (backingFormat !== undefined) image.set('backing_fmt', backingFormat);
  if (image.has('backing_file') && sources.length > 1)
    throw new Failure('Having a backing file for the target makes no sense when concatenating multiple input images');
  if (image.has('backing_file') && !image.has('backing_fmt')) throw new Failure('Use of backing file requires explicit backing format');
  return image;
}

/** `-c` needs a format that can compress, and nothing allocated beforehand. */
function requireCompression(format: string, image: ImageOptions): void {
  const { capabilities, encryption } = formatNamed(format);
  if (!capabilities.compressedWrite) throw new Failure('Compression not supported for this file format');
  if (encryption?.turnedOnBy.some((name) => (image.get(name) ?? false) !== false))
    throw new Failure('Compression and encryption not supported at the same time');
  if ((image.get('preallocation') ?? 'off') !== 'off') throw new Failure('Compression and preallocation not supported at the same time');
}

/** If there are locks, they prevent this, with the same words; without them the source would be emptied. */
function refuseOverwriting(images: Images, { target, format }: Plan, path = target): void {
  if (images.uses(path))
    throw new Failure(`${target}: error while converting ${format}: Failed to get "write" lock\nIs another process using the image [${path}]?`);
}
