/**
 * A second copy of the list of images, as small files in OPFS: browsers have been known to lose all of IndexedDB at once
 * (storage/indexed-db-renewal.ts tells how), and the images in OPFS must not become nameless files then. The list in IndexedDB is
 * what counts; notes are read when it has no record of an image. Where the browser gives no IndexedDB they are the list (records.ts). Without OPFS there
 * are none.
 */
import { runAsync } from '../base/io.ts';
import { deleteOpfsFile, opfsFile, opfsFileNames, opfsStorage } from '../storage/opfs.ts';
import type { ImageRecord } from './image-record.ts';

const ENDING = '.json';

/** Notes of a library. Nothing here fails but `save`: a note that cannot be written is missing. */
export class Notes {
  readonly #directory: string;
  readonly available: boolean;

  constructor(directory: string, { opfs }: { opfs: boolean }) {
    this.#directory = directory;
    this.available = opfs;
  }

  async write(record: ImageRecord): Promise<void> {
    // The list has it.
    if (this.available) await this.save(record).catch(() => undefined);
  }

  /** As `write`, for records that nothing else has. Throws `no-space`. */
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

  /** Ids of all notes, with what they say; nothing where a note was cut short. */
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
