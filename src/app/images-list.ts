/** The images of this browser: name, format, virtual size, space used, where kept; the chosen one is marked. */
import { formatSize, type ImageEntry } from '../index.ts';
import { element, icon, Rows } from './dom.ts';
import { placeShort } from './words.ts';

export class ImagesList {
  readonly element = element('ul', { class: 'images', testId: 'images', attributes: { 'aria-label': 'Images in this browser' } });
  readonly #rows: Rows<ImageRow>;

  constructor(choose: (id: string) => void) {
    this.#rows = new Rows(this.element, (id) => new ImageRow(id, choose));
  }

  /** Shows the images; `chosen` is marked, `running` has a machine of this tab on it. */
  show(entries: readonly ImageEntry[], chosen: string | undefined, running: string | undefined): void {
    const rows = this.#rows.show(entries.map(({ id }) => id));
    for (const [index, entry] of entries.entries()) rows[index]?.show(entry, entry.id === chosen, entry.id === running);
  }
}

class ImageRow {
  readonly #name = element('span', { class: 'image-name', attributes: { dir: 'auto' } });
  readonly #head = element('span', { class: 'image-head-row' }, this.#name);
  readonly #facts = element('span', { class: 'image-facts' });
  readonly #button: HTMLButtonElement;
  readonly element: HTMLElement;
  #shown = '';

  constructor(id: string, choose: (id: string) => void) {
    this.#button = element(
      'button',
      { class: 'image', testId: 'image', attributes: { type: 'button', 'data-image': id }, on: { click: () => choose(id) } },
      icon('disk'),
      element('span', { class: 'image-text' }, this.#head, this.#facts),
    );
    this.element = element('li', {}, this.#button);
  }

  show(entry: ImageEntry, chosen: boolean, running: boolean): void {
    const facts = [entry.format, formatSize(entry.size), `${formatSize(entry.storedSize)} used`, placeShort(entry.place)];
    const state = running ? 'running' : entry.inUse ? 'in use' : undefined;
    const shown = JSON.stringify([entry.name, facts, state, chosen]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#name.textContent = entry.name;
    this.#name.title = entry.name;
    this.#facts.replaceChildren(...facts.map((fact) => element('span', {}, fact)));
    const badge = state && element('wa-badge', { attributes: { variant: running ? 'success' : 'warning', appearance: 'filled', pill: true } }, state);
    this.#head.replaceChildren(this.#name, ...(badge ? [badge] : []));
    if (chosen) this.#button.setAttribute('aria-current', 'true');
    else this.#button.removeAttribute('aria-current');
  }
}
