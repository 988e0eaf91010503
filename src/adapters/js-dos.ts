/**
 * Disks for js-dos (the npm package `emulators` 8): its DOSBox and DOSBox-X run in classic workers. One that begins with `importScripts` of the emulator's script
 * and of this package's (`tabdisk/standalone/emulators.iife.js`) and then calls `jsDosWorker` gives the emulator disks there: as files of its file
 * system (emscripten-file.ts) and as sockdrives (sockdrive-disk.ts). `jsDosTransport` is the page's side, for `emulators.backend(init, transport)`.
 *
 * The emulator's script makes a `Module` of its first message, `wc-install`, and starts. The transport sends that once the disks are there; the files are put in
 * place when the module has its file system, before its program runs.
 */
import { check, either, FLAG, FUNCTION, NUMBER, objectWith, optionsOf, SIZE } from '../base/arguments.ts';
import { callBack } from '../base/callbacks.ts';
import { asDiskError, DiskError, type DiskErrorJson } from '../base/errors.ts';
import { unheard } from '../base/listeners.ts';
import { GEOMETRY_HINTS } from '../drive/geometry.ts';
import { SharedDisk, type SharedDiskHandle } from '../worker/shared-disk.ts';
import type { DiskFileOptions, WaitlessDisk } from './disk-file.ts';
import { type EmscriptenFs, type MountedDisk, mountDisk } from './emscripten-file.ts';
import { type Sockdrive, type SockdriveDisks, type SockdriveDrive, type SockdriveInfo, type SockdriveOptions, sockdrive } from './sockdrive-disk.ts';

export type { DiskFileOptions, Sockdrive, SockdriveDisks, SockdriveDrive, SockdriveInfo, SockdriveOptions, WaitlessDisk };

/** The disks of an emulator, as its worker opens them. */
export interface JsDosDisks {
  /** By their paths: `/c.img` for `imgmount c /c.img`. Not below `/home/web_user`, which js-dos packs into bundles. */
  readonly files?: Readonly<Record<string, WaitlessDisk>>;
  /** By their URLs: `https://disk/c` for `imgmount c sockdrive https://disk/c`, in DOSBox-X. */
  readonly sockdrives?: SockdriveDisks;
}

/** How disks are given to an emulator of js-dos. */
export type JsDosOptions = Omit<DiskFileOptions, 'onError'> & Pick<SockdriveOptions, 'geometry'>;

/** What the page gives to the worker. */
export interface JsDosTransportOptions {
  /** The compiled `wdosbox.wasm` or `wdosbox-x.wasm`. */
  readonly module: WebAssembly.Module;
  /** Disks of the engine's, as `JsDosDisks.files`: what `disk.share()` gave. */
  readonly files?: Readonly<Record<string, SharedDiskHandle>>;
  /** Disks of the engine's, as `JsDosDisks.sockdrives`. */
  readonly sockdrives?: Readonly<Record<string, SharedDiskHandle>>;
  /** Is told of requests and saves that failed. Default: the console is told. */
  readonly onError?: (error: DiskError) => void;
}

/** js-dos's transport, with what the disks need besides. */
export interface JsDosTransport {
  /** A name of this run's, for js-dos's messages. */
  readonly sessionId: string;
  /** No network between emulators. */
  readonly net: null;
  /** js-dos calls it for each message to the emulator. */
  sendMessageToServer(name: string, props: Record<string, unknown>, transfer?: Transferable[]): void;
  /** js-dos calls it once; messages of the emulator's that came before are handed over then. */
  initMessageHandler(handler: (name: string, props: Record<string, unknown>) => void): void;
  /** Ends the worker; js-dos calls it. What no flush has covered is lost: `sync` first. */
  exit(): void;
  /** Makes durable what the emulator has written. Rejects with the reason if that fails, and with `io` after `exit`. */
  sync(): Promise<void>;
}

