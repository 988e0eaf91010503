/**
 * The settings of a machine before it starts: its boot choice, its memory, and the images in its drives. They belong to the image, not the page: each image
 * begins with settings that its bytes suggest (medium-kind.ts), and keeps the user's choice as long as the page is open.
 */
import { V86_FLOPPY_SIZES } from '../adapters/v86.ts';
import { formatSize, type MachineDescription } from '../index.ts';
import { button, element } from './dom.ts';
import type { Slot } from './drives.ts';
import type { Boot, MachineSettings } from './machine-settings.ts';
import { type MediumKind, mediumKind } from './medium-kind.ts';
import type { ImageSession } from './session.ts';

type Select = HTMLElementTagNameMap['wa-select'];

const MEMORY = [32, 64, 128, 256, 512, 1024];
const MIB = 2 ** 20;
const DEFAULT_MEMORY = '128';
/** The value of a field that takes no image. */
export const EMPTY = 'empty';
/** Bytes of the largest floppy that v86 takes. */
export const LARGEST_FLOPPY = V86_FLOPPY_SIZES.at(-1) ?? 0;

type OwnSlot = MediumKind['slot'];

const OWN_SLOTS: readonly { slot: OwnSlot; label: string; noun: string }[] = [
  { slot: 'hda', label: 'hard disk', noun: 'disk' },
  { slot: 'cdrom', label: 'CD', noun: 'CD' },
  { slot: 'fda', label: 'floppy', noun: 'floppy' },
];
const SLOTS: readonly { slot: Slot; label: string; testId: string }[] = [
  { slot: 'hda', label: 'Hard disk', testId: 'run-hda' },
  { slot: 'hdb', label: 'Second disk', testId: 'run-hdb' },
  { slot: 'cdrom', label: 'CD', testId: 'run-cdrom' },
  { slot: 'fda', label: 'Floppy', testId: 'run-fda' },
];
const BOOTS: readonly { boot: Boot; slot?: OwnSlot; label: string }[] = [
  { boot: 'guest', label: 'built-in Linux' },
  { boot: 'disk', slot: 'hda', label: 'hard disk' },
  { boot: 'cdrom', slot: 'cdrom', label: 'CD' },
  { boot: 'fda', slot: 'fda', label: 'floppy' },
];
/** The device under which the built-in Linux finds the image of a drive. */
const DEVICES: Record<OwnSlot, string> = { hda: '/dev/sda', cdrom: '/dev/sr0', fda: '/dev/fd0' };

/** The choices for an image; missing ones follow from its bytes. */
interface Choice {
  readonly slot?: OwnSlot;
  readonly boot?: Boot;
  readonly memory?: string;
  readonly changes?: string;
  /** Image ids. */
  readonly others?: Partial<Record<Slot, string>>;
}

