/** The listeners to the events of one thing. A listener that throws disturbs neither the others nor the thing itself: the error is reported as uncaught. */
import { callBack } from './callbacks.ts';

/** See the top of this file. */
export class Listeners<E> {
  #listeners: readonly ((event: E) => void)[] = [];

  /** Whether there are no listeners. */
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

/** Reports in the console a failure for which there is no listener. */
export function unheard(message: string): void {
  // biome-ignore lint/suspicious/noConsole: the only place where an embedder without listeners looks
  console.error(`tabdisk: ${message}`);
}
