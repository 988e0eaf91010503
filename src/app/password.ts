/**
 * Passwords of encrypted images: asking for one that must fit, and the two fields of a new one. The typed text is removed from the fields before the
 * dialog is removed from the page, and is sent only to the engine.
 */
import type { ImageEntry } from '../index.ts';
import { closeDialog, showDialog } from './dialogs.ts';
import { button, element } from './dom.ts';
import { isKeyProblem } from './words.ts';

const FORM = 'password-form';

type Field = HTMLElementTagNameMap['wa-input'];

/** A field for a password; browsers are asked not to keep it. */
function passwordField(testId: string, label: string, attributes: Record<string, string | boolean> = {}): Field {
  return element('wa-input', { testId, attributes: { label, type: 'password', autocomplete: 'new-password', ...attributes } });
}

/** Asks for the password of `entry` until `attempt` accepts one, the user cancels or `left` is aborted. Throws other errors of `attempt`. */
export async function askPassword(entry: ImageEntry, attempt: (password: string) => Promise<void>, left: AbortSignal): Promise<void> {
  const field = passwordField('password', `Password of ${entry.name}`, { autofocus: true });
  const problem = element('p', { class: 'problem', testId: 'password-problem', attributes: { role: 'alert' } });
  let other: { error: unknown } | undefined;
  let trying: Promise<void> | undefined;
  const deed = button('Unlock', {
    testId: 'password-deed',
    attributes: { slot: 'footer', size: 'm', appearance: 'accent', variant: 'brand', type: 'submit', form: FORM },
    press: () => undefined,
  });
  const submit = async (): Promise<void> => {
    const password = field.value ?? '';
    field.value = '';
    problem.textContent = '';
    deed.loading = true;
    try {
      await attempt(password);
      closeDialog(dialog);
    } catch (error) {
      if (isKeyProblem(error)) problem.textContent = 'That is not its password.';
      else {
        other = { error };
        closeDialog(dialog);
      }
    }
    deed.loading = false;
    trying = undefined;
    field.focus();
  };
  const form = element('form', { class: 'stack', attributes: { id: FORM, novalidate: true } }, field, problem);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    trying ??= submit();
  });
  const cancel = button('Cancel', { testId: 'password-cancel', attributes: { slot: 'footer', size: 'm' }, press: () => closeDialog(dialog) });
  const dialog = element('wa-dialog', { testId: 'password-dialog', attributes: { label: 'This image is encrypted' } }, form, cancel, deed);
  await showDialog(dialog, left);
  field.value = '';
  // The dialog was closed while a password is being tried: the password counts if it fits.
  await trying;
  if (other) throw other.error;
}

/** The fields of a new password, which is typed twice. Empty means none. */
export class NewPassword {
  readonly #first = passwordField('create-password', 'Password');
  readonly #second = passwordField('create-password-again', 'Password again');
  readonly element = element('div', { class: 'pair' }, this.#first, this.#second);

  set hidden(hidden: boolean) {
    this.element.hidden = hidden;
    if (hidden) this.clear();
  }

  /** The password. Throws, in words for the user, if there is none or the two differ. */
  get value(): string {
    const password = this.#first.value ?? '';
    if (password === '') throw new Error('Give a password, or do without encryption.');
    if (password !== (this.#second.value ?? '')) throw new Error('The two passwords differ: type them again.');
    return password;
  }

  clear(): void {
    this.#first.value = '';
    this.#second.value = '';
  }
}