const TRANSPORT = optionsOf<JsDosTransportOptions>({
  module: { ...objectWith('a WebAssembly.Module, such as WebAssembly.compileStreaming(fetch(url)) gives', []), needed: true },
  files: objectWith('an object with a handle for each path', []),
  sockdrives: objectWith('an object with a handle for each URL', []),
  onError: FUNCTION,
});
const DISKS = optionsOf<JsDosDisks>({
  files: objectWith('an object with a disk for each path', []),
  sockdrives: objectWith('an object with a disk for each URL', []),
});
const PROMISE = objectWith('a promise of them', ['then']);
const OPTIONS = optionsOf<JsDosOptions>({
  readOnly: FLAG,
  cache: SIZE,
  flushIdle: NUMBER,
  geometry: GEOMETRY_HINTS,
});
const WORKER = objectWith('a Worker', ['postMessage', 'terminate']);
const GREETING = 'tabdisk';

interface Greeting {
  readonly name: typeof GREETING;
  readonly files: Readonly<Record<string, SharedDiskHandle>>;
  readonly sockdrives: Readonly<Record<string, SharedDiskHandle>>;
}

/** From the worker: its disks are there or cannot be had, an answer to `sync`, a failure in between. */
interface Report {
  readonly about: 'disks' | 'sync' | 'event';
  readonly error?: DiskErrorJson | undefined;
}

/**
 * The transport for `emulators.backend(init, transport)`, to a worker that has called `jsDosWorker`. Rejects if the disks cannot be opened there; the caller
 * ends the worker then.
 */
export async function jsDosTransport(worker: Worker, options: JsDosTransportOptions): Promise<JsDosTransport> {
  check('jsDosTransport', 'worker', worker, WORKER);
  check('jsDosTransport', 'options', options, TRANSPORT);
  const { module, files = {}, sockdrives = {}, onError = ({ message }: DiskError) => unheard(message) } = options;
  const { port1: port, port2 } = new MessageChannel();
  const waiting: ((report: Report) => void)[] = [];
  let ended = false;
  const end = (): void => {
    ended = true;
    const error = new DiskError('io', "The emulator's worker has ended").toJSON();
    for (const settle of waiting.splice(0)) settle({ about: 'sync', error });
  };
  const answer = () =>
    new Promise<void>((resolve, reject) => {
      waiting.push(({ error }) => (error ? reject(DiskError.from(error)) : resolve()));
      if (ended) end();
    });
  port.onmessage = ({ data }: MessageEvent<Report>) => {
    if (data.about !== 'event') waiting.shift()?.(data);
    else if (data.error) callBack(onError, DiskError.from(data.error));
  };
  const early: [string, Record<string, unknown>][] = [];
  let handler = (...message: (typeof early)[number]): void => void early.push(message);
  worker.onmessage = ({ data }: MessageEvent<{ name?: string; props: Record<string, unknown> }>) => {
    if (data?.name !== undefined) handler(data.name, data.props);
  };
  const failed = new Promise<never>((_, reject) => {
    worker.onerror = (event) => {
      handler('ws-err', { type: event.type, filename: event.filename, message: event.message });
      reject(new DiskError('io', `The emulator's worker failed: ${event.message}`));
    };
  });
  worker.postMessage({ name: GREETING, files, sockdrives } satisfies Greeting, [port2]);
  await Promise.race([answer(), failed]);
  failed.catch(() => undefined);
  const sessionId = `session-${Date.now()}`;
  worker.postMessage({ name: 'wc-install', props: { module, sessionId } });
  return {
    sessionId,
    net: null,
    sendMessageToServer: (name, props, transfer = []) => worker.postMessage({ name, props }, transfer),
    initMessageHandler(next) {
      handler = next;
      for (const message of early.splice(0)) handler(...message);
    },
    exit() {
      port.close();
      worker.terminate();
      end();
    },
    sync() {
      port.postMessage('sync');
      return answer();
    },
  };
}

/** What the emulator's script leaves in its worker. */
interface Scope {
  onmessage: ((event: MessageEvent) => unknown) | null;
  sockdrive?: Sockdrive;
  Module?: unknown;
}

interface EmulatorModule {
  readonly FS: EmscriptenFs;
  onRuntimeInitialized?: () => void;
}

/**
 * In the emulator's worker, after its script: gives it the disks that the page's transport names, and those that this worker has opened itself (a `Disk` over
 * OPFS, say), for which a promise will do. The emulator starts when they are there.
 */
