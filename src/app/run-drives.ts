/** The drives of a running machine: the guest's requests to each, how long they took, whether it works, and fields to exchange the CD and the floppy. */
import { type DriveStatistics, formatSize, type IoStatus } from '../index.ts';
import { element } from './dom.ts';
import type { Attached, RemovableSlot, Slot } from './drives.ts';
import { EMPTY, fill, imageChoices, LARGEST_FLOPPY } from './run-settings.ts';
import type { ImageSession } from './session.ts';
import { count } from './words.ts';

type Operation = DriveStatistics['read'];

const NAMES: Record<Slot, string> = { hda: 'Disk', hdb: 'Second disk', cdrom: 'CD', fda: 'Floppy' };
const HEADINGS = ['Drive', 'Reads', 'Writes', 'Flushes', 'Highest write'];
const MILLISECOND = 1e6;

const STATUS: Record<IoStatus, string> = { ok: '', failed: ' · fails', nospace: ' · no room' };

export class RunDrives {
  readonly #rows = element('tbody', {});
  readonly #media: readonly MediumField[];
  readonly element: HTMLElement;
  #shown = '';

  constructor(change: (slot: RemovableSlot, image: ImageSession | undefined) => Promise<void>) {
    this.#media = [
      new MediumField('cdrom', 'CD in the drive', (image) => change('cdrom', image)),
      new MediumField('fda', 'Floppy in the drive', (image) => change('fda', image)),
    ];
    const headings = HEADINGS.map((heading) => element('th', { attributes: { scope: 'col' } }, heading));
    const table = element('table', { class: 'table', testId: 'run-drives' }, element('thead', {}, element('tr', {}, ...headings)), this.#rows);
    const fields = this.#media.map((field) => field.element);
    this.element = element('section', { class: 'stack' }, table, element('div', { class: 'settings' }, ...fields));
  }

  /** The images that can be put into the drives, and the present ones. */
  update(drives: readonly Attached[], images: readonly ImageSession[], running: boolean): void {
    for (const field of this.#media) field.update(drives, images, running);
    this.count(drives);
  }

  /** Shows the work of the drives so far. */
  count(drives: readonly Attached[]): void {
    // A row that is replaced loses the pointer's tooltip.
    const shown = JSON.stringify(drives.map(({ slot, drive }) => [slot, drive.ioStatus, drive.statistics]));
    if (shown === this.#shown) return;
    this.#shown = shown;
    const rows = drives.map(({ slot, drive }) => {
      const { read, write, flush, highestWriteOffset } = drive.statistics;
      const cells = [words(read), words(write), words(flush), write.operations > 0 ? `at ${formatSize(highestWriteOffset)}` : '–'];
      const title = [spread('Reads', read), spread('Writes', write), spread('Flushes', flush)].filter((line) => line !== '').join('\n');
      return element(
        'tr',
        { testId: `run-drive-${slot}`, attributes: { title } },
        element('th', { attributes: { scope: 'row' } }, NAMES[slot] + STATUS[drive.ioStatus ?? 'ok']),
        ...cells.map((cell) => element('td', {}, cell)),
      );
    });
    this.#rows.replaceChildren(...rows);
  }
}

/** The present medium of a removable drive, and the images for it. */
class MediumField {
  readonly slot: RemovableSlot;
  readonly element: HTMLElementTagNameMap['wa-select'];
  #images: readonly ImageSession[] = [];
  #changing = false;
  /** Shows the latest state after the change under way has ended. */
  #later = (): void => undefined;

  constructor(slot: RemovableSlot, label: string, change: (image: ImageSession | undefined) => Promise<void>) {
    this.slot = slot;
    this.element = element('wa-select', { testId: `run-change-${slot}`, attributes: { label, size: 's' } });
    this.element.addEventListener('change', () => void this.#change(() => change(this.#images.find(({ entry }) => entry.id === this.element.value))));
  }

  async #change(work: () => Promise<void>): Promise<void> {
    this.#changing = true;
    this.element.disabled = true;
    await work();
    this.#changing = false;
    this.#later();
  }

  update(drives: readonly Attached[], images: readonly ImageSession[], running: boolean): void {
    this.#later = () => this.#update(drives, images, running);
    if (!this.#changing) this.#later();
  }

  #update(drives: readonly Attached[], images: readonly ImageSession[], running: boolean): void {
    const drive = drives.find(({ slot }) => slot === this.slot);
    const inside = drive?.session;
    const taken = new Set(drives.flatMap((other) => (other.session && other !== drive ? [other.session] : [])));
    const fitting = images.filter(({ entry }) => this.slot !== 'fda' || entry.size <= LARGEST_FLOPPY);
    this.#images = fitting.filter((image) => image === inside || (!taken.has(image) && !image.elsewhere));
    this.element.disabled = drive === undefined || !running;
    fill(this.element, imageChoices(this.#images), inside?.entry.id ?? EMPTY);
    this.element.dataset.inside = inside?.entry.id ?? EMPTY;
  }
}

/** "1,204 · 38 MiB · 0.4 ms each". */
function words({ operations, bytes, totalTime, failedOperations }: Operation): string {
  if (operations + failedOperations === 0) return '–';
  const parts = [count(operations)];
  if (bytes > 0) parts.push(formatSize(bytes));
  if (operations > 0) parts.push(`${(totalTime / operations / MILLISECOND).toFixed(1)} ms each`);
  if (failedOperations > 0) parts.push(`${count(failedOperations)} failed`);
  return parts.join(' · ');
}

/** "Reads: 12 under 0.1 ms, 3 under 1 ms, 1 longer". */
function spread(what: string, { latency: { boundaries, counts } }: Operation): string {
  const parts = counts.flatMap((some, index) => {
    const boundary = boundaries[index];
    if (some === 0) return [];
    return [`${count(some)} ${boundary === undefined ? 'longer' : `under ${boundary / MILLISECOND} ms`}`];
  });
  return parts.length === 0 ? '' : `${what}: ${parts.join(', ')}`;
}
