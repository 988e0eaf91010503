/** OPFS files opened by a worker, as storages in the test's page: the other end of storage-worker.ts. */
import { DiskError, type DiskErrorJson } from '../../src/base/errors.ts';
import { type Io, wait } from '../../src/base/io.ts';
import type { OpfsStorageOptions } from '../../src/storage/opfs.ts';
import type { Storage, StorageExtent } from '../../src/storage/storage.ts';
import type { StorageRequest } from './storage-worker.ts';

interface Opened {
  readonly storage: number;
  readonly size: number;
  readonly readOnly: boolean;
  readonly name: string;
  readonly identity: string;
  readonly synchronous: boolean;
}

/** A worker and what it was asked. */
export class StorageWorker {
  readonly #worker = new Worker(new URL('./storage-worker.ts', import.meta.url), { type: 'module' });
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
  #lastId = 0;

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<{ id: number; value: unknown; error?: DiskErrorJson }>) => {
      const waiting = this.#waiting.get(data.id);
      if (data.error) waiting?.reject(DiskError.from(data.error));
      else waiting?.resolve(data.value);
    };
    this.#worker.onerror = (event) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the storage worker failed: ${event.message}`));
    };
  }

  ask(request: StorageRequest): Promise<unknown> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      // Cloned, not transferred: the caller goes on using its bytes.
      this.#worker.postMessage({ id, request });
    });
  }

  async open(path: string, options: OpfsStorageOptions = {}): Promise<WorkerStorage> {
    return new WorkerStorage(this, (await this.ask({ verb: 'open', path, options })) as Opened);
  }

  /** Ends the worker as a closed tab would, with its files open. */
  terminate(): void {
    this.#worker.terminate();
  }
}

/** One open file. */
export class WorkerStorage implements Storage {
  readonly name: string;
  readonly identity: string;
  readonly readOnly: boolean;
  readonly synchronous = false;
  /** Whether the storage in the worker is. */
  readonly synchronousThere: boolean;
  size: number;
  readonly #worker: StorageWorker;
  readonly #storage: number;

  constructor(worker: StorageWorker, opened: Opened) {
    this.#worker = worker;
    this.#storage = opened.storage;
    this.name = opened.name;
    this.identity = opened.identity;
    this.readOnly = opened.readOnly;
    this.synchronousThere = opened.synchronous;
    this.size = opened.size;
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    into.set((yield* this.#ask({ verb: 'read', storage: this.#storage, offset, length: into.length })) as Uint8Array);
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    yield* this.#ask({ verb: 'write', storage: this.#storage, offset, bytes });
  }

  *zero(offset: number, length: number): Io<void> {
    yield* this.#ask({ verb: 'zero', storage: this.#storage, offset, length });
  }

  *discard(offset: number, length: number): Io<void> {
    yield* this.#ask({ verb: 'discard', storage: this.#storage, offset, length });
  }

  *truncate(size: number): Io<void> {
    yield* this.#ask({ verb: 'truncate', storage: this.#storage, size });
  }

  *map(offset: number, length: number): Io<StorageExtent> {
    return (yield* this.#ask({ verb: 'map', storage: this.#storage, offset, length })) as StorageExtent;
  }

  *barrier(): Io<void> {
    yield* this.#ask({ verb: 'barrier', storage: this.#storage });
  }

  *flush(): Io<void> {
    yield* this.#ask({ verb: 'flush', storage: this.#storage });
  }

  *close(): Io<void> {
    yield* this.#ask({ verb: 'close', storage: this.#storage });
  }

  *#ask(request: StorageRequest): Io<unknown> {
    const { value, size } = (yield* wait(this.#worker.ask(request))) as { value: unknown; size: number };
    this.size = size;
    return value;
  }
}
