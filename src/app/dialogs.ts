/** Questions to the user: a confirmation before anything is lost, and a line of text. Escape and Cancel answer "no". */
import { button, element } from './dom.ts';
import { isolated } from './words.ts';

export interface Question {
  readonly title: string;
  readonly text: string;
  /** The text of the button that goes ahead: the action, not "OK". */
  readonly deed: string;
  /** The text of the other button, if not "Cancel". */
  readonly refusal?: string;
  readonly danger?: boolean;
  /** Once aborted, the question is closed, or not even shown. */
  readonly left?: AbortSignal;
}

/** Shows a dialog. Resolves when it has closed in any way; at once if `left` is aborted, which also closes it. */
export function showDialog(dialog: HTMLElementTagNameMap['wa-dialog'], left?: AbortSignal): Promise<void> {
  if (left?.aborted) return Promise.resolve();
  document.body.append(dialog);
  const untouched = filledIn(dialog);
  return new Promise((resolve) => {
    const callOff = (): void => closeDialog(dialog);
    left?.addEventListener('abort', callOff);
    dialog.addEventListener('wa-hide', (event) => {
      if (event.target !== dialog || settled.has(dialog) || filledIn(dialog) === untouched) return;
      event.preventDefault();
      void askDiscard(left).then((discard) => discard && closeDialog(dialog));
    });
    dialog.addEventListener('wa-after-hide', (event) => {
      if (event.target !== dialog) return;
      left?.removeEventListener('abort', callOff);
      dialog.remove();
      resolve();
    });
    void dialog.updateComplete.then(() => {
      dialog.open = true;
    });
  });
}

/** Dialogs that close without a question, even if fields were filled in: their own buttons closed them. */
const settled = new WeakSet<HTMLElement>();

/** Closes a dialog without asking, for its buttons. The × and Escape may be pressed by mistake: they ask if something was filled in. */
export function closeDialog(dialog: HTMLElementTagNameMap['wa-dialog']): void {
  settled.add(dialog);
  dialog.open = false;
}

/** The values in the fields of a dialog. */
function filledIn(dialog: HTMLElement): string {
  return JSON.stringify([...dialog.querySelectorAll('wa-input, wa-select')].map((field) => ('value' in field ? (field.value ?? '') : '')));
}

function askDiscard(left: AbortSignal | undefined): Promise<boolean> {
  const text = 'What you filled in is not kept.';
  return confirmed({ title: 'Close without going ahead?', text, deed: 'Discard it', refusal: 'Go on filling in', ...(left && { left }) });
}

/** The first time `input` gets the focus, as the dialog opens, its text is selected: typing replaces it. */
export function selectWhenFocused(input: HTMLElementTagNameMap['wa-input']): void {
  input.addEventListener('focus', () => input.select(), { once: true });
}

/** Asks before an action that cannot be undone. Resolves to true if the user goes ahead. */
export async function confirmed(question: Question): Promise<boolean> {
  let answer = false;
  const choose = (value: boolean): void => {
    answer = value;
    closeDialog(dialog);
  };
  const dialog = element(
    'wa-dialog',
    { testId: 'confirm', attributes: { label: question.title } },
    element('p', { class: 'question' }, isolated(question.text)),
    button(question.refusal ?? 'Cancel', {
      testId: 'confirm-cancel',
      attributes: { slot: 'footer', size: 'm', autofocus: true },
      press: () => choose(false),
    }),
    button(question.deed, {
      testId: 'confirm-deed',
      attributes: { slot: 'footer', size: 'm', appearance: 'accent', variant: question.danger ? 'danger' : 'brand' },
      press: () => choose(true),
    }),
  );
  await showDialog(dialog, question.left);
  return answer;
}

/** Characters of an image's name that the library takes. */
export const LONGEST_NAME = 200;

export interface TextQuestion extends Pick<Question, 'title' | 'deed' | 'left'> {
  readonly label: string;
  readonly value: string;
}

/** Asks for a line of text, which must not be empty. Resolves to it, or to undefined if the user cancels. */
export async function asked(question: TextQuestion): Promise<string | undefined> {
  let answer: string | undefined;
  const problem = element('p', { class: 'problem', testId: 'prompt-problem', attributes: { role: 'alert' } });
  const input = element('wa-input', {
    testId: 'prompt-input',
    attributes: { label: question.label, autofocus: true, autocomplete: 'off', maxlength: LONGEST_NAME },
  });
  input.value = question.value;
  const submit = (event?: Event): void => {
    event?.preventDefault();
    answer = (input.value ?? '').trim() || undefined;
    if (answer !== undefined) return closeDialog(dialog);
    problem.textContent = `${question.label}: give at least one letter or digit.`;
    input.focus();
  };
  const dialog = element(
    'wa-dialog',
    { testId: 'prompt', attributes: { label: question.title } },
    element('form', { class: 'stack', on: { submit } }, input, problem),
    button('Cancel', {
      testId: 'prompt-cancel',
      attributes: { slot: 'footer', size: 'm' },
      press: () => closeDialog(dialog),
    }),
    button(question.deed, {
      testId: 'prompt-deed',
      attributes: { slot: 'footer', size: 'm', appearance: 'accent', variant: 'brand' },
      press: () => submit(),
    }),
  );
  selectWhenFocused(input);
  await showDialog(dialog, question.left);
  return answer;
}
