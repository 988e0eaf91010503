/** Who is to hear that something open is `lost`, and why it is: at most once, and also those who ask late. */
import { DiskError } from './errors.ts';

/** Hears why what was open is `lost`. */
export type LostListener = (error: DiskError) => void;

/** The loss of one thing. */
export class Loss {
  readonly #listeners = new Set<LostListener>();
  #error: DiskError | undefined;

  /** Why it is lost, if it is. */
  get error(): DiskError | undefined {
    return this.#error;
  }

  /** It is lost from now on. The first reason counts. Returns that. */
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

/** Throws all failures but that something is lost: whoever closes or copies a lost disk goes on, though nothing more can be brought to it. */
export function unlessLost(error: unknown): void {
  if (!(error instanceof DiskError) || error.kind !== 'lost') throw error;
}
