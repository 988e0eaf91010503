/**
 * Images in IndexedDB as they are stored: blocks of 32 KiB under [image, index] in one store for all images, zero blocks absent, and a header
 * under [image]. The functions that work on an image without opening it are here too.
 *
 * Why 32 KiB: in Chromium, on a busy machine with two cores, medians of five rounds in turn (values of 64 KiB and more become a file each there):
 *
 * | bytes in a block                                               | 16 KiB | 32 KiB | 64 KiB | 128 KiB |
 * | 16 MiB written in one strict transaction, ms                   |    420 |    352 |    660 |     362 |
 * | 64 blocks all over an image flushed, ms                        |     32 |    139 |    205 |     172 |
 * | 16 MiB read in order, batches of 512 KiB, three under way, ms  |    181 |    113 |    188 |     151 |
 * | one block at a random place, ms                                |   0.58 |   0.55 |    1.2 |     1.4 |
 *
 * The header says how large the blocks are; an image with others is refused by name.
 */
import { promisifyRequest } from 'idb-keyval';
import { isZero } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { KiB } from '../base/units.ts';
import { type BlockChanges, ZERO } from './block-changes.ts';
import { browserError } from './browser-errors.ts';
import { type WriterOptions, writerLock } from './image-lock.ts';
import { type KeyStore, keyStore } from './key-store.ts';

/** Bytes in a block. */
export const BLOCK = 32 * KiB;
const VERSION = 1;
/** The database if the caller names none. */
export const DATABASE = 'tabdisk';

/** The facts about an image as a whole. */
export interface Header {
  readonly version: number;
  readonly blockSize: number;
  /** Bytes. */
  readonly size: number;
  /** Counts commits. */
  readonly generation: number;
  /** The token of the last opening for writing. */
  readonly writer: string;
  /** True until that writer has closed it. */
  readonly open?: boolean;
}

/** Options of `deleteIndexedDbStorage`. */
export interface IndexedDbDeleteOptions extends WriterOptions {
  /** Name of the database; default `tabdisk`. */
  readonly database?: string;
}

/** Removes an image; nothing happens if it is not there. Throws `locked` while it is open for writing, unless `takeOver`. */
export async function deleteIndexedDbStorage(name: string, options: IndexedDbDeleteOptions = {}): Promise<void> {
  const lock = await writerLock(options.database ?? DATABASE, name, options);
  try {
    await withBlocks(name, options.database, 'readwrite', (blocks) => promisifyRequest(blocks.delete(wholeImage(name))));
  } finally {
    await lock?.release();
  }
}

/** Bytes an image takes in IndexedDB, without opening it. */
export async function indexedDbSize(name: string, options: { database?: string } = {}): Promise<number> {
  return (await withBlocks(name, options.database, 'readonly', (blocks) => promisifyRequest(blocks.count(allBlocks(name))))) * BLOCK;
}

/** Whether this window has IndexedDB that opens: browsers refuse it where the user blocks the site's data, and some in private windows and frames. */
export async function indexedDbWorks(options: { database?: string } = {}): Promise<boolean> {
  try {
    await indexedDbSize('', options);
    return true;
  } catch {
    return false;
  }
}

/** The names of the images in a database. */
export async function indexedDbNames(options: { database?: string } = {}): Promise<string[]> {
  return withBlocks('IndexedDB', options.database, 'readonly', imageNames);
}

/** The names of the images, in a transaction. */
export async function imageNames(blocks: IDBObjectStore): Promise<string[]> {
  const names: string[] = [];
  const request = blocks.openKeyCursor();
  for (let cursor = await promisifyRequest(request); cursor; cursor = await promisifyRequest(request)) {
    const [name] = cursor.key as [string];
    names.push(name);
    // Arrays sort after numbers: on to the next image.
    cursor.continue([name, []]);
  }
  return names;
}

/** A connection to the blocks of all images. */
export const blockStore = (database = DATABASE, ended?: () => void): KeyStore => keyStore(database, 'blocks', ended);

/** Keys of blocks [first, last] of an image. */
export const blockRange = (name: string, first: number, last: number): IDBKeyRange => IDBKeyRange.bound([name, first], [name, last]);
/** Keys of an image's blocks from `first` on. */
export const allBlocks = (name: string, first = 0): IDBKeyRange => IDBKeyRange.bound([name, first], [name, []]);
/** Keys of all that belongs to an image. */
export const wholeImage = (name: string): IDBKeyRange => IDBKeyRange.bound([name], [name, []]);

async function withBlocks<T>(
  name: string,
  database: string | undefined,
  mode: IDBTransactionMode,
  body: (blocks: IDBObjectStore) => PromiseLike<T>,
): Promise<T> {
  const store = blockStore(database);
  try {
    return await store.use(mode, body);
  } catch (error) {
    throw browserError(name, error);
  } finally {
    store.close();
  }
}

/** Returns the header, or throws the reason why the image cannot be used. */
export function requireHeader(name: string, header: Header | undefined): Header {
  if (!header) throw new DiskError('not-found', `${name}: there is no such image in IndexedDB`);
  if (header.version !== VERSION || header.blockSize !== BLOCK)
    throw new DiskError('unsupported', `${name}: written by another version of tabdisk (version ${header.version}, blocks of ${header.blockSize})`, {
      field: 'version',
    });
  return header;
}

/** Puts changes to an image's blocks, in a transaction. */
export function putChanges(blocks: IDBObjectStore, name: string, changes: BlockChanges): void {
  for (const { from, to } of changes.holes) blocks.delete(to === Number.POSITIVE_INFINITY ? allBlocks(name, from) : blockRange(name, from, to - 1));
  for (const [index, block] of changes.blocks) {
    if (block === ZERO || isZero(block)) blocks.delete([name, index]);
    // A whole array of its own: a view would store all of its buffer.
    else blocks.put(block, [name, index]);
  }
}

/** How an image is taken over. */
interface TakeOverOptions {
  readonly create: 'must-not-exist' | 'truncate' | 'if-missing' | undefined;
  /** The token of the new writer. */
  readonly writer: string;
  /** See indexed-db-last.ts. */
  readonly last: (Pick<Header, 'writer' | 'generation' | 'size'> & { readonly changes: BlockChanges }) | undefined;
}

/** Finds or makes the header and puts `writer` into it; takes last words in if they belong to the image found. */
export async function takeOver(blocks: IDBObjectStore, name: string, { create, writer, last }: TakeOverOptions): Promise<Header> {
  const found = await promisifyRequest<Header | undefined>(blocks.get([name]));
  if (found && create === 'must-not-exist') throw new DiskError('refused', `${name} exists already`);
  const fresh = !found || create === 'truncate';
  if (fresh && create === undefined) requireHeader(name, undefined);
  // An image that was deleted and made anew never has a generation that an old writer remembers.
  const generation = (found?.generation ?? Math.floor(Math.random() * 2 ** 48)) + (fresh ? 1 : 0);
  const kept = fresh ? { version: VERSION, blockSize: BLOCK, size: 0 } : requireHeader(name, found);
  // The commit that was under way when the page sent the last words may have succeeded.
  const known = found && last && !fresh && found.writer === last.writer && [0, 1].includes(found.generation - last.generation) ? last : undefined;
  const header: Header = {
    ...kept,
    ...(known ? { size: known.size, generation: generation + 1 } : { generation }),
    writer,
    open: true,
  };
  if (known) putChanges(blocks, name, known.changes);
  if (fresh) blocks.delete(wholeImage(name));
  blocks.put(header, [name]);
  return header;
}
