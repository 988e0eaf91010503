/** Options of a block node as text: `key=value,…` lists, and names of the form `json:{…}`. */
import { check, FUNCTION, optionsOf, TEXT } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { OptionSet, type OptionTree, refusedOption } from '../base/options.ts';
import { parseJsonText } from './json-text.ts';

const JSON_PREFIX = 'json:';

/** How a list is read. */
export interface ListRules {
  /** The name of a first value that stands without one. */
  readonly implied?: string;
  /** Is called about options that QEMU wants to be written differently. */
  readonly warn?: (message: string) => void;
}

const RULES = optionsOf<ListRules>({ implied: TEXT, warn: FUNCTION });

/**
 * Reads `key=value,…`: commas inside a value are doubled, `key` alone is on and `nokey` off, the last of several with the same name
 * counts. Throws `refused`.
 */
export function parseOptionList(text: string, rules: ListRules = {}): OptionSet {
  check('parseOptionList', 'text', text, TEXT);
  check('parseOptionList', 'rules', rules, RULES);
  const { implied, warn } = rules;
  const values = new Map<string, string>();
  for (let at = 0; at < text.length; at++) {
    const [name = ''] = /^[^=,]*/.exec(text.slice(at)) ?? [];
    const named = text[at + name.length] === '=';
    if (named || (at === 0 && implied !== undefined)) {
      const start = named ? at + name.length + 1 : at;
      const [value = ''] = /^(?:[^,]|,,)*/.exec(text.slice(start)) ?? [];
      values.set(named ? name : (implied as string), value.replaceAll(',,', ','));
      at = start + value.length;
    } else {
      const [meant, value] = name.startsWith('no') ? [name.slice(2), 'off'] : [name, 'on'];
      warn?.(`warning: short-form boolean option '${name}' deprecated\nPlease use ${meant}=${value} instead`);
      values.set(meant, value);
      at += name.length;
    }
  }
  const id = values.get('id');
  if (id !== undefined && !/^[a-z][-a-z0-9._]*$/i.test(id))
    throw refusedOption('id', "Parameter 'id' expects an identifier\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a letter.");
  return new OptionSet(values);
}

/** Reads the options of a name that begins with `json:`; undefined for another name. Throws `refused`. */
export function parseJsonName(name: string): OptionSet | undefined {
  if (!name.startsWith(JSON_PREFIX)) return undefined;
  let value: ReturnType<typeof parseJsonText>;
  try {
    value = parseJsonText(name.slice(JSON_PREFIX.length));
  } catch (error) {
    throw error instanceof DiskError ? refusedOption('json', `Could not parse the JSON options: ${error.message}`) : error;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refusedOption('json', 'Invalid JSON object given');
  return OptionSet.fromTree(value as OptionTree);
}
