/**
 * The right side of the page: the chosen image's name and actions, a notice if another tab has it, and its tabs. Only the open tab
 * reads the image, and only while it is open.
 */
import type {} from '@awesome.me/webawesome/dist/events/events.js';
import type { ImageEntry } from '../index.ts';
import { button, element, icon } from './dom.ts';
import type { ExportWish } from './export.ts';
import { exportMenu } from './export-menu.ts';
import type { Panel } from './panel.ts';
import type { ImageSession } from './session.ts';
import { failure } from './words.ts';

export interface ImageActions {
  readonly export: (session: ImageSession, wish: ExportWish) => void;
  readonly rename: (entry: ImageEntry) => void;
  readonly delete: (entry: ImageEntry) => void;
  /** Asks the tab that has the image to let go. Resolves to whether it has heard. */
  readonly ask: (entry: ImageEntry) => Promise<boolean>;
}

export class ImageView {
  readonly #title = element('h2', { testId: 'image-title' });
  readonly #export: HTMLElementTagNameMap['wa-dropdown'];
  readonly #rename: HTMLElementTagNameMap['wa-button'];
  readonly #delete: HTMLElementTagNameMap['wa-button'];
  readonly #lock: HTMLElementTagNameMap['wa-button'];
  readonly #notice = element('div', { class: 'notice', testId: 'in-use' });
  readonly #problem = element('wa-callout', { testId: 'image-problem', attributes: { variant: 'danger', size: 's' } });
  readonly #tabs: HTMLElementTagNameMap['wa-tab-group'];
  readonly #panels: readonly Panel[];
  readonly element: HTMLElement;
  #session: ImageSession | undefined;
  #open: Panel;
  #stopListening: (() => void) | undefined;
  /** The session that each panel shows. */
  readonly #shown = new Map<Panel, ImageSession>();
  /** Images of other tabs that the user has asked to see all the same. */
  readonly #seen = new Set<string>();
  /** Images of other tabs that were asked for, and whether the other tab has heard. */
  readonly #asked = new Map<string, boolean>();
  readonly #ask: ImageActions['ask'];

  constructor(panels: readonly [Panel, ...Panel[]], actions: ImageActions) {
    this.#panels = panels;
    this.#open = panels[0];
    this.#ask = actions.ask;
    const act = (deed: (entry: ImageEntry) => void) => (): void => {
      if (this.#session !== undefined) deed(this.#session.entry);
    };
    const session = (): ImageSession | undefined => this.#session;
    this.#export = exportMenu(session, (wish) => {
      if (this.#session !== undefined) actions.export(this.#session, wish);
    });
    this.#lock = button('Lock', { testId: 'lock', icon: 'lock', press: () => void this.#session?.lock() });
    this.#rename = button('Rename', { testId: 'rename', icon: 'pencil', press: act(actions.rename) });
    this.#delete = button('Delete', { testId: 'delete', icon: 'trash', press: act(actions.delete) });
    this.#tabs = element(
      'wa-tab-group',
      { testId: 'tabs' },
      ...panels.map(({ name, title }) => element('wa-tab', { testId: `tab-${name}`, attributes: { panel: name } }, title)),
      ...panels.map((panel) => element('wa-tab-panel', { attributes: { name: panel.name } }, panel.element)),
    );
    this.#tabs.addEventListener('wa-tab-show', (event) => {
      const { name } = event.detail;
      this.#open = panels.find((panel) => panel.name === name) ?? panels[0];
      void this.#read();
    });
    const head = element(
      'div',
      { class: 'image-head' },
      this.#title,
      element('div', { class: 'row' }, this.#lock, this.#export, this.#rename, this.#delete),
    );
    this.element = element(
      'section',
      { class: 'image-view', testId: 'image-view', attributes: { hidden: true } },
      head,
      this.#notice,
      this.#problem,
      this.#tabs,
    );
    this.#problem.hidden = true;
  }

  /** Shows an image; undefined hides everything. The same session again only shows newer facts. */
  show(session: ImageSession | undefined): void {
    const same = session === this.#session;
    this.element.hidden = session === undefined;
    if (!same) {
      this.#stopListening?.();
      const left = this.#session;
      this.#session = session;
      this.#stopListening = session?.changed.listen(() => this.update());
      void left?.close();
    }
    if (session !== undefined) this.update();
  }

  /** Opens a tab by its name. */
  openTab(name: string): void {
    this.#tabs.active = name;
  }

  /** Shows the session's newest facts, and reads the open tab anew. */
  update(): void {
    const session = this.#session;
    if (session === undefined) return;
    const { entry, elsewhere, held } = session;
    this.#title.textContent = entry.name;
    this.#delete.disabled = elsewhere || held;
    this.#rename.disabled = elsewhere;
    this.#lock.hidden = !session.unlocked;
    this.#lock.disabled = held;
    this.#tell();
    const blocked = (elsewhere && !this.#seen.has(entry.id)) || session.locked;
    this.#tabs.hidden = blocked;
    if (!blocked) void this.#read();
    else if (session.locked) this.#tellLocked(session);
  }

  #tell(): void {
    const session = this.#session;
    if (session === undefined || !session.elsewhere) {
      this.#notice.replaceChildren();
      if (session !== undefined) this.#seen.delete(session.entry.id);
      if (session !== undefined) this.#asked.delete(session.entry.id);
      return;
    }
    const { id } = session.entry;
    const seen = this.#seen.has(id);
    const look = (): void => {
      this.#seen.add(id);
      void session.refresh();
    };
    const ask = async (): Promise<void> => {
      this.#asked.set(id, await this.#ask(session.entry).catch(() => false));
      this.#tell();
    };
    const title = seen ? 'Read-only: this image is in use in another tab' : 'This image is in use in another tab';
    const text = seen
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
          element('div', { class: 'message-words' }, element('strong', {}, title), element('span', {}, text), askedFor(this.#asked.get(id))),
          element(
            'div',
            { class: 'row' },
            button(seen ? 'Read again' : 'Open read-only', { testId: 'open-read-only', press: look }),
            button('Ask the other tab to let go', { testId: 'ask-release', press: () => void ask() }),
          ),
        ),
      ),
    );
  }

  async #read(): Promise<void> {
    const session = this.#session;
    const panel = this.#open;
    if (session === undefined) return;
    // Until it has been read, a panel still shows another image: nobody should take that for this one.
    if (this.#shown.get(panel) !== session) panel.element.classList.add('stale');
    try {
      await panel.show(session);
      if (this.#session !== session) return;
      this.#shown.set(panel, session);
      panel.element.classList.remove('stale');
      this.#problem.hidden = true;
      this.#lock.hidden = !session.unlocked;
    } catch (error) {
      if (this.#session !== session) return;
      if (session.locked) return this.update();
      this.#problem.replaceChildren(icon('warning', 'icon'), failure(error));
      this.#problem.hidden = false;
    }
  }

  #tellLocked(session: ImageSession): void {
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

  get panels(): readonly Panel[] {
    return this.#panels;
  }
}

/** What came of asking. */
function askedFor(heard: boolean | undefined): HTMLElement | undefined {
  if (heard === undefined) return undefined;
  const text = heard
    ? 'The other tab has been asked. Go there to let go; this page goes on by itself then.'
    : 'The other tab does not answer. Go there and stop what uses the image, or close it.';
  return element('span', { testId: 'asked' }, text);
}
