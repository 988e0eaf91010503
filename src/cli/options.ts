/**
 * Command-line options after getopt_long: `-f raw`, `-fraw`, `-qp`, `--output=json`, `--output json`, unique beginnings of long names,
 * options after arguments, `--` to end them. Unknown options and missing values are errors in QEMU's words.
 */
import { misuse, notYet } from './terminal.ts';

/** The options of a command. */
export interface OptionTable {
  /** Short options as getopt writes them: a letter, with a colon if it takes a value. */
  readonly short: string;
  /** Long options: the name they are known by in `Options`, with a colon if they take a value. */
  readonly long?: Readonly<Record<string, string>>;
  /** Known by name, but refused: the names of `short` and `long`. */
  readonly refused?: readonly string[];
  /** Options end at the first argument. */
  readonly stopAtArgument?: boolean;
}

/** Options that were given, by name, and the arguments between and behind them. */
export class Options {
  readonly #values = new Map<string, string[]>();
  /** All of them, in their order. */
  readonly given: [name: string, value: string][] = [];
  readonly rest: string[] = [];

  /** @internal */
  add(name: string, value: string): void {
    this.given.push([name, value]);
    const values = this.#values.get(name);
    if (values) values.push(value);
    else this.#values.set(name, [value]);
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The last value given, for an option that may be repeated and overrides itself. */
  last(name: string): string | undefined {
    return this.#values.get(name)?.at(-1);
  }

  all(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }
}

/** A wrong option, before it is put into words. */
export interface OptionError {
  readonly kind: 'unknown' | 'missing-value';
  /** The word as it was typed. */
  readonly word: string;
  /** The letter, for a short option. */
  readonly letter?: string;
}

/** Parses arguments. Throws a `Failure` with QEMU's words about an error. */
export function parseOptions(args: readonly string[], table: OptionTable): Options {
  const result = scanOptions(args, table);
  if (!(result instanceof Options))
    throw misuse(result.kind === 'unknown' ? `unrecognized option '${result.word}'` : `missing argument for option '${result.word}'`);
  refuseOptions(result, table.refused ?? []);
  return result;
}

/** Refuses options that are only known by name. */
export function refuseOptions(options: Options, names: readonly string[]): void {
  for (const name of names) if (options.has(name)) throw notYet(`The option ${name.length === 1 ? '-' : '--'}${name}`);
}

/** A wrong option in the words of the C library. */
export function getoptText({ kind, word, letter }: OptionError): string {
  if (letter !== undefined) return `${kind === 'unknown' ? 'invalid option' : 'option requires an argument'} -- '${letter}'`;
  return kind === 'unknown' ? `unrecognized option '${word}'` : `option '${word}' requires an argument`;
}

/** Parses arguments; returns an error instead of throwing it. */
export function scanOptions(args: readonly string[], table: OptionTable): Options | OptionError {
  const options = new Options();
  for (let i = 0; i < args.length; i++) {
    const word = args[i] as string;
    if (word === '--') {
      options.rest.push(...args.slice(i + 1));
      break;
    }
    if (word.length < 2 || !word.startsWith('-')) {
      if (table.stopAtArgument) {
        options.rest.push(...args.slice(i));
        break;
      }
      options.rest.push(word);
      continue;
    }
    const taken =
      word.startsWith('--') && table.long
        ? takeLong(word, args[i + 1], table.long, options)
        : takeShort({ word, before: options.rest.at(-1) ?? args[i - 1] ?? word }, args[i + 1], table.short, options);
    if (typeof taken !== 'number') return taken;
    i += taken;
  }
  return options;
}

/** Takes one word; returns how many further words it used up. */
function takeLong(word: string, next: string | undefined, table: Readonly<Record<string, string>>, options: Options): number | OptionError {
  const equals = word.indexOf('=');
  const typed = word.slice(2, equals < 0 ? undefined : equals);
  const candidates = Object.keys(table).filter((name) => name.startsWith(typed));
  const name = candidates.includes(typed) ? typed : candidates.length === 1 ? candidates[0] : undefined;
  if (name === undefined) return { kind: 'unknown', word };
  const target = table[name] as string;
  if (!target.endsWith(':')) {
    if (equals >= 0) return { kind: 'unknown', word };
    options.add(target, '');
    return 0;
  }
  const value = equals < 0 ? next : word.slice(equals + 1);
  if (value === undefined) return { kind: 'missing-value', word };
  options.add(target.slice(0, -1), value);
  return equals < 0 ? 1 : 0;
}

/** `before`: the word that getopt has behind itself while it is inside this one, and that it names for an unknown letter. */
function takeShort(
  { word, before }: { word: string; before: string },
  next: string | undefined,
  table: string,
  options: Options,
): number | OptionError {
  for (let at = 1; at < word.length; at++) {
    const letter = word[at] as string;
    const place = letter === ':' ? -1 : table.indexOf(letter);
    if (place < 0) return { kind: 'unknown', word: at === word.length - 1 ? word : before, letter };
    if (table[place + 1] !== ':') {
      options.add(letter, '');
      continue;
    }
    const glued = word.slice(at + 1);
    if (glued === '' && next === undefined) return { kind: 'missing-value', word, letter };
    options.add(letter, glued === '' ? (next as string) : glued);
    return glued === '' ? 1 : 0;
  }
  return 0;
}
