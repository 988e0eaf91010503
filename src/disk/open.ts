/** `openDisk`, `createDisk` and `openOrCreate`: the way in. */

import { check, FLAG, needed, optionsOf, SIZE, TEXT } from '../base/arguments.ts';
import { roundUp } from '../base/bytes.ts';
import { namedOptions } from '../base/declared-options.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync, wait } from '../base/io.ts';
import { SECTOR } from '../base/units.ts';
import type { FormatName, FormatOptions } from '../formats/all.ts';
import { everyFormat } from '../formats/all-on-demand.ts';
import type { CreateParameters, FormatDescriptor } from '../formats/descriptor.ts';
import type { BackingReference, ImageDriver } from '../formats/driver.ts';
import { findFormat, isDriverName } from '../formats/registry.ts';
import { anyAlignment } from '../layers/align.ts';
import { NoFlushStorage } from '../layers/no-flush.ts';
import { cacheFlags } from '../node/cache-mode.ts';
import type { BlockNode } from '../node/node.ts';
import { closeAll, STORAGE, type Storage } from '../storage/storage.ts';
import { OPEN_OPTIONS, type OpenOptions, openChain } from './chain.ts';
import { Disk } from './disk.ts';
import { BACKING, FORMAT_OPTION, STORAGE_TO_BE } from './kinds.ts';
import { NamedFiles, sameBytes } from './named-files.ts';
import type { Resolve } from './reference.ts';
import { askedOnce, askSecret } from './secrets.ts';
import { withTemporary } from './temporary.ts';

const OPEN = optionsOf<OpenOptions>(OPEN_OPTIONS);

/**
 * Opens a disk image. The disk owns the storage and closes it. Throws `wrong-format`, `corrupt` or `unsupported` naming the field;
 * `refused` if the image names a file and no `resolve` was passed.
 */
export function openDisk(storage: Storage | PromiseLike<Storage>, options: OpenOptions = {}): Promise<Disk> {
  return runAsync(open(storage, options));
}

function* open(storage: Storage | PromiseLike<Storage>, options: OpenOptions): Io<Disk> {
  check('openDisk', 'storage', storage, STORAGE_TO_BE);
  const opened = 'then' in storage ? yield* wait(storage) : storage;
  check('openDisk', 'storage', opened, STORAGE);
  try {
    check('openDisk', 'options', options, OPEN);
    return new Disk(yield* openNode(opened, options));
  } catch (error) {
    yield* opened.close();
    throw error;
  }
}

function* openNode(storage: Storage, { snapshot, ...options }: OpenOptions): Io<BlockNode> {
  if (!snapshot) return yield* openChain(storage, options);
  return yield* withTemporary(() => openChain(storage, { ...options, readOnly: true }), snapshot, {
    ...options,
    formats: options.formats ?? (yield* everyFormat()),
  });
}

/** The options of `createDisk` that all formats share. */
export interface CreateBasics extends Omit<OpenOptions, 'format' | 'readOnly' | 'noBacking' | 'noData' | 'dataStorage' | 'repair' | 'snapshot'> {
  /** Bytes. May be left out with a backing file: its size is taken. */
  readonly size?: number;
  /** Stored in the image and opened through `resolve`, like further files that options name, which must be empty. */
  readonly backing?: BackingReference;
  /**
   * The image is made for `convert`, which fills it once and in order. A stream (`streamOptimized` of vmdk) then has the layout that its readers expect, and is
   * written from its first byte to its last.
   */
  readonly inOrder?: boolean;
}

/**
 * The options of `createDisk`: the format, and its own options under QEMU's names (`cluster_size`) or in camel case (`clusterSize`). If the format is
 * known by name only when the program runs, or the caller brings it in `formats`, the compiler knows no options; they are checked all the same.
 */
export type CreateOptions<Format extends string = FormatName> = Format extends unknown
  ? CreateBasics & { readonly format: Format } & (Format extends FormatName ? FormatOptions<Format> : { readonly [option: string]: unknown })
  : never;

const { readOnly: _, noBacking: __, noData: ___, dataStorage: ____, repair: _____, snapshot: ______, ...SHARED } = OPEN_OPTIONS;
const CREATE = optionsOf<CreateBasics & { readonly format: string }>(
  { ...SHARED, format: needed(TEXT), size: SIZE, backing: BACKING, inOrder: FLAG },
  FORMAT_OPTION,
);

/** Writes a new image into an empty storage and opens it. Throws `refused` for unknown options and bad values, by name. */
export function createDisk<const Format extends string>(
  storage: Storage | PromiseLike<Storage>,
  options: { readonly format: Format } & CreateOptions<Format>,
): Promise<Disk> {
  return runAsync(made('createDisk', storage, options as CreateOptions<string>, createOn));
}

/**
 * As `createDisk` if the storage is empty, else opens the image that is there, whose format must be the one named; its size and the format's own
 * options are then the image's. Give a storage that may be new or not: `indexedDbStorage(name, { create: 'if-missing' })`. Throws as both.
 */
