/**
 * Images from files: dropped anywhere on the page or picked, streamed into the library one after another. Files that come together are put together: the engine
 * says which of them are images, what belongs to each, and what is missing. A file that is not a disk image is refused with the engine's words; a file
 * without known contents becomes a raw disk if the user says so. Questions come one at a time, and the rest is copied meanwhile; at the end one message reports
 * all results. The page keeps its view, unless all that came is one disk.
 */
import {
  DiskError,
  formatSize,
  type ImageEntry,
  type ImportedImage,
  type ImportOptions,
  type ImportPlan,
  type MachineDescription,
  PLAIN_FORMAT,
  type RemoteLibrary,
} from '../index.ts';
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
  /** Called with a disk that was imported alone, the top one of its images, if the page still shows the same view. */
  readonly imported: (entry: ImageEntry) => void;
  /** Called with the machine that an appliance describes. */
  readonly machine: (machine: MachineDescription) => void;
}

/** The files that were dropped or picked. */
export interface Dropped {
  /** Each with the folders in which it came. */
  readonly files: readonly { readonly path: string; readonly file: File }[];
  /** Names of the folders that were dropped. */
  readonly folders?: readonly string[];
}

/** An image that waits to be imported, or was. */
interface Waiting {
  readonly name: string;
  readonly file: File;
  readonly parts: readonly File[];
  /** The image that it lies over. */
  readonly base?: Waiting | undefined;
  /** What the user said, or an image over it states. */
  wish: Pick<ImportOptions, 'format' | 'changedParent'>;
  /** A question about it has no answer yet: images that lie over it wait for that. */
  over?: Waiting[] | undefined;
  entry?: ImageEntry;
  /** The machine that the file describes. */
  machine?: MachineDescription;
}

/** The result for a file. */
type Outcome =
  | { readonly name: string; readonly entry: ImageEntry; readonly image: Waiting }
  | { readonly name: string; readonly error: unknown }
  /** The user cancelled it, or did not want it. */
  | { readonly name: string; readonly left: string }
  /** Files that came along and belong to no disk. */
  | { readonly passedOver: readonly string[] };

/** Characters in the name of an image. */
const LONGEST_NAME = 200;
/** Files that are named among those that were passed over. */
const MOST_NAMED = 6;

export class Importer {
  readonly #around: ImportSurroundings;
  readonly #waiting: Waiting[] = [];
  #outcomes: Outcome[] = [];
  #shown: string | undefined;
  #working = false;
  /** Questions that wait for an answer, and drops that are looked at. */
  #pending = 0;
  #questions = Promise.resolve();

  constructor(around: ImportSurroundings) {
    this.#around = around;
  }

  /** Imports these files, after those that are waiting. */
  take(dropped: Dropped | Promise<Dropped>): void {
    const idle = !this.#working && this.#pending === 0;
    if (idle) this.#shown = this.#around.shown();
    this.#pending++;
    void this.#plan(dropped)
      .catch((error) => this.#outcomes.push({ name: 'What was dropped', error }))
      .then(() => {
        this.#pending--;
        return this.#work();
      });
  }

  async #plan(dropped: Dropped | Promise<Dropped>): Promise<void> {
    const { files, folders = [] } = await dropped;
    const plan = await this.#around.library.plan(files);
    const images = new Map<number, Waiting>();
    for (const planned of plan.images) {
      const { file, name, parts, format, backing, problem, changed } = planned;
      const found = files[file];
      if (!found) continue;
      if (problem !== undefined) {
        this.#outcomes.push({ name, error: new Error(sentence(problem)) });
        continue;
      }
      const image: Waiting = {
        ...{ name, file: found.file, base: backing === undefined ? undefined : images.get(backing), wish: format ? { format } : {} },
        parts: parts.flatMap((part) => files[part]?.file ?? []),
      };
      images.set(file, image);
      if (changed === undefined) this.#waiting.push(image);
      else this.#askChanged(image, changed);
    }
    const empty = folders.filter((folder) => !hasImage(plan, files, folder));
    for (const name of empty) this.#outcomes.push({ name, error: new Error('There is no disk image in this folder.') });
    const passedOver = plan.passedOver.flatMap(({ file, reason }) => {
      const path = files[file]?.path ?? '';
      return empty.some((folder) => path.startsWith(`${folder}/`)) ? [] : [`${path} (${reason})`];
    });
    if (passedOver.length > 0) this.#outcomes.push({ passedOver });
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) await this.#import(next);
    this.#working = false;
    if (this.#pending > 0) return;
    this.#tell(this.#outcomes);
    this.#outcomes = [];
  }

