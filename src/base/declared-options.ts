/**
 * Options that are declared: a list of them says each option's name, kind, range, default and help once. From the list come the types that callers
 * see, the values that a format reads, the command line's parsing and help, the fields of a dialog and the README's tables. A list is data only, so
 * that it can be sent to another thread. Refusals are in QEMU's words.
 */
import { check, objectWith, TEXT, unknownOption } from './arguments.ts';
import { DiskError } from './errors.ts';
import { sizeValue } from './units.ts';

/** A value as callers give it and as formats read it. */
export type GivenValue = string | number | boolean;
/** Options under QEMU's names, as yet unread. */
export type GivenOptions = Readonly<Record<string, GivenValue>>;

const OPTION = objectWith('an option of a format, as its createOptions list it', ['name', 'kind', 'help']);

/** The facts that every option declares. */
export interface OptionBasics {
  /** QEMU's name. */
  readonly name: string;
  /** The effect of the option, in one line. */
  readonly help: string;
  /** QEMU's message about a value out of range; `{value}` stands for the value. */
  readonly refusal?: string;
  /** `create` prints the default of the option too, as QEMU does. */
  readonly printed?: true;
  /** Library callers give it by this argument, not among the options. The list has it for the command line. */
  readonly said?: 'size' | 'backing';
  /** A dialog's name for the option; a dialog offers only options that have a label. */
  readonly label?: string;
}

/** A number of bytes (`size`) or of anything else (`count`): a whole number. */
export interface NumberOption extends OptionBasics {
  /** Bytes, or anything else that is counted. */
  readonly kind: 'size' | 'count';
  /** Default 0. */
  readonly least?: number;
  /** Default 2^53-1. */
  readonly most?: number;
  /** Only powers of two are taken. */
  readonly powerOfTwo?: true;
  /** Its value where the caller gives none; absent: none. */
  readonly default?: number;
}

/** On or off. */
export interface FlagOption extends OptionBasics {
  /** On or off. */
  readonly kind: 'flag';
  /** Its value where the caller gives none; absent: none. */
  readonly default?: boolean;
}

/** One of several words. */
export interface ChoiceOption extends OptionBasics {
  /** One of several words. */
  readonly kind: 'choice';
  /** The words. */
  readonly values: readonly string[];
  /** Words that QEMU has besides, and the message about them, which is thrown as `unsupported`. */
  readonly elsewhere?: { readonly values: readonly string[]; readonly refusal: string };
  /** For a value that is slow or takes much room: a value that costs little and is refused in the same cases. */
  readonly rehearsal?: Readonly<Record<string, string>>;
  /** Its value where the caller gives none; absent: none. */
  readonly default?: string;
}

/** Any text; of kind `secret` the name of a passphrase, which the caller is asked for by that name. */
export interface TextOption extends OptionBasics {
  /** Text, or the name of a secret. */
  readonly kind: 'text' | 'secret';
  /** Its value where the caller gives none; absent: none. */
  readonly default?: string;
}

/** One option of a list. */
export type DeclaredOption = NumberOption | FlagOption | ChoiceOption | TextOption;

