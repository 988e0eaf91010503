/**
 * Opening a chain of images. Nothing opens by itself: a backing or data file named in an image is opened only through the caller's
 * `resolve`. Chains have a depth limit and cycles are refused. A layer whose format had to be guessed may not name further
 * files, because a guest could have written that header itself.
 */
import { COUNT, either, FLAG, FUNCTION, type Members, oneOf, TEXT } from '../base/arguments.ts';
import { asDiskError, DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import type { OptionSet } from '../base/options.ts';
import { joined, NOTHING } from '../base/permissions.ts';
import { everyFormat } from '../formats/all-on-demand.ts';
import type { FormatDescriptor } from '../formats/descriptor.ts';
import type { BackingReference, ImageDriver } from '../formats/driver.ts';
import { findFormat, probeFormat, probeStorage } from '../formats/registry.ts';
import { PLAIN_FORMAT } from '../formats/roles.ts';
import { anyAlignment } from '../layers/align.ts';
import { type CacheFlags, type CacheMode, cacheFlags } from '../node/cache-mode.ts';
import { BlockNode, type NodeOptions } from '../node/node.ts';
import { ofItself, permitBacking } from '../node/permissions.ts';
import type { DetectZeroes } from '../node/zero-range.ts';
import { closeAll, readBytes, STORAGE, type Storage } from '../storage/storage.ts';
import { bare, dataFileOpener, forWriting, sameBytes } from './data-file.ts';
import { CACHE, FORMATS, SECRET, STORAGE_TO_BE } from './kinds.ts';
import type { Reference, Resolve, Resolved } from './reference.ts';
import { askSecret, type Secret, type SecretCallback } from './secrets.ts';

/** Images in one chain, the active one included. */
export const MAX_CHAIN_DEPTH = 128;

/** The options of `openDisk`. */
export interface OpenOptions {
  /** QEMU name of the format. Without it the format is probed, and a probed raw disk refuses to turn into another format. */
  readonly format?: string;
  /** Refuses every change; default: whether the storage does. */
  readonly readOnly?: boolean;
  /** Opens backing and data files. Without it an image that names such a file is refused, and the error names the file. */
  readonly resolve?: Resolve;
  /** The image's external data file, in place of the one that `resolve` would give. Belongs to the disk like the image itself. */
  readonly dataStorage?: Storage;
  /** Leaves the backing file closed: bytes that are not in this image read as zero. Only with `readOnly`. */
  readonly noBacking?: boolean;
  /** Opens for `check` with repair, in spite of any damage; other changes are refused until a repair has succeeded. */
  readonly repair?: boolean;
  /** Called with the damage found in an image that was not closed properly (opening for writing repairs it), and if an image is marked corrupt. With `warning`, another program has dropped a part of the image's information. */
  readonly onDamage?: (message: string, warning?: boolean) => void;
  /** How many images down one may be written too: 1 for the backing file. For `commit`, whose base it is; default none. */
  readonly writableBacking?: number;
  /** The passphrase of encrypted images: one for all of the chain, or a function that is asked for each. */
  readonly secret?: Secret | SecretCallback;
  /**
   * Opens for facts only: an encrypted image opens without its passphrase, a data file stays closed, and guest data cannot be read. Only with
   * `readOnly`.
   */
  readonly noData?: boolean;
  /** An encrypted image whose passphrase is missing opens all the same; guest bytes are refused until `Disk.setKey`. */
  readonly keyLater?: boolean;
  /** When writes become durable, and which caches are used (node/cache-mode.ts); default `writeback`: at `flush`. */
  readonly cache?: CacheMode | CacheFlags;
  /**
   * Turns a write of nothing but zeros into a request for zeros, which takes no space if the format can store it so; `unmap` also gives back the
   * space used before. Default: zeros are data like any other. Backing files are never concerned.
   */
  readonly detectZeroes?: DetectZeroes;
  /**
   * Writes are thrown away when the disk is closed: they go to a temporary overlay, in memory (`true`) or in an empty storage (made with
   * `temporaryStorage`, so that it vanishes too), and the image is only read. The disk is then that overlay, in whole sectors.
   */
  readonly snapshot?: boolean | Storage | PromiseLike<Storage>;
  /** The formats to choose from; default all. */
  readonly formats?: readonly FormatDescriptor[];
}

/** Every option of `openDisk`, as a list that the compiler compares with the interface. */
export const OPEN_OPTIONS: Members<OpenOptions> = {
  format: TEXT,
  readOnly: FLAG,
  resolve: FUNCTION,
  dataStorage: STORAGE,
  noBacking: FLAG,
  repair: FLAG,
  onDamage: FUNCTION,
  writableBacking: COUNT,
  secret: SECRET,
  noData: FLAG,
  keyLater: FLAG,
  cache: CACHE,
  detectZeroes: oneOf('on', 'unmap'),
  snapshot: either(FLAG, STORAGE_TO_BE),
  formats: FORMATS,
};

/** Each image of a chain, the active one first: its own file, then its data file. */
export type ChainFiles = readonly (readonly Storage[])[];

/** Further options, given by `graph/graph.ts`. */
export interface ChainOptions extends OpenOptions {
  /** Options of the format; see `OpenParameters`. */
  readonly options?: OptionSet;
  /** Opens the image below in place of `resolve`. `chain` are the files of the images above; the last are those of the image that names the one below. */
  readonly openBacking?: (driver: ImageDriver, chain: ChainFiles) => Io<BlockNode | undefined>;
  readonly node?: Pick<NodeOptions, 'keepSpace' | 'forgotten'>;
}

/** Opens an image and its backing chain. The node owns the storages; if opening fails those of backing and data files are closed again. */
export function* openChain(given: Storage, options: ChainOptions, above: ChainFiles = []): Io<BlockNode> {
  const storage = anyAlignment(given);
  const formats = options.formats ?? (yield* everyFormat());
  const cache = cacheFlags(options.cache);
  const readOnly = options.readOnly ?? storage.readOnly;
  if (!readOnly && storage.readOnly) throw new DiskError('read-only', `${storage.name} can only be read: open it with readOnly`);
  if (options.noBacking && !readOnly)
    throw new DiskError('refused', 'noBacking needs readOnly: writes would copy zeros in place of the backing file');
  if (options.noData && !readOnly) throw new DiskError('refused', 'noData needs readOnly: an image whose data is out of reach cannot be written');
  const secret = askSecret(options.secret);
  const probed = options.format === undefined;
  const descriptor = options.format === undefined ? yield* probeStorage(formats, storage) : findFormat(formats, options.format);
  if (!descriptor.open)
    throw new DiskError('unsupported', `${storage.name} is a ${descriptor.title} (${descriptor.name}), which is not supported yet`, {
      format: descriptor.name,
    });
  if (!readOnly && !descriptor.capabilities.write)
    throw new DiskError('read-only', `${descriptor.name}: this format can only be read`, { format: descriptor.name });
  // Before the header is read: while another program writes, its contents may change.
  const permissions = ofItself(descriptor, { readOnly, noData: options.noData });
  if (storage.permit) yield* storage.permit(permissions);
  const files: Storage[] = [];
  const guessedLayer = probed && above.length > 0;
  const request = { ...options, from: storage.name, readOnly, guessed: guessedLayer, noFlush: cache.noFlush, taken: [storage, ...above.flat()] };
  try {
    const driver = yield* descriptor.open(readOnly ? storage : forWriting(storage, cache), {
      readOnly,
      dataFile: dataFileOpener(request, files),
      repair: options.repair === true && !readOnly,
      ...(options.onDamage ? { onDamage: options.onDamage } : {}),
      ...(secret ? { secret } : {}),
      ...(options.noData ? { noData: true } : {}),
      ...(options.keyLater ? { keyLater: true } : {}),
      ...(options.options ? { options: options.options } : {}),
    });
    if (options.dataStorage && files.length === 0 && !options.noData)
      throw new DiskError('refused', "'data-file' can only be set for images with an external data file", { field: 'data_file' });
    const chain = [...above, [storage, ...files]];
    const backing = options.noBacking
      ? undefined
      : yield* options.openBacking ? options.openBacking(driver, chain) : openBacking(driver, options, chain, guessedLayer);
    return new BlockNode({
      driver,
      permissions: joined(permissions, driver.permissions ?? NOTHING),
      ...(backing ? { backing } : {}),
      readOnly,
      cache,
      ...(probed && descriptor.plain ? { guard: refuseNewFormat(formats) } : {}),
      owned: true,
      detectZeroes: options.detectZeroes,
      ...options.node,
    });
  } catch (error) {
    yield* closeAll(files);
    if (options.dataStorage) yield* options.dataStorage.close();
    throw error;
  }
}

function* openBacking(driver: ImageDriver, options: OpenOptions, chain: ChainFiles, guessed: boolean): Io<BlockNode | undefined> {
  const { backing } = driver;
  if (!backing) return undefined;
  const place = { format: driver.format, field: 'backing_file' };
  const quoted = JSON.stringify(backing.name);
  if (guessed)
    throw new DiskError(
      'refused',
      `The format of ${driver.storage.name} was guessed, so its backing file ${quoted} is not opened: state the format`,
      place,
    );
  if (!options.resolve)
    throw new DiskError('refused', `${driver.storage.name} needs the backing file ${quoted}: pass a resolve function that opens it`, place);
  if (chain.length >= MAX_CHAIN_DEPTH) throw new DiskError('refused', `The backing chain is deeper than ${MAX_CHAIN_DEPTH} images`, place);
  return yield* openReference(backing, { ...options, resolve: options.resolve, from: driver.storage.name, above: chain });
}

/** The image that names another, and the chain it belongs to. */
export interface ReferenceOptions extends Omit<OpenOptions, 'format' | 'readOnly' | 'noBacking'> {
  readonly resolve: Resolve;
  /** Name of the storage of the image that names the file. */
  readonly from: string;
  /** The images above; the file must not be one of them. */
  readonly above: ChainFiles;
  /** Open images: if one of them is over the same storage, it is returned and nothing is opened. */
  readonly known?: readonly BlockNode[];
}

/** Opens a backing file through `resolve`, with its own chain. */
export function* openReference(backing: BackingReference, options: ReferenceOptions): Io<BlockNode> {
  const { resolve, from, above, known = [], writableBacking } = options;
  const writable = writableBacking === above.length;
  const reference: Reference = { kind: 'backing', ...(writable ? { writable } : {}), name: backing.name, from };
  const resolved = yield* wait(askFor(backing.format === undefined ? reference : { ...reference, format: backing.format }, resolve));
  const { storage, format = backing.format } = 'storage' in resolved ? resolved : { storage: resolved };
  const found = known.find(({ driver }) => sameBytes(driver.storage, storage));
  if (found) {
    if (bare(found.driver.storage) !== storage) yield* storage.close();
    return found;
  }
  try {
    if (above.flat().some((one) => sameBytes(one, storage)))
      throw new DiskError('refused', `The backing file ${JSON.stringify(backing.name)} is in the chain already: the chain is a cycle`, {
        field: 'backing_file',
      });
    const { format: _, noBacking: __, dataStorage: ___, detectZeroes: ____, snapshot: _____, ...rest }: OpenOptions = options;
    // Write-through is the task of the top image, as in QEMU.
    const cache = { ...cacheFlags(options.cache), writeback: true };
    const node = yield* openChain(storage, { ...rest, cache, readOnly: !writable, ...(format ? { format } : {}) }, above);
    yield* permitBacking(node, NOTHING);
    return node;
  } catch (error) {
    if (!above.flat().some((one) => bare(one) === storage)) yield* storage.close();
    throw error;
  }
}

/** The storage that `resolve` gives for a backing file, or a `DiskError` that names the file. */
export async function askFor(reference: Reference, resolve: Resolve): Promise<Resolved> {
  try {
    return await resolve(reference);
  } catch (error) {
    throw asDiskError(error, `Cannot open the backing file ${JSON.stringify(reference.name)}`, { field: 'backing_file' });
  }
}

/** The guard of a probed raw disk: its first sector may not begin to look like another format (QEMU refuses this too). */
function refuseNewFormat(formats: readonly FormatDescriptor[]) {
  return function* guard(offset: number, bytes: Uint8Array, node: BlockNode): Io<void> {
    if (offset >= 512) return;
    const head = yield* readBytes(node.driver.storage, 0, Math.min(512, node.size));
    head.set(bytes.subarray(0, head.length - offset), offset);
    const looksLike = probeFormat(formats, head, node);
    if (!looksLike.plain)
      throw new DiskError(
        'refused',
        `This write would make the raw disk look like ${looksLike.name}, and its format was guessed: open it with format: '${PLAIN_FORMAT}' to allow it`,
        { field: 'format', offset },
      );
  };
}
