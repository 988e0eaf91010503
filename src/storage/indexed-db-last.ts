/**
 * The last words of a page: the changes it had not committed to an image in its last turn. No answer arrives in that turn; the browser ends a transaction
 * that waits for an answer, and drops a transaction that waits behind another. The browser carries out a transaction that has all its requests, was told to
 * commit, and has a store to itself. So last words have a database of their own, which has no other use, and go there in one transaction.
 *
 * The next opening of the image for writing takes them in, in the transaction that takes the image over: all or nothing. Only if their page
 * was the last writer, and has committed nothing since but, perhaps, a part of them: else they are out of date, and forgotten. Readers do
 * not see them before.
 */
import { promisifyRequest } from 'idb-keyval';
import { type Block, BlockChanges, type Hole, ZERO } from './block-changes.ts';
import { allBlocks, type Header, wholeImage } from './indexed-db-blocks.ts';
import { type KeyStore, keyStore } from './key-store.ts';

/** The state of the image as the page knew it. */
type Said = Pick<Header, 'writer' | 'generation' | 'size'>;

/** The last words about one image. */
export interface LastWords extends Said {
  readonly changes: BlockChanges;
}

/** Keeps the last words about the images of a database. */
export class LastWordsStore {
  readonly #store: KeyStore;

  constructor(database: string) {
    this.#store = keyStore(`${database} last words`, 'blocks');
  }

  /** Sends them. In the last turn of a page no code learns whether that succeeded. */
  say(name: string, { writer, generation, size }: Said, changes: BlockChanges): Promise<void> {
    return this.#store.use('readwrite', (blocks) => {
      blocks.delete(wholeImage(name));
      for (const [index, block] of changes.blocks) blocks.put(block === ZERO ? false : block, [name, index]);
      blocks.put({ writer, generation, size, holes: [...changes.holes] }, [name]);
      blocks.transaction.commit?.();
    });
  }

  /** The last words about an image; undefined if there are none. */
  async recall(name: string): Promise<LastWords | undefined> {
    return this.#store.use('readonly', async (blocks) => {
      const said = await promisifyRequest<(Said & { holes: Hole[] }) | undefined>(blocks.get([name]));
      if (!said) return undefined;
      const [keys, values] = await Promise.all([
        promisifyRequest(blocks.getAllKeys(allBlocks(name))),
        promisifyRequest(blocks.getAll(allBlocks(name))),
      ]);
      const changes = new BlockChanges();
      for (const { from, to } of said.holes) changes.clear(from, to);
      for (const [at, key] of keys.entries()) changes.blocks.set((key as [string, number])[1], (values[at] || ZERO) as Block);
      return { ...said, changes };
    });
  }

  /** Forgets the last words of this writer, but not those that another writer has sent since. */
  async forget(name: string, writer: string): Promise<void> {
    await this.#store.use('readwrite', async (blocks) => {
      const said = await promisifyRequest<Said | undefined>(blocks.get([name]));
      if (said?.writer === writer) blocks.delete(wholeImage(name));
    });
  }

  /** Ends the connection. */
  close(): void {
    this.#store.close();
  }
}
