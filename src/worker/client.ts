/**
 * The page's side: `connectEngine` makes an `Engine` out of a worker that runs `tabdisk/worker`: its library here, its disks in remote-disk.ts.
 * When the page is hidden for good (`pagehide`) the engine is asked to flush. Browsers may end the worker before it has
 * done so: durable is what a flush that resolved has covered, so adapters flush on a timer as well.
 */
import { DiskError } from '../base/errors.ts';
import { Connection } from './connection.ts';
import type {
  CreateImageOptions,
  Engine,
  ExportedImage,
  ExportOptions,
  ImageEntry,
  ImportOptions,
  JobOptions,
  OpenImageOptions,
  OverlayOptions,
  RemoteDisk,
  RemoteLibrary,
  StorageReport,
} from './engine.ts';
import { PROTOCOL_VERSION } from './protocol.ts';
import { WorkerDisk } from './remote-disk.ts';

/** Options of `connectEngine`. */
export interface ConnectOptions {
  /** Names everything the library keeps; two names are two libraries. Default `tabdisk`. */
  readonly library?: string;
}

/**
 * Connects to the engine in a worker that runs `tabdisk/worker`. Throws `io` if the worker's script cannot be loaded, `unsupported` if
 * the browser lets the page keep no data or the worker is of another version.
 */
export async function connectEngine(worker: Worker, { library = 'tabdisk' }: ConnectOptions = {}): Promise<Engine> {
  const connection = new Connection(worker);
  await connection.call('hello', { version: PROTOCOL_VERSION, library });
  return new WorkerEngine(connection);
}

class WorkerEngine implements Engine {
  readonly library: RemoteLibrary;
  readonly #connection: Connection;
  readonly #hide: () => void;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.library = new WorkerLibrary(connection);
    this.#hide = () => connection.hide();
    globalThis.addEventListener?.('pagehide', this.#hide);
  }

  async open(imageId: string, options: OpenImageOptions = {}): Promise<RemoteDisk> {
    const { disk, ...state } = await this.#connection.call('open', { image: imageId, readOnly: false, ...options });
    return new WorkerDisk(this.#connection, imageId, disk, state);
  }

  async flush(): Promise<void> {
    await this.#connection.call('flush', {});
  }

  requestRelease(imageId: string): Promise<boolean> {
    return this.#connection.call('requestRelease', { image: imageId });
  }

  onReleaseRequest(listener: (imageId: string) => void): () => void {
    this.#connection.releaseListeners.add(listener);
    return () => this.#connection.releaseListeners.delete(listener);
  }

  async close(): Promise<void> {
    await this.#connection.call('close', {});
    globalThis.removeEventListener?.('pagehide', this.#hide);
    this.#connection.terminate();
  }
}

class WorkerLibrary implements RemoteLibrary {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  list(): Promise<ImageEntry[]> {
    return this.#connection.call('list', {});
  }

  create(options: CreateImageOptions): Promise<ImageEntry> {
    return this.#connection.call('create', options);
  }

  overlay(imageId: string, options: OverlayOptions): Promise<ImageEntry> {
    return this.#connection.call('overlay', { image: imageId, ...options });
  }

  import(file: Blob, options: ImportOptions & JobOptions): Promise<ImageEntry> {
    const { name, place, ...job } = options;
    return this.#connection.call('import', { name, file, ...(place === undefined ? {} : { place }) }, job);
  }

  async export(imageId: string, options: ExportOptions & JobOptions): Promise<ExportedImage> {
    const { signal, onProgress, ...what } = options;
    let converted = false;
    const begun = await this.#connection.call(
      'export',
      { image: imageId, ...what },
      {
        ...(signal ? { signal } : {}),
        onProgress: (done, total) => {
          converted = true;
          onProgress?.(done, total);
        },
      },
    );
    const { export: number, ...exported } = begun;
    const { size } = exported;
    let done = 0;
    // A conversion was the first half of the work.
    const report = () => {
      if (size !== undefined) onProgress?.(converted ? Math.round((size + done) / 2) : done, size);
    };
    const stream = new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          if (signal?.aborted) {
            await this.#connection.call('export.cancel', { export: number });
            throw new DiskError('aborted', 'The export was cancelled', { cause: signal.reason });
          }
          const bytes = await this.#connection.call('export.next', { export: number });
          done += bytes?.length ?? 0;
          report();
          if (bytes) controller.enqueue(bytes);
          else controller.close();
        },
        cancel: async () => {
          await this.#connection.call('export.cancel', { export: number });
        },
      },
      { highWaterMark: 2 },
    );
    return { ...exported, stream };
  }

  rename(imageId: string, name: string): Promise<ImageEntry> {
    return this.#connection.call('rename', { image: imageId, name });
  }

  async delete(imageId: string): Promise<void> {
    await this.#connection.call('delete', { image: imageId });
  }

  storage(): Promise<StorageReport> {
    return this.#connection.call('storage', {});
  }

  /** Asked here: workers cannot ask. */
  async persist(): Promise<boolean> {
    return (await navigator.storage.persist?.()) ?? false;
  }

  onChange(listener: () => void): () => void {
    this.#connection.libraryListeners.add(listener);
    return () => this.#connection.libraryListeners.delete(listener);
  }
}
