/** Questions to the user: a confirmation before anything is lost, and a line of text. Escape and Cancel answer "no". */
import { button, element } from './dom.ts';

export interface Question {
  readonly title: string;
  readonly text: string;
  /** What the button that goes ahead says: the deed, not "OK". */
  readonly deed: string;
  readonly danger?: boolean;
}

/** Shows `body` in a dialog; `footer` holds its buttons. Resolves when it has closed, however it did. */
export function showDialog(dialog: HTMLElementTagNameMap['wa-dialog']): Promise<void> {
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener('wa-after-hide', (event) => {
      if (event.target !== dialog) return;
      dialog.remove();
      resolve();
    });
    void dialog.updateComplete.then(() => {
      dialog.open = true;
    });
  });
}

/** The first time `input` gets the focus, as the dialog opens, its text is selected: typing replaces it. */
export function selectWhenFocused(input: HTMLElementTagNameMap['wa-input']): void {
  input.addEventListener('focus', () => input.select(), { once: true });
}

/** Asks before a deed that cannot be undone. Resolves to true if the user goes ahead. */
export async function confirmed(question: Question): Promise<boolean> {
  let answer = false;
  const choose = (value: boolean): void => {
    answer = value;
    dialog.open = false;
  };
  const dialog = element(
    'wa-dialog',
    { testId: 'confirm', attributes: { label: question.title } },
    element('p', { class: 'question' }, question.text),
    button('Cancel', { testId: 'confirm-cancel', attributes: { slot: 'footer', size: 'm', autofocus: true }, press: () => choose(false) }),
    button(question.deed, {
      testId: 'confirm-deed',
      attributes: { slot: 'footer', size: 'm', appearance: 'accent', variant: question.danger ? 'danger' : 'brand' },
      press: () => choose(true),
    }),
  );
  await showDialog(dialog);
  return answer;
}

/** Asks for a line of text. Resolves to it, or to undefined if the user calls it off or leaves it empty. */
export async function asked(question: { title: string; label: string; value: string; deed: string }): Promise<string | undefined> {
  let answer: string | undefined;
  const input = element('wa-input', { testId: 'prompt-input', attributes: { label: question.label, autofocus: true, autocomplete: 'off' } });
  input.value = question.value;
  const submit = (event?: Event): void => {
    event?.preventDefault();
    answer = (input.value ?? '').trim() || undefined;
    dialog.open = false;
  };
  const dialog = element(
    'wa-dialog',
    { testId: 'prompt', attributes: { label: question.title } },
    element('form', { on: { submit } }, input),
    button('Cancel', {
      testId: 'prompt-cancel',
      attributes: { slot: 'footer', size: 'm' },
      press: () => {
        dialog.open = false;
      },
    }),
    button(question.deed, {
      testId: 'prompt-deed',
      attributes: { slot: 'footer', size: 'm', appearance: 'accent', variant: 'brand' },
      press: () => submit(),
    }),
  );
  selectWhenFocused(input);
  await showDialog(dialog);
  return answer;
}
