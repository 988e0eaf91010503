/**
 * The page's side: `connectEngine` makes an `Engine` out of a worker that runs `tabdisk/worker`: its library in
 * remote-library.ts, its disks in remote-disk.ts.
 * When the page is hidden for good (`pagehide`) the engine is asked to flush. Browsers may end the worker before it has
 * done so: only writes that a resolved flush has covered are durable, so adapters flush on a timer as well.
 */
import { asyncDispose } from '../base/dispose.ts';
import { DiskError, mustBe } from '../base/errors.ts';
import { unlessLost } from '../base/loss.ts';
import { onDeath } from './alive.ts';
import type { ConnectOptions } from './connect-options.ts';
import { Connection, type EnginePort, listen } from './connection.ts';
import type { Engine } from './engine.ts';
import { PROTOCOL_VERSION } from './protocol.ts';
import { WorkerDisk } from './remote-disk.ts';
import { remoteLibrary } from './remote-library.ts';
import type { KeptOnPage } from './served.ts';

/** Milliseconds that timers can wait. */
const MOST_TIMEOUT = 2 ** 31 - 1;
const TIMEOUT = 30_000;
/** Browsers let only dedicated workers open files in OPFS, and only those can be ended. */
const WORKER = "a dedicated Worker: new Worker(new URL('./engine.ts', import.meta.url), { type: 'module' })";

/**
 * Connects to the engine in a dedicated worker that runs `tabdisk/worker`. Throws `io` if the worker's script cannot be loaded or does not answer
 * as the engine, `unsupported` if the browser lets the page keep no data or the worker is of another version, `refused` for anything but such a worker. The
 * connection ends with the worker and with `Engine.close`. The page itself has to listen for errors in the worker, by its own `error` event.
 */
export async function connectEngine(worker: Worker, options?: ConnectOptions): Promise<Engine> {
  if (!worker?.postMessage || !worker.terminate || !worker.addEventListener) throw mustBe('connectEngine', 'worker', WORKER);
  return connect(worker, options);
}

/** As `connectEngine`, for the engine at the other end of a message port. @internal Use `connectEngine` or `connectEngineHere`. */
export async function connect(port: EnginePort, options?: ConnectOptions): Promise<Engine> {
  const connection = new Connection(port);
  const timeout = options?.timeout ?? TIMEOUT;
  try {
    // The engine refuses a timeout that is not a number, with the other options.
    await connection.greet(typeof timeout === 'number' && timeout >= 0 ? Math.min(timeout, MOST_TIMEOUT) : TIMEOUT);
    const life = await connection.call('hello', { version: PROTOCOL_VERSION, options });
    const ended = "The engine's worker has ended. What was flushed is kept: connect a new worker";
    if (life !== undefined) void onDeath(life, () => connection.end(new DiskError('io', ended, { field: 'engine' })), connection.over);
    return engineOver(connection);
  } catch (error) {
    connection.end(error as DiskError);
    throw error;
  }
}

function engineOver(connection: Connection): Engine {
  /** The disks that are open, or were lately. */
  const disks = new Set<WorkerDisk>();
  globalThis.addEventListener?.('pagehide', () => connection.hide(), { signal: connection.over });

  /**
   * Brings to the engine the bytes that adapters on this page keep above its disks: all disks, or those of an image. Nothing can be brought to a disk that is
   * lost: resolves to the bytes that stay above such disks.
   */
  async function drain(imageId?: string): Promise<KeptOnPage[]> {
    const stays: KeptOnPage[] = [];
    for (const disk of disks) {
      if (disk.closed) disks.delete(disk);
      else if (imageId === undefined || disk.imageId === imageId)
        await disk.drain().catch((error) => {
          unlessLost(error);
          stays.push(...disk.unsaved());
        });
    }
    return stays;
  }

  const engine: Engine = {
    library: remoteLibrary(connection, drain),
    async open(image, options) {
      const { disk, ...state } = await connection.call('engine.open', { image, options });
      const opened = new WorkerDisk(connection, image, disk, state);
      disks.add(opened);
      return opened;
    },
    async flush() {
      await drain();
      await connection.call('engine.flush', {});
    },
    requestRelease: (image) => connection.call('engine.requestRelease', { image }),
    onReleaseRequest: (listener) => listen('engine.onReleaseRequest', connection.releaseListeners, listener),
    async close() {
      await drain();
      await connection.call('engine.close', {});
      for (const disk of disks) disk.ended();
      connection.terminate();
    },
    [asyncDispose]: () => engine.close(),
  };
  return engine;
}
