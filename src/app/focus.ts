/**
 * The keyboard's focus stays where the user is. A control that has the focus may be taken away (its row is deleted, its view is left), hidden or disabled;
 * browsers then forget the focus, and a keyboard user starts over at the top of the page. This module moves it to the control itself as soon as
 * that can be used again, else to the control in its place: in the nearest surroundings that are still there, at the same position. A control that is
 * disabled while its work lasts gets the focus back after it, unless the user did something meanwhile.
 */

/** The elements of the page that can have the focus. */
const CONTROLS = 'wa-button, wa-input, wa-select, wa-checkbox, wa-tab, button, a[href], input, [tabindex]';
/** Milliseconds after a change: a dialog that has closed gives the focus back by itself first. */
const PATIENCE_MS = 100;

/** The place of the control with the focus: among the controls, and among those of its name, of everything around it, from the inside out. */
interface Place {
  readonly control: HTMLElement;
  readonly around: readonly { readonly element: Element; readonly index: number; readonly among: number }[];
  /** The control was taken away, if only for a moment. If the focus is lost in another way, the user gave it up. */
  gone: boolean;
}

/** Watches the page. Call once. */
export function keepFocus(): void {
  let place: Place | undefined;
  /** The place that lost the focus to the control after it, until the user acts. */
  let lent: Place | undefined;
  let waiting = false;
  const look = (): void => {
    waiting = false;
    if (document.querySelector('wa-dialog[open]') !== null) return;
    if (lent && isUsable(lent.control)) lent.control.focus();
    else if (place?.gone && isLost()) {
      const left = lent ?? place;
      successor(place)?.focus();
      lent = left;
    }
  };
  const acts = (): void => {
    lent = undefined;
  };
  document.addEventListener('keydown', acts, { capture: true });
  document.addEventListener('pointerdown', acts, { capture: true });
  document.addEventListener('focusin', ({ target }) => {
    // Dialogs keep the focus inside while they are open, and are gone afterwards.
    if (target instanceof HTMLElement && target.closest('wa-dialog') === null) {
      place = placeOf(target);
      lent = undefined;
    }
  });
  document.addEventListener('pointerdown', ({ target }) => {
    // A press beside all controls removes the focus, as the user wants.
    if (target instanceof Element && target.closest(CONTROLS) === null) place = undefined;
  });
  const watched = { subtree: true, childList: true, attributes: true, attributeFilter: ['hidden', 'disabled', 'open'] };
  new MutationObserver((records) => {
    if (place === undefined) return;
    const { control } = place;
    place.gone ||= !isUsable(control) || records.some(({ removedNodes }) => [...removedNodes].some((node) => node.contains(control)));
    if (!(place.gone || lent) || waiting) return;
    waiting = true;
    setTimeout(look, PATIENCE_MS);
  }).observe(document.body, watched);
}

/** Moves the focus to the control after `element` in the page, for keys that leave it. */
export function focusAfter(element: HTMLElement): void {
  const following = controlsIn(document.body).find((control) => element.compareDocumentPosition(control) === Node.DOCUMENT_POSITION_FOLLOWING);
  if (following === undefined) element.blur();
  else following.focus();
}

function isLost(): boolean {
  const { activeElement } = document;
  return activeElement === null || activeElement === document.body || !isUsable(activeElement);
}

function isUsable(element: Element): boolean {
  return element.isConnected && element.checkVisibility({ visibilityProperty: true }) && !(element as Element & { disabled?: boolean }).disabled;
}

function controlsIn(element: Element): HTMLElement[] {
  return [...element.querySelectorAll<HTMLElement>(CONTROLS)].filter((control) => isUsable(control) && control.getAttribute('tabindex') !== '-1');
}

function placeOf(control: HTMLElement): Place {
  const around: { element: Element; index: number; among: number }[] = [];
  for (let element = control.parentElement; element !== null; element = element.parentElement) {
    const controls = controlsIn(element);
    around.push({ element, index: controls.indexOf(control), among: namesakes(controls, control).indexOf(control) });
  }
  return { control, around, gone: false };
}

const namesakes = (controls: readonly HTMLElement[], { dataset }: HTMLElement): HTMLElement[] =>
  controls.filter((other) => dataset['testid'] !== undefined && other.dataset['testid'] === dataset['testid']);

const at = (controls: readonly HTMLElement[], index: number): HTMLElement | undefined => controls[Math.min(Math.max(index, 0), controls.length - 1)];

function successor({ control, around }: Place): HTMLElement | undefined {
  if (isUsable(control)) return control;
  for (const { element, index, among } of around) {
    if (!isUsable(element)) continue;
    const controls = controlsIn(element);
    const next = at(namesakes(controls, control), among) ?? at(controls, index);
    if (next !== undefined) return next;
  }
  return undefined;
}
