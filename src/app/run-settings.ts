/** The settings of a machine before it starts: how it boots, its memory, and what is in the other drives. */
import { formatSize } from '../index.ts';
import { element } from './dom.ts';
import type { Slot } from './drives.ts';
import type { MachineSettings } from './machine.ts';
import type { ImageSession } from './session.ts';

type Select = HTMLElementTagNameMap['wa-select'];

const MEMORY = [32, 64, 128, 256, 512, 1024];
const DEFAULT_MEMORY = '128';
/** The value of a field that takes no image. */
export const EMPTY = 'empty';
/** Bytes of the largest floppy that v86 takes. */
export const LARGEST_FLOPPY = 3_932_160;

const OTHER_SLOTS: readonly { slot: Slot; label: string; testId: string }[] = [
  { slot: 'hdb', label: 'Second disk', testId: 'run-hdb' },
  { slot: 'cdrom', label: 'CD', testId: 'run-cdrom' },
  { slot: 'fda', label: 'Floppy', testId: 'run-fda' },
];

export class RunSettings {
  readonly #boot = select('run-boot', 'Boot', [
    { value: 'guest', label: 'built-in Linux' },
    { value: 'disk', label: 'from the disks' },
  ]);
  readonly #memory = select(
    'run-memory',
    'Memory',
    MEMORY.map((size) => ({ value: String(size), label: formatSize(size * 1024 * 1024) })),
  );
  readonly #changes = select('run-changes', 'Changes', [
    { value: 'kept', label: 'are kept' },
    { value: 'thrown', label: 'are thrown away at the end' },
  ]);
  readonly #others = OTHER_SLOTS.map(({ slot, label, testId }) => ({ slot, field: select(testId, label, []) }));
  readonly element = element('div', { class: 'settings' }, this.#boot, this.#memory, this.#changes, ...this.#others.map(({ field }) => field));
  #sessions: readonly ImageSession[] = [];
  #chosen: ImageSession | undefined;
  #offered = '';

  constructor(changed: () => void) {
    this.#boot.value = 'guest';
    this.#memory.value = DEFAULT_MEMORY;
    this.#changes.value = 'kept';
    this.#boot.addEventListener('change', changed);
  }

  get boot(): 'guest' | 'disk' {
    return this.#boot.value === 'disk' ? 'disk' : 'guest';
  }

  /** The images there are. */
  offer(sessions: readonly ImageSession[]): void {
    this.#sessions = sessions;
    this.#fill();
  }

  /** The image in the first drive: the others cannot have it. */
  choose(session: ImageSession): void {
    this.#chosen = session;
    this.#fill();
  }

  /** The images there are. */
  get images(): readonly ImageSession[] {
    return this.#sessions;
  }

  read(hda: ImageSession): MachineSettings {
    const images: Partial<Record<Slot, ImageSession>> = {};
    const floppy = hda.entry.size <= LARGEST_FLOPPY && this.boot === 'disk';
    images[floppy ? 'fda' : 'hda'] = hda;
    for (const { slot, field } of this.#others) {
      const session = this.#sessions.find(({ entry }) => entry.id === field.value);
      if (session !== undefined) images[slot] ??= session;
    }
    return { boot: this.boot, memory: Number(this.#memory.value), images, temporary: this.#changes.value === 'thrown' };
  }

  #fill(): void {
    const free = this.#sessions.filter((session) => session !== this.#chosen && !session.elsewhere);
    const key = JSON.stringify([this.#chosen?.entry.id, free.map(({ entry }) => [entry.id, entry.name])]);
    if (key === this.#offered) return;
    this.#offered = key;
    for (const { slot, field } of this.#others) {
      const fitting = free.filter(({ entry }) => slot !== 'fda' || entry.size <= LARGEST_FLOPPY);
      const before = fitting.some(({ entry }) => entry.id === field.value) ? String(field.value) : EMPTY;
      field.replaceChildren(...imageOptions(fitting));
      field.value = before;
    }
  }
}

/** What a field offers that takes one of these images, or none. */
export function imageOptions(sessions: readonly ImageSession[]): HTMLElement[] {
  const choices = [{ value: EMPTY, label: 'none' }, ...sessions.map(({ entry }) => ({ value: entry.id, label: entry.name }))];
  return choices.map(({ value, label }) => element('wa-option', { attributes: { value } }, label));
}

function select(testId: string, label: string, choices: readonly { value: string; label: string }[]): Select {
  const options = choices.map(({ value, label: text }) => element('wa-option', { attributes: { value } }, text));
  return element('wa-select', { testId, attributes: { label, size: 's' } }, ...options);
}
