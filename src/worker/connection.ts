/**
 * Calls and their answers. Calls are numbered. Only the end of the worker fails all calls that wait: an error in the worker is an error of other
 * code there, a message that cannot be read fails only its own call, and a listener that throws is reported. Reads and writes of one turn of the page go in
 * one message, and the host answers in the same way: a message costs each side more than a small request does (four reads of 4 KiB asked for together take
 * half as long so). Buffers cross by transfer.
 */
import { callBack } from '../base/callbacks.ts';
import { DiskError, mustBe } from '../base/errors.ts';
import type { JobOptions } from '../base/job.ts';
import { Loss } from '../base/loss.ts';
import { BufferPool } from './buffers.ts';
import type { Batch, FromEngine, ToEngine, Unsendable } from './protocol.ts';
import type { Arguments, Method, Result } from './verbs.ts';

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: DiskError) => void;
  readonly onProgress: JobOptions['onProgress'];
  /** Releases the abort signal and the control. */
  readonly settled: () => void;
}

/** Calls that begin as soon as the host sees them, so that many in one message begin in the order of that message. */
const TOGETHER: readonly string[] = ['disk.read', 'disk.write'] satisfies Method[];

/** Options of a job, with a function that each valid value has. */
const STAYS: Readonly<Record<keyof JobOptions, string>> = { onProgress: 'call', signal: 'addEventListener', control: 'onChange' };

/** Milliseconds that remain to a worker after a failure in it before its first answer. */
const HURRY = 5000;

interface Outgoing {
  readonly message: ToEngine;
  readonly transfer: readonly Transferable[];
}

/** The needed part of a worker, or of a port to the engine in this thread. */
export type EnginePort = Pick<Worker, 'postMessage' | 'terminate' | 'addEventListener'>;

/** The options of a verb. */
export type OptionsOf<M extends Method> = Arguments<M> extends { readonly options?: infer O } ? O : never;
/** Options of a job that stay on this side. */
type Job = { readonly [K in keyof JobOptions]: JobOptions[K] | undefined };
/** Verbs that take long: their options are those of a job too. */
export type JobMethod = { [M in Method]: keyof JobOptions extends keyof NonNullable<OptionsOf<M>> ? M : never }[Method];

/** See the top of this file. */
export class Connection {
  readonly #worker: EnginePort;
  readonly #waiting = new Map<number, Waiting>();
  readonly buffers = new BufferPool();
  readonly libraryListeners = new Set<() => void>();
  readonly releaseListeners = new Set<(imageId: string) => void>();
  readonly #losses = new Map<number, Loss>();
  /** Messages to be sent at the end of this turn. */
  #outbox: Outgoing[] = [];
  #lastId = 0;
  #dead: DiskError | undefined;
  /** Ends all work that was begun for the connection. */
  readonly #over = new AbortController();
  /** Fires when the connection has ended. */
  readonly over = this.#over.signal;
  #greeting: { resolve(): void; reject(error: DiskError): void; hurry(message: string): void } | undefined;

