/**
 * A dedicated worker that opens OPFS files for tests in the page. Every verb runs under `runSync`, so a storage that waited would
 * fail. One request is answered before the next is looked at.
 */
import { asDiskError } from '../../src/base/errors.ts';
import { runSync } from '../../src/base/io.ts';
import { deleteOpfsFile, type OpfsStorage, type OpfsStorageOptions, opfsFileNames, opfsStorage } from '../../src/storage/opfs.ts';

/** What a test asks for. */
export type StorageRequest =
  | { readonly verb: 'open'; readonly path: string; readonly options: OpfsStorageOptions }
  | { readonly verb: 'delete' | 'names'; readonly path: string }
  | { readonly verb: 'read' | 'zero' | 'discard' | 'map'; readonly storage: number; readonly offset: number; readonly length: number }
  | { readonly verb: 'write'; readonly storage: number; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly verb: 'truncate'; readonly storage: number; readonly size: number }
  | { readonly verb: 'barrier' | 'flush' | 'close'; readonly storage: number };

const open: OpfsStorage[] = [];

async function answer(request: StorageRequest): Promise<unknown> {
  switch (request.verb) {
    case 'open': {
      const storage = await opfsStorage(request.path, request.options);
      const { size, readOnly, name, identity, synchronous } = storage;
      return { storage: open.push(storage) - 1, size, readOnly, name, identity, synchronous };
    }
    case 'delete':
      return deleteOpfsFile(request.path);
    case 'names':
      return opfsFileNames(request.path);
    default: {
      const storage = open[request.storage] as OpfsStorage;
      const value = run(storage, request);
      return { value, size: storage.size };
    }
  }
}

function run(storage: OpfsStorage, request: Extract<StorageRequest, { storage: number }>): unknown {
  switch (request.verb) {
    case 'read': {
      // What the storage leaves untouched shows.
      const into = new Uint8Array(request.length).fill(0xa5);
      runSync(storage.read(request.offset, into));
      return into;
    }
    case 'write':
      return runSync(storage.write(request.offset, request.bytes));
    case 'zero':
      return runSync(storage.zero(request.offset, request.length));
    case 'discard':
      return runSync(storage.discard());
    case 'map':
      return runSync(storage.map(request.offset, request.length));
    case 'truncate':
      return runSync(storage.truncate(request.size));
    default:
      return runSync(storage[request.verb]());
  }
}

let last = Promise.resolve();
globalThis.onmessage = ({ data: { id, request } }: MessageEvent<{ id: number; request: StorageRequest }>) => {
  last = last.then(async () => {
    try {
      postMessage({ id, value: await answer(request) });
    } catch (error) {
      postMessage({ id, error: asDiskError(error, request.verb).toJSON() });
    }
  });
};
