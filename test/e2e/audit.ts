/**
 * What is asked of the page in every state: axe-core finds nothing in light, dark and forced colours; every control can be hit at every width, is large enough and
 * under no other; and the Tab key reaches each control once, with a focus that can be seen.
 */
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';

const WIDTHS = [360, 390, 768, 1024, 1440];
const HEIGHT = 800;
/** CSS pixels, as WCAG 2.5.8 has it. */
const SMALLEST = 24;
/** Of axe-core's rules, those that can come out otherwise when nothing but colours changes. */
const COLOUR_RULES = ['color-contrast', 'link-in-text-block'];
const SCHEMES = [
  { name: 'light', media: { colorScheme: 'light', forcedColors: 'none' }, rules: undefined },
  { name: 'dark', media: { colorScheme: 'dark', forcedColors: 'none' }, rules: COLOUR_RULES },
  { name: 'forced colours', media: { colorScheme: 'dark', forcedColors: 'active' }, rules: COLOUR_RULES },
] as const;

/** Puts axe-core and the page's side of the audit into every page of a context, before its own scripts. */
export async function prepareAudit(page: Page): Promise<void> {
  await page.context().addInitScript({ path: createRequire(import.meta.url).resolve('axe-core/axe.min.js') });
  await page.context().addInitScript(inPage);
}

/** Everything that is wrong with the page as it stands, each in a sentence. Without `tabbing` for menus, which the Tab key closes. */
export async function audit(page: Page, tabbing = true): Promise<string[]> {
  const found: string[] = [];
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: HEIGHT });
    for (const problem of await page.evaluate((smallest) => window.audit.hits(smallest), SMALLEST)) found.push(`at ${width} pixels: ${problem}`);
  }
  let before: ReturnType<Window['audit']['seen']> | undefined;
  for (const { name, media, rules } of SCHEMES) {
    await page.emulateMedia(media);
    for (const problem of await page.evaluate((only) => window.audit.axe(only), rules)) found.push(`in ${name}: ${problem}`);
    const seen = await page.evaluate(() => window.audit.seen());
    // So the other rules come out as they did in light colours.
    if (before && seen.controls !== before.controls) found.push(`in ${name}: there are other controls, ${seen.controls}, than ${before.controls}`);
    if (before && media.forcedColors === 'active' && seen.legend !== before.legend)
      found.push(`in ${name}: the colours of a legend are ${seen.legend}`);
    before = seen;
  }
  await page.emulateMedia({ colorScheme: 'light', forcedColors: 'none' });
  if (tabbing) found.push(...(await keyboard(page)));
  return found;
}

/** Goes through the page, or the dialog that is open, by the Tab key. */
export async function keyboard(page: Page): Promise<string[]> {
  const expected = await page.evaluate(() => window.audit.startTabbing());
  const found: string[] = [];
  const seen = new Map<string, number>();
  for (let press = 0; press < expected.length + 20; press++) {
    await page.keyboard.press('Tab');
    const { name, ring, first, screen, inDialog } = await page.evaluate(() => window.audit.focused());
    // The end of the page; in a dialog, the browser's own controls come between.
    if (name === undefined && inDialog) continue;
    if (name === undefined || (first && seen.size > 0)) break;
    if (!ring) found.push(`the focus on ${name} cannot be seen`);
    seen.set(name, (seen.get(name) ?? 0) + 1);
    // The screen keeps the Tab key for the guest, and says how it is left.
    if (screen) await page.keyboard.press('Control+Alt+g');
    if (screen && (await page.evaluate(() => window.audit.focused())).name === undefined) found.push('the focus is lost when the screen is left');
    if (screen) seen.set((await page.evaluate(() => window.audit.focused())).name ?? '', 1);
  }
  await page.evaluate(() => window.audit.endTabbing());
  for (const name of expected) if (!seen.has(name)) found.push(`${name} cannot be reached with the Tab key`);
  for (const [name, times] of seen) if (times > 1) found.push(`${name} is reached ${times} times`);
  return found;
}

declare global {
  interface Window {
    readonly audit: {
      hits(smallest: number): string[];
      axe(only: readonly string[] | undefined): Promise<string[]>;
      /** The controls by name, and the colours that stand for something. */
      seen(): { readonly controls: string; readonly legend: string };
      startTabbing(): string[];
      focused(): {
        readonly name: string | undefined;
        readonly ring: boolean;
        readonly first: boolean;
        readonly screen: boolean;
        readonly inDialog: boolean;
      };
      endTabbing(): void;
    };
    readonly axe: {
      run(options: object): Promise<{
        readonly violations: readonly {
          readonly id: string;
          readonly help: string;
          readonly nodes: readonly { readonly target: unknown; readonly html: string; readonly failureSummary?: string }[];
        }[];
      }>;
    };
  }
}

