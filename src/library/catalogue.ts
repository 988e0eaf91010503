/**
 * The list of images, in an IndexedDB database of its own: one record an image, every change atomic and durable when it resolves.
 * A record is `making` until its image is complete and `deleting` from before its bytes go: whatever is not `ready`, when
 * nobody holds its lock, is a leftover of a tab that died, and is swept. Each record that is ready has a copy elsewhere (notes.ts).
 */
import { del, get, promisifyRequest, update, values } from 'idb-keyval';
import { DiskError } from '../base/errors.ts';
import { browserError } from '../storage/browser-errors.ts';
import { type KeyStore, keyStore } from '../storage/key-store.ts';
import type { Notes } from './notes.ts';

/** Where an image is kept. */
export type Place = 'opfs' | 'indexeddb';

/** The formats of images that are kept. */
export type ImageFormat = 'qcow2' | 'raw' | 'luks';

/** What the library knows of an image without opening it. */
export interface ImageRecord {
  readonly id: string;
  readonly name: string;
  readonly format: ImageFormat;
  /** Missing in records of earlier versions. */
  readonly encrypted?: boolean;
  readonly place: Place;
  /** The id of the image that it lies over, if there is one. */
  readonly backing?: string | undefined;
  /** Guest-visible bytes. */
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly changed: number;
  readonly state: 'making' | 'ready' | 'deleting';
}

const NAME_LIMIT = 200;

/** The records of a library. */
export class Catalogue {
  readonly #store: KeyStore;
  readonly #notes: Notes;

  /** `ended`: the browser, or somebody who deletes the database, has ended the connection to it. */
  constructor(database: string, notes: Notes, ended: () => void) {
    this.#store = keyStore(database, 'images', ended);
    this.#notes = notes;
  }

  /**
   * Puts records back that only the notes have: the list was lost. Returns the ids of notes that cannot be read, whose images must not be
   * taken for leftovers.
   */
  async restore(): Promise<string[]> {
    // The list first: a note is removed before its record, and written after it.
    const known = new Set((await this.all()).map(({ id }) => id));
    const unreadable: string[] = [];
    for (const [id, note] of await this.#notes.all()) {
      if (known.has(id)) continue;
      if (note) await this.#run(() => this.#store.use('readwrite', (store) => putBack(store, note)));
      else unreadable.push(id);
    }
    return unreadable;
  }

  all(): Promise<ImageRecord[]> {
    return this.#run(() => values<ImageRecord>(this.#store.use));
  }

  find(id: string): Promise<ImageRecord | undefined> {
    return this.#run(() => get<ImageRecord>(id, this.#store.use));
  }

  /** A record that is ready, or `not-found`. */
  async ready(id: string): Promise<ImageRecord> {
    const record = await this.find(id);
    if (record?.state !== 'ready')
      throw new DiskError('not-found', `There is no image ${id} in this browser: it may have been deleted in another tab`);
    return record;
  }

  /** Adds or replaces a record, unless another image has its name. */
  async put(record: ImageRecord): Promise<void> {
    const { name } = record;
    if (name.trim() === '' || name.length > NAME_LIMIT)
      throw new DiskError('refused', `An image needs a name of 1 to ${NAME_LIMIT} characters`, { field: 'name' });
    await this.#run(() =>
      this.#store.use('readwrite', async (store) => {
        const all = await promisifyRequest<ImageRecord[]>(store.getAll());
        if (all.some((other) => other.name === name && other.id !== record.id && other.state !== 'deleting'))
          throw new DiskError('refused', `There is an image named "${name}" already: choose another name`, { field: 'name' });
        store.put(record, record.id);
      }),
    );
    if (record.state === 'ready') await this.#notes.write(record);
  }

  /** Changes fields of a record that exists; a record that is gone stays gone. */
  async change(id: string, fields: Partial<Omit<ImageRecord, 'id' | 'name'>>): Promise<void> {
    const found = await this.find(id);
    if (!found) return;
    await this.#run(() => update<ImageRecord | undefined>(id, (record) => (record ? { ...record, ...fields } : undefined), this.#store.use));
    const changed = { ...found, ...fields };
    if (changed.state === 'ready') await this.#notes.write(changed);
  }

  async remove(id: string): Promise<void> {
    await this.#notes.remove(id);
    await this.#run(() => del(id, this.#store.use));
  }

  close(): void {
    this.#store.close();
  }

  async #run<T>(body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      throw browserError('The list of images', error);
    }
  }
}

/** Puts a record back unless there is one by now; under another name if somebody has taken its own. */
async function putBack(store: IDBObjectStore, note: ImageRecord): Promise<void> {
  const all = await promisifyRequest<ImageRecord[]>(store.getAll());
  if (all.some(({ id }) => id === note.id)) return;
  const taken = new Set(all.map(({ name }) => name));
  let { name } = note;
  for (let number = 2; taken.has(name); number++) name = `${note.name} (${number})`;
  store.put({ ...note, name }, note.id);
}
