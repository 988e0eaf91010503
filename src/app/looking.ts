/**
 * A check or a map of an image, which may take a while: its progress, the place for its result, and a button to cancel it. Nothing
 * is shown of one that ends in a moment.
 */
import type { JobOptions } from '../index.ts';
import { button, element } from './dom.ts';
import { isAbort } from './words.ts';

/** Milliseconds before progress is shown. */
const SHOWN_AFTER = 300;

export class Looking {
  readonly #bar: HTMLElementTagNameMap['wa-progress-bar'];
  readonly element: HTMLElement;
  #running: AbortController | undefined;

  /** `name` begins the test ids; `title` names the activity. */
  constructor(name: string, title: string) {
    this.#bar = element('wa-progress-bar', { testId: `${name}-progress`, attributes: { label: title } });
    const cancel = button('Cancel', { testId: `${name}-cancel`, attributes: { appearance: 'plain' }, press: () => this.#running?.abort() });
    const head = element('div', { class: 'job-head' }, element('span', { class: 'job-title' }, title), cancel);
    this.element = element('div', { class: 'job', testId: `${name}-looking`, attributes: { hidden: true } }, head, this.#bar);
  }

  /**
   * Runs `work`; an earlier one that still runs is cancelled first. Undefined if this one is cancelled, by the user, by the next, or because the image was
   * `left`. Throws the errors of `work`.
   */
  async run<T>(left: AbortSignal, work: (options: JobOptions) => Promise<T>): Promise<T | undefined> {
    this.#running?.abort();
    const running = new AbortController();
    const { signal } = running;
    this.#running = running;
    const abort = () => running.abort();
    left.addEventListener('abort', abort, { signal });
    this.#bar.value = 0;
    const timer = setTimeout(() => {
      if (this.#running === running) this.element.hidden = false;
    }, SHOWN_AFTER);
    const onProgress = (done: number, total: number) => {
      if (this.#running === running) this.#bar.value = (done / Math.max(1, total)) * 100;
    };
    try {
      const result = await work({ signal, onProgress });
      return signal.aborted ? undefined : result;
    } catch (error) {
      if (isAbort(error) || signal.aborted) return undefined;
      throw error;
    } finally {
      clearTimeout(timer);
      left.removeEventListener('abort', abort);
      if (this.#running === running) {
        this.#running = undefined;
        this.element.hidden = true;
      }
    }
  }
}
