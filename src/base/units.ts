/** Byte units, sector size, and sizes as people write them ("1.5G") and QEMU prints them ("1.5 GiB"). */
import { check, NUMBER, TEXT } from './arguments.ts';
import { DiskError } from './errors.ts';

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;
/** Bytes in a disk sector, as every hard-disk format and v86's IDE count them. */
export const SECTOR = 512;

const SUFFIXES = 'bkmgtpe';

/** Bytes of a size as qemu-img accepts it, not rounded; NaN if the text is not a size. See `parseSize`. */
export function sizeValue(text: string): number {
  const match = /^\s*(0x[0-9a-f]+|\d+(?:\.\d*)?|\.\d+)([bkmgtpe])?\s*$/i.exec(text);
  if (!match) return Number.NaN;
  const power = match[2] ? SUFFIXES.indexOf(match[2].toLowerCase()) : 0;
  // A fraction of a byte is a typing error.
  return match[1]?.includes('.') && power === 0 ? Number.NaN : Number(match[1]) * 1024 ** power;
}

/**
 * A size as qemu-img accepts it: digits with an optional fraction and suffix b, k, M, G, T, P, E (powers of 1024).
 * Returns bytes. Throws `refused` for anything else, and above 2^53-1.
 */
export function parseSize(value: string): number {
  check('parseSize', 'value', value, TEXT);
  const bytes = sizeValue(value);
  if (Number.isNaN(bytes)) throw new DiskError('refused', `"${value}" is not a size: give bytes, or a number with k, M, G or T`, { field: 'size' });
  if (bytes > Number.MAX_SAFE_INTEGER) throw new DiskError('refused', `${value} is larger than 2^53-1 bytes`, { field: 'size' });
  return Math.floor(bytes);
}

/** Bytes as QEMU 7.2 prints a size: `%0.3g UNIT`, the unit changing when the value in the lower one reaches 1000. */
export function formatSize(bytes: number): string {
  check('formatSize', 'bytes', bytes, NUMBER);
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${threeDigits(value)} ${units[unit]}`;
}

/** C's `%0.3g`. */
function threeDigits(value: number): string {
  // A tie goes to the even digit in C, to the larger number in toPrecision.
  const digits = value
    .toPrecision(40)
    .replace(/\.|e.*/g, '')
    .replace(/^0+/, '');
  const tie = /^\d\d[02468]50*$/.test(digits);
  const rounded = (tie ? value * (1 - Number.EPSILON) : value).toPrecision(3);
  if (!rounded.includes('e')) return rounded.includes('.') ? rounded.replace(/\.?0+$/, '') : rounded;
  const [mantissa, exponent] = rounded.split('e') as [string, string];
  const power = Number(exponent);
  return `${mantissa.replace(/\.?0+$/, '')}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
}