/** A name in camel case: `cluster_size` is `clusterSize`, `encrypt.iter-time` is `encryptIterTime`. */
export type CamelCase<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${CamelCase<Head>}${Capitalize<CamelCase<Tail>>}`
  : Name extends `${infer Head}-${infer Tail}`
    ? `${CamelCase<Head>}${Capitalize<CamelCase<Tail>>}`
    : Name extends `${infer Head}.${infer Tail}`
      ? `${CamelCase<Head>}${Capitalize<CamelCase<Tail>>}`
      : Name;

/** The type of an option's value as callers write it. */
export type OptionInput<Option extends DeclaredOption> = Option extends { readonly kind: 'size' }
  ? number | string
  : Option extends { readonly kind: 'count' }
    ? number
    : Option extends { readonly kind: 'flag' }
      ? boolean | 'on' | 'off'
      : Option extends { readonly kind: 'choice'; readonly values: readonly (infer Word)[] }
        ? Word
        : string;

/** The type of an option's value as a format reads it. */
export type OptionOutput<Option extends DeclaredOption> = Option extends { readonly kind: 'size' | 'count' }
  ? number
  : Option extends { readonly kind: 'flag' }
    ? boolean
    : OptionInput<Option>;

/** The options of a list as callers write them, each under QEMU's name or its camel case. Sizes may be text with a suffix. */
export type OptionInputs<List extends readonly DeclaredOption[]> = {
  readonly [Option in Exclude<List[number], { readonly said: string }> as Option['name'] | CamelCase<Option['name']>]?:
    | OptionInput<Option>
    | undefined;
};

/** The options of a list as they are read: those with a default are always there. */
export type OptionValues<List extends readonly DeclaredOption[]> = {
  readonly [Option in Extract<List[number], { readonly default: GivenValue }> as Option['name']]: OptionOutput<Option>;
} & {
  readonly [Option in Exclude<List[number], { readonly default: GivenValue }> as Option['name']]?: OptionOutput<Option>;
};

/** A list whose names begin with `prefix`: the list of a part of a format that has options of its own. */
export type Prefixed<Prefix extends string, List extends readonly DeclaredOption[]> = {
  readonly [Place in keyof List]: Omit<List[Place], 'name'> & { readonly name: `${Prefix}${List[Place]['name']}` };
};

/** The same options under names with a prefix. */
/* @__NO_SIDE_EFFECTS__ */
export function prefixed<const Prefix extends string, const List extends readonly DeclaredOption[]>(
  prefix: Prefix,
  list: List,
): Prefixed<Prefix, List> {
  return list.map((option) => ({ ...option, name: prefix + option.name })) as Prefixed<Prefix, List>;
}

/** The values of the options that have a prefix, under their names without it. */
export function unprefixed<const List extends readonly DeclaredOption[]>(
  prefix: string,
  list: List,
  values: Readonly<Record<string, GivenValue | undefined>>,
): OptionValues<List> {
  const found = list.map(({ name }) => [name, values[prefix + name]] as const).filter(([, value]) => value !== undefined);
  return Object.fromEntries(found) as OptionValues<List>;
}

/** An option's name in camel case. */
export const camelCase = (name: string): string => name.replace(/[-_.]+(\w)/g, (_, letter: string) => letter.toUpperCase());

/** The given options under QEMU's names: each may be in camel case. Names that are not in the list stay as they are; undefined counts as not given. */
export function namedOptions(list: readonly DeclaredOption[], given: Readonly<Record<string, unknown>>): GivenOptions {
  const names = new Map(list.map(({ name }) => [camelCase(name), name]));
  const named: Record<string, GivenValue> = {};
  for (const [key, value] of Object.entries(given)) if (value !== undefined) named[names.get(key) ?? key] = value as GivenValue;
  return named;
}

/**
 * Reads options by their list, for a format. Throws `refused` or `unsupported`, naming the option: for a name that is unknown, and for a bad value.
 * All numbers are read before their ranges are checked. Between these steps the function `between`, if given, sees them, and refuses what QEMU refuses first.
 */
export function readOptions<const List extends readonly DeclaredOption[]>(
  list: List,
  given: GivenOptions,
  format: string,
  between?: (values: OptionValues<List>) => void,
): OptionValues<List> {
  const known = list.filter((option) => !option.said);
  for (const name of Object.keys(given)) if (!known.some((option) => option.name === name)) throw unknown(name, list, format);
  const values: Record<string, GivenValue> = {};
  for (const option of known) {
    const value = given[option.name] ?? option.default;
    if (value !== undefined) values[option.name] = named(option, format, () => readValue(option, value));
  }
  between?.(values as OptionValues<List>);
  for (const option of known) {
    const value = values[option.name];
    if (value !== undefined) named(option, format, () => requireInRange(option, value));
  }
  return values as OptionValues<List>;
}

function unknown(name: string, list: readonly DeclaredOption[], format: string): DiskError {
  const said = list.find((option) => option.name === name)?.said;
  if (said)
    return new DiskError('refused', `${format}: "${name}" is said by the argument \`${said}\`, not among the options`, { format, field: name });
  const names = list.filter((option) => !option.said).map((option) => option.name);
  return unknownOption(format, name, names, { format });
}

/** The value, converted to the option's kind; of an option with words it is one of them. */
function readValue(option: DeclaredOption, given: GivenValue): GivenValue {
  const value = typeof given === 'string' ? parseOption(option, given) : requireKind(option, given);
  if (option.kind === 'choice') requireWord(option, String(value));
  return value;
}

/** Runs `work`, whose errors get the names of the format and of the option. */
function named<T>({ name }: DeclaredOption, format: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    throw new DiskError(error.kind, `${format}: ${error.message}`, { format, field: name });
  }
}

/** Reads the text of one value by the option's kind; does not check its range. Above 2^53 numbers are not exact. Throws `refused` in QEMU's words. */
export function parseOption(option: DeclaredOption, text: string): GivenValue {
  check('parseOption', 'option', option, OPTION);
  check('parseOption', 'text', text, TEXT);
  const { name, kind } = option;
  if (kind === 'flag') {
    if (/^(on|yes|true|y)$/.test(text)) return true;
    if (/^(off|no|false|n)$/.test(text)) return false;
    throw refused(name, `Parameter '${name}' expects 'on' or 'off'`);
  }
  if (kind === 'count') {
    if (!/^-?(\d+|0x[0-9a-f]+)$/i.test(text)) throw refused(name, `Parameter '${name}' expects a number`);
    if (Math.abs(Number(text)) >= 2 ** 64) throw refused(name, `Value '${text}' is too large for parameter '${name}'`);
    return Number(text);
  }
  if (kind !== 'size') return text;
  const bytes = Math.floor(sizeValue(text));
  if (bytes >= 2 ** 64) throw refused(name, `Value '${text}' is out of range for parameter '${name}'`);
  if (Number.isNaN(bytes)) throw refused(name, notASize(name));
  return bytes;
}

