/**
 * The page's side: `connectEngine` makes an `Engine` out of a worker that runs `tabdisk/worker`. Calls are numbered; a worker that dies
 * fails all calls that wait. `write` copies its bytes before it returns; buffers cross by transfer.
 * When the page is hidden for good (`pagehide`) the engine is asked to flush. Browsers may end the worker before it has
 * done so: durable is what a flush that resolved has covered, so adapters flush on a timer as well.
 */
import { DiskError } from '../base/errors.ts';
import { requireReadable } from '../disk/async-disk.ts';
import type { DiskInfo } from '../disk/info.ts';
import type { MapRun } from '../disk/node.ts';
import type { SnapshotOptions } from '../disk/snapshots.ts';
import type { DriveStatistics } from '../drive/accounting.ts';
import type { GeometryReport } from '../drive/geometry.ts';
import type { BitmapInfo, CheckOptions, CheckResult, SnapshotInfo } from '../formats/driver.ts';
import type { CommitOptions } from '../jobs/commit.ts';
import type { StreamOptions } from '../jobs/stream.ts';
import { BufferPool } from './buffers.ts';
import type {
  CreateImageOptions,
  Engine,
  ExportedImage,
  ExportOptions,
  ImageEntry,
  ImportOptions,
  JobOptions,
  MapSummary,
  OpenImageOptions,
  OverlayOptions,
  RemoteDisk,
  RemoteLibrary,
  StorageReport,
} from './engine.ts';
import {
  type Arguments,
  type BitmapChange,
  type CallMessage,
  type DiskState,
  type FromEngine,
  type Method,
  PROTOCOL_VERSION,
  type Result,
  VM_STATE_PIECE,
} from './protocol.ts';
import { SharedChannel } from './shared-channel.ts';
import type { SharedDiskHandle } from './shared-disk.ts';

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

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: DiskError) => void;
  readonly onProgress: JobOptions['onProgress'];
  /** Lets go of the abort signal and the control. */
  readonly settled: () => void;
}

/** Calls and their answers. */
class Connection {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  readonly buffers = new BufferPool();
  readonly libraryListeners = new Set<() => void>();
  readonly releaseListeners = new Set<(imageId: string) => void>();
  #lastId = 0;
  #dead: DiskError | undefined;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.addEventListener('message', (event) => this.#receive(event.data as FromEngine));
    worker.addEventListener('error', (event) =>
      this.end(new DiskError('io', `The engine's worker failed: ${event.message || 'its script could not be loaded'}`)),
    );
    worker.addEventListener('messageerror', () => this.end(new DiskError('io', "An answer of the engine's worker could not be read")));
  }

  call<M extends Method>(method: M, args: Arguments<M>, job: JobOptions = {}, transfer: Transferable[] = []): Promise<Result<M>> {
    if (this.#dead) return Promise.reject(this.#dead);
    const { signal, control, onProgress } = job;
    if (signal?.aborted) return Promise.reject(new DiskError('aborted', 'The job was cancelled', { cause: signal.reason }));
    const id = ++this.#lastId;
    const abort = () => this.#worker.postMessage({ type: 'abort', id });
    signal?.addEventListener('abort', abort);
    const tellPause = () => this.#worker.postMessage({ type: 'pause', id, paused: control?.paused === true });
    const stopTelling = control?.onChange(tellPause);
    return new Promise<Result<M>>((resolve, reject) => {
      this.#waiting.set(id, {
        resolve: resolve as (value: unknown) => void,
        reject,
        onProgress,
        settled: () => {
          signal?.removeEventListener('abort', abort);
          stopTelling?.();
        },
      });
      const message: CallMessage<M> = { type: 'call', id, method, arguments: args, ...(control?.paused ? { paused: true } : {}) };
      this.#worker.postMessage(message, transfer);
    });
  }

  hide(): void {
    this.#worker.postMessage({ type: 'hide' });
  }

  terminate(): void {
    this.#worker.terminate();
    this.end(new DiskError('io', 'The engine was closed'));
  }

  /** Fails what waits and what comes. */
  end(reason: DiskError): void {
    this.#dead ??= reason;
    for (const { reject, settled } of this.#waiting.values()) {
      settled();
      reject(reason);
    }
    this.#waiting.clear();
  }

  #receive(message: FromEngine): void {
    if (message.type === 'library-changed') {
      for (const listener of this.libraryListeners) listener();
      return;
    }
    if (message.type === 'release-request') {
      for (const listener of this.releaseListeners) listener(message.image);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (!waiting) return;
    if (message.type === 'progress') {
      waiting.onProgress?.(message.done, message.total);
      return;
    }
    this.#waiting.delete(message.id);
    waiting.settled();
    if (message.type === 'result') waiting.resolve(message.value);
    else waiting.reject(DiskError.from(message.error));
  }
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
    const { size } = begun;
    let done = 0;
    // A conversion was the first half of the work.
    const report = () => {
      if (size !== undefined) onProgress?.(converted ? Math.round((size + done) / 2) : done, size);
    };
    const stream = new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          if (signal?.aborted) {
            await this.#connection.call('export.cancel', { export: begun.export });
            throw new DiskError('aborted', 'The export was cancelled', { cause: signal.reason });
          }
          const bytes = await this.#connection.call('export.next', { export: begun.export });
          done += bytes?.length ?? 0;
          report();
          if (bytes) controller.enqueue(bytes);
          else controller.close();
        },
        cancel: async () => {
          await this.#connection.call('export.cancel', { export: begun.export });
        },
      },
      { highWaterMark: 2 },
    );
    return { name: begun.name, size, stream };
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

