/**
 * The dialog for a new, empty image: name, format, size (presets or free text), place, the options that the format offers to people, and a password if it
 * is to be encrypted. The engine reports the formats and their options.
 */
import {
  type CreateImageOptions,
  DiskError,
  describeOption,
  type FormatFacts,
  formatSize,
  type ImageEntry,
  OVERLAY_FORMAT,
  type Place,
  type RemoteLibrary,
} from '../index.ts';
import { closeDialog, LONGEST_NAME, selectWhenFocused, showDialog } from './dialogs.ts';
import { button, element } from './dom.ts';
import { NewPassword } from './password.ts';
import { DISK_SIZES, FLOPPY_SIZES, writtenSize } from './sizes.ts';
import { failure, forProduct, placeName, sentence, sizeWithBytes } from './words.ts';

const FORM = 'create-form';
const DEFAULT_SIZE = '2G';
/** From this size on a file as large as its disk is expensive: browsers charge its whole size at once. */
const WHOLE_WARNING = 64 * 1024 * 1024;

/** An image that was made, and its password if it has one. */
export interface Created {
  readonly entry: ImageEntry;
  readonly password: string | undefined;
}

/** Asks and creates. Resolves to undefined if the user cancels. */
export async function createImage(
  library: RemoteLibrary,
  formats: readonly FormatFacts[],
  places: readonly Place[],
  taken: readonly string[],
): Promise<Created | undefined> {
  const form = new CreateForm(
    formats.filter(({ capabilities }) => capabilities.create),
    places,
    freeName(taken),
  );
  let created: Created | undefined;
  let over = false;
  const submit = async (): Promise<void> => {
    const options = form.options();
    if (options === undefined || form.busy) return;
    form.setBusy(true);
    try {
      const entry = await library.create(options);
      // The user cancelled meanwhile, and does not want the image.
      if (over) return await library.delete(entry.id);
      created = { entry, password: options.secret };
      closeDialog(dialog);
    } catch (error) {
      form.problem(failure(error), error instanceof DiskError ? error.field : undefined);
    }
    form.setBusy(false);
  };
  form.element.addEventListener('submit', (event) => {
    event.preventDefault();
    void submit();
  });
  const dialog = element('wa-dialog', { testId: 'create-dialog', attributes: { label: 'New image' } }, form.element, cancel(), form.deed);
  function cancel(): HTMLElement {
    return button('Cancel', { testId: 'create-cancel', attributes: { slot: 'footer', size: 'm' }, press: () => closeDialog(dialog) });
  }
  await showDialog(dialog);
  over = true;
  form.forget();
  return created;
}

function freeName(taken: readonly string[]): string {
  for (let number = 1; ; number++) {
    const name = number === 1 ? 'disk' : `disk ${number}`;
    if (!taken.includes(name)) return name;
  }
}

