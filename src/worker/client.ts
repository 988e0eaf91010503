/**
 * The page's side: `connectEngine` makes an `Engine` out of a worker that runs `tabdisk/worker`: its library here, its disks in remote-disk.ts.
 * When the page is hidden for good (`pagehide`) the engine is asked to flush. Browsers may end the worker before it has
 * done so: durable is what a flush that resolved has covered, so adapters flush on a timer as well.
 */
import { COUNT, check, FLAG, FUNCTION, type Kind, maybe, objectWith, optionsOf, TEXT } from '../base/arguments.ts';
import { callBack } from '../base/callbacks.ts';
import { asDiskError, DiskError } from '../base/errors.ts';
import { unlessLost } from '../base/loss.ts';
import { lifeLock } from './alive.ts';
import { Connection, type EnginePort } from './connection.ts';
import type {
  CreateImageOptions,
  Engine,
  ExportedImage,
  ExportOptions,
  FormatFacts,
  ImageEntry,
  ImportOptions,
  JobOptions,
  OpenImageOptions,
  OverlayOptions,
  RemoteDisk,
  RemoteLibrary,
  StorageReport,
} from './engine.ts';
import { type Arguments, PROTOCOL_VERSION } from './protocol.ts';
import { WorkerDisk } from './remote-disk.ts';

/** Options of `connectEngine`. */
export interface ConnectOptions {
  /** Names everything the library keeps; two names are two libraries. Default `tabdisk`. */
  readonly library?: string;
  /**
   * Where the browser lets the page keep no data: keep images in memory, until the engine is closed or its thread ends. Default false: that throws
   * `unsupported`.
   */
  readonly memoryIfBlocked?: boolean;
  /** Milliseconds to wait for the worker's first answer, its loading included; default 30,000. */
  readonly timeout?: number;
}

type Unsaved = Arguments<'export'>['unsaved'];

/** What both ways to connect take. */
export const CONNECT_OPTIONS = optionsOf<ConnectOptions>({ library: TEXT, memoryIfBlocked: FLAG, timeout: COUNT });
const TIMEOUT = 30_000;
/** Browsers let dedicated workers alone open files in OPFS, and only those can be ended. */
const WORKER = objectWith("a dedicated Worker: new Worker(new URL('./engine.ts', import.meta.url), { type: 'module' })", [
  'postMessage',
  'terminate',
  'addEventListener',
]);
/** What is inside is looked at before it is sent: `checkCall`. */
const SOME_OPTIONS: Kind = { what: 'an object of options', fits: (value) => typeof value === 'object' && value !== null && !Array.isArray(value) };
/**
 * Connects to the engine in a dedicated worker that runs `tabdisk/worker`. Throws `io` if the worker's script cannot be loaded or does not answer
 * as the engine, `unsupported` if the browser lets the page keep no data or the worker is of another version, `refused` for what is no such worker. The
 * connection ends with the worker and with `Engine.close`: errors in the worker are the page's to hear, by its own `error` event.
 */
export async function connectEngine(worker: Worker, options: ConnectOptions = {}): Promise<Engine> {
  check('connectEngine', 'worker', worker, WORKER);
  check('connectEngine', 'options', options, CONNECT_OPTIONS);
  return connect(worker, options);
}

/** As `connectEngine`, for the engine at the other end of a message port. @internal Use `connectEngine` or `connectEngineHere`. */
export async function connect(
  port: EnginePort,
  { library = 'tabdisk', timeout = TIMEOUT, memoryIfBlocked = false }: ConnectOptions,
): Promise<Engine> {
  const connection = new Connection(port);
  try {
    await connection.greet(timeout);
    const life = lifeLock();
    const { held } = await connection.call('hello', { version: PROTOCOL_VERSION, library, life, memoryIfBlocked });
    if (held) connection.watch(life);
    return new WorkerEngine(connection);
  } catch (error) {
    connection.end(asDiskError(error, 'The engine cannot be used'));
    throw error;
  }
}

class WorkerEngine implements Engine {
  readonly library: RemoteLibrary;
  readonly #connection: Connection;
  readonly #hide: () => void;
  /** Those that are open, or were lately. */
  readonly #disks = new Set<WorkerDisk>();