class WorkerDisk implements RemoteDisk {
  readonly imageId: string;
  readonly synchronous = false;
  readonly snapshots: RemoteDisk['snapshots'];
  readonly bitmaps: RemoteDisk['bitmaps'];
  readonly #connection: Connection;
  readonly #disk: number;
  #state: DiskState;
  #closed = false;

  constructor(connection: Connection, imageId: string, disk: number, state: DiskState) {
    this.#connection = connection;
    this.imageId = imageId;
    this.#disk = disk;
    this.#state = state;
    const possible = () => this.#state.snapshots;
    this.snapshots = {
      get possible() {
        return possible();
      },
      list: (): Promise<SnapshotInfo[]> => this.#call('snapshots.list', {}),
      create: (options) => this.#createSnapshot(options),
      readVmState: (snapshot, range) => this.#readStored(snapshot, range),
      rename: async (snapshot, name) => {
        await this.#call('snapshots.rename', { snapshot, name });
      },
      apply: async (snapshot) => {
        this.#state = await this.#call('snapshots.apply', { snapshot });
      },
      delete: async (snapshot) => {
        await this.#call('snapshots.delete', { snapshot });
      },
    };
    const change = (change: BitmapChange) => async (name: string) => {
      await this.#call('bitmaps.change', { name, change });
    };
    this.bitmaps = {
      list: (): Promise<BitmapInfo[]> => this.#call('bitmaps.list', {}),
      add: async (options) => {
        await this.#call('bitmaps.add', options);
      },
      remove: change('remove'),
      clear: change('clear'),
      enable: change('enable'),
      disable: change('disable'),
      merge: async (name, source) => {
        await this.#call('bitmaps.merge', { name, source });
      },
    };
  }

  get size(): number {
    return this.#state.size;
  }

  get format(): string {
    return this.#state.format;
  }

  get readOnly(): boolean {
    return this.#state.readOnly;
  }

