/** The drives of a running machine: what the guest asked of each so far, how long that took, and the CD that can be exchanged. */
import { type DriveStatistics, formatSize } from '../index.ts';
import { element } from './dom.ts';
import type { Attached, Slot } from './drives.ts';
import { EMPTY, imageOptions } from './run-settings.ts';
import type { ImageSession } from './session.ts';
import { count } from './words.ts';

type Operation = DriveStatistics['read'];

const NAMES: Record<Slot, string> = { hda: 'Disk', hdb: 'Second disk', cdrom: 'CD', fda: 'Floppy' };
const HEADINGS = ['Drive', 'Reads', 'Writes', 'Flushes', 'Highest write'];
const MILLISECOND = 1e6;

export class RunDrives {
  readonly #rows = element('tbody', {});
  readonly #cd = element('wa-select', { testId: 'run-change-cd', attributes: { label: 'CD in the drive', size: 's' } });
  readonly element: HTMLElement;
  #sessions: readonly ImageSession[] = [];
  #offered = '';
  #shown = '';

  constructor(change: (cd: ImageSession | undefined) => void) {
    this.#cd.addEventListener('change', () => change(this.#sessions.find(({ entry }) => entry.id === this.#cd.value)));
    const headings = HEADINGS.map((heading) => element('th', { attributes: { scope: 'col' } }, heading));
    const table = element('table', { class: 'table', testId: 'run-drives' }, element('thead', {}, element('tr', {}, ...headings)), this.#rows);
    this.element = element('section', { class: 'stack' }, table, element('div', { class: 'settings' }, this.#cd));
  }

  /** The images that can be put into the CD drive, and the one that is. */
  update(drives: readonly Attached[], free: readonly ImageSession[], running: boolean): void {
    const cd = drives.find(({ slot }) => slot === 'cdrom');
    const inside = cd?.session;
    const taken = new Set(drives.flatMap(({ slot, session }) => (session && slot !== 'cdrom' ? [session] : [])));
    this.#sessions = free.filter((session) => !taken.has(session));
    this.#cd.disabled = cd === undefined || !running;
    const key = JSON.stringify([inside?.entry.id, this.#sessions.map(({ entry }) => [entry.id, entry.name])]);
    if (key !== this.#offered) this.#cd.replaceChildren(...imageOptions(this.#sessions));
    this.#offered = key;
    this.#cd.value = inside?.entry.id ?? EMPTY;
    this.count(drives);
  }

  /** What the drives did so far. */
  count(drives: readonly Attached[]): void {
    // A row that is replaced loses the pointer's tooltip.
    const shown = JSON.stringify(drives.map(({ slot, drive }) => [slot, drive.statistics]));
    if (shown === this.#shown) return;
    this.#shown = shown;
    const rows = drives.map(({ slot, drive }) => {
      const { read, write, flush, highestWriteOffset } = drive.statistics;
      const cells = [words(read), words(write), words(flush), write.operations > 0 ? `at ${formatSize(highestWriteOffset)}` : '–'];
      const title = [spread('Reads', read), spread('Writes', write), spread('Flushes', flush)].filter((line) => line !== '').join('\n');
      return element(
        'tr',
        { testId: `run-drive-${slot}`, attributes: { title } },
        element('th', { attributes: { scope: 'row' } }, NAMES[slot]),
        ...cells.map((cell) => element('td', {}, cell)),
      );
    });
    this.#rows.replaceChildren(...rows);
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