/** Runs in the page. */
function inPage(): void {
  const HOSTS = 'wa-button, wa-input, wa-select, wa-checkbox, wa-tab, wa-dropdown-item, wa-option';
  const NATIVE = 'button, a[href], input, select, textarea, summary, [tabindex], [role=tab], [role=menuitem], [role=option]';
  const parentOf = (node: Node): Node | null =>
    node instanceof Element && node.assignedSlot ? node.assignedSlot : (node.parentNode ?? (node instanceof ShadowRoot ? node.host : null));
  const contains = (outer: Node, inner: Node | null): boolean => {
    for (let node = inner; node !== null; node = parentOf(node)) if (node === outer) return true;
    return false;
  };
  const everything = function* (root: Document | ShadowRoot): Generator<HTMLElement> {
    for (const element of root.querySelectorAll<HTMLElement>('*')) {
      yield element;
      if (element.shadowRoot) yield* everything(element.shadowRoot);
    }
  };
  const visible = (element: HTMLElement): boolean => {
    if (!element.checkVisibility({ visibilityProperty: true })) return false;
    const { width, height } = element.getBoundingClientRect();
    return width > 1 && height > 1;
  };
  /** What the user sees as one control: the component, or the element itself. */
  const controlOf = (element: HTMLElement): HTMLElement => {
    for (let node: Node | null = element; node !== null; node = node instanceof ShadowRoot ? node.host : node.parentNode)
      if (node instanceof HTMLElement && node.matches(HOSTS)) return node;
    return element;
  };
  const isDisabled = (element: HTMLElement): boolean =>
    Boolean((element as HTMLInputElement).disabled) || element.getAttribute('aria-disabled') === 'true';
  /** Where the controls are that can be used: the last dialog or open menu, else the page. */
  const scope = (): Node => {
    const menus = [...document.querySelectorAll('wa-dropdown[open], wa-select[open]')];
    const dialogs = [...document.querySelectorAll('wa-dialog[open]')];
    return menus.at(-1) ?? dialogs.at(-1) ?? document.documentElement;
  };
  const controls = (): HTMLElement[] => {
    const inside = scope();
    const found = new Set<HTMLElement>();
    for (const element of everything(document)) {
      if (!element.matches(NATIVE) && !element.matches(HOSTS)) continue;
      const control = controlOf(element);
      if (element.matches('[tabindex="-1"]') && control === element && !element.matches('[role]')) continue;
      if (visible(control) && contains(inside, control)) found.add(control);
    }
    return [...found];
  };
  const names = new Map<HTMLElement, string>();
  const nameOf = (element: HTMLElement): string => {
    const text = (element.getAttribute('label') ?? element.getAttribute('aria-label') ?? element.textContent ?? '').trim().replace(/\s+/g, ' ');
    const place = element.dataset['testid'] ?? element.getAttribute('part') ?? element.localName;
    const stem = `${place} “${text.slice(0, 30)}”`;
    const known = names.get(element);
    if (known?.startsWith(stem)) return known;
    const same = [...names.values()].filter((name) => name.startsWith(stem)).length;
    const name = same > 0 ? `${stem}, ${same + 1}` : stem;
    names.set(element, name);
    return name;
  };
  const deepest = (x: number, y: number): Element | null => {
    let found = document.elementFromPoint(x, y);
    while (found?.shadowRoot) {
      const inner = found.shadowRoot.elementFromPoint(x, y);
      if (inner === null || inner === found) break;
      found = inner;
    }
    return found;
  };
  const activeElement = (): HTMLElement | null => {
    let active = document.activeElement;
    while (active?.shadowRoot?.activeElement) active = active.shadowRoot.activeElement;
    return active instanceof HTMLElement && active !== document.body ? active : null;
  };
  /** The part of a control that is not cut off by what scrolls around it. */
  const shown = (control: HTMLElement): { left: number; right: number; top: number; bottom: number } => {
    let { left, right, top, bottom } = control.getBoundingClientRect();
    for (let node = parentOf(control); node !== null; node = parentOf(node)) {
      if (!(node instanceof HTMLElement) || node === document.body || getComputedStyle(node).overflow === 'visible') continue;
      const box = node.getBoundingClientRect();
      left = Math.max(left, box.left);
      right = Math.min(right, box.right);
      top = Math.max(top, box.top);
      bottom = Math.min(bottom, box.bottom);
    }
    return { left, right, top, bottom };
  };
  /** Where a control can be pressed that cannot be hit there; and what is there instead. */
  const covered = (control: HTMLElement): string | undefined => {
    control.scrollIntoView({ block: 'center', inline: 'nearest', behavior: 'instant' });
    const { left, right, top, bottom, width, height } = control.getBoundingClientRect();
    if (left < -1 || right > innerWidth + 1) return `lies from ${Math.round(left)} to ${Math.round(right)}, outside of the window`;
    const [dx, dy] = [Math.min(6, width / 4), Math.min(6, height / 4)];
    for (const x of [left + dx, (left + right) / 2, right - dx])
      for (const y of [top + dy, (top + bottom) / 2, bottom - dy]) {
        const hit = deepest(x, y);
        if (hit !== null && contains(control, hit)) continue;
        const what = hit instanceof HTMLElement ? nameOf(controlOf(hit)) : String(hit);
        return `is not hit at ${Math.round(x - left)}, ${Math.round(y - top)} of ${Math.round(width)} × ${Math.round(height)}, but ${what}`;
      }
    return undefined;
  };
  const hits = (smallest: number): string[] => {
    const found: string[] = [];
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth > clientWidth) found.push(`the page is ${scrollWidth} pixels wide and scrolls sideways`);
    const all = controls();
    for (const control of all) {
      const { width, height } = control.getBoundingClientRect();
      // A link in a sentence is as high as its line.
      const inline = getComputedStyle(control).display === 'inline';
      if (!inline && (width < smallest || height < smallest)) found.push(`${nameOf(control)} is ${width.toFixed(1)} × ${height.toFixed(1)} pixels`);
      const problem = isDisabled(control) ? undefined : covered(control);
      if (problem !== undefined) found.push(`${nameOf(control)} ${problem}`);
    }
    const overlay = (control: HTMLElement): boolean => control.closest('.messages') !== null;
    for (const [index, one] of all.entries())
      for (const other of all.slice(index + 1)) {
        if (overlay(one) !== overlay(other) || contains(one, other) || contains(other, one)) continue;
        const [a, b] = [shown(one), shown(other)];
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 1) found.push(`${nameOf(one)} and ${nameOf(other)} lie over each other`);
      }
    return found;
  };
  const axe = async (only: readonly string[] | undefined): Promise<string[]> => {
    // Colours fade into each other when they change.
    const roots = [document, ...[...everything(document)].flatMap(({ shadowRoot }) => (shadowRoot ? [shadowRoot] : []))];
    for (const animation of roots.flatMap((root) => root.getAnimations()))
      if (animation.effect?.getComputedTiming().endTime !== Number.POSITIVE_INFINITY) animation.finish();
    const { violations } = await window.axe.run({ resultTypes: ['violations'], ...(only && { runOnly: only }) });
    return violations.flatMap(({ id, help, nodes }) =>
      nodes.slice(0, 3).map(({ target, failureSummary = '' }) => `${id}, ${help}: ${JSON.stringify(target)} ${failureSummary.split('\n').at(-1)}`),
    );
  };
  const seen = (): ReturnType<Window['audit']['seen']> => {
    const keys = [...document.querySelectorAll('.legend .key, .light')];
    return { controls: controls().map(nameOf).join(), legend: keys.map((key) => getComputedStyle(key).backgroundColor).join() };
  };
  let firstFocused: HTMLElement | undefined;
  /** The Tab key starts from here: the top of the page. */
  const top = document.createElement('span');
  top.tabIndex = -1;
  const startTabbing = (): string[] => {
    firstFocused = undefined;
    const inDialog = document.querySelector('wa-dialog[open]') !== null;
    if (!inDialog) {
      document.body.prepend(top);
      top.focus();
    }
    return controls()
      .filter(
        (control) => !isDisabled(control) && !control.matches('wa-option, wa-dropdown-item, [role=tab]:not([aria-selected=true]), [tabindex="-1"]'),
      )
      .map(nameOf);
  };
  const focused = (): ReturnType<Window['audit']['focused']> => {
    const active = activeElement();
    const inDialog = document.querySelector('wa-dialog[open]') !== null;
    if (active === null || active.localName === 'dialog') return { name: undefined, ring: false, first: false, screen: false, inDialog };
    const control = controlOf(active);
    const first = control === firstFocused;
    firstFocused ??= control;
    const visibleRing = (node: Element): boolean => {
      const { outlineStyle, outlineWidth } = getComputedStyle(node);
      return outlineStyle !== 'none' && Number.parseFloat(outlineWidth) > 0;
    };
    let ring = [...(active.shadowRoot?.querySelectorAll('*') ?? [])].some(visibleRing);
    for (let node: Node | null = active; node !== null && !ring && node !== control.parentNode; node = parentOf(node)) {
      if (node instanceof HTMLElement) ring = visibleRing(node);
    }
    return { name: nameOf(control), ring, first, screen: control.dataset['testid'] === 'screen', inDialog };
  };
  Object.assign(window, { audit: { hits, axe, seen, startTabbing, focused, endTabbing: () => top.remove() } });
}
