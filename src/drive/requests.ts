/**
 * The requests of one drive: carried out, counted, and handled by the error policy when they fail.
 * - Each request completes once: with the result of the medium, with success under `ignore`, or as `aborted`.
 * - A request that is stopped is kept. `resume` repeats the kept ones in the order in which they failed; `fail` gives them up.
 * - An abort takes effect while nothing is under way: before the request starts, and while it is kept. The medium is never left
 *   in the middle of a request, so one that runs completes with its own result.
 * - Time that a request waits for its throttle group counts as time that it took.
 * - A synchronous caller cannot be kept waiting: it gets the error and repeats the call itself after `resume`.
 */
import { asDiskError, DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import type { AccountedOperation, AccountedRequest, Accounting } from './accounting.ts';
import {
  type ErrorAction,
  type ErrorOperation,
  errorAction,
  type IoStatus,
  mayStop,
  policyApplies,
  type ReadErrorPolicy,
  statusOf,
  type WriteErrorPolicy,
} from './error-policy.ts';
import type { MediumIo } from './medium.ts';

/** One action on the medium. */
export interface DriveRequest {
  /** The kind it is counted as; absent if it is not counted. */
  readonly accounted?: AccountedOperation;
  readonly operation: ErrorOperation;
  readonly bytes: number;
  readonly signal?: AbortSignal | undefined;
  /** Every error is thrown, and no policy is applied. */
  readonly unmanaged?: boolean;
  readonly run: (medium: MediumIo) => Io<void>;
  /** Called after each attempt, with or without success. */
  readonly attempted?: () => void;
  /** Does the part of a success when the error is ignored. */
  readonly ignored?: () => void;
}

/** Why and how a request was stopped, reported or ignored. */
export interface HandledError {
  /** The action that was taken about the error. */
  readonly action: ErrorAction;
  /** The kind of the failed request; a flush counts as a write. */
  readonly operation: ErrorOperation;
  /** The reason of the failure. */
  readonly error: DiskError;
}

/** The functions that requests need from their drive. */
export interface RequestsOptions {
  readonly accounting: Accounting;
  readonly readErrors: ReadErrorPolicy;
  readonly writeErrors: WriteErrorPolicy;
  /** Returns when a request may begin. */
  readonly admit: (request: DriveRequest) => Io<void>;
  /** Sends the event, and for `stop` pauses the emulator. The I/O status is set by then. */
  readonly onError: (handled: HandledError) => void;
}

/** A request that waits for the emulator to resume. */
interface KeptRequest {
  readonly resume: () => void;
  readonly fail: (error: DiskError) => void;
}

export class Requests {
  readonly #options: RequestsOptions;
  readonly #kept: KeptRequest[] = [];
  #statusEnabled = false;
  #status: IoStatus = 'ok';
  #running = 0;
  #idle: (() => void)[] = [];

  constructor(options: RequestsOptions) {
    this.#options = options;
  }

  /** Requests that wait for `resume`. */
  get kept(): number {
    return this.#kept.length;
  }

  /** `undefined` unless the device asked for it and the policy can stop the emulator. */
  get status(): IoStatus | undefined {
    const { readErrors, writeErrors } = this.#options;
    return this.#statusEnabled && mayStop(readErrors, writeErrors) ? this.#status : undefined;
  }

  enableStatus(): void {
    this.#statusEnabled = true;
    this.#status = 'ok';
  }

  resetStatus(): void {
    this.#status = 'ok';
  }

  /** Carries a request out. Each attempt calls `medium`, which throws if the medium of the first attempt is gone. */
  *submit(medium: () => MediumIo, request: DriveRequest): Io<void> {
    const { accounting, admit } = this.#options;
    for (;;) {
      throwIfAborted(request.signal);
      const counted = request.accounted && accounting.start(request.accounted, request.bytes);
      yield* admit(request);
      throwIfAborted(request.signal);
      const failure = yield* this.#attempt(medium(), request, counted);
      if (!failure) return;
      // No caller waits for it any more: so there is no reason to stop the emulator.
      throwIfAborted(request.signal, failure);
      if (request.unmanaged) throw failure;
      const action = this.decide(request.operation, failure);
      if (action === 'report') throw failure;
      if (action === 'ignore') return request.ignored?.();
      yield* this.#keep(failure, request.signal);
    }
  }

  /** Repeats the kept requests, in order, and forgets the status. */
  resume(): void {
    this.#status = 'ok';
    for (const { resume } of this.#kept.splice(0)) resume();
  }

  /** Ends the kept requests with an error. */
  fail(error: DiskError): void {
    for (const { fail } of this.#kept.splice(0)) fail(error);
  }

  /** Resolves when no request uses the medium. Kept requests do not count. */
  async settled(): Promise<void> {
    while (this.#running > 0)
      await new Promise<void>((resolve) => {
        this.#idle.push(resolve);
      });
  }

  *#attempt(medium: MediumIo, { run, attempted }: DriveRequest, counted: AccountedRequest | undefined): Io<DiskError | undefined> {
    const { accounting } = this.#options;
    this.#running++;
    try {
      yield* run(medium);
      if (counted) accounting.done(counted);
      return undefined;
    } catch (error) {
      const failure = asDiskError(error, 'The medium failed');
      if (counted && policyApplies(failure.kind)) accounting.failed(counted);
      return failure;
    } finally {
      attempted?.();
      this.#running--;
      if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  /** The policy's decision about an error; tells the listeners. If the guest cannot be told, `report` becomes `stop`. */
  decide(operation: ErrorOperation, error: DiskError, { reportable = true } = {}): ErrorAction {
    if (reportable && !policyApplies(error.kind)) return 'report';
    const { readErrors, writeErrors, onError } = this.#options;
    const chosen = errorAction(operation === 'read' ? readErrors : writeErrors, error.kind);
    const action = chosen === 'report' && !reportable ? 'stop' : chosen;
    if (action === 'stop' && this.#status === 'ok') this.#status = statusOf(error.kind);
    onError({ action, operation, error });
    return action;
  }

  *#keep(failure: DiskError, signal: AbortSignal | undefined): Io<void> {
    let abort = () => {};
    let mine: KeptRequest | undefined;
    const resumed = new Promise<void>((resolve, reject) => {
      mine = { resume: resolve, fail: reject };
      this.#kept.push(mine);
      abort = () => reject(abortError(signal));
    });
    signal?.addEventListener('abort', abort, { once: true });
    try {
      yield* wait(resumed);
    } catch (error) {
      throw error instanceof DiskError && error.kind === 'would-wait' ? failure : error;
    } finally {
      signal?.removeEventListener('abort', abort);
      const at = mine ? this.#kept.indexOf(mine) : -1;
      if (at >= 0) this.#kept.splice(at, 1);
    }
  }
}

function throwIfAborted(signal: AbortSignal | undefined, cause?: DiskError): void {
  if (signal?.aborted) throw abortError(signal, cause);
}

const abortError = (signal: AbortSignal | undefined, cause: unknown = signal?.reason): DiskError =>
  new DiskError('aborted', 'The request was cancelled', { cause });
