/**
 * The right side of the page, for one image: its name and actions, a notice if another tab has it, and its tabs. Only the open tab reads the image, and
 * only while it is open. The view is made when the image is chosen, and removed from the page for good when another image is chosen.
 */
import type {} from '@awesome.me/webawesome/dist/events/events.js';
import type { FormatFacts, ImageEntry } from '../index.ts';
import { button, element, icon } from './dom.ts';
import type { ExportWay } from './export.ts';
import { exportMenu } from './export-menu.ts';
import type { Messages } from './messages.ts';
import type { Chosen, Panel, PanelKind } from './panel.ts';
import type { ImageSession } from './session.ts';
import { failure, readingAdvice } from './words.ts';

export interface ImageActions {
  readonly formats: readonly FormatFacts[];
  readonly export: (image: Chosen, way: ExportWay) => void;
  readonly rename: (image: Chosen) => void;
  readonly delete: (image: Chosen) => void;
  /** Asks the tab that has the image to let go. Resolves to whether that tab has got the message. */
  readonly ask: (entry: ImageEntry) => Promise<boolean>;
  /** The name of the tab that is open; it stays so from image to image. */
  openTab: string;
}

/** Images of other tabs that the user wants to see all the same. */
const seen = new WeakSet<ImageSession>();
/** Images that were requested from other tabs, and whether the other tab has got the message. */
const heard = new WeakMap<ImageSession, boolean>();

export class ImageView {
  readonly session: ImageSession;
  readonly #title = element('h2', { testId: 'image-title', attributes: { dir: 'auto' } });
  readonly #export: HTMLElementTagNameMap['wa-dropdown'];
  readonly #rename: HTMLElementTagNameMap['wa-button'];
  readonly #delete: HTMLElementTagNameMap['wa-button'];
  readonly #lock: HTMLElementTagNameMap['wa-button'];
  readonly #notice = element('div', { class: 'notice', testId: 'in-use' });
  readonly #problem = element('wa-callout', { testId: 'image-problem', attributes: { variant: 'danger', size: 's' } });
  readonly #tabs: HTMLElementTagNameMap['wa-tab-group'];
  readonly #panels: ReadonlyMap<string, Panel>;
  readonly element: HTMLElement;
  readonly #leaving = new AbortController();
  /** The present text of the notice. */
  #told: string | undefined;
  readonly #actions: ImageActions;

