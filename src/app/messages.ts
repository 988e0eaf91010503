/** Notices to the user, in a live region over a corner of the page: errors stay until dismissed, good news leaves by itself. */
import { button, element, icon } from './dom.ts';
import { failure, isAbort } from './words.ts';

const GOOD_NEWS_MS = 6000;
const MOST = 4;

export class Messages {
  readonly element = element('div', { class: 'messages', testId: 'messages', attributes: { role: 'status', 'aria-live': 'polite' } });

  /** Something failed: `what` was attempted, and why it did not work. Says nothing if the user called it off. */
  error(what: string, error: unknown): void {
    if (isAbort(error)) return;
    this.#show('danger', 'warning', what, failure(error), 'message-error');
  }

  /** A remark that stays. */
  warning(title: string, text: string): void {
    this.#show('warning', 'warning', title, text, 'message-warning');
  }

  /** It worked. */
  success(title: string, text = ''): void {
    const shown = this.#show('success', 'check', title, text, 'message-success');
    setTimeout(() => shown.remove(), GOOD_NEWS_MS);
  }

  #show(variant: string, sign: string, title: string, text: string, testId: string): HTMLElement {
    const close = button('Dismiss', { testId: 'message-dismiss', attributes: { appearance: 'plain' }, press: () => callout.remove() });
    const words = element('div', { class: 'message-words' }, element('strong', {}, title), text === '' ? undefined : element('span', {}, text));
    const callout = element(
      'wa-callout',
      { testId, attributes: { variant, size: 's' } },
      icon(sign, 'icon'),
      element('div', { class: 'message-row' }, words, close),
    );
    this.element.append(callout);
    while (this.element.childElementCount > MOST) this.element.firstElementChild?.remove();
    return callout;
  }
}
