/** Light, dark, or as the system has it. The choice is kept in this browser; the classes are Web Awesome's. */
import { button, icon } from './dom.ts';

type Choice = 'system' | 'light' | 'dark';
const CHOICES: readonly Choice[] = ['system', 'light', 'dark'];
const KEY = 'tabdisk-theme';
const ICONS: Record<Choice, string> = { system: 'system', light: 'sun', dark: 'moon' };

const darkSystem = matchMedia('(prefers-color-scheme: dark)');
/** Dispatched on the document when colours change, for elements that are drawn rather than styled. */
export const THEME_CHANGE = 'tabdisk-theme';

function stored(): Choice {
  try {
    return CHOICES.find((choice) => choice === localStorage.getItem(KEY)) ?? 'system';
  } catch {
    return 'system';
  }
}

function apply(choice: Choice): void {
  const dark = choice === 'dark' || (choice === 'system' && darkSystem.matches);
  document.documentElement.classList.toggle('wa-dark', dark);
  document.documentElement.classList.toggle('wa-light', !dark);
  document.dispatchEvent(new Event(THEME_CHANGE));
}

/** Applies the stored choice and follows the system. Call once, before anything is shown. */
export function startTheme(): void {
  apply(stored());
  darkSystem.addEventListener('change', () => apply(stored()));
}

/** The button that goes through the three choices. */
export function themeButton(): HTMLElement {
  const made = button('', { testId: 'theme', attributes: { appearance: 'plain' }, press: () => next() });
  const show = (): void => {
    const choice = stored();
    const label = `Colours: ${choice === 'system' ? 'as the system' : choice}`;
    made.replaceChildren(icon(ICONS[choice]), Object.assign(document.createElement('span'), { className: 'visually-hidden', textContent: label }));
    made.title = label;
  };
  const next = (): void => {
    const choice = CHOICES[(CHOICES.indexOf(stored()) + 1) % CHOICES.length] ?? 'system';
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    apply(choice);
    show();
  };
  show();
  return made;
}
