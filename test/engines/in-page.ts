/**
 * Runs in the page, as text: finds elements as Playwright's locators do (through shadow roots; visible ones first) and says where to click. Nothing
 * from outside the function may be used in it.
 */

/** One narrowing of a search. */
export type Step = { readonly css: string } | { readonly text: string; readonly exact: boolean } | { readonly first: true };

/** What is to be told or done with what was found. */
export type Wish = 'visible' | 'detached' | 'text' | 'point' | 'focus' | 'fill';

export interface Answer {
  /** Whether it is so, or was done. */
  readonly yes: boolean;
  readonly text?: string | null;
  readonly x?: number;
  readonly y?: number;
  /** Why not. */
  readonly why?: string;
}

/** See the top of this file. `value` is what a field is filled with. */
export function inPage(steps: readonly Step[], wish: Wish, value: string): Answer {
  const deep = (root: ParentNode, css: string): Element[] => {
    const shadow = root instanceof Element && root.shadowRoot ? deep(root.shadowRoot, css) : [];
    const inside = [...root.querySelectorAll('*')].flatMap((one) => (one.shadowRoot ? deep(one.shadowRoot, css) : []));
    return [...root.querySelectorAll(css), ...shadow, ...inside];
  };
  const words = (element: Element): string => (element.textContent ?? '').replace(/\s+/g, ' ').trim();
  const has = (element: Element, text: string, exact: boolean): boolean =>
    exact ? words(element) === text : words(element).toLowerCase().includes(text.toLowerCase());
  const isVisible = (element: Element): boolean => {
    const { width, height } = element.getBoundingClientRect();
    return width > 0 && height > 0 && getComputedStyle(element).visibility === 'visible';
  };
  // Through slots: a dialog's content moves with what is in the dialog's shadow root.
  const outside = (node: Node): Node | null =>
    (node instanceof Element && node.assignedSlot) || (node instanceof ShadowRoot ? node.host : node.parentNode);
  const isMoving = (element: Element): boolean => {
    for (let node: Node | null = element; node; node = outside(node)) {
      const animations = node instanceof Element ? node.getAnimations() : [];
      if (animations.some(({ playState, effect }) => playState === 'running' && effect?.getComputedTiming().endTime !== Infinity)) return true;
    }
    return false;
  };
  let found: Element[] = [document.documentElement];
  for (const step of steps) {
    if ('css' in step) found = [...new Set(found.flatMap((root) => deep(root, step.css)))];
    else if ('first' in step) found = found.slice(0, 1);
    else {
      const matching = found.flatMap((root) => [root, ...deep(root, '*')]).filter((one) => has(one, step.text, step.exact));
      found = [...new Set(matching)].filter((one) => !matching.some((other) => other !== one && one.contains(other)));
    }
  }
  const visible = found.find(isVisible);
  if (wish === 'detached') return { yes: found.length === 0 };
  if (wish === 'visible') return { yes: visible !== undefined, why: found.length > 0 ? 'what was found is hidden' : 'nothing was found' };
  const element = visible ?? found[0];
  if (!element) return { yes: false, why: 'nothing was found' };
  if (wish === 'text') return { yes: true, text: element.textContent };
  if (!visible) return { yes: false, why: 'what was found is hidden' };
  if (wish === 'point') {
    if (isMoving(element)) return { yes: false, why: 'it moves' };
    element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
    const { x, y, width, height } = element.getBoundingClientRect();
    const at = { x: x + width / 2, y: y + height / 2 };
    let hit = document.elementFromPoint(at.x, at.y);
    for (let inner = hit; inner?.shadowRoot; hit = inner) {
      const next: Element | null = inner.shadowRoot.elementFromPoint(at.x, at.y);
      if (!next || next === inner) break;
      inner = next;
    }
    for (let node: Node | null = hit; node; node = node instanceof ShadowRoot ? node.host : node.parentNode)
      if (node === element) return { yes: true, ...at };
    return { yes: false, why: `<${hit?.localName} ${hit?.className}> lies over it` };
  }
  (element as HTMLElement).focus();
  if (wish === 'fill') {
    const field = element as HTMLInputElement;
    field.select();
    field.value = value;
    for (const name of ['input', 'change']) field.dispatchEvent(new Event(name, { bubbles: true, composed: true }));
  }
  return { yes: true };
}
