/** The name under which an image built from options is shown, as QEMU spells it. How names are read is in base/names.ts. */
import { inTableOrder, type OptionSet, type OptionValue } from '../base/options.ts';
import type { Json } from './json-text.ts';

/** The description of a node, by which the same node can be opened again. */
export interface Description {
  readonly driver: string;
  /** Options that change the node's bytes. */
  readonly options: ReadonlyMap<string, OptionValue>;
  /** Described children, by their option. */
  readonly children: Readonly<Record<string, Description | readonly Description[]>>;
  /** A name that describes all of it, if there is one. */
  readonly exact?: string | undefined;
}

/** The name under which the node is shown. */
export function shownName(node: Description): string {
  return node.exact ?? `json:${jsonText(fullOptions(node))}`;
}

function fullOptions({ driver, options, children }: Description): Json {
  const below = Object.entries(children).map(([name, child]) => [name, 'driver' in child ? fullOptions(child) : child.map(fullOptions)] as const);
  return Object.fromEntries<Json>([...options, ...below, ['driver', driver]]);
}

/** JSON in QEMU's spelling: ASCII only, members in the order of its hash table. */
function jsonText(value: Json): string {
  if (typeof value === 'string')
    return JSON.stringify(value).replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`);
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(jsonText).join(', ')}]`;
  const members = value as { readonly [name: string]: Json };
  return `{${inTableOrder(Object.keys(members))
    .map((name) => `${jsonText(name)}: ${jsonText(members[name] ?? null)}`)
    .join(', ')}}`;
}

/** The options of a set that change the bytes. */
export function strongOptions(options: OptionSet, pattern: RegExp | undefined): ReadonlyMap<string, OptionValue> {
  return new Map([...options.entries()].filter(([name]) => pattern?.test(name)));
}