  constructor(connection: Connection) {
    this.#connection = connection;
    this.library = new WorkerLibrary(connection, (imageId) => this.#drain(imageId));
    this.#hide = () => connection.hide();
    globalThis.addEventListener?.('pagehide', this.#hide);
  }

  async open(imageId: string, options: OpenImageOptions = {}): Promise<RemoteDisk> {
    check('engine.open', 'options', options, SOME_OPTIONS);
    const { disk, ...state } = await this.#connection.call('open', { image: imageId, readOnly: false, ...options });
    const opened = new WorkerDisk(this.#connection, imageId, disk, state);
    this.#disks.add(opened);
    return opened;
  }

  /**
   * Brings to the engine what adapters on this page keep above its disks, all, or those of an image. To one that is lost nothing can be brought: resolves to
   * what stays above those.
   */
  async #drain(imageId?: string): Promise<Unsaved> {
    for (const disk of this.#disks) if (disk.closed) this.#disks.delete(disk);
    const stays: Unsaved[] = [];
    for (const disk of this.#disks) {
      if (imageId !== undefined && disk.imageId !== imageId) continue;
      try {
        await disk.drain();
      } catch (error) {
        unlessLost(error);
        stays.push(disk.unsaved());
      }
    }
    return stays.flat();
  }

  async flush(): Promise<void> {
    await this.#drain();
    await this.#connection.call('flush', {});
  }

  requestRelease(imageId: string): Promise<boolean> {
    return this.#connection.call('requestRelease', { image: imageId });
  }

  onReleaseRequest(listener: (imageId: string) => void): () => void {
    check('engine.onReleaseRequest', 'listener', listener, FUNCTION);
    this.#connection.releaseListeners.add(listener);
    return () => this.#connection.releaseListeners.delete(listener);
  }

  async close(): Promise<void> {
    await this.#drain();
    await this.#connection.call('close', {});
    for (const disk of this.#disks) disk.ended();
    globalThis.removeEventListener?.('pagehide', this.#hide);
    this.#connection.terminate();
  }
}

class WorkerLibrary implements RemoteLibrary {
  readonly #connection: Connection;
  readonly #drain: (imageId: string) => Promise<Unsaved>;

  constructor(connection: Connection, drain: (imageId: string) => Promise<Unsaved>) {
    this.#connection = connection;
    this.#drain = drain;
  }

  list(): Promise<ImageEntry[]> {
    return this.#connection.call('list', {});
  }

  formats(): Promise<FormatFacts[]> {
    return this.#connection.call('formats', {});
  }

  async create<const Format extends string>(options: { readonly format: Format } & CreateImageOptions<Format>): Promise<ImageEntry> {
    check('library.create', 'options', options, SOME_OPTIONS);
    return this.#connection.call('create', options as CreateImageOptions<string>);
  }

  async overlay(imageId: string, options: OverlayOptions): Promise<ImageEntry> {
    check('library.overlay', 'options', options, SOME_OPTIONS);
    await this.#drain(imageId);
    return this.#connection.call('overlay', { image: imageId, ...options });
  }

  async import(file: Blob, options: ImportOptions & JobOptions): Promise<ImageEntry> {
    check('library.import', 'options', options, SOME_OPTIONS);
    const { name, place, format, ...job } = options;
    return this.#connection.call(
      'import',
      { name, file, ...(place === undefined ? {} : { place }), ...(format === undefined ? {} : { format }) },
      job,
    );
  }

  async export(imageId: string, options: ExportOptions & JobOptions): Promise<ExportedImage> {
    check('library.export', 'options', options, SOME_OPTIONS);
    const { signal, onProgress, control, ...what } = options;
    check('library.export', 'onProgress', onProgress, maybe(FUNCTION));
    const unsaved = await this.#drain(imageId);
    let converted = false;
    const begun = await this.#connection.call(
      'export',
      { image: imageId, ...what, unsaved },
      {
        ...(signal ? { signal } : {}),
        ...(control ? { control } : {}),
        onProgress: (done, total) => {
          converted = true;
          onProgress?.(done, total);
        },
      },
      unsaved.map(({ bytes }) => bytes.buffer as ArrayBuffer),
    );
    const { export: number, ...exported } = begun;
    const { size } = exported;
    let done = 0;
    // A conversion was the first half of the work.
    const report = () => {
      if (size !== undefined && onProgress) callBack(onProgress, converted ? Math.round((size + done) / 2) : done, size);
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
    try {
      return await navigator.storage.persist();
    } catch {
      return false;
    }
  }

  onChange(listener: () => void): () => void {
    check('library.onChange', 'listener', listener, FUNCTION);
    this.#connection.libraryListeners.add(listener);
    return () => this.#connection.libraryListeners.delete(listener);
  }
}
