/** The names under which a differencing VHD knows its parent: one for each platform, in the order in which they are tried, and the one in the header. */
import { text, untilZero } from '../../base/bytes.ts';
import type { Io } from '../../base/io.ts';
import { KiB } from '../../base/units.ts';
import { readBytes, type Storage } from '../../storage/storage.ts';
import type { BelowReference } from '../driver.ts';
import { FORMAT, type Header, type Locator, utf16 } from './layout.ts';

/** The longest name that is read. */
const MAX_NAME = 32 * KiB;
/** Relative and absolute names of Windows, URLs of macOS. */
const PLATFORMS = ['W2ru', 'W2ku', 'MacX'] as const;
const NOBODY = '0'.repeat(32);

/** Reads the names. A parent without an id is a raw disk (XenServer). */
export function* readParent(storage: Storage, { parentId, parentName, locators }: Header): Io<BelowReference> {
  const names: string[] = [];
  for (const platform of PLATFORMS) for (const locator of locators) if (locator.platform === platform) names.push(yield* readName(storage, locator));
  // The name in the header may have folders of another machine: the file is beside the child.
  names.push(parentName.slice(Math.max(parentName.lastIndexOf('\\'), parentName.lastIndexOf('/')) + 1));
  const [name = '', ...otherNames] = [...new Set(names)].filter((one) => one !== '');
  const identity = parentId === NOBODY ? {} : { identity: parentId };
  return { kind: 'parent', name, otherNames, format: parentId === NOBODY ? 'raw' : FORMAT, ...identity };
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
