/** The names under which a differencing VHD knows its parent: one for each platform, in the order in which they are tried, and the one in the header. */
import { roundUp, text, untilZero, utf8 } from '../../base/bytes.ts';
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { isAbsolute } from '../../base/names.ts';
import { KiB, SECTOR } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { BackingReference, BelowReference } from '../driver.ts';
import { asUtf16, FORMAT, type Header, type Locator, utf16 } from './layout.ts';

/** The longest name that is read. */
const MAX_NAME = 32 * KiB;
/** Relative and absolute names of Windows, URLs of macOS. */
const PLATFORMS = ['W2ru', 'W2ku', 'MacX'] as const;
/** QEMU's name of a raw disk. */
export const PLAIN = 'raw';
/** The id of a parent that has none. */
export const NOBODY = '0'.repeat(32);
/** Letters of the name in the header. */
const MAX_OWN_NAME = 255;

/** Reads the names. A parent without an id is a raw disk (XenServer). */
export function* readParent(storage: Storage, { parentId, parentName, locators }: Header): Io<BelowReference> {
  const names: string[] = [];
  for (const platform of PLATFORMS) for (const locator of locators) if (locator.platform === platform) names.push(yield* readName(storage, locator));
  // The name in the header may have folders of another machine: the file is beside the child.
  names.push(parentName.slice(Math.max(parentName.lastIndexOf('\\'), parentName.lastIndexOf('/')) + 1));
  const [name = '', ...otherNames] = [...new Set(names)].filter((one) => one !== '');
  const identity = parentId === NOBODY ? {} : { identity: parentId };
  return { kind: 'parent', name, otherNames, format: parentId === NOBODY ? PLAIN : FORMAT, ...identity };
}

function* readName(storage: Storage, { platform, offset, length }: Locator): Io<string> {
  if (length > MAX_NAME || offset + length > storage.size) return '';
  const bytes = yield* readBytes(storage, offset, length);
  if (platform === 'MacX') return fromUrl(text(untilZero(bytes)));
  const name = utf16(bytes, true);
  return platform === 'W2ru' ? relative(name.replaceAll('\\', '/')) : name;
}

const relative = (name: string): string => name.replace(/^(\.\/)+/, '');

/** XenServer writes relative names behind `file://`. */
function fromUrl(url: string): string {
  const path = url.replace(/^file:\/\/(localhost(?=\/))?/, '');
  try {
    return relative(decodeURIComponent(path));
  } catch {
    return relative(path);
  }
}

/** The name in a header, and the locators with their bytes, one behind the other in whole sectors from `start` on. */
export interface NewNames {
  readonly name: string;
  readonly locators: readonly Locator[];
  readonly bytes: Uint8Array;
}

/**
 * The names for a parent that has this one: the relative or the absolute name of Windows, and a URL as macOS and XenServer have it. Throws `refused` for a name that
 * the image cannot hold. The space of a locator is in bytes, as all programs write it.
 */
export function newNames(name: string, start: number): NewNames {
  const windows = name.replaceAll('/', '\\');
  const drive = /^[a-z]:\\|^\\\\/i.test(windows);
  const path = name.split('/').map(encodeURIComponent).join('/');
  const url = utf8(isAbsolute(name) ? `file://${path}` : `file://./${path}`);
  const given: [platform: string, bytes: Uint8Array][] = [];
  if (drive) given.push(['W2ku', asUtf16(windows, true)]);
  else if (!isAbsolute(name)) given.push(['W2ru', asUtf16(`.\\${windows}`, true)]);
  if (!drive) given.push(['MacX', url]);
  if (name.includes('\0') || given.some(([, bytes]) => bytes.length > MAX_NAME))
    throw new DiskError('refused', `${FORMAT}: the image cannot hold the name of the parent`, { format: FORMAT, field: 'backing_file' });
  const locators: Locator[] = [];
  let length = 0;
  for (const [platform, bytes] of given) {
    const space = roundUp(bytes.length, SECTOR);
    locators.push({ platform, space, length: bytes.length, offset: start + length });
    length += space;
  }
  const bytes = new Uint8Array(length);
  for (const [index, [, one]] of given.entries()) bytes.set(one, (locators[index] as Locator).offset - start);
  return { name: name.slice(Math.max(name.lastIndexOf('\\'), name.lastIndexOf('/')) + 1).slice(0, MAX_OWN_NAME), locators, bytes };
}

/** Throws `refused` for a parent of another format than a child can have. */
export function requireFormat({ format }: BackingReference, allowed: readonly string[]): void {
  if (format === undefined || allowed.includes(format)) return;
  throw new DiskError('refused', `${FORMAT}: the parent of a VHD is a VHD or a raw disk, not an image of the format ${format}`, {
    format: FORMAT,
    field: 'backing_fmt',
  });
}
