/** Formats that are recognised and named, so that a VHDX file is not called "raw", but that cannot be opened yet. */
import { text, view } from '../base/bytes.ts';
import type { Capabilities, FormatDescriptor, HeaderGeometry, Inspection } from './descriptor.ts';

/** The capabilities of a format that is not opened. */
export const NO_CAPABILITIES: Capabilities = {
  read: false,
  write: false,
  create: false,
  resize: false,
  snapshots: false,
  bitmaps: false,
  check: false,
  repair: false,
  backing: false,
  discard: false,
  zeroes: false,
  compressedRead: false,
  compressedWrite: false,
  dataFile: false,
  compact: false,
};

/** A descriptor without `open`. `probe` is the format's own. */
export function recognised<const Name extends string>(
  format: { readonly name: Name } & Pick<FormatDescriptor, 'title' | 'extensions' | 'probe'> &
    Partial<Pick<FormatDescriptor, 'aliases' | 'ends' | 'inspect'>>,
): FormatDescriptor & { readonly name: Name } {
  return { aliases: [], ...format, capabilities: NO_CAPABILITIES, createOptions: [], limits: ['not opened yet, only recognised'] };
}

/** The facts about an image from its size and geometry alone; a fact that is 0 is left out. */
export function sizeAndGeometry(size: number, geometry: HeaderGeometry): Inspection {
  const stated = geometry.cylinders > 0 && geometry.heads > 0 && geometry.sectors > 0;
  const known = Number.isSafeInteger(size) && size > 0;
  return { ...(known ? { size } : {}), ...(stated ? { geometry } : {}), references: [], features: [], warnings: [] };
}

/** True if `head` has this text at `at`. */
export const hasText = (head: Uint8Array, at: number, value: string): boolean => text(head.subarray(at, at + value.length)) === value;

/** True if `tail` has this text at `at` bytes before its end. */
export const endsWith = (tail: Uint8Array, at: number, value: string): boolean => tail.length >= at && hasText(tail, tail.length - at, value);

/** True if `head` has this little-endian 32-bit number at `at`. */
export const hasU32le = (head: Uint8Array, at: number, value: number): boolean => head.length >= at + 4 && view(head).getUint32(at, true) === value;

/** True if `head` has this big-endian 32-bit number at `at`. */
export const hasU32be = (head: Uint8Array, at: number, value: number): boolean => head.length >= at + 4 && view(head).getUint32(at) === value;