  constructor(worker: EnginePort) {
    this.#worker = worker;
    const { over: signal } = this;
    worker.addEventListener('message', ({ data }: MessageEvent<unknown>) => this.#arrived(data), { signal });
    worker.addEventListener('error', (event) => this.#failed(event), { signal });
    worker.addEventListener('messageerror', () => this.#ping(), { signal });
  }

  /**
   * Resolves when the worker has answered for the first time. Throws `io` if its script cannot be loaded, or nothing arrives from it for `timeout`
   * milliseconds; after an error in it, which may have kept the engine from starting, for `HURRY` at most.
   */
  greet(timeout: number): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      let errors = '';
      const wait = (milliseconds: number) => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          const advice = "Its script must import 'tabdisk/worker' first (see also the option timeout)";
          reject(new DiskError('io', `The worker does not answer as tabdisk's engine.${errors} ${advice}`, { field: 'worker' }));
        }, milliseconds);
      };
      wait(timeout);
      const hurry = (message: string) => {
        errors = ` It reported: ${message}.`;
        wait(Math.min(timeout, HURRY));
      };
      this.#greeting = { resolve, reject, hurry };
      this.over.addEventListener('abort', () => clearTimeout(timer));
      this.#ping();
    }).finally(() => {
      this.#greeting = undefined;
    });
  }

  /** Runs a verb in the engine, without checking its arguments: the engine refuses bad ones by name. */
  call<M extends Method>(method: M, args: Arguments<M>, transfer: Transferable[] = [], job: Partial<Job> = {}): Promise<Result<M>> {
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
      this.#post({ type: 'call', id, method, arguments: args, ...(control?.paused ? { paused: true } : {}) }, transfer);
    });
  }

  /**
   * `call` of a verb that takes long. Options of a job stay on this side; invalid ones, and options that are not an object, are sent, so that the engine
   * refuses them.
   */
  job<M extends JobMethod>(method: M, args: Omit<Arguments<M>, 'options'>, options: OptionsOf<M>): Promise<Result<M>> {
    const job: Record<string, unknown> = {};
    let crosses = options as Record<string, Record<string, unknown>> | undefined;
    for (const [name, verb] of Object.entries(STAYS)) {
      const value = crosses?.[name];
      if (typeof value?.[verb] !== 'function') continue;
      job[name] = value;
      crosses = { ...crosses, [name]: undefined as never };
    }
    return this.call(method, { ...args, options: crosses } as Arguments<M>, [], job);
  }

  /** The loss of a disk, by its number. */
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

  /** Fails the calls that wait and all later ones. */
  end(reason: DiskError): void {
    this.#dead ??= reason;
    this.#outbox = [];
    this.#greeting?.reject(reason);
    this.#over.abort();
    for (const { reject, settled } of this.#waiting.values()) {
      settled();
      reject(reason);
    }
    this.#waiting.clear();
  }

  #post(message: ToEngine, transfer: readonly Transferable[] = []): void {
    const waits = message.type === 'call' && TOGETHER.includes(message.method);
    // Two messages, so that all calls that can begin without waiting have begun: a flush finds the writes that were sent before it.
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
      // A message that cannot be copied must not make the others fail.
      if (outgoing.length > 1) for (const one of outgoing) this.#send([one]);
      else if (first.message.type === 'call' && !first.message.spoilt)
        this.#send([{ message: { ...first.message, arguments: sendable(first.message.arguments) as object, spoilt: true }, transfer: [] }]);
      else if ('id' in first.message)
        this.#settle(first.message.id)?.reject(new DiskError('io', `This cannot be sent to the engine: ${error}`, { cause: error }));
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
    const message = data as FromEngine | Batch<FromEngine> | null | undefined;
    if (message?.type !== 'batch') this.#receive(message);
    else if (Array.isArray(message.messages)) for (const each of message.messages) this.#receive(each);
  }

  /** A bare event means that the script cannot be loaded, an `ErrorEvent` an exception in it: the page has to listen for that, and it ends nothing. */
  #failed(event: Event): void {
    const message = 'message' in event ? String(event.message) : '';
    if (message !== '') this.#greeting?.hurry(message);
    else
      this.#greeting?.reject(
        new DiskError('io', "The engine's worker could not be loaded: check its script's address and the content security policy", {
          field: 'script',
        }),
      );
  }

  /** Asks which calls are under way. */
  #ping(): void {
    this.#post({ type: 'ping', id: ++this.#lastId });
  }

  /** The message of a call was lost if the call was made before the ping, is over, and has no answer here. */
  #findLost(ping: number, running: readonly number[]): void {
    for (const id of this.#waiting.keys())
      if (id < ping && !running.includes(id)) this.#settle(id)?.reject(new DiskError('io', 'This call or its answer could not be read'));
  }

  #receive(message: FromEngine | null | undefined): void {
    if (message?.type === 'pong') {
      this.#greeting?.resolve();
      this.#findLost(message.id, message.running);
    } else if (message?.type === 'unreadable') this.#ping();
    else if (message?.type === 'library-changed') for (const listener of [...this.libraryListeners]) callBack(listener);
    else if (message?.type === 'release-request') for (const listener of [...this.releaseListeners]) callBack(listener, message.image);
    else if (message?.type === 'disk-lost') this.lossOf(message.disk).happened(DiskError.from(message.error));
    else if (message?.type === 'progress') {
      const onProgress = this.#waiting.get(message.id)?.onProgress;
      if (onProgress) callBack(onProgress, message.done, message.total);
    } else if (message?.type === 'result') this.#settle(message.id)?.resolve(message.value);
    else if (message?.type === 'error') {
      // An engine of another version, which knows no ping, reports its version when it is called.
      this.#greeting?.resolve();
      this.#settle(message.id)?.reject(DiskError.from(message.error));
    }
  }
}

/** Whether these are bytes whose memory is there. Other values are sent as they are, and the engine reports their fault. */
export function areBytes(value: unknown): value is Uint8Array {
  try {
    // Accepts arrays of any realm. Throws if the memory was transferred elsewhere.
    (value as Uint8Array).set([]);
    return ArrayBuffer.isView(value) && (value as Uint8Array)[Symbol.toStringTag] === 'Uint8Array';
  } catch {
    return false;
  }
}

/** Throws `refused` for a value that is not a listener. */
export function requireListener(where: string, listener: unknown): void {
  if (typeof listener !== 'function') throw mustBe(where, 'listener', 'a function');
}

/** Adds a listener. Returns the function that takes it off. */
export function listen<L>(where: string, listeners: Set<L>, listener: L): () => void {
  requireListener(where, listener);
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The value, with `Unsendable` in the place of parts that browsers do not send. */
function sendable(value: unknown): unknown {
  try {
    structuredClone(value);
    return value;
  } catch {
    const name = typeof value === 'object' ? value?.constructor?.name : typeof value;
    if (name !== 'Object') return { unsendable: String(name) } satisfies Unsendable;
    return Object.fromEntries(Object.entries(value as object).map(([member, each]) => [member, sendable(each)]));
  }
}
