/**
 * The list of images: one record for each image; records.ts has the place of the list.
 * A record is `making` until its image is complete and `deleting` from before its bytes are removed: an image that is not `ready`, and whose
 * lock is free, is a leftover of a tab that died, and is swept. Each record that is ready has a copy elsewhere (list-copy.ts).
 */
import { DiskError } from '../base/errors.ts';
import { browserError } from '../storage/browser-errors.ts';
import type { ImageRecord } from './image-record.ts';
import type { Notes } from './list-copy.ts';
import type { RecordStore } from './records.ts';

const NAME_LIMIT = 200;

/** The records of a library. */
export class Catalogue {
  readonly #records: RecordStore;
  readonly #notes: Notes;

  constructor(records: RecordStore, notes: Notes) {
    this.#records = records;
    this.#notes = notes;
  }

  /**
   * Puts records back that exist only in the notes: the list was lost. Returns the ids of notes that cannot be read; their images must not be
   * taken for leftovers.
   */
  async restore(): Promise<string[]> {
    // The list is read first: a note is removed before its record, and written after it.
    const known = new Set((await this.all()).map(({ id }) => id));
    const unreadable: string[] = [];
    for (const [id, note] of await this.#notes.all()) {
      if (known.has(id)) continue;
      if (note) await this.#run(this.#records.put((all) => putBack(all, note)));
      else unreadable.push(id);
    }
    return unreadable;
  }

  all(): Promise<ImageRecord[]> {
    return this.#run(this.#records.all());
  }

  find(id: string): Promise<ImageRecord | undefined> {
    return this.#run(this.#records.find(id));
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
    await this.#run(
      this.#records.put((all) => {
        if (all.some((other) => other.name === name && other.id !== record.id && other.state !== 'deleting'))
          throw new DiskError('refused', `There is an image named "${name}" already: choose another name`, { field: 'name' });
        return record;
      }),
    );
  }

  /** Changes fields of a record that exists; a record that is gone stays gone. */
  change(id: string, fields: Partial<Omit<ImageRecord, 'id' | 'name'>>): Promise<void> {
    return this.#run(this.#records.change(id, fields));
  }

  remove(id: string): Promise<void> {
    return this.#run(this.#records.remove(id));
  }

  close(): void {
    this.#records.close();
  }

  async #run<T>(outcome: Promise<T>): Promise<T> {
    try {
      return await outcome;
    } catch (error) {
      throw browserError('The list of images', error);
    }
  }
}

/** A record from a note, unless there is one by now; it gets another name if its own is taken. */
function putBack(all: readonly ImageRecord[], note: ImageRecord): ImageRecord | undefined {
  if (all.some(({ id }) => id === note.id)) return undefined;
  const taken = new Set(all.map(({ name }) => name));
  let { name } = note;
  for (let number = 2; taken.has(name); number++) name = `${note.name} (${number})`;
  return { ...note, name };
}
