/**
 * The parts that all long jobs share: progress, pausing, cancelling, and giving the thread back. A job over synchronous storage never waits by
 * itself, so `Pace` lets other work of the thread run from time to time; without it no message could arrive that fires the signal. `Pace` is called
 * between steps, where stopping leaves nothing half done.
 */
import { COUNT, check, FUNCTION, type Members, objectWith, SIGNAL } from './arguments.ts';
import { callBack } from './callbacks.ts';
import { DiskError } from './errors.ts';
import { type Io, mayWait, wait } from './io.ts';

/** Options of every job that takes long. */
export interface JobOptions {
  /** Bytes done and in all (for `check`: tables). Called at most some ten times a second, and once at the end. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Stops the job between two steps; it then throws kind `aborted`. The bytes that were written by then stay written. */
  readonly signal?: AbortSignal;
  /** Pauses the job between two steps, and lets it go on. */
  readonly control?: JobControl;
}

/** Every option of a job, as a list that the compiler compares with the interface. */
export const JOB_OPTIONS: Members<JobOptions> = {
  onProgress: FUNCTION,
  signal: SIGNAL,
  control: objectWith('a JobControl', ['paused', 'onChange']),
};

/** Pauses jobs and lets them go on: while it is paused, a job that was given it waits before its next step, holding nothing. */
export class JobControl {
  #paused = false;
  readonly #listeners = new Set<() => void>();

  /** True from `pause` until `resume`. */
  get paused(): boolean {
    return this.#paused;
  }

  /** The job stops before its next step. Nothing happens if it is paused. */
  pause(): void {
    this.#set(true);
  }

  /** The job goes on. Nothing happens if it is not paused. */
  resume(): void {
    this.#set(false);
  }

