/**
 * Building elements without markup: text always goes in as text, so nothing from an image or a file name is ever parsed.
 * Every control gets a `data-testid`, by which the end-to-end tests find it.
 */
import sprite from './icons.svg?no-inline';
import drawings from './icons.svg?raw';

/** The options of `element`: `on` adds listeners, `set` assigns properties, the rest are attributes. */
export interface ElementOptions<E> {
  readonly testId?: string;
  readonly class?: string;
  readonly attributes?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly set?: Partial<E>;
  readonly on?: Readonly<Record<string, (event: Event) => void>>;
}

export type Child = Node | string | undefined;

/** A new element with its attributes, listeners and children. Strings become text nodes; `undefined` is left out. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  options: ElementOptions<HTMLElementTagNameMap[K]> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (options.testId !== undefined) made.dataset.testid = options.testId;
  if (options.class !== undefined) made.className = options.class;
  for (const [name, value] of Object.entries(options.attributes ?? {})) {
    if (value === undefined || value === false) continue;
    made.setAttribute(name, value === true ? '' : String(value));
  }
  Object.assign(made, options.set);
  for (const [event, listener] of Object.entries(options.on ?? {})) made.addEventListener(event, listener);
  made.append(...children.filter((child) => child !== undefined));
  return made;
}

/** The icons, in the document itself: a picture from another file comes a moment late, so every new element would flicker. */
const sheet = document.adoptNode(new DOMParser().parseFromString(drawings, 'image/svg+xml').documentElement);
sheet.setAttribute('hidden', '');

/** An icon of icons.svg, as tall as the text around it; hidden from assistive technology, so never alone in a control. */
export function icon(name: string, slot?: string): SVGSVGElement {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  if (slot !== undefined) svg.setAttribute('slot', slot);
  const use = document.createElementNS(space, 'use');
  use.setAttribute('href', `#${name}`);
  if (!sheet.isConnected) document.body.append(sheet);
  svg.append(use);
  return svg;
}

/** The address of an icon in this page's own files, for the components: they cannot see the icons in the document. */
export function iconAddress(name: string): string {
  return `${sprite}#${name}`;
}

/** A button with a label, and an icon before it if named. */
export function button(
  label: string,
  options: ElementOptions<HTMLElementTagNameMap['wa-button']> & { readonly icon?: string; readonly press: () => void },
): HTMLElementTagNameMap['wa-button'] {
  const on = { ...options.on, click: options.press };
  const attributes = { size: 's', appearance: 'outlined', ...options.attributes };
  return element('wa-button', { ...options, attributes, on }, options.icon ? icon(options.icon, 'start') : undefined, label);
}

/** Rows of a two-column fact list. */
export function facts(rows: readonly (readonly [string, Child, string?])[], testId: string): HTMLElement {
  const list = element('dl', { class: 'facts', testId });
  for (const [term, value, id] of rows) {
    list.append(element('div', {}, element('dt', {}, term), element('dd', id === undefined ? {} : { testId: id }, value)));
  }
  return list;
}

/** The child that is shown for one key. */
interface Keyed {
  readonly element: HTMLElement;
}

/** The children of an element, one for each key. A child stays as it is while its key is shown, with its focus and its pictures. */
export class Rows<R extends Keyed> {
  readonly #parent: Element;
  readonly #make: (key: string) => R;
  readonly #rows = new Map<string, R>();

  constructor(parent: Element, make: (key: string) => R) {
    this.#parent = parent;
    this.#make = make;
  }

  /** Shows a child for each key, in this order, and returns them. */
  show(keys: readonly string[]): R[] {
    for (const [key, { element: gone }] of this.#rows) {
      if (keys.includes(key)) continue;
      gone.remove();
      this.#rows.delete(key);
    }
    return keys.map((key, index) => {
      const row = this.#rows.get(key) ?? this.#make(key);
      this.#rows.set(key, row);
      const there = this.#parent.children[index] ?? null;
      if (there !== row.element) this.#parent.insertBefore(row.element, there);
      return row;
    });
  }
}

/** Listeners for one kind of event. */
export class Signal<T> {
  readonly #listeners = new Set<(value: T) => void>();

  /** Returns a function that stops it. */
  listen(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(value: T): void {
    for (const listener of [...this.#listeners]) listener(value);
  }
}
