/**
 * Options of a block node, by name, as `driver=qcow2,file.filename=x` and `json:{...}` give them. Nested objects are kept under joined names
 * (`file.filename`), as QEMU keeps them. The code that understands an option takes it out; an option that is left at the end is unknown to all.
 * Wrong values throw `refused` in QEMU's words, with the option as `field`.
 */
import { check, objectWith } from './arguments.ts';
import { DiskError } from './errors.ts';
import { sizeValue } from './units.ts';

/** A single value, as JSON has it. Option lists have text only. */
export type OptionValue = string | number | boolean | null;

/** Options as nested objects. */
export type OptionTree = { readonly [name: string]: OptionValue | OptionTree | readonly (OptionValue | OptionTree)[] };

/** The error for an option or a name that is refused: `message` is QEMU's. */
export const refusedOption = (field: string, message: string): DiskError => new DiskError('refused', message, { field });

const PAIR = objectWith('a pair of a name and a value', [Symbol.iterator, 0, 1]);
const ENTRIES = objectWith('pairs of names and values', [Symbol.iterator]);
const TREE = objectWith('an object of options', []);

/** The options of one node, those of its children under joined names. */
export class OptionSet {
  readonly #values: Map<string, OptionValue>;

  constructor(values: Iterable<readonly [string, OptionValue]> = []) {
    check('OptionSet', 'values', values, ENTRIES);
    this.#values = new Map();
    for (const entry of values) {
      check('OptionSet', 'entry', entry, PAIR);
      this.#values.set(entry[0], entry[1]);
    }
  }

  /** The options of an object with objects and lists in it: `{ file: { driver: 'file' } }` is `file.driver=file`. Throws `refused`. */
  static fromTree(tree: OptionTree): OptionSet {
    check('OptionSet', 'tree', tree, TREE);
    const set = new OptionSet();
    set.#flatten('', tree);
    return set;
  }

  #flatten(prefix: string, tree: OptionTree | readonly (OptionValue | OptionTree)[]): void {
    for (const [name, value] of Object.entries(tree)) {
      // An empty object or list stays, as an option without a value.
      if (typeof value === 'object' && value !== null && Object.keys(value).length > 0) this.#flatten(`${prefix}${name}.`, value);
      else if (!this.#values.has(prefix + name)) this.#values.set(prefix + name, typeof value === 'object' ? null : value);
    }
  }

  /** True if no option is left. */
  get empty(): boolean {
    return this.#values.size === 0;
  }

  /** Whether an option is there under exactly this name. */
  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The value as it was given; the option stays. */
  get(name: string): OptionValue | undefined {
    return this.#values.get(name);
  }

  /** Sets an option, unless it was given. */
  setDefault(name: string, value: OptionValue): void {
    if (!this.#values.has(name)) this.#values.set(name, value);
  }

  /** Sets an option, whether it was given or not. */
  replace(name: string, value: OptionValue): void {
    this.#values.set(name, value);
  }

  /** Every name with its value. */
  entries(): IterableIterator<[string, OptionValue]> {
    return this.#values.entries();
  }

  /** Takes an option out, whatever its type. */
  take(name: string): OptionValue | undefined {
    const value = this.#values.get(name);
    this.#values.delete(name);
    return value;
  }

  /** Takes an option as text: numbers and truth values are spelled out. Null counts as not given. */
  text(name: string): string | undefined {
    const value = this.take(name) ?? undefined;
    return typeof value === 'boolean' ? (value ? 'on' : 'off') : value === undefined ? undefined : String(value);
  }

  /** Takes an option as a truth value, in QEMU's words for it. Throws `refused`. */
  flag(name: string): boolean | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    if (/^(on|yes|true|y)$/.test(value)) return true;
    if (/^(off|no|false|n)$/.test(value)) return false;
    throw refusedOption(name, `Parameter '${name}' expects 'on' or 'off'`);
  }

  /** A size in bytes. More than 2^53-1 becomes 2^53-1. */
  size(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const bytes = sizeValue(value);
    if (bytes >= 2 ** 64) throw refusedOption(name, `Value '${value}' is out of range for parameter '${name}'`);
    if (Number.isNaN(bytes))
      throw refusedOption(
        name,
        `Parameter '${name}' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.`,
      );
    return Math.min(Math.floor(bytes), Number.MAX_SAFE_INTEGER);
  }

  /** A whole number, decimal, 0x or with a leading 0 octal. A negative number -n stands for 2^64 - n, which is huge. */
  number(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    if (!/^\s*[-+]?(0x[0-9a-f]+|\d+)$/i.test(value)) throw refusedOption(name, `Parameter '${name}' expects a number`);
    if (value.includes('-')) return Number.MAX_SAFE_INTEGER;
    const digits = value.trim().replace('+', '');
    return Math.min(/^0\d/.test(digits) ? Number.parseInt(digits, 8) : Number(digits), Number.MAX_SAFE_INTEGER);
  }

  /** One of several words. */
  choice<T extends string>(name: string, allowed: readonly T[]): T | undefined {
    const value = this.text(name);
    const found = allowed.find((word) => word === value);
    if (value !== undefined && found === undefined) throw refusedOption(name, `invalid parameter value: ${value}`);
    return found;
  }

  /** Takes out all options whose names begin with `name.`, and returns them without that prefix. */
  child(name: string): OptionSet {
    const prefix = `${name}.`;
    const found = new OptionSet();
    for (const [full, value] of [...this.#values]) {
      if (!full.startsWith(prefix)) continue;
      found.#values.set(full.slice(prefix.length), value);
      this.#values.delete(full);
    }
    return found;
  }

  /** The names that no code took, in QEMU's order. */
  rest(): string[] {
    return inTableOrder([...this.#values.keys()]);
  }
}

/** Names in the order in which QEMU's hash table of 512 rows has them: it shows in error messages and in generated `json:` names. */
export function inTableOrder(names: readonly string[]): string[] {
  const row = new Map(names.map((name) => [name, tableRow(name)]));
  // Within a row the newest comes first.
  return [...names].reverse().sort((a, b) => (row.get(a) ?? 0) - (row.get(b) ?? 0));
}

/** The hash is the one of the TDB library: each byte shifted by five more bits, within 24, and one step of a linear congruence. */
function tableRow(name: string): number {
  const bytes = new TextEncoder().encode(name);
  let hash = Math.imul(0x238f13af, bytes.length);
  for (const [index, byte] of bytes.entries()) hash = (hash + (byte << ((index * 5) % 24))) | 0;
  return ((Math.imul(1103515243, hash) + 12345) >>> 0) % 512;
}
