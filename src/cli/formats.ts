/** Formats by their names on the command line. */
import { allFormats, type FormatDescriptor } from '../index.ts';
import { Failure, notYet } from './terminal.ts';

/** Formats of qemu-img 7.2 that have no descriptor: they get another error than typing errors. */
const ELSEWHERE = ['vvfat'];

/** QEMU's values of `preallocation` for all formats; each format itself refuses those it does not have. */
export const PREALLOCATION_MODES = ['off', 'metadata', 'falloc', 'full'];

/** The format's own name, for a name of the command line; undefined if there is no such format. Throws if only QEMU has it. */
export function knownFormat(name: string): string | undefined {
  const named = allFormats.find((format) => format.name === name);
  if (named) return named.name;
  if (ELSEWHERE.includes(name)) throw notYet(`The format '${name}'`);
  return undefined;
}

/** The format's name; QEMU's message if there is none. */
export function requireFormat(format: string): string {
  const found = knownFormat(format);
  if (found === undefined) throw new Failure(`Unknown file format '${format}'`);
  return found;
}

/** Refuses a format of which no images can be made, in QEMU's words. */
export function requireCreation(format: string): void {
  if (!formatNamed(format).capabilities.create) throw new Failure(`Format driver '${format}' does not support image creation`);
}

/** The descriptor of a format whose name is known to be one. */
export function formatNamed(name: string): FormatDescriptor {
  return allFormats.find((format) => format.name === name) as FormatDescriptor;
}
