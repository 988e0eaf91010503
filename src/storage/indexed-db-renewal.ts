/**
 * Keeping Chromium from throwing IndexedDB away after a crash.
 *
 * Chromium's IndexedDB of a site, all databases in one, lies on LevelDB, which appends every transaction to a log. If the browser is killed
 * in the middle of an append, the log ends with a torn record. The next start skips that record, as it should, and goes on appending
 * behind it; the start after that finds the torn record in the middle and takes the log for corrupt. Chromium then deletes
 * everything the site keeps in IndexedDB. While images are written this takes some dozen kills.
 *
 * A log is replaced by a new one when it has taken 4 MiB. So where an image was not closed, that much is written, and deleted,
 * before anything else is: the torn record goes with its log. The space comes back when the browser tidies up, so on a disk that is nearly
 * full this is left undone. In other browsers it costs a tenth of a second and does nothing.
 */
import { promisifyRequest } from 'idb-keyval';
import { MiB } from '../base/units.ts';
import { randomUuid } from '../base/uuid.ts';
import { browserError } from './browser-errors.ts';
import { BLOCK, blockStore, type Header, imageNames, wholeImage } from './indexed-db-blocks.ts';
import type { KeyStore } from './key-store.ts';

/** Blocks that fill a log: more than 4 MiB of bytes that cannot be compressed. */
const FILLING = (5 * MiB) / BLOCK;

/** Bytes that must be free: the filling, and the browser's own files for it meanwhile. */
const ROOM = 12 * MiB;

interface MendOptions {
  readonly database: string;
  readonly inUse: (name: string) => boolean;
  readonly hasRoom: (bytes: number) => Promise<boolean>;
}

/**
 * Makes the browser begin a new log if some image was not closed, by its own mark. `inUse` tells which images are open elsewhere,
 * `hasRoom` whether so many bytes can be spared. Never fails: this is a precaution.
 */
export async function mendIndexedDb({ database, inUse, hasRoom }: MendOptions): Promise<void> {
  const store = blockStore(database);
  try {
    const headers = await store.use('readonly', async (blocks) => {
      const found = new Map<string, Header>();
      for (const name of await imageNames(blocks)) {
        const header = await promisifyRequest<Header | undefined>(blocks.get([name]));
        if (header?.open) found.set(name, header);
      }
      return found;
    });
    const left = [...headers].filter(([name]) => !inUse(name));
    if (left.length === 0 || !(await hasRoom(ROOM))) return;
    await renewLog(store);
    await store.use('readwrite', async (blocks) => {
      for (const [name, { writer }] of left) {
        const now = await promisifyRequest<Header | undefined>(blocks.get([name]));
        if (now?.writer === writer) blocks.put({ ...now, open: false }, [name]);
      }
    });
  } catch {
    // The precaution could not be taken.
  } finally {
    store.close();
  }
}

/** Fills the present log, in a transaction; the next one begins a new log. After a kill an image may remain here that no list names. */
export async function renewLog(store: KeyStore): Promise<void> {
  const name = `renewal-${randomUuid()}`;
  const whole = wholeImage(name);
  try {
    await store.use('readwrite', async (blocks) => {
      for (let index = 0; index < FILLING; index++) blocks.put(crypto.getRandomValues(new Uint8Array(BLOCK)), [name, index]);
    });
    await store.use('readwrite', async (blocks) => {
      blocks.delete(whole);
    });
  } catch (error) {
    throw browserError(store.database, error);
  }
}
