/**
 * Notices to the user, in a live region over a corner of the page: errors stay until dismissed, good news disappears by itself, unless the pointer or the
 * focus is on it.
 */
import { button, element, icon } from './dom.ts';
import { failure, isAbort, isolated, missingPart } from './words.ts';

/** The kinds of notices. */
export type Notices = Pick<Messages, 'error' | 'warning' | 'success'>;

/** Milliseconds: slow readers and screen readers come to the end of it. */
const GOOD_NEWS_MS = 15_000;
const MOST = 4;

export class Messages {
  readonly element = element('div', { class: 'messages', testId: 'messages', attributes: { role: 'status', 'aria-live': 'polite' } });

  /**
   * Something failed: `what` was attempted, and the reason. Shows nothing if the user cancelled it. If a part of the page could not be loaded there
   * is a button: loading the page anew, or, for a part that another attempt may load, `again`.
   */
  error(what: string, error: unknown, again?: () => void): void {
    if (isAbort(error)) return;
    const missing = missingPart(error);
    let act: HTMLElement | undefined;
    if (missing === 'module') act = wayOn('Reload', 'message-reload', () => location.reload());
    else if (missing === 'file' && again)
      act = wayOn('Try again', 'message-again', () => {
        shown.remove();
        again();
      });
    const shown = this.#show('danger', 'warning', what, failure(error), 'message-error', act);
  }

  /** A remark that stays. */
  warning(title: string, text: string): void {
    this.#show('warning', 'warning', title, text, 'message-warning');
  }

  /** A request that stays until it is met or dismissed; `deed` is the text of the button that meets it. Returns a function that takes it away. */
  request(title: string, text: string, deed: string, press: () => void): () => void {
    const act = button(deed, { testId: 'message-deed', attributes: { appearance: 'accent' }, press });
    const shown = this.#show('warning', 'lock', title, text, 'message-request', act);
    return () => shown.remove();
  }

  /** Reports a success. */
  success(title: string, text = ''): void {
    const shown = this.#show('success', 'check', title, text, 'message-success');
    passes(shown);
  }

  /** The same for notices about one image: after `left` is aborted the titles begin with its name. */
  about(name: () => string, left: AbortSignal): Notices {
    const titled = (title: string): string => (left.aborted ? `${name()}: ${title}` : title);
    return {
      error: (what, error) => this.error(titled(what), error),
      warning: (title, text) => this.warning(titled(title), text),
      success: (title, text) => this.success(titled(title), text),
    };
  }

  /** The results of several things at once, a line each. Stays if one of them failed. */
  summary(title: string, lines: readonly string[], good: boolean): void {
    const list = element('ul', { class: 'message-lines' }, ...lines.map((line) => element('li', {}, line)));
    const shown = this.#show(good ? 'success' : 'warning', good ? 'check' : 'warning', title, list, 'message-summary');
    if (good) passes(shown);
  }

  #show(variant: string, sign: string, title: string, text: string | HTMLElement, testId: string, act?: HTMLElement): HTMLElement {
    const close = button('Dismiss', { testId: 'message-dismiss', attributes: { appearance: 'plain' }, press: () => callout.remove() });
    const words = element(
      'div',
      { class: 'message-words' },
      element('strong', {}, isolated(title)),
      text === '' ? undefined : typeof text === 'string' ? element('span', {}, isolated(text)) : text,
    );
    const callout = element(
      'wa-callout',
      { testId, attributes: { variant, size: 's' } },
      icon(sign, 'icon'),
      element('div', { class: 'message-row' }, words, element('div', { class: 'row' }, act, close)),
    );
    // News that comes again is the same news.
    for (const other of [...this.element.children]) if (isSame(other, callout)) other.remove();
    this.element.append(callout);
    while (this.element.childElementCount > MOST) this.element.firstElementChild?.remove();
    return callout;
  }
}

const wayOn = (label: string, testId: string, press: () => void): HTMLElement =>
  button(label, { testId, attributes: { appearance: 'accent' }, press });

/** Takes a notice away, once it has been there for long enough and the user is not at it. */
function passes(notice: HTMLElement): void {
  setTimeout(() => {
    if (notice.matches(':hover, :focus-within')) passes(notice);
    else notice.remove();
  }, GOOD_NEWS_MS);
}

const isSame = (one: Element, other: HTMLElement): boolean =>
  one instanceof HTMLElement && one.dataset['testid'] === other.dataset['testid'] && one.textContent === other.textContent;
