/** The listeners who are told that an open disk or file is `lost`, and the reason: each at most once, and late listeners too. */
import { DiskError } from './errors.ts';

/** Is called with the reason when an open disk or file is `lost`. */
export type LostListener = (error: DiskError) => void;

/** The loss of one thing. */
export class Loss {
  readonly #listeners = new Set<LostListener>();
  #error: DiskError | undefined;

  /** The reason of the loss; undefined if there was none. */
  get error(): DiskError | undefined {
    return this.#error;
  }

  /** Marks the thing as lost. The first reason counts, and is returned. */
  happened(error: DiskError): DiskError {
    if (this.#error) return this.#error;
    this.#error = error;
    for (const listener of [...this.#listeners]) listener(error);
    this.#listeners.clear();
    return error;
  }

  /** A listener that comes late is called at once. Returns a function that stops it. */
  listen(listener: LostListener): () => void {
    if (this.#error) listener(this.#error);
    else this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Throws all errors except `lost`: closing or copying a lost disk goes on, although nothing more can be saved to it. */
export function unlessLost(error: unknown): void {
  if (!(error instanceof DiskError) || error.kind !== 'lost') throw error;
}
