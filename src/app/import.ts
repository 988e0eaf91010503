/**
 * Images from files: dropped anywhere on the page or picked, streamed into the library one after another. A file that is not a disk image is refused with
 * the engine's words; a file without known contents becomes a raw disk if the user says so. Questions come one at a time, and the rest is copied meanwhile;
 * at the end one message reports all results. The page keeps its view, unless only one file was imported.
 */
import { DiskError, type ImageEntry, type ImportedImage, type MachineDescription, PLAIN_FORMAT, type RemoteLibrary } from '../index.ts';
import { confirmed } from './dialogs.ts';
import { element } from './dom.ts';
import type { JobsList } from './jobs-list.ts';
import type { Messages } from './messages.ts';
import { counted, failure, isAbort, sentence } from './words.ts';

export interface ImportSurroundings {
  readonly library: RemoteLibrary;
  readonly jobs: JobsList;
  readonly messages: Messages;
  /** The view that the page shows. */
  readonly shown: () => string | undefined;
  /** Called with an image that was imported alone, if the page still shows the same view. */
  readonly imported: (entry: ImageEntry) => void;
  /** Called with the machine that an appliance describes. */
  readonly machine: (machine: MachineDescription) => void;
}

/** The files that were dropped or picked. */
export interface Dropped {
  readonly files: readonly File[];
  /** Names of folders among them. */
  readonly folders?: readonly string[];
}

interface Waiting {
  readonly file: File;
  /** The user said that it is a raw disk. */
  readonly raw?: true;
}

/** The result for a file. */
type Outcome =
  | { readonly name: string; readonly entry: ImageEntry }
  | { readonly name: string; readonly error: unknown }
  /** The user cancelled it, or did not want it. */
  | { readonly name: string; readonly left: string };

export class Importer {
  readonly #around: ImportSurroundings;
  readonly #waiting: Waiting[] = [];
  #outcomes: Outcome[] = [];
  #shown: string | undefined;
  #working = false;
  /** Questions that wait for an answer, and those before them. */
  #unanswered = 0;
  #questions = Promise.resolve();

  constructor(around: ImportSurroundings) {
    this.#around = around;
  }

  /** Imports these files, after those that are waiting. */
  take({ files, folders = [] }: Dropped): void {
    const idle = !this.#working && this.#unanswered === 0;
    if (idle) this.#shown = this.#around.shown();
    for (const name of folders) this.#outcomes.push({ name, error: new Error('It is a folder. Open it, and drop the disk image inside.') });
    this.#waiting.push(...files.map((file) => ({ file })));
    void this.#work();
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) await this.#import(next);
    this.#working = false;
    if (this.#unanswered > 0) return;
    this.#tell(this.#outcomes);
    this.#outcomes = [];
  }

  async #import({ file, raw }: Waiting): Promise<void> {
    const { library, jobs } = this.#around;
    const { length } = this.#waiting;
    const rest = length === 0 ? '' : `, ${length} more ${length === 1 ? 'waits' : 'wait'}`;
    try {
      const wish = raw ? { format: PLAIN_FORMAT } : {};
      const entry = await jobs.run(`Importing ${file.name}${rest}`, ({ onProgress, signal }) =>
        library.import(file, { ...wish, onProgress, signal }),
      );
      this.#outcomes.push({ name: file.name, entry });
      this.#tellMore(file.name, entry);
    } catch (error) {
      if (error instanceof DiskError && error.kind === 'wrong-format' && error.field === 'contents') this.#ask(file, error);
      else this.#outcomes.push(isAbort(error) ? { name: file.name, left: 'called off' } : { name: file.name, error });
    }
  }

  /** What came with the first disk of an archive or an appliance. */
  #tellMore(name: string, { others = [], machine, warnings = [] }: ImportedImage): void {
    for (const entry of others) this.#outcomes.push({ name: entry.name, entry });
    for (const warning of warnings) this.#around.messages.warning(name, `${warning}.`);
    if (machine) this.#around.machine(machine);
  }

  /** Asks whether the file is a raw disk, after the questions before are answered. */
  #ask(file: File, { message }: DiskError): void {
    this.#unanswered++;
    this.#questions = this.#questions.then(async () => {
      const text = `${sentence(message)} If it is no disk, leave it out.`;
      const raw = await confirmed({ title: `Keep ${file.name} as a raw disk?`, text, deed: 'Keep it', refusal: 'Leave it out' });
      this.#unanswered--;
      if (raw) this.#waiting.push({ file, raw });
      else this.#outcomes.push({ name: file.name, left: 'left out' });
      void this.#work();
    });
  }

  #tell(outcomes: readonly Outcome[]): void {
    const { messages, shown, imported } = this.#around;
    const [only] = outcomes;
    if (only === undefined) return;
    if (outcomes.length > 1) {
      const good = outcomes.every((outcome) => 'entry' in outcome);
      // Results that may need an action of the user come first.
      const sorted = [...outcomes].sort((one, other) => rank(one) - rank(other));
      return messages.summary(summaryOf(outcomes), sorted.map(line), good);
    }
    if ('error' in only) return messages.error(`${only.name} was not imported`, only.error);
    if (!('entry' in only)) return;
    messages.success(`${only.entry.name} is imported`);
    if (shown() === this.#shown) imported(only.entry);
  }
}

/** "3 images imported, 1 file refused". */
function summaryOf(outcomes: readonly Outcome[]): string {
  const entries = outcomes.filter((outcome) => 'entry' in outcome).length;
  const refused = outcomes.filter((outcome) => 'error' in outcome).length;
  const left = outcomes.length - entries - refused;
  const parts = [`${counted(entries, 'image')} imported`];
  if (refused > 0) parts.push(`${counted(refused, 'file')} refused`);
  if (left > 0) parts.push(`${counted(left, 'file')} left out`);
  return parts.join(', ');
}

const rank = (outcome: Outcome): number => ('error' in outcome ? 0 : 'left' in outcome ? 1 : 2);

function line(outcome: Outcome): string {
  const { name } = outcome;
  if ('left' in outcome) return `${name} is ${outcome.left}`;
  if ('entry' in outcome) return outcome.entry.name === name ? `${name} is imported` : `${name} is imported as ${outcome.entry.name}`;
  const reason = failure(outcome.error);
  return reason.startsWith(name) ? reason : `${name}: ${reason}`;
}

/** The hidden file input behind the Import button. Its `click()` opens the picker. */
export function filePicker(picked: (dropped: Dropped) => void): HTMLInputElement {
  const input = element('input', { testId: 'import-input', attributes: { type: 'file', multiple: true, hidden: true } });
  input.addEventListener('change', () => {
    picked({ files: [...(input.files ?? [])] });
    input.value = '';
  });
  return input;
}