export function jsDosWorker(disks: JsDosDisks | PromiseLike<JsDosDisks> = {}, options: JsDosOptions = {}): void {
  check('jsDosWorker', 'disks', disks, either(PROMISE, DISKS));
  check('jsDosWorker', 'options', options, OPTIONS);
  const scope = globalThis as unknown as Scope;
  const emulator = scope.onmessage;
  if (!emulator) throw new DiskError('refused', "jsDosWorker: importScripts of the emulator's script comes first", { field: 'disks' });
  // A failure is told when the page asks.
  Promise.resolve(disks).catch(() => undefined);
  scope.onmessage = (event) => {
    if ((event.data as Partial<Greeting> | undefined)?.name !== GREETING) return emulator.call(scope, event);
    const port = event.ports[0] as MessagePort;
    return new Served(port, options).open(disks, event.data as Greeting);
  };
}

/** The disks of one emulator. */
class Served {
  readonly #port: MessagePort;
  readonly #options: JsDosOptions;
  readonly #mounted: MountedDisk[] = [];
  readonly #drives: SockdriveDrive[] = [];

  constructor(port: MessagePort, options: JsDosOptions) {
    this.#port = port;
    this.#options = options;
    port.onmessage = () => void this.#answer('sync', () => this.#sync());
  }

  open(disks: JsDosDisks | PromiseLike<JsDosDisks>, given: Greeting): Promise<void> {
    return this.#answer('disks', async () => {
      const own = await disks;
      check('jsDosWorker', 'disks', own, DISKS);
      const shared = (handles: Readonly<Record<string, SharedDiskHandle>>) =>
        Object.fromEntries(Object.entries(handles).map(([name, handle]) => [name, new SharedDisk(handle)]));
      this.#serveSockdrives({ ...own.sockdrives, ...shared(given.sockdrives) });
      this.#placeFiles({ ...own.files, ...shared(given.files) });
    });
  }

  #serveSockdrives(disks: SockdriveDisks): void {
    const scope = globalThis as unknown as Scope;
    const { cache, geometry } = this.#options;
    const open = sockdrive(disks, {
      onError: this.#onError,
      ...(cache === undefined ? {} : { cache }),
      ...(geometry ? { geometry } : {}),
      ...(scope.sockdrive ? { otherwise: scope.sockdrive } : {}),
    });
    scope.sockdrive = async (...given) => {
      const drive = await open(...given);
      this.#drives.push(drive);
      return drive;
    };
  }

  /** The script sets the global `Module`, and only then starts it. */
  #placeFiles(files: Readonly<Record<string, WaitlessDisk>>): void {
    const { geometry: _, ...options } = this.#options;
    const place = (module: EmulatorModule): void => {
      Object.defineProperty(globalThis, 'Module', { value: module, writable: true, configurable: true });
      const begin = module.onRuntimeInitialized;
      module.onRuntimeInitialized = () => {
        for (const [path, disk] of Object.entries(files)) this.#mount(module.FS, path, disk, options);
        begin?.();
      };
    };
    Object.defineProperty(globalThis, 'Module', { set: place, get: () => undefined, configurable: true });
  }

  #mount(fs: EmscriptenFs, path: string, disk: WaitlessDisk, options: DiskFileOptions): void {
    try {
      this.#mounted.push(mountDisk(fs, path, disk, { ...options, onError: this.#onError }));
    } catch (error) {
      this.#onError(asDiskError(error, `There is no disk at ${path}`));
    }
  }

  readonly #onError = (error: DiskError): void => this.#port.postMessage({ about: 'event', error: error.toJSON() } satisfies Report);

  async #sync(): Promise<void> {
    for (const disk of this.#mounted) disk.sync();
    for (const drive of this.#drives) await drive.persist();
  }

  async #answer(about: Report['about'], work: () => Promise<void>): Promise<void> {
    let error: DiskErrorJson | undefined;
    await work().catch((reason: unknown) => {
      error = asDiskError(reason, 'The disks of the emulator failed').toJSON();
    });
    this.#port.postMessage({ about, error } satisfies Report);
  }
}