  async read(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array> {
    if (typeof lengthOrInto === 'number') return this.#call('disk.read', { offset, length: lengthOrInto });
    const { buffers } = this.#connection;
    const { length } = lengthOrInto;
    if (!buffers.lends(length)) lengthOrInto.set(await this.#call('disk.read', { offset, length }));
    else {
      const lent = buffers.take(length);
      const into = (await this.#call('disk.read', { offset, length, into: lent }, {}, [lent.buffer])) as Uint8Array<ArrayBuffer>;
      lengthOrInto.set(into);
      buffers.give(into);
    }
    return lengthOrInto;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const { buffers } = this.#connection;
    const back = buffers.lends(bytes.length);
    const copy = back ? buffers.take(bytes.length) : new Uint8Array(bytes.length);
    copy.set(bytes);
    const returned = await this.#call('disk.write', { offset, bytes: copy, back }, {}, [copy.buffer]);
    if (returned) buffers.give(returned as Uint8Array<ArrayBuffer>);
  }

  async zero(offset: number, length: number, { unmap = false }: { unmap?: boolean } = {}): Promise<void> {
    await this.#call('disk.zero', { offset, length, unmap });
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#call('disk.discard', { offset, length });
  }

  async flush(): Promise<void> {
    await this.#call('disk.flush', {});
  }

  async readVmState(offset: number, lengthOrInto: number | Uint8Array): Promise<Uint8Array> {
    const into = typeof lengthOrInto === 'number' ? new Uint8Array(lengthOrInto) : lengthOrInto;
    await inPieces(into.length, async (at, length) => into.set(await this.#call('vmState.read', { offset: offset + at, length }), at));
    return into;
  }

  async writeVmState(offset: number, bytes: Uint8Array): Promise<void> {
    await inPieces(bytes.length, async (at, length) => {
      const piece = bytes.slice(at, at + length);
      await this.#call('vmState.write', { offset: offset + at, bytes: piece }, {}, [piece.buffer]);
    });
  }

  async clearVmState(): Promise<void> {
    await this.#call('vmState.clear', {});
  }

  async #createSnapshot({ name, date = new Date(), vmState, ...moment }: SnapshotOptions): Promise<SnapshotInfo> {
    if (!vmState) return this.#call('snapshots.create', { name, date, ...moment });
    await this.clearVmState();
    try {
      await this.writeVmState(0, vmState);
      return await this.#call('snapshots.create', { name, date, vmStateSize: vmState.length, ...moment });
    } catch (error) {
      await this.clearVmState().catch(() => undefined);
      throw error;
    }
  }

  async #readStored(snapshot: string, range: { offset?: number; length?: number } = {}): Promise<Uint8Array> {
    const list = await this.snapshots.list();
    const stored = list.find(({ id }) => id === snapshot) ?? list.find(({ name }) => name === snapshot);
    if (!stored) throw new DiskError('not-found', `There is no snapshot "${snapshot}"`, { field: 'snapshot' });
    const { offset = 0, length = stored.vmStateSize - offset } = range;
    requireReadable(stored.vmStateSize, offset, length);
    const into = new Uint8Array(length);
    await inPieces(into.length, async (at, pieceLength) =>
      into.set(await this.#call('vmState.read', { snapshot, offset: offset + at, length: pieceLength }), at),
    );
    return into;
  }

  async resize(size: number): Promise<void> {
    this.#state = await this.#call('disk.resize', { size });
  }

  async close({ discard = false }: { discard?: boolean } = {}): Promise<void> {
    if (this.#closed) return;
    await this.#call('disk.close', { discard });
    this.#closed = true;
  }

  async *map(offset = 0, length = this.size - offset): AsyncIterableIterator<MapRun> {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const { runs, next } = await this.#call('disk.map', { offset: at, length: end - at });
      yield* runs;
      at = next;
    }
  }

  info(): Promise<DiskInfo> {
    return this.#call('disk.info', {});
  }

  check({ repair, onProgress }: CheckOptions = {}): Promise<CheckResult> {
    return this.#call('disk.check', repair ? { repair } : {}, onProgress ? { onProgress } : {});
  }

  async commit({ depth = 1, keep, rate, ...job }: CommitOptions = {}): Promise<void> {
    if (depth !== 1) throw new DiskError('unsupported', 'An image of the library is committed into the one right below it', { field: 'depth' });
    await this.#call('disk.commit', { ...(keep === undefined ? {} : { keep }), ...(rate === undefined ? {} : { rate }) }, job);
  }

  async stream({ base, rate, backingFile, ...job }: StreamOptions = {}): Promise<void> {
    if (backingFile) throw new DiskError('unsupported', 'Images of the library name each other by themselves', { field: 'backing_file' });
    await this.#call('disk.stream', { ...(base === undefined ? {} : { base }), ...(rate === undefined ? {} : { rate }) }, job);
  }

  geometry(): Promise<GeometryReport> {
    return this.#call('disk.geometry', {});
  }

  mapSummary(buckets: number, options: { since?: string } = {}): Promise<MapSummary> {
    return this.#call('disk.mapSummary', { buckets, ...options });
  }

  statistics(): Promise<DriveStatistics> {
    return this.#call('disk.statistics', {});
  }

  async share(): Promise<SharedDiskHandle> {
    const { buffer } = SharedChannel.make();
    await this.#call('disk.share', { buffer });
    const { size, format, readOnly } = this;
    return { buffer, size, format, readOnly };
  }

  #call<M extends Extract<Method, `${'disk' | 'snapshots' | 'vmState' | 'bitmaps'}.${string}`>>(
    method: M,
    args: Omit<Arguments<M>, 'disk'>,
    job: JobOptions = {},
    transfer: Transferable[] = [],
  ): Promise<Result<M>> {
    return this.#connection.call(method, { disk: this.#disk, ...args } as Arguments<M>, job, transfer);
  }
}

/** Runs `work` for one piece of machine state after the other: where it begins, and its length. */
async function inPieces(length: number, work: (at: number, length: number) => Promise<void>): Promise<void> {
  for (let at = 0; at < length; at += VM_STATE_PIECE) await work(at, Math.min(VM_STATE_PIECE, length - at));
}
