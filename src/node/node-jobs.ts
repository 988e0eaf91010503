/**
 * The job that works on an open image, while one does. Guest requests go on beside it; what would pull the ground from under it (resizing,
 * snapshots, another job) throws `in-use` until it ends. A job that copies hears of every change that is made meanwhile.
 */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';

/** Called with the guest bytes that a change may have touched, before anybody else can read or change them. */
export type ChangeListener = (offset: number, length: number) => void;

/** See the top of this file. */
export class NodeJobs {
  #running: string | undefined;
  readonly #listeners = new Set<ChangeListener>();

  /** What the job is called that works on the image. */
  get running(): string | undefined {
    return this.#running;
  }

  /** Throws `in-use` while a job works on the image, unless it is `asking`. `name`: what the image is called. */
  requireNone(name: string, asking?: string): void {
    if (this.#running !== undefined && this.#running !== asking)
      throw new DiskError('in-use', `${name} is in use by a job (${this.#running}): wait until it ends, or cancel it`, { field: 'job' });
  }

  /** Runs a job on the image. Throws `in-use` if another one does. */
  *occupy<T>(name: string, job: string, body: () => Io<T>): Io<T> {
    this.requireNone(name);
    this.#running = job;
    try {
      return yield* body();
    } finally {
      this.#running = undefined;
    }
  }

  /** Runs `body` while `listener` hears of all changes. */
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
