/**
 * Calls and their answers. Calls are numbered; a worker that dies fails all that wait. What is read and written in one turn of the page goes in one message,
 * and the host answers in kind: a message costs each side more than a small request does (four reads of 4 KiB asked for together take half as long
 * so). Buffers cross by transfer.
 */
import { asDiskError, DiskError } from '../base/errors.ts';
import { Loss } from '../base/loss.ts';
import { BufferPool } from './buffers.ts';
import type { JobOptions } from './engine.ts';
import type { Arguments, Batch, CallMessage, FromEngine, Method, Result, ToEngine } from './protocol.ts';

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: DiskError) => void;
  readonly onProgress: JobOptions['onProgress'];
  /** Lets go of the abort signal and the control. */
  readonly settled: () => void;
}

/** Calls that begin as soon as the host sees them, so that many in one message begin in the order of that message. */
const TOGETHER: ReadonlySet<Method> = new Set<Method>(['disk.read', 'disk.write']);

interface Outgoing {
  readonly message: ToEngine;
  readonly transfer: readonly Transferable[];
}

/** See the top of this file. */
export class Connection {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  readonly buffers = new BufferPool();
  readonly libraryListeners = new Set<() => void>();
  readonly releaseListeners = new Set<(imageId: string) => void>();
  readonly #losses = new Map<number, Loss>();
  /** What is to be sent at the end of this turn. */
  #outbox: Outgoing[] = [];
  #lastId = 0;
  #dead: DiskError | undefined;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.addEventListener('message', ({ data }: MessageEvent<FromEngine | Batch<FromEngine>>) => {
      if (data.type === 'batch') for (const message of data.messages) this.#receive(message);
      else this.#receive(data);
    });
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
    const abort = () => this.#post({ type: 'abort', id });
    signal?.addEventListener('abort', abort);
    const tellPause = () => this.#post({ type: 'pause', id, paused: control?.paused === true });
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
      this.#post(message, transfer);
    });
  }

  /** Whether and why a disk, by its number, is lost. */
  lossOf(disk: number): Loss {
    const loss = this.#losses.get(disk) ?? new Loss();
    this.#losses.set(disk, loss);
    return loss;
  }

  hide(): void {
    this.#post({ type: 'hide' });
  }

  terminate(): void {
    this.#worker.terminate();
    this.end(new DiskError('io', 'The engine was closed'));
  }

  /** Fails what waits and what comes. */
  end(reason: DiskError): void {
    this.#dead ??= reason;
    this.#outbox = [];
    for (const { reject, settled } of this.#waiting.values()) {
      settled();
      reject(reason);
    }
    this.#waiting.clear();
  }

  #post(message: ToEngine, transfer: readonly Transferable[] = []): void {
    const waits = message.type === 'call' && TOGETHER.has(message.method);
    // Two messages, so that all that can begin without waiting has begun: a flush finds the writes that were sent before it.
    if (!waits) this.#send();
    this.#outbox.push({ message, transfer });
    if (!waits) this.#send();
    else if (this.#outbox.length === 1) queueMicrotask(() => this.#send());
  }

  #send(outgoing = this.#outbox.splice(0)): void {
    const [first] = outgoing;
    if (!first) return;
    try {
      const messages = outgoing.map(({ message }) => message);
      const transfer = outgoing.flatMap((each) => each.transfer);
      const message: ToEngine | Batch<ToEngine> = messages.length === 1 ? first.message : { type: 'batch', messages };
      this.#worker.postMessage(message, transfer);
    } catch (error) {
      // One that cannot be copied must not take the others along.
      if (outgoing.length > 1) for (const one of outgoing) this.#send([one]);
      else if ('id' in first.message) this.#settle(first.message.id)?.reject(asDiskError(error, 'This cannot be sent to the engine'));
    }
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    waiting?.settled();
    return waiting;
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
    if (message.type === 'disk-lost') return void this.lossOf(message.disk).happened(DiskError.from(message.error));
    if (message.type === 'progress') this.#waiting.get(message.id)?.onProgress?.(message.done, message.total);
    else if (message.type === 'result') this.#settle(message.id)?.resolve(message.value);
    else this.#settle(message.id)?.reject(DiskError.from(message.error));
  }
}
