/** Opening an image in IndexedDB for writing: with what options, and how it passes from its last writer to the next. */
import { promisifyRequest } from 'idb-keyval';
import { FLAG, type Kind, oneOf, optionsOf, TEXT } from '../base/arguments.ts';
import { randomUuid } from '../base/uuid.ts';
import { WRITER_OPTIONS, type WriterOptions } from './image-lock.ts';
import { type Header, takeOver } from './indexed-db-blocks.ts';
import type { LastWordsStore } from './indexed-db-last.ts';
import { renewLog } from './indexed-db-renewal.ts';
import type { KeyStore } from './key-store.ts';
import { STORAGE_OPTIONS, type StorageOptions } from './storage.ts';

/** The options of `indexedDbStorage`. */
export interface IndexedDbStorageOptions extends StorageOptions, WriterOptions {
  /** `must-not-exist` makes a new image, `truncate` empties one; default: the image must be there. */
  readonly create?: 'must-not-exist' | 'truncate' | 'if-missing';
  /** Name of the database; default `tabdisk`. */
  readonly database?: string;
  /**
   * False if the caller does indexed-db-renewal.ts's work for the whole database, and no page opens its images itself; default true: the opening does it when
   * an image was not closed, and takes last words in.
   */
  readonly mend?: boolean;
}

export const INDEXED_DB_OPTIONS: Kind = optionsOf<IndexedDbStorageOptions>({
  ...STORAGE_OPTIONS,
  create: oneOf('must-not-exist', 'truncate', 'if-missing'),
  ...WRITER_OPTIONS,
  database: TEXT,
  mend: FLAG,
});

/** Makes a new writer the only one, and returns the header as it is then. Takes in the last words of the writer before. */
export async function openForWriting(
  store: KeyStore,
  words: LastWordsStore | undefined,
  name: string,
  { create }: IndexedDbStorageOptions,
): Promise<Header> {
  const writer = randomUuid();
  const found = words && (await store.use('readonly', (blocks) => promisifyRequest<Header | undefined>(blocks.get([name]))));
  const last = await words?.recall(name);
  // A page that came to its last turn was not killed.
  if (found?.open && last?.writer !== found.writer) await renewLog(store).catch(() => undefined);
  const header = await store.use('readwrite', (blocks) => takeOver(blocks, name, { create, writer, last }));
  if (last) await words?.forget(name, last.writer);
  return header;
}
