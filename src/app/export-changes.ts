/** The dialog for an incremental export: the snapshot that it starts from, and the name of the file with the state of that time. */
import { type FormatFacts, OVERLAY_FORMAT, type SnapshotInfo } from '../index.ts';
import { closeDialog, showDialog } from './dialogs.ts';
import { button, element } from './dom.ts';
import { fileName, type Outcome } from './export.ts';
import type { Chosen } from './panel.ts';
import { dateTime } from './words.ts';

const FORM = 'changes-form';

/** Asks; undefined if the user cancels. Throws if the image's snapshots cannot be read. */
export async function askIncrement(
  { session, left }: Pick<Chosen, 'session' | 'left'>,
  formats: readonly FormatFacts[],
): Promise<Omit<Outcome, 'format'> | undefined> {
  const { entry } = session;
  const list = await session.use((disk) => disk.snapshots.list());
  const latest = list.at(-1);
  const ending = `.${OVERLAY_FORMAT}`;
  const stem = fileName(entry.name, OVERLAY_FORMAT, formats).slice(0, -ending.length);
  const nameAt = ({ name }: SnapshotInfo): string => fileName(`${stem} at ${name}${ending}`, OVERLAY_FORMAT, formats);
  const options = list.map((snapshot) => element('wa-option', { attributes: { value: snapshot.id } }, label(snapshot)));
  const since = element('wa-select', { testId: 'changes-since', attributes: { label: 'Changed since' } }, ...options);
  const backing = element('wa-input', {
    testId: 'changes-backing',
    attributes: { label: 'File with the disk as it was then', required: true, autocomplete: 'off', maxlength: 1000 },
  });
  const chosen = (): SnapshotInfo | undefined => list.find(({ id }) => id === since.value);
  since.value = latest?.id ?? '';
  backing.value = latest ? nameAt(latest) : '';
  since.addEventListener('change', () => {
    const snapshot = chosen();
    if (snapshot) backing.value = nameAt(snapshot);
  });
  const text =
    latest === undefined
      ? 'There is no snapshot to compare with. Take one, export the whole image, and from then on the changes alone will do.'
      : 'The export holds only the clusters that differ from the snapshot. It is an overlay: QEMU reads it together with a full export of that time, ' +
        'which must lie beside it under the name given here (or tell it another with qemu-img rebase -u).';
  const problem = element('p', { class: 'problem', testId: 'changes-problem', attributes: { role: 'alert' } });
  let answer: Omit<Outcome, 'format'> | undefined;
  const close = (): void => closeDialog(dialog);
  const submit = (): void => {
    const snapshot = chosen();
    const name = (backing.value ?? '').trim();
    if (snapshot === undefined) return;
    if (name === '') {
      problem.textContent = 'Give the file a name.';
      return backing.focus();
    }
    answer = { since: { snapshot: snapshot.id }, backing: name, name: fileName(`${stem} since ${snapshot.name}${ending}`, OVERLAY_FORMAT, formats) };
    close();
  };
  const form = element('form', { class: 'stack', attributes: { id: FORM, novalidate: true } }, element('p', { class: 'question' }, text));
  if (latest) form.append(since, backing, problem);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    submit();
  });
  const deed = button('Export', {
    testId: 'changes-deed',
    attributes: { slot: 'footer', size: 'm', appearance: 'accent', variant: 'brand', type: 'submit', form: FORM, disabled: latest === undefined },
    press: () => undefined,
  });
  const cancel = button('Cancel', { testId: 'changes-cancel', attributes: { slot: 'footer', size: 'm' }, press: close });
  const dialog = element('wa-dialog', { testId: 'changes-dialog', attributes: { label: 'Export what changed' } }, form, cancel, deed);
  await showDialog(dialog, left);
  return answer;
}

const label = ({ name, dateSeconds }: SnapshotInfo): string => `${name} – ${dateTime(dateSeconds * 1000)}`;
