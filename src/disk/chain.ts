/** Opening a chain of images. What an image may name, and how that is opened, is in named-files.ts. */
import { COUNT, either, FLAG, FUNCTION, type Members, oneOf, TEXT } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { OptionSet } from '../base/options.ts';
import { joined, NOTHING } from '../base/permissions.ts';
import { everyFormat } from '../formats/all-on-demand.ts';
import type { FormatDescriptor } from '../formats/descriptor.ts';
import type { FileRequest, ImageDriver } from '../formats/driver.ts';
import { findFormat, probeFormat, probeStorage } from '../formats/registry.ts';
import { PLAIN_FORMAT } from '../formats/roles.ts';
import { anyAlignment } from '../layers/align.ts';
import { type CacheFlags, type CacheMode, cacheFlags } from '../node/cache-mode.ts';
import { BlockNode, type NodeOptions } from '../node/node.ts';
import { ofItself, permitBacking } from '../node/permissions.ts';
import type { DetectZeroes } from '../node/zero-range.ts';
import { readBytes, STORAGE, type Storage } from '../storage/storage.ts';
import { CACHE, FORMATS, SECRET, STORAGE_TO_BE } from './kinds.ts';
import { bare, type ChainFiles, forWriting, isIn, NamedFiles, type OpenedFile, sameBytes } from './named-files.ts';
import type { Resolve } from './reference.ts';
import { askSecret, type Secret, type SecretCallback } from './secrets.ts';

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
  /**
   * Opens an image also over a parent that has changed since the image was made over it, or that is another one, as ids inside of both tell (VHD, VHDX, VMDK,
   * VDI); `onDamage` hears of it. What both hold together may be of no use then. Default: such a parent is refused by its name.
   */
  readonly changedParent?: boolean;
  /**
   * How many images down one may be written too: 1 for the backing file. For `commit`, whose base it is; default none. The image right above that one is opened for
   * writing as well, if it can be, where it notes an id of its parent which changes then.
   */
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
  changedParent: FLAG,
  writableBacking: COUNT,
  secret: SECRET,
  noData: FLAG,
  keyLater: FLAG,
  cache: CACHE,
  detectZeroes: oneOf('on', 'unmap'),
  snapshot: either(FLAG, STORAGE_TO_BE),
  formats: FORMATS,
};

/** How the image below is opened. `driver`: of the image above. `writable`: for writing. */
export interface BelowHow {
  readonly driver: ImageDriver;
  readonly writable: boolean;
}

/** Opens the image below. Without a request the image above names none. */
export type OpenBelow = (request: FileRequest | undefined, named: NamedFiles, how: BelowHow) => Io<BlockNode | undefined>;

/** Further options, for other parts of the engine. */
export interface ChainOptions extends OpenOptions {
  /** Options of the format; see `OpenParameters`. */
  readonly options?: OptionSet;
  /** Opens the image below in place of `resolve`. */
  readonly openBacking?: OpenBelow;
  /** The image below is whatever `openBacking` gives: it is not asked whether it is the one that is meant. */
  readonly anyBacking?: boolean;
  /** See `NamingImage.given`; default: `dataStorage`. */
  readonly given?: readonly OpenedFile[];
  readonly node?: Pick<NodeOptions, 'keepSpace' | 'forgotten'>;
}

/** For `ChainOptions.openBacking`: this image is below, whatever name the image above has for it, or none is. */
export function fixed(node?: BlockNode): OpenBelow {
  return function* () {
    return node;
  };
}

/** Opens an image and its backing chain. The node owns the storages; if opening fails all of them are closed again but the image's own. */
export function* openChain(given: Storage, options: ChainOptions, above: ChainFiles = []): Io<BlockNode> {
  const { resolve, dataStorage, format, readOnly = given.readOnly } = options;
  const named = new NamedFiles({
    own: [anyAlignment(given)],
    above,
    resolve,
    readOnly,
    noFlush: cacheFlags(options.cache).noFlush,
    guessed: format === undefined && above.length > 0,
    given: options.given ?? (dataStorage ? [{ kind: 'data', storage: dataStorage }] : []),
  });
  try {
    if (isIn(above, given)) throw new DiskError('refused', `${given.name} is in the chain already: the chain is a cycle`, { field: 'backing_file' });
    return yield* openOver(named, readOnly, options);
  } catch (error) {
    yield* named.close();
    throw error;
  }
}

function* openOver(named: NamedFiles, readOnly: boolean, options: ChainOptions): Io<BlockNode> {
  const { storage } = named;
  const formats = options.formats ?? (yield* everyFormat());
  const cache = cacheFlags(options.cache);
  if (!readOnly && storage.readOnly) throw new DiskError('read-only', `${storage.name} can only be read: open it with readOnly`);
  if (options.noBacking && !readOnly)
    throw new DiskError('refused', 'noBacking needs readOnly: writes would copy zeros in place of the backing file');
  if (options.noData && !readOnly) throw new DiskError('refused', 'noData needs readOnly: an image whose data is out of reach cannot be written');
  const secret = askSecret(options.secret);
  const probed = options.format === undefined;
  const descriptor = options.format === undefined ? yield* probeStorage(formats, storage) : findFormat(formats, options.format);
  if (!readOnly && !descriptor.capabilities.write)
    throw new DiskError('read-only', `${descriptor.name}: Image is read-only`, { format: descriptor.name });
  // Before the header is read: while another program writes, its contents may change.
  const permissions = ofItself(descriptor, { readOnly, noData: options.noData });
  if (storage.permit) yield* storage.permit(permissions);
  const driver = yield* descriptor.open(readOnly ? storage : forWriting(storage, cache), {
    readOnly,
    openFile: named.openFile,
    ...(readOnly ? {} : { makeFile: named.makeFile }),
    repair: options.repair === true && !readOnly,
    ...(options.onDamage ? { onDamage: options.onDamage } : {}),
    ...(secret ? { secret } : {}),
    ...(options.noData ? { noData: true } : {}),
    ...(options.keyLater ? { keyLater: true } : {}),
    ...(options.options ? { options: options.options } : {}),
  });
  if (!options.noData) named.requireGivenUsed();
  const backing = options.noBacking ? undefined : yield* openBelow(driver, named, options);
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
}

