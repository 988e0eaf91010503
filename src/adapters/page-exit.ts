/**
 * The end of a page, for an adapter: the last chances to save. A page that is hidden, frozen or left gets no answer to messages that it sends in that
 * turn, but these arrive. `beforeunload` comes earlier, while answers still come, and lets the browser ask the user to stay; an adapter
 * listens for it only while something is unsaved, since some browsers keep no page for "back" that listens for it.
 *
 * In a worker there are no such events.
 */

/** The callbacks for these events. */
export interface PageExitOptions {
  /** The page may end with this turn: send everything. */
  readonly save: () => void;
  /** Whether the user has to be asked; called after `save`. */
  readonly warn: () => boolean;
}

/** See the top of this file. */
export class PageExit {
  readonly #options: PageExitOptions;
  readonly #stop: (() => void)[] = [];
  #guarding = false;

  constructor(options: PageExitOptions) {
    this.#options = options;
    const { save } = options;
    if (typeof document !== 'undefined') {
      this.#listen(document, 'visibilitychange', () => document.visibilityState === 'hidden' && save());
      this.#listen(document, 'freeze', save);
    }
    if (typeof globalThis.addEventListener === 'function') this.#listen(globalThis, 'pagehide', save);
  }

  /** Sets whether the page holds something that would be lost if the user leaves it. */
  guard(unsaved: boolean): void {
    if (unsaved === this.#guarding || typeof document === 'undefined') return;
    this.#guarding = unsaved;
    if (unsaved) globalThis.addEventListener?.('beforeunload', this.#beforeUnload);
    else globalThis.removeEventListener?.('beforeunload', this.#beforeUnload);
  }

  /** Ends listening. */
  close(): void {
    this.guard(false);
    for (const stop of this.#stop.splice(0)) stop();
  }

  #listen(target: Pick<EventTarget, 'addEventListener' | 'removeEventListener'>, type: string, heard: () => void): void {
    // Before the storage below gets the event and keeps the bytes that it has by then.
    target.addEventListener(type, heard, { capture: true });
    this.#stop.push(() => target.removeEventListener(type, heard, { capture: true }));
  }

  readonly #beforeUnload = (event: Event): void => {
    this.#options.save();
    if (this.#options.warn()) event.preventDefault();
  };
}
