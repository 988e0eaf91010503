/** Sizes on the command line: QEMU's spelling, and its words where they are wrong. */
import { Failure } from './terminal.ts';

const SUFFIXES = 'bkmgtpe';
const SIZE = /^\s*(0x[0-9a-f]+|(\d+(?:\.\d*)?|\.\d+)([bkmgtpe])?)$/i;

/** Bytes; or why not: not a size, or more than a disk can have (2^53-1). */
export function readSize(text: string): number | 'not-a-size' | 'too-large' {
  const match = SIZE.exec(text);
  if (!match) return 'not-a-size';
  const [, whole, decimal, suffix] = match;
  const power = suffix ? SUFFIXES.indexOf(suffix.toLowerCase()) : 0;
  // A fraction of a byte is a slip of the pen.
  if (decimal?.includes('.') && power === 0) return 'not-a-size';
  const bytes = Math.floor(Number(decimal ?? whole) * 1024 ** power);
  return bytes <= Number.MAX_SAFE_INTEGER ? bytes : 'too-large';
}

/** A size argument of the command line; `what` names it in the error. */
export function sizeArgument(text: string, what: string): number {
  const size = readSize(text);
  if (size === 'too-large') throw new Failure(`Invalid ${what} specified. Must be between 0 and ${Number.MAX_SAFE_INTEGER}.`);
  if (size === 'not-a-size')
    throw new Failure(
      `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for\nkilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.`,
      { everyLine: true },
    );
  return size;
}

/** A size inside an option list (`-o cluster_size=…`) or of `resize`. */
export function sizeParameter(text: string, name: string): number {
  const size = readSize(text);
  if (typeof size === 'number') return size;
  if (size === 'too-large') throw new Failure(`Value '${text}' is too large for parameter '${name}'`);
  throw new Failure(
    `Parameter '${name}' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.`,
  );
}

/** Rounded up to whole sectors, as QEMU counts the size of a raw file. */
export const wholeSectors = (bytes: number): number => Math.ceil(bytes / 512) * 512;
