/**
 * The end of a page, as an adapter hears of it: the last chances to save. A page that is hidden, frozen or left gets no answer to what it sends in that
 * turn, but what it has sent arrives. `beforeunload` comes earlier, while answers still come, and is where the browser can ask the user to stay; it is
 * listened for only while something is unsaved, since some browsers keep no page for "back" that listens for it.
 *
 * In a worker there are no such events.
 */

/** What hears of them. */
export interface PageExitOptions {
  /** The page may end with this turn: send everything. */
  readonly save: () => void;
  /** Whether the user is to be asked; called after `save`. */
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

  /** Whether there is something that the page should not be left with. */
  guard(unsaved: boolean): void {
    if (unsaved === this.#guarding || typeof document === 'undefined') return;
    this.#guarding = unsaved;
    if (unsaved) globalThis.addEventListener?.('beforeunload', this.#beforeUnload);
    else globalThis.removeEventListener?.('beforeunload', this.#beforeUnload);
  }

  /** Hears nothing any more. */
  close(): void {
    this.guard(false);
    for (const stop of this.#stop.splice(0)) stop();
  }

  #listen(target: Pick<EventTarget, 'addEventListener' | 'removeEventListener'>, type: string, heard: () => void): void {
    // Before what lies below hears of it and keeps what it has by then.
    target.addEventListener(type, heard, { capture: true });
    this.#stop.push(() => target.removeEventListener(type, heard, { capture: true }));
  }

  readonly #beforeUnload = (event: Event): void => {
    this.#options.save();
    if (this.#options.warn()) event.preventDefault();
  };
}
