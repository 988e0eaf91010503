/** The lines that `io` prints, in qemu-io's shape: sizes, durations, rates, dumps. Pure. */
import { fixed } from './printf.ts';

const UNITS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** A number of bytes: three decimals, none if they are zero. */
export function sizeText(bytes: number): string {
  if (bytes < 1024) return `${dropZeros(fixed(bytes, 6))} bytes`;
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${dropZeros(fixed(value, 3))} ${UNITS[unit]}`;
}

/** Cuts decimals off that start with three zeros. */
function dropZeros(text: string): string {
  const at = text.indexOf('.000');
  return at < 0 ? text : text.slice(0, at);
}

/** The result of a request. */
export interface RequestReport {
  readonly what: 'read' | 'wrote' | 'discard';
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  readonly milliseconds: number;
  /** One comma-separated line for machines. */
  readonly terse: boolean;
}

/** The lines that end a request. */
export function requestReport({ what, offset, length, milliseconds, terse }: RequestReport): string {
  // The clock is too coarse for the quickest requests; a rate needs some time.
  const seconds = Math.max(milliseconds, 0.001) / 1000;
  if (terse) return `${length},1,${duration(seconds, true)},${fixed(length / seconds, 3)},${fixed(1 / seconds, 3)}\n`;
  const rates = `${sizeText(length / seconds)}/sec and ${fixed(1 / seconds, 4)} ops/sec`;
  return `${what} ${length}/${length} bytes at offset ${offset}\n${sizeText(length)}, 1 ops; ${duration(seconds, false)} (${rates})\n`;
}

function duration(seconds: number, hours: boolean): string {
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0');
  const hundredths = two((seconds * 100) % 100);
  if (!hours && seconds < 60) return `${two(seconds)}.${hundredths} sec`;
  return `${Math.floor(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}.${hundredths}`;
}

/** Bytes in hexadecimal and as text, sixteen in a line, with the offset of each line. */
export function dumpText(bytes: Uint8Array, offset: number): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 16) {
    const line = bytes.subarray(at, at + 16);
    let hex = '';
    let letters = '';
    for (const byte of line) {
      hex += ` ${byte.toString(16).padStart(2, '0')}`;
      const letter = String.fromCharCode(byte);
      letters += /[0-9A-Za-z]/.test(letter) ? letter : '.';
    }
    text += `${(offset + at).toString(16).padStart(8, '0')}: ${hex}  ${letters}\n`;
  }
  return text;
}