export function openOrCreate<const Format extends string>(
  storage: Storage | PromiseLike<Storage>,
  options: { readonly format: Format } & CreateOptions<Format>,
): Promise<Disk> {
  return runAsync(
    made('openOrCreate', storage, options as CreateOptions<string>, (given, all) =>
      given.size === 0 ? createOn(given, all) : openExisting(given, all),
    ),
  );
}

function* made(
  where: string,
  storage: Storage | PromiseLike<Storage>,
  all: CreateOptions<string>,
  body: (storage: Storage, all: CreateOptions<string>) => Io<Disk>,
): Io<Disk> {
  check(where, 'storage', storage, STORAGE_TO_BE);
  const given = 'then' in storage ? yield* wait(storage) : storage;
  check(where, 'storage', given, STORAGE);
  try {
    check(where, 'options', all, CREATE);
  } catch (error) {
    yield* given.close();
    throw error;
  }
  return yield* body(given, all);
}

function* openExisting(storage: Storage, all: CreateOptions<string>): Io<Disk> {
  const options = Object.fromEntries(Object.entries(all).filter(([name]) => name === 'format' || name in SHARED));
  try {
    return new Disk(yield* openNode(storage, options));
  } catch (error) {
    yield* storage.close();
    throw error;
  }
}

function* createOn(storage: Storage, all: CreateOptions<string>): Io<Disk> {
  const { format, size, backing, inOrder, resolve, cache, secret: given, detectZeroes, changedParent, formats: list, ...rest } = all;
  const formats = list ?? (yield* everyFormat());
  const opened = anyAlignment(storage);
  const named = new NamedFiles({ own: [opened], resolve });
  const secret = given === undefined ? undefined : askedOnce(opened.name, given);
  try {
    const descriptor = findFormat(formats, format);
    if (!descriptor.create) throw new DiskError('unsupported', `${descriptor.name}: images of this format cannot be created`, { format });
    if (opened.size !== 0) throw new DiskError('refused', `${opened.name} is not empty: creating an image there would destroy ${opened.size} bytes`);
    if (backing) requireBacking(backing, descriptor, opened);
    const below = backing && resolve ? yield* lookBelow(backing, formats, named) : undefined;
    const opening: OpenOptions = {
      ...(resolve ? { resolve: byName(resolve, backing, below?.driver) } : {}),
      ...(cache ? { cache } : {}),
      ...(secret ? { secret } : {}),
      formats,
    };
    const bytes = size ?? below?.size;
    if (bytes === undefined) throw new DiskError('refused', 'Image creation needs a size parameter', { field: 'size' });
    const ask = askSecret(secret);
    yield* descriptor.create(cacheFlags(cache).noFlush ? new NoFlushStorage(opened) : opened, {
      size: bytes,
      ...(backing ? { backing } : {}),
      ...(below ? { below } : {}),
      options: namedOptions(descriptor.createOptions, rest),
      ...(ask ? { secret: ask } : {}),
      makeFile: named.makeFile,
      ...(inOrder ? { inOrder } : {}),
    });
    return new Disk(
      yield* openChain(opened, {
        ...opening,
        format: descriptor.name,
        ...(detectZeroes ? { detectZeroes } : {}),
        ...(changedParent ? { changedParent } : {}),
        given: named.opened,
      }),
    );
  } catch (error) {
    yield* closeAll([named, opened]);
    throw error;
  }
}

/** Refuses, before anything is written, a backing file that the image cannot have. The words are QEMU's. */
function requireBacking({ name, format }: BackingReference, descriptor: FormatDescriptor, image: Storage): void {
  const refused = (message: string, field = 'backing_file') => new DiskError('refused', message, { field });
  if (!descriptor.capabilities.backing) throw refused(`Backing file not supported for file format '${descriptor.name}'`);
  if (name === '') throw refused('Expected backing file name, got empty string');
  if (name === image.name) throw refused('Error: Trying to create an image with the same filename as the backing file');
  if (format !== undefined && !isDriverName(format)) throw refused(`Parameter 'backing-fmt' does not accept value '${format}'`, 'backing_fmt');
}

/** A new image may know the one below by its id alone: it is asked for under the name that the caller has for it. */
const byName =
  (resolve: Resolve, backing: BackingReference | undefined, below: ImageDriver | undefined): Resolve =>
  (reference) =>
    resolve(backing && reference.name === '' && reference.identity === below?.identity?.id ? { ...reference, name: backing.name } : reference);

/** Opens the backing file as it will be opened later, to check that it can be, and for its facts and its size in whole sectors. */
function* lookBelow(
  backing: BackingReference,
  formats: readonly FormatDescriptor[],
  image: NamedFiles,
): Io<Required<CreateParameters>['below'] & { size: number }> {
  const { storage, format } = yield* image.ask({ kind: 'backing', ...backing });
  try {
    if (sameBytes(storage, image.storage))
      throw new DiskError('refused', 'Error: Trying to create an image with the same filename as the backing file', { field: 'backing_file' });
    const node = yield* openChain(storage, { readOnly: true, noBacking: true, noData: true, formats, ...(format ? { format } : {}) });
    return { size: roundUp(node.size, SECTOR), format: node.driver.format, info: node.driver.info(), driver: node.driver };
  } finally {
    yield* image.giveBack(storage);
  }
}