export class RunSettings {
  readonly #boot = select('run-boot', 'Boot', []);
  readonly #slot = select('run-slot', 'Use it as', []);
  readonly #memory = select(
    'run-memory',
    'Memory',
    MEMORY.map((size) => ({ value: String(size), label: formatSize(size * 1024 * 1024) })),
  );
  readonly #changes = select('run-changes', 'Changes', [
    { value: 'kept', label: 'kept' },
    { value: 'thrown', label: 'thrown away' },
  ]);
  readonly #others = SLOTS.map(({ slot, label, testId }) => ({ slot, field: select(testId, label, []) }));
  readonly #remark = element('span', {});
  readonly #note = element('p', { class: 'row quiet', testId: 'run-boot-note' }, this.#remark);
  readonly #other = button('', { testId: 'run-boot-other', attributes: { appearance: 'plain', variant: 'brand' }, press: () => this.#takeOther() });
  readonly element: HTMLElement;
  readonly #changed: () => void;
  readonly #choices = new WeakMap<ImageSession, Choice>();
  /** What descriptions of machines state, by the ids of their first disks. */
  readonly #suggested = new Map<string, Choice>();
  readonly #kinds = new WeakMap<ImageSession, MediumKind>();
  /** Whether the built-in Linux is available. */
  readonly #hasGuest: () => boolean;
  #sessions: readonly ImageSession[] = [];
  #chosen: ImageSession | undefined;

  constructor(changed: () => void, hasGuest: () => boolean) {
    this.#changed = changed;
    this.#hasGuest = hasGuest;
    const fields = [this.#boot, this.#slot, this.#memory, this.#changes, ...this.#others.map(({ field }) => field)];
    this.#note.append(this.#other);
    this.element = element('div', { class: 'stack tight' }, element('div', { class: 'settings' }, ...fields), this.#note);
    this.#boot.addEventListener('change', () => this.#choose({ boot: this.#boot.value as Boot }));
    this.#slot.addEventListener('change', () => this.#chooseSlot(this.#slot.value as OwnSlot));
    this.#memory.addEventListener('change', () => this.#choose({ memory: String(this.#memory.value) }));
    this.#changes.addEventListener('change', () => this.#choose({ changes: String(this.#changes.value) }));
    for (const { slot, field } of this.#others) field.addEventListener('change', () => void this.#chooseOther(slot, String(field.value)));
  }

  /** The system to start. */
  get boot(): Boot {
    const { boot } = this.#choice;
    if (boot !== undefined && this.#bootable(boot)) return boot;
    // The image that the page shows comes before those in the other drives.
    const slots = [this.#own, ...OWN_SLOTS.map(({ slot }) => slot)];
    const first = slots.find((slot) => this.#kindIn(slot)?.starts);
    if (first !== undefined) return bootOf(first);
    return this.#hasGuest() ? 'guest' : bootOf(this.#own);
  }

  /** Takes the memory and the second disk that the description of an appliance states for its first disk. What the user chooses comes before. */
  suggest({ memory, disks }: MachineDescription): void {
    const [first, second] = disks;
    if (first === undefined) return;
    const size = memory === undefined ? undefined : (MEMORY.find((each) => each * MIB >= memory) ?? MEMORY.at(-1));
    const others = second === undefined ? {} : { others: { hdb: second } };
    this.#suggested.set(first, { ...(size === undefined ? {} : { memory: String(size) }), ...others });
    this.#show();
  }

  /** Sets the list of images. */
  offer(sessions: readonly ImageSession[]): void {
    this.#sessions = sessions;
    this.#show();
  }

  /** The list of images. */
  get images(): readonly ImageSession[] {
    return this.#sessions;
  }

  /** The image that the machine is for: the settings are its own. */
  choose(session: ImageSession): void {
    this.#chosen = session;
    this.#show();
  }

  /** Reads an image's bytes: its kind, and the settings that they suggest. Asks for the password of an encrypted one, as every tab that shows an image. */
  async look(session: ImageSession): Promise<void> {
    if (!session.held) this.#kinds.set(session, await session.use(mediumKind));
    this.#show();
    this.#changed();
  }

  read(main: ImageSession): MachineSettings {
    const images: Partial<Record<Slot, ImageSession>> = { [this.#own]: main };
    for (const { slot } of SLOTS) {
      const session = this.#inDrive(slot);
      // v86 takes no second disk without a first.
      if (session !== undefined && (slot !== 'hdb' || images.hda !== undefined)) images[slot] = session;
    }
    return { boot: this.boot, memory: Number(this.#memory.value), images, main, temporary: this.#changes.value === 'thrown' };
  }

  get #choice(): Choice {
    const chosen = this.#chosen;
    return chosen ? { ...this.#suggested.get(chosen.entry.id), ...this.#choices.get(chosen) } : {};
  }

  /** The slot of the chosen image. */
  get #own(): OwnSlot {
    return this.#choice.slot ?? (this.#chosen && this.#kinds.get(this.#chosen)?.slot) ?? 'hda';
  }

  #inDrive(slot: Slot): ImageSession | undefined {
    const id = this.#choice.others?.[slot];
    return slot === this.#own ? undefined : this.#free(slot).find(({ entry }) => entry.id === id);
  }

  /** The images that a drive can take. */
  #free(slot: Slot): ImageSession[] {
    return this.#sessions.filter(
      (session) => session !== this.#chosen && !session.elsewhere && (slot !== 'fda' || session.entry.size <= LARGEST_FLOPPY),
    );
  }

  #kindIn(slot: OwnSlot): MediumKind | undefined {
    const session = slot === this.#own ? this.#chosen : this.#inDrive(slot);
    return session && this.#kinds.get(session);
  }

  /** Whether the drive for this boot choice has something to start. */
  #bootable(boot: Boot): boolean {
    if (boot === 'guest') return this.#hasGuest();
    const { slot } = BOOTS.find((each) => each.boot === boot) ?? {};
    return slot === undefined || slot === this.#own || this.#inDrive(slot) !== undefined;
  }

  #choose(choice: Choice): void {
    if (this.#chosen === undefined) return;
    this.#choices.set(this.#chosen, { ...this.#choice, ...choice });
    this.#show();
    this.#changed();
  }

  #chooseSlot(slot: OwnSlot): void {
    // The boot choice for this image follows it to another slot.
    const follows = this.#choice.boot === bootOf(this.#own);
    this.#choose(follows ? { slot, boot: bootOf(slot) } : { slot });
  }

  async #chooseOther(slot: Slot, id: string): Promise<void> {
    const session = this.#sessions.find(({ entry }) => entry.id === id);
    this.#choose({ others: { ...this.#choice.others, [slot]: id } });
    // The password of an image beside the chosen one is asked for when the machine starts.
    if (session === undefined || (session.entry.encrypted && !session.unlocked)) return;
    // If an image cannot be read, the start of the machine reports it.
    await this.look(session).catch(() => undefined);
  }

  #takeOther(): void {
    this.#choose({ boot: this.boot === 'guest' ? bootOf(this.#own) : 'guest' });
  }

  #show(): void {
    const own = this.#own;
    const { memory = DEFAULT_MEMORY, changes = 'kept' } = this.#choice;
    const size = this.#chosen?.entry.size ?? 0;
    fill(
      this.#slot,
      OWN_SLOTS.filter(({ slot }) => slot !== 'fda' || size <= LARGEST_FLOPPY).map(({ slot, label }) => ({ value: slot, label })),
      own,
    );
    fill(
      this.#boot,
      BOOTS.filter(({ boot }) => this.#bootable(boot)).map(({ boot, label }) => ({ value: boot, label })),
      this.boot,
    );
    fill(this.#memory, undefined, memory);
    fill(this.#changes, undefined, changes);
    const withoutFirst = own !== 'hda' && this.#inDrive('hda') === undefined;
    for (const { slot, field } of this.#others) {
      field.hidden = slot === own || (slot === 'hdb' && withoutFirst);
      fill(field, imageChoices(this.#free(slot)), this.#inDrive(slot)?.entry.id ?? EMPTY);
    }
    this.#tell();
  }

  /** One sentence: the system to start, and the reason; and a way to change it. */
  #tell(): void {
    const own = this.#own;
    const noun = OWN_SLOTS.find(({ slot }) => slot === own)?.noun ?? '';
    const kind = this.#chosen && this.#kinds.get(this.#chosen);
    const { boot } = this;
    const fromIt = boot === bootOf(own);
    const how = kind?.boots ? ` (El Torito: ${kind.boots.join('; ')})` : '';
    const remark = kind?.starts ? startable(noun + how, own, boot, fromIt) : notStartable(noun, own, boot, fromIt && kind !== undefined);
    this.#remark.textContent = remark;
    this.#note.hidden = remark === '';
    this.#other.hidden = fromIt ? !this.#hasGuest() : !(kind?.starts && boot === 'guest');
    this.#other.textContent = fromIt ? 'Use the built-in Linux instead' : 'Boot from it instead';
  }
}

function startable(noun: string, slot: OwnSlot, boot: Boot, fromIt: boolean): string {
  if (fromIt) return `This ${noun} can be started: booting from it.`;
  return boot === 'guest' ? `This ${noun} can be started by itself. The built-in Linux finds it as ${DEVICES[slot]}.` : '';
}

function notStartable(noun: string, slot: OwnSlot, boot: Boot, fromIt: boolean): string {
  if (fromIt) return `Nothing on this ${noun} can be started: a BIOS finds no system there.`;
  return boot === 'guest' && slot !== 'hda' ? `The built-in Linux finds this ${noun} as ${DEVICES[slot]}.` : '';
}

const bootOf = (slot: OwnSlot): Boot => BOOTS.find((each) => each.slot === slot)?.boot ?? 'disk';

interface SelectChoice {
  readonly value: string;
  readonly label: string;
}

/** The choices of a field that takes one of these images, or none. */
export function imageChoices(sessions: readonly ImageSession[]): SelectChoice[] {
  return [{ value: EMPTY, label: 'none' }, ...sessions.map(({ entry }) => ({ value: entry.id, label: entry.name }))];
}

/** The choices of each field. An unchanged list stays, with the focus in it. */
const offered = new WeakMap<Select, string>();

/** Sets the choices of a field, or keeps those it has, and shows one of them. */
export function fill(field: Select, choices: readonly SelectChoice[] | undefined, value: string): void {
  const key = JSON.stringify(choices);
  if (choices !== undefined && offered.get(field) !== key) {
    offered.set(field, key);
    field.replaceChildren(...options(choices));
  }
  if (field.value !== value) field.value = value;
}

function options(choices: readonly SelectChoice[]): HTMLElement[] {
  return choices.map(({ value, label }) => element('wa-option', { attributes: { value } }, label));
}

function select(testId: string, label: string, choices: readonly SelectChoice[]): Select {
  return element('wa-select', { testId, attributes: { label, size: 's' } }, ...options(choices));
}
