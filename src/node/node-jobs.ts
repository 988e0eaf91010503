/**
 * The job that works on an open image, if there is one. Guest requests go on beside it; actions that would disturb it (resizing,
 * snapshots, another job) throw `in-use` until it ends. A job that copies is told of every change that is made meanwhile.
 */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';

/** Called with the guest bytes that a change may have touched, before other requests can read or change them. */
export type ChangeListener = (offset: number, length: number) => void;

/** See the top of this file. */
export class NodeJobs {
  #running: string | undefined;
  readonly #listeners = new Set<ChangeListener>();

  /** The name of the job that works on the image. */
  get running(): string | undefined {
    return this.#running;
  }

  /** Throws `in-use` while a job works on the image, unless that job is `asking`. `name`: the name of the image. */
  requireNone(name: string, asking?: string): void {
    if (this.#running !== undefined && this.#running !== asking)
      throw new DiskError('in-use', `${name} is in use by a job (${this.#running}): wait until it ends, or cancel it`, { field: 'job' });
  }

  /** Runs a job on the image. Throws `in-use` if another job works on it. */
  *occupy<T>(name: string, job: string, body: () => Io<T>): Io<T> {
    this.requireNone(name);
    this.#running = job;
    try {
      return yield* body();
    } finally {
      this.#running = undefined;
    }
  }

  /** Runs `body`, and meanwhile calls `listener` for all changes. */
  *hearing<T>(listener: ChangeListener, body: () => Io<T>): Io<T> {
    this.#listeners.add(listener);
    try {
      return yield* body();
    } finally {
      this.#listeners.delete(listener);
    }
  }

  /** Tells the listeners of a change. */
  changed(offset: number, length: number): void {
    for (const listener of this.#listeners) listener(offset, length);
  }
}
