/**
 * Names of files as QEMU reads them, without looking at any file: the protocol a name begins with, whether it is absolute, and what a relative
 * name means in the image that contains it. A colon makes a protocol only before the first slash. `windows` reads names as QEMU does on Windows:
 * a drive letter is not a protocol and a backslash separates folders, for images that were made there.
 */
import { check, oneOf, TEXT } from './arguments.ts';
import { DiskError } from './errors.ts';

/** The system on which a name was written. */
export type NameStyle = 'posix' | 'windows';

const SEPARATORS: Readonly<Record<NameStyle, string>> = { posix: '/', windows: '/\\' };

/** `C:`, `C:\x` and `C:x`, and devices such as `\\.\PhysicalDrive0`. */
const WINDOWS_DRIVE = /^(?:[a-z]:|\\\\\.\\|\/\/\.\/)/i;

const STYLE = oneOf('posix', 'windows');

/** The protocol a name begins with, if it has one. */
export function protocolOf(name: string, style: NameStyle = 'posix'): string | undefined {
  check('protocolOf', 'name', name, TEXT);
  check('protocolOf', 'style', style, STYLE);
  if (style === 'windows' && WINDOWS_DRIVE.test(name)) return undefined;
  const end = [...name].findIndex((letter) => letter === ':' || SEPARATORS[style].includes(letter));
  return name[end] === ':' ? name.slice(0, end) : undefined;
}

/** True if a name means the same in every image. Names with a protocol are another matter: see `isRelative`. */
export function isAbsolute(name: string, style: NameStyle = 'posix'): boolean {
  if (style === 'windows' && WINDOWS_DRIVE.test(name)) return true;
  return name !== '' && SEPARATORS[style].includes(name.charAt(0));
}

/** True if the meaning of a name depends on the image that contains it. */
export function isRelative(name: string, style: NameStyle = 'posix'): boolean {
  return !isAbsolute(name, style) && protocolOf(name, style) === undefined;
}

/** The folder of a file, so that a name can be put behind it: with its protocol, and a slash at its end; empty for none. */
export function folderOf(name: string, style: NameStyle = 'posix'): string {
  const protocol = protocolOf(name, style);
  const start = protocol !== undefined ? protocol.length + 1 : style === 'windows' && /^[a-z]:/i.test(name) ? 2 : 0;
  const last = Math.max(...[...SEPARATORS[style]].map((separator) => name.lastIndexOf(separator)));
  return name.slice(0, Math.max(start, last + 1));
}

/** A name put behind the folder of `base`; an absolute name as it is. */
export function combineNames(base: string, name: string, style: NameStyle = 'posix'): string {
  check('combineNames', 'base', base, TEXT);
  check('combineNames', 'name', name, TEXT);
  check('combineNames', 'style', style, STYLE);
  return isAbsolute(name, style) ? name : folderOf(base, style) + name;
}

/**
 * The full name of the file that the image `from` names: a relative name counts from the image's folder. Throws `refused` if the image has no folder: the
 * image is built from options (`json:`), or has no name.
 */
export function beside(from: string, name: string, style: NameStyle = 'posix'): string {
  check('beside', 'from', from, TEXT);
  check('beside', 'name', name, TEXT);
  check('beside', 'style', style, STYLE);
  if (name === '' || !isRelative(name, style)) return name;
  if (from === '' || from.startsWith('json:'))
    throw new DiskError('refused', `Cannot use relative backing file names for '${from}'`, { field: 'backing_file' });
  return combineNames(from, name, style);
}
