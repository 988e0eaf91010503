/** A page that opens storages in IndexedDB on its own thread, as an embedder does: `window.storages` for tests that drive it from outside. */
import { createDisk, type Disk, DiskError, indexedDbStorage, openDisk } from '../../../src/index.ts';

const NAME = 'my-pc';

let disk: Disk | undefined;
let lost: string | undefined;

/** What came of it: "done", or the kind of the error. */
async function outcome(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return 'done';
  } catch (error) {
    return error instanceof DiskError ? error.kind : String(error);
  }
}

const storages = {
  create: () =>
    outcome(async () => {
      disk = await createDisk(indexedDbStorage(NAME, { create: 'must-not-exist' }), { format: 'qcow2', size: 4 * 2 ** 20 });
      await disk.flush();
    }),
  open: (options: { takeOver?: boolean; readOnly?: boolean } = {}) =>
    outcome(async () => {
      disk = await openDisk(indexedDbStorage(NAME, options), { format: 'qcow2', readOnly: options.readOnly ?? false });
      disk.onLost(({ kind }) => {
        lost = kind;
      });
    }),
  write: (value: number) => outcome(async () => disk?.write(0, new Uint8Array(1000).fill(value))),
  flush: () => outcome(async () => disk?.flush()),
  close: () => outcome(async () => disk?.close()),
  /** The first byte of the disk. */
  read: async () => (await disk?.read(0, 1))?.[0],
  lost: () => lost,
  secure: () => isSecureContext,
};

declare global {
  interface Window {
    storages: typeof storages;
  }
}

window.storages = storages;
