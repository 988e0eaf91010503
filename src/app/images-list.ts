/** The images of this browser: name, format, virtual size, space used, where kept; the chosen one is marked. */
import { formatSize, type ImageEntry } from '../index.ts';
import { element, icon } from './dom.ts';
import { placeShort } from './words.ts';

export class ImagesList {
  readonly element = element('ul', { class: 'images', testId: 'images', attributes: { 'aria-label': 'Images in this browser' } });
  readonly #choose: (id: string) => void;

  constructor(choose: (id: string) => void) {
    this.#choose = choose;
  }

  /** Shows the images; `chosen` is marked, `running` has a machine of this tab on it. */
  show(entries: readonly ImageEntry[], chosen: string | undefined, running: string | undefined): void {
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.image : undefined;
    this.element.replaceChildren(...entries.map((entry) => this.#row(entry, entry.id === chosen, entry.id === running)));
    if (focused === undefined) return;
    for (const row of this.element.querySelectorAll<HTMLElement>('[data-image]')) if (row.dataset.image === focused) row.focus();
  }

  #row(entry: ImageEntry, chosen: boolean, running: boolean): HTMLElement {
    const name = element('span', { class: 'image-name' }, entry.name);
    const facts = element(
      'span',
      { class: 'image-facts' },
      ...[entry.format, formatSize(entry.size), `${formatSize(entry.storedSize)} used`, placeShort(entry.place)].map((fact) =>
        element('span', {}, fact),
      ),
    );
    const state = running ? badge('running', 'success') : entry.inUse ? badge('in use', 'warning') : undefined;
    const row = element(
      'button',
      {
        class: 'image',
        testId: 'image',
        attributes: { type: 'button', 'data-image': entry.id, 'aria-current': chosen ? 'true' : undefined },
        on: { click: () => this.#choose(entry.id) },
      },
      icon('disk'),
      element('span', { class: 'image-text' }, element('span', { class: 'image-head-row' }, name, state), facts),
    );
    return element('li', {}, row);
  }
}

function badge(text: string, variant: string): HTMLElement {
  return element('wa-badge', { attributes: { variant, appearance: 'filled', pill: true } }, text);
}