const notASize = (name: string): string =>
  `Parameter '${name}' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.`;

/** Checks the kind of a value that is not text. */
function requireKind(option: DeclaredOption, value: number | boolean): GivenValue {
  const { name, kind } = option;
  if (kind === 'flag' && typeof value !== 'boolean') throw refused(name, `Parameter '${name}' expects 'on' or 'off'`);
  if (kind === 'count' && typeof value !== 'number') throw refused(name, `Parameter '${name}' expects a number`);
  if (kind === 'size' && typeof value !== 'number') throw refused(name, notASize(name));
  return kind === 'choice' || kind === 'text' || kind === 'secret' ? String(value) : value;
}

function requireWord({ name, values, elsewhere, refusal }: ChoiceOption, value: string): void {
  if (values.includes(value)) return;
  if (elsewhere?.values.includes(value)) throw new DiskError('unsupported', inWords(elsewhere.refusal, value), { field: name });
  throw refused(name, inWords(refusal ?? `Parameter '${shortName(name)}' does not accept value '{value}'`, value));
}

function requireInRange(option: DeclaredOption, value: GivenValue): void {
  if (option.kind !== 'size' && option.kind !== 'count') return;
  const { name, least = 0, most = Number.MAX_SAFE_INTEGER, powerOfTwo = false, refusal } = option;
  const number = Number(value);
  if (Number.isInteger(number) && number >= least && number <= most && (!powerOfTwo || Number.isInteger(Math.log2(number)))) return;
  throw refused(name, inWords(refusal ?? `Parameter '${name}' takes ${rangeText(option)}, not {value}`, value));
}

const inWords = (template: string, value: GivenValue): string => template.replaceAll('{value}', () => String(value));

/** QEMU's name of an option in its messages about a value: the member of a structure. */
const shortName = (name: string): string => name.slice(name.indexOf('.') + 1).replaceAll('_', '-');

const refused = (field: string, message: string): DiskError => new DiskError('refused', message, { field });

/** An option in words, with the values that a dialog can offer. */
export interface OptionDescription {
  /** The values it takes, in words: "512 to 2M, a power of two", "on or off", "zlib or zstd". Empty for any text. */
  readonly range: string;
  /** As people write it: "64k", "off". */
  readonly default?: string;
  /** The words, or the powers of two in the range. Absent where there are too many to be offered. */
  readonly values?: readonly (string | number)[];
}

/** Describes an option of a format's list. */
export function describeOption(option: DeclaredOption): OptionDescription {
  check('describeOption', 'option', option, OPTION);
  const { default: value } = option;
  const values = offeredValues(option);
  return {
    range: rangeText(option),
    ...(value === undefined ? {} : { default: valueText(option, value) }),
    ...(values === undefined ? {} : { values }),
  };
}

/** A value as people write it: sizes with a suffix. */
function valueText({ kind }: DeclaredOption, value: GivenValue): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return kind === 'size' ? sizeText(Number(value)) : String(value);
}

function rangeText(option: DeclaredOption): string {
  const { kind } = option;
  if (kind === 'flag') return 'on or off';
  if (kind === 'choice') return [option.values.slice(0, -1).join(', '), ...option.values.slice(-1)].filter((text) => text !== '').join(' or ');
  if (kind !== 'size' && kind !== 'count') return '';
  const { least = 0, most, powerOfTwo } = option;
  const [from, to] = [least, most ?? 0].map((value) => valueText(option, value));
  const open = least === 0 ? 'a number' : `${from} or more`;
  const range = most === undefined ? open : `${from} to ${to}`;
  return `${kind === 'size' && most === undefined && least === 0 ? 'bytes' : range}${powerOfTwo ? ', a power of two' : ''}`;
}

function offeredValues(option: DeclaredOption): readonly (string | number)[] | undefined {
  if (option.kind === 'choice') return option.values;
  if (option.kind === 'flag') return ['off', 'on'];
  if ((option.kind !== 'size' && option.kind !== 'count') || !option.powerOfTwo || option.most === undefined) return undefined;
  const [from, to] = [Math.ceil(Math.log2(Math.max(1, option.least ?? 1))), Math.floor(Math.log2(option.most))];
  return Array.from({ length: to - from + 1 }, (_, index) => 2 ** (from + index));
}

/** Bytes with the largest suffix that leaves a whole number: 64k, 2M. */
function sizeText(bytes: number): string {
  const suffixes = ['', 'k', 'M', 'G', 'T'];
  let unit = 0;
  let value = bytes;
  for (; value >= 1024 && value % 1024 === 0 && unit < suffixes.length - 1; unit++) value /= 1024;
  return `${value}${suffixes[unit]}`;
}
