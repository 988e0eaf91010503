/**
 * The parent locator of a child ([MS-VHDX] 2.6.2.6): pairs of a key and a value that say which image the parent is, by the id of its contents, and where it may
 * lie. Text is UTF-16, little-endian.
 */
import { view } from '../../base/bytes.ts';
import { corrupt, DiskError, unsupported } from '../../base/errors.ts';
import { isAbsolute } from '../../base/names.ts';
import { KiB } from '../../base/units.ts';
import type { BackingReference, BelowReference } from '../driver.ts';
import { FORMAT, guidAt, NO_GUID, setGuid } from './layout.ts';

const LOCATOR_TYPE = 'B04AEFB7-D19E-4A81-B789-25B8E9445913';
const HEADER = 20;
const PAIR = 12;
/** More is in no locator that a program writes. */
export const MAX_LOCATOR = 256 * KiB;
const MAX_PAIRS = 64;

/** Pairs by their key. */
export type Locator = ReadonlyMap<string, string>;

const bad = (message: string) => corrupt(FORMAT, `the parent locator ${message}`, { field: 'parentLocator' });

/** The pairs of a locator. Throws `corrupt` or `unsupported`. */
export function parseLocator(bytes: Uint8Array): Locator {
  if (bytes.length > MAX_LOCATOR) throw unsupported(FORMAT, `a parent locator of ${bytes.length} bytes`, { field: 'parentLocator' });
  if (bytes.length < HEADER) throw bad(`has ${bytes.length} bytes`);
  if (guidAt(bytes, 0) !== LOCATOR_TYPE) throw unsupported(FORMAT, `a parent locator of type ${guidAt(bytes, 0)}`, { field: 'LocatorType' });
  const data = view(bytes);
  const count = data.getUint16(18, true);
  if (count > MAX_PAIRS || HEADER + count * PAIR > bytes.length) throw bad(`has ${count} pairs in ${bytes.length} bytes`);
  const pairs = new Map<string, string>();
  for (let index = 0; index < count; index++) {
    const at = HEADER + index * PAIR;
    const [key, value] = [0, 1].map((part) => {
      const [offset, length] = [data.getUint32(at + part * 4, true), data.getUint16(at + 8 + part * 2, true)];
      if (length % 2 !== 0 || offset + length > bytes.length) throw bad(`has a pair at ${offset}, of ${length} bytes, which is not inside it`);
      return utf16(data, offset, length);
    }) as [string, string];
    if (pairs.has(key)) throw bad(`has the key ${JSON.stringify(key)} twice`);
    pairs.set(key, value);
  }
  if (guidOf(pairs.get('parent_linkage')) === undefined)
    throw corrupt(FORMAT, 'the parent locator does not say which image the parent is', { field: 'parent_linkage' });
  return pairs;
}

/** The bytes of a locator. */
export function encodeLocator(pairs: Locator): Uint8Array {
  const length = [...pairs].reduce((sum, [key, value]) => sum + (key.length + value.length) * 2, HEADER + pairs.size * PAIR);
  const bytes = new Uint8Array(length);
  const data = view(bytes);
  setGuid(bytes, 0, LOCATOR_TYPE);
  data.setUint16(18, pairs.size, true);
  let end = HEADER + pairs.size * PAIR;
  for (const [index, pair] of [...pairs].entries()) {
    for (const [part, text] of pair.entries()) {
      data.setUint32(HEADER + index * PAIR + part * 4, end, true);
      data.setUint16(HEADER + index * PAIR + 8 + part * 2, text.length * 2, true);
      for (let at = 0; at < text.length; at++, end += 2) data.setUint16(end, text.charCodeAt(at), true);
    }
  }
  return bytes;
}

function utf16(data: DataView, offset: number, length: number): string {
  let text = '';
  for (let at = offset; at < offset + length; at += 2) text += String.fromCharCode(data.getUint16(at, true));
  return text;
}

/** A GUID as headers have it, of one in braces. */
function guidOf(text: string | undefined): string | undefined {
  const [, guid] = /^\{?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?$/i.exec(text ?? '') ?? [];
  return guid?.toUpperCase();
}

/** The ids of which the parent's contents have one. */
export const linkagesOf = (pairs: Locator): string[] =>
  ['parent_linkage', 'parent_linkage2'].map((key) => guidOf(pairs.get(key))).filter((guid) => guid !== undefined);

/** The parent as the image names it: the names are tried in the order that the specification has. */
export function parentOf(pairs: Locator): BelowReference {
  const relative = (pairs.get('relative_path') ?? '').replaceAll('\\', '/').replace(/^(\.\/)+/, '');
  const names = [relative, pairs.get('volume_path') ?? '', absoluteName(pairs.get('absolute_win32_path') ?? '')];
  const [name = '', ...otherNames] = [...new Set(names)].filter((one) => one !== '');
  const [identity = NO_GUID] = linkagesOf(pairs);
  return { kind: 'parent', name, otherNames, format: FORMAT, ...(identity === NO_GUID ? {} : { identity }) };
}

/** A path without a drive is not one of Windows. */
function absoluteName(path: string): string {
  const plain = path.replace(/^\\\\\?\\/, '');
  return plain.startsWith('\\') && !plain.startsWith('\\\\') ? plain.replaceAll('\\', '/') : plain;
}

/** The locator for a parent of this name, whose contents have the id `dataWrite`. `old`: the present one, whose names stay if this is one of them. */
export function locatorFor({ name, format }: BackingReference, dataWrite: string, old?: Locator): Locator {
  const refused = (field: string, message: string) => new DiskError('refused', `${FORMAT}: ${message}`, { format: FORMAT, field });
  if (format !== undefined && format !== FORMAT)
    throw refused('backing_fmt', `the parent of a ${FORMAT} image is one too, not one of the format ${format}`);
  if (name.includes('\0') || name.length > 16 * KiB) throw refused('backing_file', 'the image cannot hold the name of the parent');
  const linkage = `{${dataWrite.toLowerCase()}}`;
  if (old && parentOf(old).name === name) {
    const pairs = new Map(old).set('parent_linkage', linkage);
    pairs.delete('parent_linkage2');
    return pairs;
  }
  const windows = name.replaceAll('/', '\\');
  const drive = /^[a-z]:\\/i.test(windows);
  const place: [string, string] = drive || isAbsolute(name) ? ['absolute_win32_path', `\\\\?\\${windows}`] : ['relative_path', `.\\${windows}`];
  return new Map([['parent_linkage', linkage], place]);
}
