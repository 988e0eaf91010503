/** Sizes on the command line: QEMU's spelling, and its words about errors. */
import { Failure } from './terminal.ts';

const SUFFIXES = 'bkmgtpe';
const SIZE = /^\s*(0x[0-9a-f]+|(\d+(?:\.\d*)?|\.\d+)([bkmgtpe])?)$/i;

/** The largest number of bytes a disk can have here. */
const LARGEST = Number.MAX_SAFE_INTEGER;

/** Bytes; or the fault: not a size, or 2^64 and more. Above 2^53 they are not exact. */
function parse(text: string): number | 'not-a-size' | 'out-of-range' {
  const match = SIZE.exec(text);
  if (!match) return 'not-a-size';
  const [, whole, decimal, suffix] = match;
  const power = suffix ? SUFFIXES.indexOf(suffix.toLowerCase()) : 0;
  // A fraction of a byte is a typing error.
  if (decimal?.includes('.') && power === 0) return 'not-a-size';
  const bytes = Math.floor(Number(decimal ?? whole) * 1024 ** power);
  return bytes < 2 ** 64 ? bytes : 'out-of-range';
}

/** Bytes; or the fault: not a size, or more than a disk can have (2^53-1). */
export function readSize(text: string): number | 'not-a-size' | 'too-large' {
  const size = parse(text);
  return size === 'out-of-range' || (typeof size === 'number' && size > LARGEST) ? 'too-large' : size;
}

/** A size argument of the command line; `what` names it in the error. Above 2^53 it is not exact: more than any disk has here. */
export function sizeArgument(text: string, what: string): number {
  const size = parse(text);
  if (size === 'out-of-range' || (typeof size === 'number' && size >= 2 ** 63))
    throw new Failure(`Invalid ${what} specified. Must be between 0 and 9223372036854775807.`);
  if (size === 'not-a-size')
    throw new Failure(
      `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for\nkilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.`,
      { everyLine: true },
    );
  return size;
}

/** A size inside an option list (`-o cluster_size=…`) or of `resize`; above 2^53 as in `sizeArgument`. */
export function sizeParameter(text: string, name: string): number {
  const size = parse(text);
  if (typeof size === 'number') return size;
  if (size === 'out-of-range') throw new Failure(`Value '${text}' is out of range for parameter '${name}'`);
  throw new Failure(
    `Parameter '${name}' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.`,
  );
}

/** Refuses to make an image larger than any can be here, in QEMU's words for a size that its format, which may have clusters, cannot hold. */
export function requireDiskSize(size: number, format: string, clusters: boolean): void {
  if (size <= LARGEST) return;
  const hint = clusters ? ' (try using a larger cluster size)' : '';
  throw new Failure(`The image size is too large for file format '${format}'${hint}`);
}

/** Rounded up to whole sectors, as QEMU counts the size of a raw file. */
export const wholeSectors = (bytes: number): number => Math.ceil(bytes / 512) * 512;
