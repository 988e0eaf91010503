/**
 * Images from files: dropped anywhere on the page or picked, streamed into the library one after another. A file that is not
 * a disk image that tabdisk can open is refused with the engine's words.
 */
import type { ImageEntry, RemoteLibrary } from '../index.ts';
import { element } from './dom.ts';
import type { JobsList } from './jobs-list.ts';
import type { Messages } from './messages.ts';

export interface ImportSurroundings {
  readonly library: RemoteLibrary;
  readonly jobs: JobsList;
  readonly messages: Messages;
  /** Called with each image that came in. */
  readonly imported: (entry: ImageEntry) => void;
}

/** Imports the files in turn; failures are reported and do not stop the rest. */
export async function importFiles(files: readonly File[], { library, jobs, messages, imported }: ImportSurroundings): Promise<void> {
  for (const file of files) {
    try {
      const taken = (await library.list()).map(({ name }) => name);
      const name = freeName(file.name, taken);
      const entry = await jobs.run(`Importing ${file.name}`, (options) => library.import(file, { name, ...options }));
      messages.success(`${entry.name} is imported`);
      imported(entry);
    } catch (error) {
      messages.error(`${file.name} was not imported`, error);
    }
  }
}

function freeName(name: string, taken: readonly string[]): string {
  if (!taken.includes(name)) return name;
  for (let number = 2; ; number++) {
    const candidate = name.replace(/(\.[^.]*)?$/, (ending) => ` ${number}${ending}`);
    if (!taken.includes(candidate)) return candidate;
  }
}

/** The hidden file input behind the Import button. Its `click()` opens the picker. */
export function filePicker(picked: (files: File[]) => void): HTMLInputElement {
  const input = element('input', { testId: 'import-input', attributes: { type: 'file', multiple: true, hidden: true } });
  input.addEventListener('change', () => {
    picked([...(input.files ?? [])]);
    input.value = '';
  });
  return input;
}

/** Takes files dropped anywhere on the page, and shows that they may be. A panel that handles a drop itself stops the event. */
export function dropAnywhere(dropped: (files: File[]) => void): HTMLElement {
  const veil = element(
    'div',
    { class: 'veil', testId: 'drop-veil', attributes: { hidden: true } },
    element('p', {}, 'Drop disk images to import them'),
  );
  const carriesFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false;
  window.addEventListener('dragover', (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    veil.hidden = event.target instanceof Element && event.target.closest('[data-own-drop]') !== null;
  });
  window.addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  window.addEventListener('drop', (event) => {
    veil.hidden = true;
    if (!carriesFiles(event) || event.defaultPrevented) return;
    event.preventDefault();
    dropped([...(event.dataTransfer?.files ?? [])]);
  });
  return veil;
}
