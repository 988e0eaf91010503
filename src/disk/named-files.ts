/**
 * The files that an image names: those with a part of its bytes, and the image below it. They are opened and made here, whoever asks: a format's driver, the
 * chain, `createDisk`, `rebase`, a graph of nodes. Nothing opens by itself: the caller's `resolve` is asked, or a file was handed in. A file that is in use
 * in the chain already is refused, and so is a chain that is too deep. An image in a chain whose format had to be guessed may name no file, because a
 * guest could have written that header itself.
 */
import { asDiskError, DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import type { FileRequest, OpenFile } from '../formats/driver.ts';
import { PLAIN_FORMAT } from '../formats/roles.ts';
import { AlignStorage, anyAlignment } from '../layers/align.ts';
import { FailStopStorage } from '../layers/fail-stop.ts';
import { NoFlushStorage } from '../layers/no-flush.ts';
import { closeAll, type Storage } from '../storage/storage.ts';
import type { Reference, Resolve } from './reference.ts';

/** Images in one chain, the active one included. */
export const MAX_CHAIN_DEPTH = 128;

/** Each image of a chain, the active one first: its own file, then those with a part of its bytes. */
export type ChainFiles = readonly (readonly Storage[])[];

/** A file of an image that is open. */
export interface OpenedFile {
  readonly kind: FileRequest['kind'];
  /** As the image names it; absent: whatever it does. */
  readonly name?: string;
  readonly storage: Storage;
}

/** The image that names the files. */
export interface NamingImage {
  /** Its own file, and further ones that are open. */
  readonly own: readonly [Storage, ...Storage[]];
  /** The images above it. */
  readonly above?: ChainFiles;
  readonly resolve?: Resolve | undefined;
  readonly readOnly?: boolean;
  /** Flushes do nothing. */
  readonly noFlush?: boolean;
  /** The format of the image was guessed, in a chain: such an image may name no file. */
  readonly guessed?: boolean;
  /** Files that the caller has opened for the image; none of them is asked for. */
  readonly given?: readonly OpenedFile[];
}

/** For messages: what the file is, and the field or option that names it. */
export const FILE_ROLES: Readonly<Record<FileRequest['kind'], { readonly what: string; readonly field: string }>> = {
  backing: { what: 'backing file', field: 'backing_file' },
  parent: { what: 'parent', field: 'parent' },
  data: { what: 'data file', field: 'data_file' },
  extent: { what: 'extent', field: 'extent' },
};

/** The end of the path to another folder, or no name of a file at all. */
const NOT_BESIDE = /[/\\\0]|^\.{0,2}$/;

/** The files that one image names. They belong to the node that is made of the image; before that, `close` closes them. */
export class NamedFiles {
  /** The files with a part of the image's bytes, as far as they are open. */
  readonly opened: OpenedFile[] = [];
  readonly #image: NamingImage;

  constructor(image: NamingImage) {
    this.#image = image;
  }

  /** The image's own file. */
  get storage(): Storage {
    return this.#image.own[0];
  }

  /** The files of this image and of those above it, down to where the next image goes. */
  get chain(): ChainFiles {
    const { above = [], own } = this.#image;
    return [...above, [...own, ...this.opened.map(({ storage }) => storage)]];
  }

  /** See `OpenFile`. */
  readonly openFile: OpenFile = (request) => this.#open(request, false);

  /** See `OpenFile`: the file must be empty, or is made. */
  readonly makeFile: OpenFile = (request) => this.#open(request, true);

  *#open({ readOnly: onlyRead = false, ...request }: FileRequest & { readonly readOnly?: boolean }, create: boolean): Io<Storage> {
    const { given = [] } = this.#image;
    const readOnly = onlyRead || this.#image.readOnly === true;
    const { what, field } = FILE_ROLES[request.kind];
    const found = given.find(({ kind, name = request.name }) => kind === request.kind && name === request.name);
    const how = { ...(readOnly ? {} : ({ writable: true } as const)), ...(create ? ({ create: true } as const) : {}) };
    const { storage } = found ?? (yield* this.ask({ ...request, format: PLAIN_FORMAT }, how));
    const place = { field };
    if (isIn(this.chain, storage)) {
      yield* this.giveBack(storage);
      throw new DiskError('refused', `The ${what} ${JSON.stringify(request.name)} is in use in the same chain`, place);
    }
    if (create && storage.size !== 0) {
      yield* this.giveBack(storage);
      throw new DiskError('refused', `The ${what} ${storage.name} is not empty: creating an image would destroy ${storage.size} bytes`, place);
    }
    this.opened.push({ ...request, storage });
    if (!readOnly && storage.readOnly) throw new DiskError('read-only', `The ${what} ${storage.name} can only be read`, place);
    const aligned = anyAlignment(storage);
    return readOnly ? aligned : forWriting(aligned, this.#image);
  }

  /** The storage that `resolve` gives for a file, which belongs to the caller (`giveBack`), and its format. Throws a `DiskError` that names the file. */
  *ask(request: FileRequest, how: Pick<Reference, 'writable' | 'create'> = {}): Io<{ storage: Storage; format?: string }> {
    const { resolve } = this.#image;
    const { field, what } = FILE_ROLES[request.kind];
    this.requireAllowed(request, how.create);
    const quoted = `${what} ${JSON.stringify(request.name)}`;
    if (!resolve) throw new DiskError('refused', `${this.storage.name} needs the ${quoted}: pass a resolve function that opens it`, { field });
    try {
      const resolved = yield* wait(Promise.resolve(resolve({ ...request, ...how, from: this.storage.name })));
      const { storage, format = request.format } = 'storage' in resolved ? resolved : { storage: resolved };
      return { storage, ...(format === undefined ? {} : { format }) };
    } catch (error) {
      throw asDiskError(error, `Cannot open the ${quoted}`, { field });
    }
  }

  /** Throws `refused` if the image may not name such a file, whichever storage it is. Without a name: a file that only the caller names. */
  requireAllowed({ kind, name, identity }: Omit<FileRequest, 'name'> & { readonly name?: string }, create = false): void {
    const { guessed = false } = this.#image;
    const { what, field } = FILE_ROLES[kind];
    const refused = (message: string) => new DiskError('refused', message, { field });
    const quoted = name === undefined ? what : `${what} ${JSON.stringify(name)}`;
    if (name === '' && identity === undefined && !create) throw refused(`${this.storage.name}: '${optionOf(field)}' is required for this image`);
    if (guessed) throw refused(`The format of ${this.storage.name} was guessed, so its ${quoted} is not opened: state the format`);
    if (kind === 'extent' && NOT_BESIDE.test(name ?? ''))
      throw refused(`${this.storage.name} names the ${quoted}, which does not lie beside it: only a file in the same folder is opened`);
    if ((kind === 'backing' || kind === 'parent') && this.chain.length >= MAX_CHAIN_DEPTH)
      throw refused(`The backing chain is deeper than ${MAX_CHAIN_DEPTH} images`);
  }

  /** Throws `refused` if the caller has opened a file that is none of the image's. */
  requireGivenUsed(): void {
    const unused = this.#image.given?.find(({ storage }) => !this.opened.some((one) => one.storage === storage));
    if (!unused) return;
    const { what, field } = FILE_ROLES[unused.kind];
    throw new DiskError('refused', `'${optionOf(field)}' can only be set for images with an external ${what}`, { field });
  }

  /** Closes a storage that is of no use, unless it is one that the chain uses. */
  *giveBack(storage: Storage): Io<void> {
    if (!this.chain.flat().some((one) => bare(one) === storage)) yield* storage.close();
  }

  /** For an image that does not open, or is not made: closes its further files, and those that were given. */
  *close(): Io<void> {
    yield* closeAll([...this.opened, ...(this.#image.given ?? [])].map(({ storage }) => storage));
  }
}

/** The option with which QEMU's users name such a file. */
const optionOf = (field: string): string => field.replace('_', '-');

/** True if a chain uses the file already. */
export const isIn = (chain: ChainFiles, storage: Storage): boolean => chain.flat().some((one) => sameBytes(one, storage));

/** True for two storages over the same bytes. */
export function sameBytes(a: Storage, b: Storage): boolean {
  const [one, other] = [bare(a), bare(b)];
  return one === other || (one.identity !== undefined && one.identity === other.identity);
}

/** The storage as it was passed in. */
export const bare = (storage: Storage): Storage =>
  storage instanceof FailStopStorage || storage instanceof NoFlushStorage || storage instanceof AlignStorage ? bare(storage.next) : storage;

/** The storage in the form in which an image's driver writes to it. */
export function forWriting(storage: Storage, { noFlush = false }: { readonly noFlush?: boolean }): Storage {
  return new FailStopStorage(noFlush ? new NoFlushStorage(storage) : storage);
}