  async #import(image: Waiting): Promise<void> {
    const { library, jobs } = this.#around;
    const { name, file, parts, base, wish } = image;
    if (base?.over) return void base.over.push(image);
    if (base && !base.entry) return void this.#outcomes.push({ name, error: new Error(`It lies over ${base.name}, which is not imported.`) });
    const { length } = this.#waiting;
    const rest = length === 0 ? '' : `, ${length} more ${length === 1 ? 'waits' : 'wait'}`;
    try {
      const taken = (await library.list()).map((entry) => entry.name);
      // What is inside a packed file or an appliance has a name of its own.
      const named = name === file.name && !base ? {} : { name: freeName(name, taken) };
      const below = base?.entry ? { backing: base.entry.id } : {};
      const entry = await jobs.run(`Importing ${name}${rest}`, ({ onProgress, signal }) =>
        library.import(file, { ...wish, ...below, ...(parts.length > 0 ? { parts } : {}), ...named, onProgress, signal }),
      );
      image.entry = entry;
      this.#outcomes.push({ name, entry, image });
      this.#tellMore(image, entry);
    } catch (error) {
      const refused = error instanceof DiskError ? error : undefined;
      if (refused?.kind === 'wrong-format' && refused.field === 'contents') this.#askRaw(image, refused);
      else if (refused?.kind === 'refused' && base && !wish.changedParent) this.#askChanged(image, refused.message);
      else this.#outcomes.push(isAbort(error) ? { name, left: 'called off' } : { name, error });
    }
  }

  /** What came with the first disk of an archive or an appliance. */
  #tellMore(image: Waiting, { others = [], machine, warnings = [] }: ImportedImage): void {
    for (const entry of others) this.#outcomes.push({ name: entry.name, entry, image });
    for (const warning of warnings) this.#around.messages.warning(image.name, `${warning}.`);
    if (!machine) return;
    image.machine = machine;
    this.#around.machine(machine);
  }

  #askRaw(image: Waiting, { message }: DiskError): void {
    const text = `${sentence(message)} If it is no disk, leave it out.`;
    this.#ask(image, { title: `Keep ${image.name} as a raw disk?`, text, deed: 'Keep it' }, { format: PLAIN_FORMAT });
  }

  #askChanged(image: Waiting, message: string): void {
    const text = `${sentence(message)} What the two hold together may be of no use.`;
    this.#ask(image, { title: `Import ${image.name} all the same?`, text, deed: 'Import it' }, { changedParent: true });
  }

  /** Asks a question, after the questions before are answered. With a yes the image is imported with this wish. */
  #ask(image: Waiting, question: { title: string; text: string; deed: string }, wish: Waiting['wish']): void {
    this.#pending++;
    image.over = [];
    this.#questions = this.#questions.then(async () => {
      const yes = await confirmed({ ...question, refusal: 'Leave it out' });
      this.#pending--;
      const { name, over = [] } = image;
      image.over = undefined;
      image.wish = { ...image.wish, ...wish };
      if (yes) this.#waiting.push(image);
      else this.#outcomes.push({ name, left: 'left out' });
      this.#waiting.push(...over);
      void this.#work();
    });
  }

  #tell(outcomes: readonly Outcome[]): void {
    const { messages, shown, imported } = this.#around;
    const [only] = outcomes;
    if (only === undefined) return;
    const top = topOf(outcomes);
    if (outcomes.length > 1) {
      const good = outcomes.every((outcome) => 'entry' in outcome || 'passedOver' in outcome);
      // Results that may need an action of the user come first.
      const sorted = [...outcomes].sort((one, other) => rank(one) - rank(other));
      messages.summary(summaryOf(outcomes), sorted.map(line), good);
    } else if ('error' in only) messages.error(`${only.name} was not imported`, only.error);
    else if ('entry' in only) messages.success(`${only.entry.name} is imported`, made(only.image));
    if (top && shown() === this.#shown) imported(top);
  }
}

