/**
 * Names of images as QEMU reads and shows them: a protocol before the first colon, names that an image gives for its backing file, and
 * the name under which an image built from options is shown.
 */
import { inTableOrder, type OptionSet, type OptionValue } from '../base/options.ts';
import type { Json } from './json-text.ts';

/** The protocol a name begins with, if it has one: a colon counts before the first slash only. */
export function protocolOf(name: string): string | undefined {
  const colon = name.indexOf(':');
  const slash = name.indexOf('/');
  return colon < 0 || (slash >= 0 && slash < colon) ? undefined : name.slice(0, colon);
}

/** The full name of what the image `from` names: a relative name counts from the image's folder. */
export function beside(from: string, name: string): string {
  return isRelative(name) ? folderOf(from) + name : name;
}

/** True if what a name means depends on who says it. */
export function isRelative(name: string): boolean {
  return !name.startsWith('/') && protocolOf(name) === undefined;
}

/** The folder of a file, with a slash at its end; empty for none. */
export function folderOf(name: string): string {
  return name.slice(0, name.lastIndexOf('/') + 1);
}

/** How a node is described: what opens the same again. */
export interface Description {
  readonly driver: string;
  /** Options that change what the node's bytes are. */
  readonly options: ReadonlyMap<string, OptionValue>;
  /** Described children, by the option they stand under. */
  readonly children: Readonly<Record<string, Description | readonly Description[]>>;
  /** A name that says all of it, if there is one. */
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

/** Those options of a set that change what the bytes are. */
export function strongOptions(options: OptionSet, pattern: RegExp | undefined): ReadonlyMap<string, OptionValue> {
  return new Map([...options.entries()].filter(([name]) => pattern?.test(name)));
}
