/**
 * The place of the list of images: an IndexedDB database of its own, with a second copy in notes; or, where the browser gives no IndexedDB, the notes
 * alone; or, where it gives no OPFS either, memory. One record for each image; every change is atomic, and durable when it resolves.
 */
import { del, get, promisifyRequest, update, values } from 'idb-keyval';
import { keyStore } from '../storage/key-store.ts';
import type { ImageRecord } from './image-record.ts';
import type { Notes } from './list-copy.ts';

/** The records of a library, by id. */
export interface RecordStore {
  all(): Promise<ImageRecord[]>;
  find(id: string): Promise<ImageRecord | undefined>;
  /** Adds or replaces the record that `make` returns; `make` gets all records, and may return undefined for no change. Rejects with the error of `make`. */
  put(make: (all: readonly ImageRecord[]) => ImageRecord | undefined): Promise<void>;
  /** Changes fields of a record that exists; a record that is gone stays gone. */
  change(id: string, fields: Partial<Omit<ImageRecord, 'id' | 'name'>>): Promise<void>;
  remove(id: string): Promise<void>;
  close(): void;
}

/** Records in IndexedDB. `ended` is called when the connection was ended by the browser, or by a deletion of the database. */
export function indexedDbRecords(database: string, notes: Notes, ended: () => void): RecordStore {
  const { use, close } = keyStore(database, 'images', ended);
  return {
    all: () => values<ImageRecord>(use),
    find: (id) => get<ImageRecord>(id, use),
    async put(make) {
      let made: ImageRecord | undefined;
      await use('readwrite', async (store) => {
        made = make(await promisifyRequest<ImageRecord[]>(store.getAll()));
        if (made) store.put(made, made.id);
      });
      if (made?.state === 'ready') await notes.write(made);
    },
    async change(id, fields) {
      const found = await get<ImageRecord>(id, use);
      if (!found) return;
      await update<ImageRecord | undefined>(id, (record) => (record ? { ...record, ...fields } : undefined), use);
      const changed = { ...found, ...fields };
      if (changed.state === 'ready') await notes.write(changed);
    },
    async remove(id) {
      await notes.remove(id);
      await del(id, use);
    },
    close,
  };
}

/**
 * Records in the notes. Records without a note are in memory: those of images that are being made or deleted here, which a sweep finds without them, and all
 * records if there are no notes.
 */
export function noteRecords(notes: Notes): RecordStore {
  const inMemory = new Map<string, ImageRecord>();
  const all = async (): Promise<Map<string, ImageRecord>> => {
    const found = new Map<string, ImageRecord>();
    for (const [id, note] of await notes.all()) if (note) found.set(id, note);
    for (const [id, record] of inMemory) found.set(id, record);
    return found;
  };
  const save = async (record: ImageRecord): Promise<void> => {
    const noted = notes.available && record.state === 'ready';
    if (noted) await notes.save(record);
    if (noted) inMemory.delete(record.id);
    else inMemory.set(record.id, record);
  };
  return {
    all: async () => [...(await all()).values()],
    find: async (id) => (await all()).get(id),
    async put(make) {
      const made = make([...(await all()).values()]);
      if (made) await save(made);
    },
    async change(id, fields) {
      const found = (await all()).get(id);
      if (found) await save({ ...found, ...fields });
    },
    async remove(id) {
      await notes.remove(id);
      inMemory.delete(id);
    },
    close: () => undefined,
  };
}
