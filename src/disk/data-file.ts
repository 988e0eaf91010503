/**
 * External data files: a second file, named in an image, that holds guest data. Like backing files they are opened only through the
 * caller's `resolve` (or handed in open), and a file that the chain uses already is refused.
 */
import { asDiskError, DiskError } from '../base/errors.ts';
import { wait } from '../base/io.ts';
import type { OpenFile } from '../formats/driver.ts';
import { PLAIN_FORMAT } from '../formats/roles.ts';
import { AlignStorage, anyAlignment } from '../layers/align.ts';
import { FailStopStorage } from '../layers/fail-stop.ts';
import { NoFlushStorage } from '../layers/no-flush.ts';
import type { Storage } from '../storage/storage.ts';
import type { Reference, Resolve } from './reference.ts';

/** How the data file of an image is opened. */
export interface DataFileRequest {
  /** The data file itself, whatever name the image has for it. */
  readonly dataStorage?: Storage | undefined;
  readonly resolve?: Resolve | undefined;
  /** Name of the storage of the image. */
  readonly from: string;
  readonly readOnly: boolean;
  /** Flushes do nothing. */
  readonly noFlush?: boolean;
  /** The format of the image was guessed, in a chain: such an image may name no file. */
  readonly guessed?: boolean;
  /** The file is to be made, or emptied. */
  readonly create?: boolean;
  /** The files of the image and of those above it. */
  readonly taken: readonly Storage[];
}

/** For an image's driver: opens its data file and adds it to `opened`. Throws `refused` if it cannot be opened in any way. */
export function dataFileOpener(request: DataFileRequest, opened: Storage[]): OpenFile {
  return function* open(name) {
    const storage = request.dataStorage ?? (yield* wait(ask(name, request)));
    const place = { field: 'data_file' };
    if (request.taken.some((one) => sameBytes(one, storage))) {
      if (!request.taken.some((one) => bare(one) === storage)) yield* storage.close();
      throw new DiskError('refused', `The data file ${JSON.stringify(name)} is in use in the same chain`, place);
    }
    opened.push(storage);
    if (!request.readOnly && storage.readOnly) throw new DiskError('read-only', `The data file ${storage.name} can only be read`, place);
    if (request.create && storage.size !== 0)
      throw new DiskError('refused', `The data file ${storage.name} is not empty: creating an image would destroy ${storage.size} bytes`, place);
    const aligned = anyAlignment(storage);
    return request.readOnly ? aligned : forWriting(aligned, request);
  };
}

async function ask(name: string, { resolve, from, readOnly, create, guessed }: DataFileRequest): Promise<Storage> {
  const place = { field: 'data_file' };
  const quoted = JSON.stringify(name);
  if (name === '' && !create) throw new DiskError('refused', `${from}: 'data-file' is required for this image`, place);
  if (guessed) throw new DiskError('refused', `The format of ${from} was guessed, so its data file ${quoted} is not opened: state the format`, place);
  if (!resolve) throw new DiskError('refused', `${from} needs the data file ${quoted}: pass a resolve function that opens it`, place);
  const reference: Reference = {
    kind: 'data',
    ...(readOnly ? {} : { writable: true }),
    ...(create ? { create: true } : {}),
    name,
    format: PLAIN_FORMAT,
    from,
  };
  try {
    const resolved = await resolve(reference);
    return 'storage' in resolved ? resolved.storage : resolved;
  } catch (error) {
    throw asDiskError(error, `Cannot open the data file ${quoted}`, place);
  }
}

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