  constructor(session: ImageSession, kinds: readonly PanelKind[], messages: Messages, actions: ImageActions) {
    this.session = session;
    this.#actions = actions;
    const left = this.#leaving.signal;
    const chosen: Chosen = { session, left, messages: messages.about(() => session.entry.name, left) };
    this.#panels = new Map(kinds.map((kind) => [kind.name, kind.make(chosen)]));
    left.addEventListener(
      'abort',
      session.changed.listen(() => this.update()),
    );
    this.#export = exportMenu(session, actions.formats, (way) => actions.export(chosen, way));
    this.#lock = button('Lock', { testId: 'lock', icon: 'lock', press: () => void session.lock() });
    this.#rename = button('Rename', { testId: 'rename', icon: 'pencil', press: () => actions.rename(chosen) });
    this.#delete = button('Delete', { testId: 'delete', icon: 'trash', press: () => actions.delete(chosen) });
    this.#tabs = element(
      'wa-tab-group',
      { testId: 'tabs', attributes: { active: actions.openTab, 'without-scroll-controls': true } },
      ...kinds.map(({ name, title }) => element('wa-tab', { testId: `tab-${name}`, attributes: { panel: name } }, title)),
      ...kinds.map(({ name }) => element('wa-tab-panel', { attributes: { name } }, this.#panels.get(name)?.element)),
    );
    this.#tabs.addEventListener('wa-tab-show', (event) => {
      if (left.aborted || event.detail.name === actions.openTab) return;
      actions.openTab = event.detail.name;
      void this.#read();
    });
    const head = element(
      'div',
      { class: 'image-head' },
      this.#title,
      element('div', { class: 'row' }, this.#lock, this.#export, this.#rename, this.#delete),
    );
    this.element = element('section', { class: 'image-view', testId: 'image-view' }, head, this.#notice, this.#problem, this.#tabs);
    this.#problem.hidden = true;
    this.update();
  }

  /** Takes the view off the page, and closes the image unless something of this tab still uses it. */
  leave(): void {
    this.#leaving.abort();
    this.element.remove();
    // A disk that could not be flushed stays open and is reported elsewhere.
    this.session.close().catch(() => undefined);
  }

  /** Shows the session's newest facts, and reads the open tab anew. */
  update(): void {
    const { session } = this;
    const { entry, elsewhere, held } = session;
    this.#title.textContent = entry.name;
    this.#delete.disabled = elsewhere || held;
    this.#rename.disabled = elsewhere;
    this.#lock.hidden = !session.unlocked;
    this.#lock.disabled = held;
    this.#tell();
    const blocked = (elsewhere && !seen.has(session)) || session.locked;
    this.#tabs.hidden = blocked;
    if (!blocked) void this.#read();
    else if (session.locked) this.#tellLocked();
  }

  #tell(): void {
    const { session } = this;
    if (!session.elsewhere) {
      this.#notice.replaceChildren();
      this.#told = undefined;
      seen.delete(session);
      heard.delete(session);
      return;
    }
    const looking = seen.has(session);
    // A notice that is already shown stays, with the focus on its buttons.
    const told = JSON.stringify([looking, heard.get(session)]);
    if (this.#told === told) return;
    this.#told = told;
    const look = (): void => {
      seen.add(session);
      void session.refresh();
    };
    const ask = async (): Promise<void> => {
      heard.set(session, await this.#actions.ask(session.entry).catch(() => false));
      this.#tell();
    };
    const title = looking ? 'Read-only: this image is in use in another tab' : 'This image is in use in another tab';
    const text = looking
      ? 'You see what that tab saved last. Changes wait until it lets go.'
      : 'Two writers would ruin it, so it cannot be changed or run here until that tab closes it. You can look at it read-only.';
    this.#notice.replaceChildren(
      element(
        'wa-callout',
        { attributes: { variant: 'warning', size: 's' } },
        icon('lock', 'icon'),
        element(
          'div',
          { class: 'message-row' },
          element('div', { class: 'message-words' }, element('strong', {}, title), element('span', {}, text), askedFor(heard.get(session))),
          element(
            'div',
            { class: 'row' },
            button(looking ? 'Read again' : 'Open read-only', { testId: 'open-read-only', press: look }),
            button('Ask the other tab to let go', { testId: 'ask-release', press: () => void ask() }),
          ),
        ),
      ),
    );
  }

  async #read(): Promise<void> {
    const { session } = this;
    try {
      await this.#panels.get(this.#actions.openTab)?.show();
      this.#problem.hidden = true;
      this.#lock.hidden = !session.unlocked;
    } catch (error) {
      if (this.#leaving.signal.aborted) return;
      if (session.locked) return this.update();
      this.#problem.replaceChildren(icon('warning', 'icon'), `${failure(error)}${readingAdvice(error)}`);
      this.#problem.hidden = false;
    }
  }

  #tellLocked(): void {
    if (!this.#problem.hidden && this.#problem.querySelector('[data-testid=unlock]')) return;
    const { session } = this;
    const row = element(
      'div',
      { class: 'message-row' },
      element(
        'div',
        { class: 'message-words' },
        element('span', {}, 'This image is encrypted. Its password opens it; it is kept nowhere but in this tab, while it is open.'),
      ),
      button('Unlock', { testId: 'unlock', press: () => void session.unlock() }),
    );
    this.#problem.replaceChildren(icon('lock', 'icon'), row);
    this.#problem.hidden = false;
  }
}

/** The result of the request. */
function askedFor(heard: boolean | undefined): HTMLElement | undefined {
  if (heard === undefined) return undefined;
  const text = heard
    ? 'The other tab has been asked. Go there to let go; this page goes on by itself then.'
    : 'The other tab does not answer. Go there and stop what uses the image, or close it.';
  return element('span', { testId: 'asked' }, text);
}