  /** Calls back after each change. Returns a function that stops it. */
  onChange(listener: () => void): () => void {
    check('control.onChange', 'listener', listener, FUNCTION);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #set(paused: boolean): void {
    if (this.#paused === paused) return;
    this.#paused = paused;
    for (const listener of [...this.#listeners]) callBack(listener);
  }
}

/** Options of jobs that copy. */
export interface CopyJobOptions extends JobOptions {
  /** Bytes a second to copy at most; default as fast as it goes. */
  readonly rate?: number;
}

export const COPY_JOB_OPTIONS: Members<CopyJobOptions> = { ...JOB_OPTIONS, rate: COUNT };

/** The options of a job's pace. */
export interface PaceOptions extends CopyJobOptions {
  /** Report after every step, however soon. */
  readonly everyStep?: boolean;
}

/** Milliseconds of work before the thread is given back: other requests to the thread wait no longer than this meanwhile. */
const SLICE = 20;
/**
 * The slice while other code requests bytes. The job then leaves the thread to the others for LEFT_TIMES the real length of the slice, and at most for
 * MOST_LEFT ms. A reader that requests one piece at a time has no request waiting after an answer, and would get one answer a slice otherwise.
 */
const SHARED_SLICE = 4;
const LEFT_TIMES = 3;
const MOST_LEFT = 200;
/** Milliseconds after a request in which more requests are expected: on a busy machine the next may take long to arrive. */
const EXPECTED = 200;
/** Milliseconds between two progress calls. */
const PROGRESS_INTERVAL = 100;

let requestedAt = Number.NEGATIVE_INFINITY;
/** When the thread was last left to others. */
let leftAt = Number.NEGATIVE_INFINITY;

/** Notes a request for bytes that does not come from a job: the jobs of this thread leave more of it to others for a while. */
export function noteRequest(): void {
  requestedAt = performance.now();
}

const isShared = (): boolean => performance.now() - requestedAt < EXPECTED;

/** Within a step of a job, whose requests began at `since`: if other code requests bytes, the job waits for a while. Returns whether it waited. */
export function* giveWay(since: number): Io<boolean> {
  const took = performance.now() - since;
  if (took < SHARED_SLICE || !isShared() || !mayWait()) return false;
  yield* wait(pause(Math.min(MOST_LEFT, LEFT_TIMES * took)));
  leftAt = performance.now();
  return true;
}

/** The pace of one running job. */
export class Pace {
  readonly #options: PaceOptions;
  readonly #total: number;
  #sliceStart = performance.now();
  #told = 0;
  #reportedAt = Number.NEGATIVE_INFINITY;
  /** The time at which the rate allows the bytes copied so far. */
  #paidUntil = performance.now();

  constructor(options: PaceOptions, total: number) {
    this.#options = options;
    this.#total = total;
  }

  /** As `step`, while the bytes needed for [`from`, `to`) are read ahead and `part` of them, 0 to 1, are there: reading is about half of the work. */
  ahead(part: number, from: number, to: number): Io<void> {
    return this.step(Math.floor(from + (part * (to - from)) / 2));
  }

  /** Between two steps: reports progress, gives the thread back if it is time, waits while paused, and throws `aborted` if the job was cancelled. */
  *step(done: number): Io<void> {
    const { control, everyStep, signal } = this.#options;
    const now = performance.now();
    const due = everyStep === true || now - this.#reportedAt >= PROGRESS_INTERVAL;
    if (due && done < this.#total) this.#report(done, now);
    const begun = Math.max(this.#sliceStart, leftAt);
    const gaveWay = yield* giveWay(begun);
    if (!gaveWay && now - begun >= SLICE && mayWait()) {
      yield* wait(turn());
      this.#sliceStart = performance.now();
    }
    if (control) yield* this.#whilePaused(control, signal);
    throwIfAborted(signal);
  }

  *#whilePaused(control: JobControl, signal: AbortSignal | undefined): Io<void> {
    while (control.paused && !signal?.aborted) {
      yield* wait(changeOf(control, signal));
      this.#sliceStart = performance.now();
      this.#paidUntil = this.#sliceStart;
    }
  }

  /** After copying: waits until the rate allows so many bytes. Throws `aborted` if the job was cancelled meanwhile. */
  *spend(bytes: number): Io<void> {
    const { rate = 0, signal } = this.#options;
    if (rate <= 0 || bytes === 0) return;
    this.#paidUntil = Math.max(this.#paidUntil, performance.now() - SLICE) + (bytes * 1000) / rate;
    for (let left = this.#paidUntil - performance.now(); left > 0; left = this.#paidUntil - performance.now()) {
      throwIfAborted(signal);
      yield* wait(pause(Math.min(left, PROGRESS_INTERVAL)));
    }
  }

  /** The last report: everything is done. */
  finish(): void {
    this.#report(this.#total, performance.now());
  }

  #report(done: number, now: number): void {
    this.#reportedAt = now;
    // The listener may have been told already of bytes that were read ahead.
    this.#told = Math.max(this.#told, done);
    const { onProgress } = this.#options;
    if (onProgress) callBack(onProgress, this.#told, this.#total);
  }
}

/** Throws kind `aborted` once the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new DiskError('aborted', 'The job was cancelled', { cause: signal.reason });
}

/** Runs a step of a job; if it fails, the error says which step and where, and has the original as its cause. */
export function* placed<T>(place: { step: string; offset: number }, work: Io<T>): Io<T> {
  try {
    return yield* work;
  } catch (error) {
    throw placedError(place, error);
  }
}

/** The error of a step that has failed, with the place that `placed` adds. */
export function placedError(place: { step: string; offset: number }, error: unknown): unknown {
  if (!(error instanceof DiskError) || error.kind === 'aborted') return error;
  const { kind, message } = error;
  return new DiskError(kind, message, { ...error.toJSON(), ...place, cause: error });
}

/** Resolves when a job has to look again: its control was changed, or its signal has fired. */
function changeOf(control: JobControl, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const changed = (): void => {
      stop();
      signal?.removeEventListener('abort', changed);
      resolve();
    };
    const stop = control.onChange(changed);
    signal?.addEventListener('abort', changed);
  });
}

/** Resolves when all work that waits for the thread has had its turn. Uses a message, since browsers delay a timer that follows another by 4 ms. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
