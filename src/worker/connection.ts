/**
 * Calls and their answers. Calls are numbered; the end of the worker fails all that wait, and nothing else does: an error in it is an error of somebody's code
 * there, a message that cannot be read fails the call that it belonged to, and a listener that throws is reported. What is read and written in one turn of the page goes in one message,
 * and the host answers in kind: a message costs each side more than a small request does (four reads of 4 KiB asked for together take half as long
 * so). Buffers cross by transfer.
 */
import { check, optionsOf } from '../base/arguments.ts';
import { callBack } from '../base/callbacks.ts';
import { asDiskError, DiskError } from '../base/errors.ts';
import { JOB_OPTIONS } from '../base/job.ts';
import { Loss } from '../base/loss.ts';
import { onDeath } from './alive.ts';
import { BufferPool } from './buffers.ts';
import type { JobOptions } from './engine.ts';
import { type Arguments, type Batch, type CallMessage, checkCall, type FromEngine, type Method, type Result, type ToEngine } from './protocol.ts';
import { type SharedChannel, State } from './shared-channel.ts';

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: DiskError) => void;
  readonly onProgress: JobOptions['onProgress'];
  /** Lets go of the abort signal and the control. */
  readonly settled: () => void;
}

/** Calls that begin as soon as the host sees them, so that many in one message begin in the order of that message. */
const TOGETHER: ReadonlySet<Method> = new Set<Method>(['disk.read', 'disk.write']);

/** Milliseconds that are left to a worker in which something has failed before it answered. */
const HURRY = 5000;

const JOB = optionsOf<JobOptions>(JOB_OPTIONS);

interface Outgoing {
  readonly message: ToEngine;
  readonly transfer: readonly Transferable[];
}

/** What is needed of the worker, or of a port to the engine in this thread. */
export type EnginePort = Pick<Worker, 'postMessage' | 'terminate' | 'addEventListener'>;

/** See the top of this file. */
export class Connection {
  readonly #worker: EnginePort;
  readonly #waiting = new Map<number, Waiting>();
  readonly buffers = new BufferPool();
  readonly libraryListeners = new Set<() => void>();
  readonly releaseListeners = new Set<(imageId: string) => void>();
  readonly #losses = new Map<number, Loss>();
  /** What is to be sent at the end of this turn. */
  #outbox: Outgoing[] = [];
  #lastId = 0;
  #dead: DiskError | undefined;
  /** Ends what the constructor and `watch` began. */
  readonly #over = new AbortController();
  readonly #channels = new Set<SharedChannel>();
  /** What went wrong in the worker before it answered anything. */
  #heard = '';
  #greeting: { resolve(): void; reject(error: DiskError): void; hurry(): void } | undefined;

  constructor(worker: EnginePort) {
    this.#worker = worker;
    const { signal } = this.#over;
    worker.addEventListener('message', ({ data }: MessageEvent<unknown>) => this.#arrived(data), { signal });
    worker.addEventListener('error', (event) => this.#failed(event), { signal });
    worker.addEventListener('messageerror', () => this.#ping(), { signal });
  }

  /**
   * Resolves when the worker has answered for the first time. Throws `io` if its script cannot be loaded, or nothing is heard of it for `timeout`
   * milliseconds; after an error in it, which may have kept the engine from starting, for `HURRY` at most.
   */
  greet(timeout: number): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const silent = () => {
        const errors = this.#heard === '' ? '' : ` It reported: ${this.#heard}.`;
        const advice = "Its script must import 'tabdisk/worker' before anything that can fail; connectEngine's option timeout says how long to wait";
        reject(new DiskError('io', `The worker does not answer as tabdisk's engine.${errors} ${advice}`, { field: 'worker' }));
      };
      let timer = setTimeout(silent, timeout);
      this.#greeting = {
        resolve,
        reject,
        hurry: () => {
          clearTimeout(timer);
          timer = setTimeout(silent, Math.min(timeout, HURRY));
        },
      };
      this.#over.signal.addEventListener('abort', () => clearTimeout(timer));
      this.#ping();
    }).finally(() => {
      this.#greeting = undefined;
    });
  }

  /** Ends the connection when the worker that holds this lock ends. */
  watch(lock: string): void {
    const ended = "The engine's worker has ended. What was flushed is kept: start a new worker and connect to that";
    const stop = onDeath(lock, () => this.end(new DiskError('io', ended, { field: 'engine' })));
    this.#over.signal.addEventListener('abort', stop);
  }

  /** A thread that sleeps until its request in this memory is answered is woken when the connection ends. */
  share(channel: SharedChannel): void {
    this.#channels.add(channel);
  }

  call<M extends Method>(method: M, args: Arguments<M>, job: JobOptions = {}, transfer: Transferable[] = []): Promise<Result<M>> {
    if (this.#dead) return Promise.reject(this.#dead);
    try {
      checkCall(method, args);
      check(method, 'options', job, JOB);
    } catch (error) {
      return Promise.reject(error);
    }
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
    this.#greeting?.reject(reason);
    this.#over.abort();
    for (const channel of this.#channels) channel.turn(State.closed);
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

  /** Other code in the worker may send messages of its own. */
  #arrived(data: unknown): void {
    if (typeof data !== 'object' || data === null || !('type' in data)) return;
    const message = data as FromEngine | Batch<FromEngine>;
    if (message.type !== 'batch') this.#receive(message);
    else if (Array.isArray(message.messages)) for (const each of message.messages) this.#receive(each);
  }

  /** A script that cannot be loaded is told by a bare event, an exception in it by an `ErrorEvent`: that is for the page to hear, and ends nothing. */
  #failed(event: Event): void {
    const message = 'message' in event ? String(event.message) : '';
    const greeting = this.#greeting;
    if (!greeting) return;
    if (message === '')
      return greeting.reject(
        new DiskError('io', "The engine's worker could not be loaded: look for its script's address, and for a content security policy", {
          field: 'script',
        }),
      );
    this.#heard = message;
    greeting.hurry();
  }

  /** Asks which calls are under way. */
  #ping(): void {
    this.#post({ type: 'ping', id: ++this.#lastId });
  }

  /** A call that was made before the ping and is over without an answer here has lost its message. */
  #findLost(ping: number, running: readonly number[]): void {
    const still = new Set(running);
    const lost = [...this.#waiting.keys()].filter((id) => id < ping && !still.has(id));
    for (const id of lost)
      this.#settle(id)?.reject(new DiskError('io', 'The message of this call, or its answer, could not be read on the other side'));
  }

  #receive(message: FromEngine): void {
    if (message.type === 'pong') {
      this.#greeting?.resolve();
      this.#findLost(message.id, message.running);
    } else if (message.type === 'unreadable') this.#ping();
    else if (message.type === 'library-changed') for (const listener of [...this.libraryListeners]) callBack(listener);
    else if (message.type === 'release-request') for (const listener of [...this.releaseListeners]) callBack(listener, message.image);
    else if (message.type === 'disk-lost') this.lossOf(message.disk).happened(DiskError.from(message.error));
    else if (message.type === 'progress') {
      const onProgress = this.#waiting.get(message.id)?.onProgress;
      if (onProgress) callBack(onProgress, message.done, message.total);
    } else if (message.type === 'result') this.#settle(message.id)?.resolve(message.value);
    else if (message.type === 'error') {
      // An engine of another version, which knows no ping, says so when it is called.
      this.#greeting?.resolve();
      this.#settle(message.id)?.reject(DiskError.from(message.error));
    }
  }
}