class CreateForm {
  busy = false;
  readonly #name = element('wa-input', {
    testId: 'create-name',
    attributes: { label: 'Name', required: true, autofocus: true, autocomplete: 'off', maxlength: LONGEST_NAME },
  });
  readonly #format: HTMLElementTagNameMap['wa-select'];
  readonly #preset = select('create-preset', 'Usual sizes', [...FLOPPY_SIZES, ...DISK_SIZES]);
  readonly #size = element('wa-input', { testId: 'create-size', attributes: { label: 'Size', required: true, autocomplete: 'off' } });
  readonly #place: HTMLElementTagNameMap['wa-select'];
  readonly #encryption = select('create-encryption', 'Encryption', [
    { label: 'none', value: 'none' },
    { label: 'with a password (LUKS)', value: 'password' },
  ]);
  readonly #password = new NewPassword();
  readonly #remark = element('p', { class: 'remark', testId: 'create-remark', attributes: { 'aria-live': 'polite' } });
  readonly #problem = element('p', { class: 'problem', testId: 'create-problem', attributes: { role: 'alert' } });
  readonly deed = button('Create', {
    testId: 'create-deed',
    // In the dialog's footer, but part of the form: so Enter in any field submits.
    attributes: { slot: 'footer', size: 'm', appearance: 'accent', variant: 'brand', type: 'submit', form: FORM },
    press: () => undefined,
  });
  readonly element: HTMLFormElement;

  readonly #formats: readonly FormatFacts[];
  readonly #places: readonly Place[];
  readonly #fields: readonly OptionField[];
  readonly #sizes: HTMLElement;
  readonly #details: HTMLElement;

  constructor(formats: readonly FormatFacts[], places: readonly Place[], name: string) {
    this.#formats = formats;
    this.#places = places;
    this.#fields = formats.flatMap(fieldsOf);
    this.#format = select(
      'create-format',
      'Format',
      formats.map((facts) => ({ label: `${facts.name} – ${described(facts)}`, value: facts.name, short: facts.name })),
    );
    this.#place = select(
      'create-place',
      'Kept in',
      places.map((place) => ({ label: placeName(place), value: place })),
    );
    this.#name.value = name;
    this.#format.value = OVERLAY_FORMAT;
    this.#size.value = DEFAULT_SIZE;
    this.#preset.value = DEFAULT_SIZE;
    this.#place.value = places[0] ?? 'indexeddb';
    this.#encryption.value = 'none';
    selectWhenFocused(this.#name);
    this.#preset.addEventListener('change', () => {
      this.#size.value = String(this.#preset.value ?? '');
      this.#describe();
    });
    this.#size.addEventListener('input', () => {
      this.#preset.value = usual(this.#size.value ?? '');
      this.#describe();
    });
    this.#format.addEventListener('change', () => this.#describe());
    this.#encryption.addEventListener('change', () => this.#describe());
    this.#sizes = element('div', { class: 'pair' }, this.#size, this.#preset);
    this.#details = element('div', { class: 'pair' }, ...this.#fields.map(({ field }) => field), this.#place);
    this.element = element(
      'form',
      { class: 'stack', attributes: { id: FORM, novalidate: true } },
      this.#name,
      this.#format,
      this.#sizes,
      this.#remark,
      this.#details,
      this.#encryption,
      this.#password.element,
      this.#problem,
    );
    this.#describe();
  }

  setBusy(busy: boolean): void {
    this.busy = busy;
    this.deed.loading = busy;
  }

  /** Shows a problem, behind the field that it is about. */
  problem(text: string, about?: string): void {
    const { name, createOptions } = this.#facts;
    const offered = this.#fields.some((one) => one.format === name && one.name === about);
    // An option that the dialog does not offer can only be wrong for this size.
    const ofSize = about === 'size' || (!offered && createOptions.some((option) => option.name === about));
    const place = about === 'name' ? this.#name : ofSize ? this.#sizes : offered ? this.#details : this.#password.element;
    this.#problem.textContent = text;
    if (place.nextElementSibling !== this.#problem) place.after(this.#problem);
  }

  /** Clears fields with text that no other person should see. */
  forget(): void {
    this.#password.clear();
  }

  /** The filled-in values; undefined, with the problem shown, if they are not valid. */
  options(): CreateImageOptions<string> | undefined {
    this.problem('');
    const name = (this.#name.value ?? '').trim();
    if (name === '') return this.#refuse('Give the image a name.', 'name');
    let size: number;
    try {
      size = writtenSize(this.#size.value ?? '');
    } catch (error) {
      return this.#refuse(failure(error), 'size');
    }
    if (size === 0) return this.#refuse('A disk of no bytes is of no use: give a size.', 'size');
    const { name: format } = this.#facts;
    const place = this.#places.find((known) => known === this.#place.value) ?? 'indexeddb';
    const own = this.#fields.filter((one) => one.format === format).map(({ name: option, field }) => [option, String(field.value)] as const);
    const options = { name, format, size, place, ...Object.fromEntries(own) };
    if (!this.#encrypts) return options;
    try {
      return { ...options, secret: this.#password.value };
    } catch (error) {
      return this.#refuse(failure(error));
    }
  }

  /** The chosen format. */
  get #facts(): FormatFacts {
    const { value } = this.#format;
    return (this.#formats.find(({ name }) => name === value) ?? this.#formats[0]) as FormatFacts;
  }

  get #encrypts(): boolean {
    const { encryption } = this.#facts;
    return encryption !== undefined && (encryption.always || this.#encryption.value === 'password');
  }

  #refuse(text: string, about?: string): undefined {
    this.problem(text, about);
    return undefined;
  }

  #describe(): void {
    const { name, encryption, sharesFile = false } = this.#facts;
    this.#format.hint = described(this.#facts);
    for (const { field, format } of this.#fields) field.hidden = format !== name;
    this.#encryption.hidden = encryption === undefined || encryption.always;
    this.#password.hidden = !this.#encrypts;
    const remarks: string[] = [];
    try {
      const size = writtenSize(this.#size.value ?? '');
      remarks.push(sizeWithBytes(size));
      if (sharesFile && size >= WHOLE_WARNING)
        remarks.push(`A ${name} image takes up to ${formatSize(size)} of this browser's storage; ${OVERLAY_FORMAT} takes only what is used.`);
      this.problem('');
    } catch {
      remarks.push('Give bytes, or a number with k, M, G or T: 2G, 1.5T, 1440k. Units are powers of 1024.');
    }
    if (this.#encrypts) remarks.push('Without its password nobody reads what is on it, you neither: it is kept nowhere.');
    this.#remark.textContent = remarks.length === 1 ? (remarks[0] ?? '') : remarks.map(sentence).join(' ');
  }
}

/** A field for an option of a format. */
interface OptionField {
  readonly format: string;
  /** QEMU's name of the option. */
  readonly name: string;
  readonly field: HTMLElementTagNameMap['wa-select'];
}

/** Fields for the options that a format offers to people and that have a few values. */
function fieldsOf({ name: format, createOptions }: FormatFacts): OptionField[] {
  return createOptions.flatMap((option) => {
    const { values } = describeOption(option);
    if (option.label === undefined || values === undefined) return [];
    const { name, label, kind, help } = option;
    const choices = values.map((value) => ({ label: kind === 'size' ? formatSize(Number(value)) : String(value), value: String(value) }));
    const field = select(`create-${format}-${name}`, label, choices);
    field.hint = help;
    field.value = String(option.kind === 'flag' ? (option.default ? 'on' : 'off') : (option.default ?? values[0]));
    return [{ format, name, field }];
  });
}

/** The option's usual value that equals the typed one, in any spelling; empty if there is none. */
function usual(typed: string): string {
  try {
    const size = writtenSize(typed);
    return [...FLOPPY_SIZES, ...DISK_SIZES].find(({ bytes }) => bytes === size)?.value ?? '';
  } catch {
    return '';
  }
}

interface Choice {
  readonly label: string;
  readonly value: string;
  /** What the closed field shows of the choice; default: the label. */
  readonly short?: string;
}

function select(testId: string, label: string, choices: readonly Choice[]): HTMLElementTagNameMap['wa-select'] {
  const options = choices.map(({ label: text, value, short = text }) => element('wa-option', { attributes: { value, label: short } }, text));
  return element('wa-select', { testId, attributes: { label } }, ...options);
}

/** "for VirtualBox (.vdi): grows as it is used". */
const described = (facts: FormatFacts): string => `${forProduct(facts)}: ${facts.gist}`;