/**
 * Opens the image below, under the first of its names that leads to the one that is meant; where none does and a parent may have changed, under the first that
 * leads to an image. Throws what kept the first name from it.
 */
function* openBelow(driver: ImageDriver, named: NamedFiles, options: ChainOptions): Io<BlockNode | undefined> {
  const { openBacking, changedParent = false, anyBacking = false } = options;
  if (!driver.backing) return yield* (openBacking ?? fixed())(undefined, named, { driver, writable: options.writableBacking === named.chain.length });
  const { otherNames = [], ...request } = driver.backing;
  let failure: { readonly error: unknown } | undefined;
  for (const accept of changedParent ? [meant, changed] : [meant]) {
    for (const name of [request.name, ...otherNames]) {
      let found: BlockNode | undefined;
      try {
        found = yield* openOne({ kind: 'backing', ...request, name }, named, driver, options);
        if (found && !anyBacking) accept(driver, found.driver, options);
        return found;
      } catch (error) {
        failure ??= { error };
        if (found) yield* found.close();
      }
    }
  }
  throw failure?.error;
}

/** Opens the image below for writing, if that is asked for; one that is to be written only to note another id, and cannot be, to be read. */
function* openOne(request: FileRequest, named: NamedFiles, driver: ImageDriver, options: ChainOptions): Io<BlockNode | undefined> {
  const { openBacking, writableBacking } = options;
  function* open(writable: boolean): Io<BlockNode | undefined> {
    if (openBacking) return yield* openBacking(request, named, { driver, writable });
    return yield* openNamed(request, named, { ...options, writable });
  }
  const depth = named.chain.length;
  if (writableBacking === undefined || depth !== writableBacking - 1 || !(yield* notesParents(request, options)))
    return yield* open(depth === writableBacking);
  try {
    return yield* open(true);
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    return yield* open(false);
  }
}

/** True if the image below is of a format whose images note an id of their parents that changes with the contents. */
function* notesParents({ format }: FileRequest, options: ChainOptions): Io<boolean> {
  const formats = options.formats ?? (yield* everyFormat());
  return formats.some(({ name, notesParents: notes }) => notes && name === format);
}

/** Throws if the image below is not the one that is meant. */
function meant(driver: ImageDriver, below: ImageDriver): void {
  try {
    driver.requireBelow?.(below);
  } catch (error) {
    if (!isChanged(error)) throw error;
    const { kind, message, format, field } = error;
    throw new DiskError(kind, `${message}. With \`changedParent\` (changed-parent=on) it opens all the same`, {
      cause: error,
      ...(format === undefined ? {} : { format }),
      ...(field === undefined ? {} : { field }),
    });
  }
}

/** Throws if the image below can be none; tells if it is another one than the one that is meant. */
function changed(driver: ImageDriver, below: ImageDriver, { onDamage }: Pick<ChainOptions, 'onDamage'>): void {
  try {
    driver.requireBelow?.(below);
  } catch (error) {
    if (!isChanged(error)) throw error;
    onDamage?.(`warning: ${error.message}`, true);
  }
}

/** See `ImageDriver.requireBelow`. */
const isChanged = (error: unknown): error is DiskError => error instanceof DiskError && error.kind === 'refused';

/** Opens an image below another one, with its own chain. `known`: open images; one of them over the same bytes is returned, and nothing opened. */
export function* openNamed(
  request: FileRequest,
  named: NamedFiles,
  { writable = false, ...options }: ChainOptions & { readonly writable?: boolean },
  known: readonly BlockNode[] = [],
): Io<BlockNode> {
  const { chain } = named;
  const { storage, format } = yield* named.ask(request, writable ? { writable } : {});
  const found = known.find(({ driver }) => sameBytes(driver.storage, storage));
  if (found) {
    if (bare(found.driver.storage) !== storage) yield* storage.close();
    return found;
  }
  let node: BlockNode | undefined;
  try {
    const { format: _, noBacking: __, dataStorage: ___, given: ____, detectZeroes: _____, snapshot: ______, ...rest } = options;
    // Write-through is the task of the top image, as in QEMU.
    const cache = { ...cacheFlags(options.cache), writeback: true };
    node = yield* openChain(storage, { ...rest, cache, readOnly: !writable, ...(format ? { format } : {}) }, chain);
    yield* permitBacking(node, NOTHING);
    return node;
  } catch (error) {
    if (node) yield* node.close();
    else yield* named.giveBack(storage);
    throw error;
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