/** The image that lies over all others, if all that came is one disk. */
function topOf(outcomes: readonly Outcome[]): ImageEntry | undefined {
  if (outcomes.some((outcome) => 'error' in outcome || 'left' in outcome)) return undefined;
  const entries = outcomes.flatMap((outcome) => ('entry' in outcome ? [outcome.entry] : []));
  const tops = entries.filter(({ id }) => !entries.some(({ backing }) => backing === id));
  return tops.length === 1 ? tops[0] : undefined;
}

/** True if an image came of a folder, or could not. */
const hasImage = ({ images }: ImportPlan, files: Dropped['files'], folder: string): boolean =>
  images.some(({ file }) => files[file]?.path.startsWith(`${folder}/`));

/** "3 images imported, 1 file refused". */
function summaryOf(outcomes: readonly Outcome[]): string {
  const entries = outcomes.filter((outcome) => 'entry' in outcome).length;
  const refused = outcomes.filter((outcome) => 'error' in outcome).length;
  const left = outcomes.filter((outcome) => 'left' in outcome).length;
  const passed = outcomes.reduce((sum, outcome) => sum + ('passedOver' in outcome ? outcome.passedOver.length : 0), 0);
  const parts = [`${counted(entries, 'image')} imported`];
  if (refused > 0) parts.push(`${counted(refused, 'file')} refused`);
  if (left > 0) parts.push(`${counted(left, 'file')} left out`);
  if (passed > 0) parts.push(`${counted(passed, 'file')} passed over`);
  return parts.join(', ');
}

const rank = (outcome: Outcome): number => ('error' in outcome ? 0 : 'left' in outcome ? 1 : 'entry' in outcome ? 2 : 3);

function line(outcome: Outcome): string {
  if ('passedOver' in outcome) {
    const { passedOver } = outcome;
    const more = passedOver.length > MOST_NAMED ? ` and ${counted(passedOver.length - MOST_NAMED, 'more file')}` : '';
    return `Passed over, as no part of a disk: ${passedOver.slice(0, MOST_NAMED).join(', ')}${more}`;
  }
  const { name } = outcome;
  if ('left' in outcome) return `${name} is ${outcome.left}`;
  if ('entry' in outcome) {
    const how = made(outcome.image);
    return `${name} is imported${outcome.entry.name === name ? '' : ` as ${outcome.entry.name}`}${how && `, ${how}`}`;
  }
  const reason = failure(outcome.error);
  return reason.startsWith(name) ? reason : `${name}: ${reason}`;
}

/** How an image was made of several files, or of an appliance. */
function made({ parts, base, machine }: Waiting): string {
  const words = parts.length === 0 ? '' : `put together from ${counted(parts.length + 1, 'file')}`;
  const memory = machine?.memory === undefined ? '' : `for a machine with ${formatSize(machine.memory)} of memory`;
  return [words, base?.entry ? `over ${base.entry.name}` : '', memory].filter((word) => word !== '').join(', ');
}

function freeName(full: string, taken: readonly string[]): string {
  const [, stem = '', ending = ''] = /^(.*?)(\.[^.]{0,16})?$/s.exec(full) ?? [];
  for (let number = 1; ; number++) {
    const tail = `${number === 1 ? '' : ` ${number}`}${ending}`;
    const candidate = stem.slice(0, LONGEST_NAME - tail.length) + tail;
    if (!taken.includes(candidate)) return candidate;
  }
}

/** The hidden file input behind the Import button. Its `click()` opens the picker. */
export function filePicker(picked: (dropped: Dropped) => void): HTMLInputElement {
  const input = element('input', { testId: 'import-input', attributes: { type: 'file', multiple: true, hidden: true } });
  input.addEventListener('change', () => {
    picked({ files: [...(input.files ?? [])].map((file) => ({ path: file.name, file })) });
    input.value = '';
  });
  return input;
}
