/** Who listens to the events of one thing. A listener that throws disturbs neither the others nor the thing itself: the page hears of it as uncaught. */
import { callBack } from './callbacks.ts';

/** See the top of this file. */
export class Listeners<E> {
  #listeners: readonly ((event: E) => void)[] = [];

  /** Whether nobody listens. */
  get none(): boolean {
    return this.#listeners.length === 0;
  }

  /** Calls back after each event. Returns a function that stops it. */
  on(listener: (event: E) => void): () => void {
    const own = (event: E): void => listener(event);
    this.#listeners = [...this.#listeners, own];
    return () => {
      this.#listeners = this.#listeners.filter((one) => one !== own);
    };
  }

  emit(event: E): void {
    for (const listener of this.#listeners) callBack(listener, event);
  }
}

/** Tells the console of a failure that nobody listens for: better there than nowhere. */
export function unheard(message: string): void {
  // biome-ignore lint/suspicious/noConsole: the only place where an embedder looks who listens to nothing
  console.error(`tabdisk: ${message}`);
}
