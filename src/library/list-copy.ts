/**
 * A second copy of the list of images, as small files in OPFS: browsers have been known to lose all of IndexedDB at once
 * (storage/indexed-db-renewal.ts tells how), and the images in OPFS must not become nameless files then. The list in IndexedDB is
 * the valid one; notes are read for images without a record in it. If the browser gives no IndexedDB, the notes are the list (records.ts). Without OPFS
 * there are none.
 */
import { runAsync } from '../base/io.ts';
import { deleteOpfsFile, opfsFile, opfsFileNames, opfsStorage } from '../storage/opfs.ts';
import type { ImageRecord } from './image-record.ts';

const ENDING = '.json';

/** Notes of a library. Only `save` fails: a note that cannot be written is missing. */
export class Notes {
  readonly #directory: string;
  readonly available: boolean;

  constructor(directory: string, { opfs }: { opfs: boolean }) {
    this.#directory = directory;
    this.available = opfs;
  }

  async write(record: ImageRecord): Promise<void> {
    // A failure is harmless: the list has the record.
    if (this.available) await this.save(record).catch(() => undefined);
  }

  /** As `write`, for records that are kept in no other place. Throws `no-space`. */
  async save(record: ImageRecord): Promise<void> {
    const storage = await opfsStorage(this.#path(record.id), { create: 'truncate' });
    try {
      await runAsync(storage.write(0, new TextEncoder().encode(JSON.stringify(record))));
    } finally {
      await runAsync(storage.close());
    }
  }

  async remove(id: string): Promise<void> {
    if (this.available) await deleteOpfsFile(this.#path(id)).catch(() => undefined);
  }

  /** Ids of all notes, with their records; undefined for a note that was cut short. */
  async all(): Promise<Map<string, ImageRecord | undefined>> {
    const notes = new Map<string, ImageRecord | undefined>();
    if (!this.available) return notes;
    for (const file of await opfsFileNames(this.#directory).catch(() => [])) {
      if (!file.endsWith(ENDING)) continue;
      const id = file.slice(0, -ENDING.length);
      notes.set(id, await this.#read(id));
    }
    return notes;
  }

  async #read(id: string): Promise<ImageRecord | undefined> {
    try {
      const note = JSON.parse(await (await opfsFile(this.#path(id))).text()) as Partial<ImageRecord>;
      return note.id === id && typeof note.name === 'string' && note.state === 'ready' ? (note as ImageRecord) : undefined;
    } catch {
      return undefined;
    }
  }

  #path(id: string): string {
    return `${this.#directory}/${id}${ENDING}`;
  }
}
